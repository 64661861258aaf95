/** A line that is longer than what a reader allows. */
export class LineTooLong extends Error {
  override readonly name = 'LineTooLong'
}

const NEWLINE = 0x0a

/** Cuts a stream of bytes into lines, whatever the pieces in which it arrives; a character may be cut as well. */
export class LineSplitter {
  readonly #bytesMax: number
  readonly #onLine: (line: string) => void
  #held: Uint8Array[] = []
  #heldBytes = 0

  constructor(bytesMax: number, onLine: (line: string) => void) {
    this.#bytesMax = bytesMax
    this.#onLine = onLine
  }

  /** @throws {LineTooLong} before more than the limit is held */
  feed(bytes: Uint8Array): void {
    let start = 0
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
      this.#hold(bytes.subarray(start, end))
      const line = Buffer.concat(this.#held, this.#heldBytes).toString('utf8')
      this.#held = []
      this.#heldBytes = 0
      start = end + 1
      if (line !== '') this.#onLine(line)
    }
    if (start < bytes.length) this.#hold(bytes.subarray(start))
  }

  #hold(piece: Uint8Array): void {
    this.#heldBytes += piece.length
    if (this.#heldBytes > this.#bytesMax) throw new LineTooLong(`a line of more than ${this.#bytesMax} bytes`)
    this.#held.push(piece)
  }
}
