/** What was read does not have the layout that ByteWriter makes. */
export class ByteReaderError extends Error {
  override readonly name = 'ByteReaderError'
}

/**
 * Reads back what ByteWriter wrote. Never out of range: truncated input throws ByteReaderError. Reads from a range of a buffer, so that
 * one reader serves many frames of one chunk (`reset`) and nothing needs a view.
 */
export class ByteReader {
  /** What is read, `[at, end)` of it still to come. */
  buffer: Buffer
  at = 0
  end: number

  constructor(bytes: Uint8Array) {
    this.buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.end = bytes.byteLength
  }

  /** Reads `buffer[start, end)` from now on. */
  reset(buffer: Buffer, start: number, end: number): void {
    // All frames of a chunk are in one buffer: a comparison costs less than the write barrier of a store.
    if (this.buffer !== buffer) this.buffer = buffer
    this.at = start
    this.end = end
  }

  get done(): boolean {
    return this.at >= this.end
  }

  /** Bytes still to come. */
  get remaining(): number {
    return this.end - this.at
  }

  u8(): number {
    if (this.at >= this.end) throw new ByteReaderError('truncated')
    return this.buffer[this.at++]!
  }

  /** Least significant byte first. */
  u16(): number {
    const at = this.skip(2)
    const { buffer } = this
    return buffer[at]! | (buffer[at + 1]! << 8)
  }

  /** Least significant byte first. */
  u32(): number {
    const at = this.skip(4)
    const { buffer } = this
    return (buffer[at]! | (buffer[at + 1]! << 8) | (buffer[at + 2]! << 16) | (buffer[at + 3]! << 24)) >>> 0
  }

  varint(): number {
    let value = 0
    let scale = 1
    for (let count = 0; count < 8; count++) {
      const byte = this.u8()
      value += (byte & 0x7f) * scale
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) break
        return value
      }
      scale *= 128
    }
    throw new ByteReaderError('a number over 2^53')
  }

  f64(): number {
    const value = this.buffer.readDoubleLE(this.skip(8))
    if (Number.isNaN(value)) throw new ByteReaderError('not a number')
    return value
  }

  /** A view into the bytes read from, not a copy. */
  bytes(): Buffer {
    const start = this.skip(this.varint())
    return this.buffer.subarray(start, this.at)
  }

  text(): string {
    return this.bytes().toString('utf8')
  }

  /** Passes over `size` bytes and answers where in `buffer` they start. */
  skip(size: number): number {
    const start = this.at
    if (size > this.end - start) throw new ByteReaderError('truncated')
    this.at = start + size
    return start
  }
}
