/** What was read does not have the layout that ByteWriter makes. */
export class ByteReaderError extends Error {
  override readonly name = 'ByteReaderError'
}

/** Reads back what ByteWriter wrote. Never out of range: truncated input throws ByteReaderError. */
export class ByteReader {
  readonly #bytes: Buffer
  at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  get done(): boolean {
    return this.at >= this.#bytes.length
  }

  u8(): number {
    if (this.at >= this.#bytes.length) throw new ByteReaderError('truncated')
    return this.#bytes[this.at++]!
  }

  varint(): number {
    let value = 0
    let scale = 1
    for (let count = 0; count < 8; count++) {
      const byte = this.u8()
      value += (byte & 0x7f) * scale
      if (byte < 0x80) return value
      scale *= 128
    }
    throw new ByteReaderError('a number over 2^53')
  }

  f64(): number {
    this.#need(8)
    const value = this.#bytes.readDoubleLE(this.at)
    this.at += 8
    if (Number.isNaN(value)) throw new ByteReaderError('not a number')
    return value
  }

  /** A view into the bytes read from, not a copy. */
  bytes(): Buffer {
    const size = this.varint()
    this.#need(size)
    const view = this.#bytes.subarray(this.at, this.at + size)
    this.at += size
    return view
  }

  text(): string {
    return this.bytes().toString('utf8')
  }

  #need(size: number): void {
    if (this.at + size > this.#bytes.length) throw new ByteReaderError('truncated')
  }
}
