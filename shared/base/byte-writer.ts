/**
 * Appends numbers and bytes to a buffer that grows. Unsigned integers as LEB128 varints up to 2^53 - 1, texts and byte
 * strings with their length before them. Read back by ByteReader.
 */
export class ByteWriter {
  #bytes: Buffer
  length = 0

  constructor(initialBytes = 256) {
    this.#bytes = Buffer.allocUnsafe(initialBytes)
  }

  u8(value: number): void {
    if (this.length === this.#bytes.length) this.#reserve(1)
    this.#bytes[this.length++] = value
  }

  /** Least significant byte first. */
  u16(value: number): void {
    if (this.length + 2 > this.#bytes.length) this.#reserve(2)
    this.#bytes[this.length++] = value
    this.#bytes[this.length++] = value >>> 8
  }

  /** Least significant byte first. */
  u32(value: number): void {
    const at = this.length
    if (at + 4 > this.#bytes.length) this.#reserve(4)
    const bytes = this.#bytes
    bytes[at] = value
    bytes[at + 1] = value >>> 8
    bytes[at + 2] = value >>> 16
    bytes[at + 3] = value >>> 24
    this.length = at + 4
  }

  varint(value: number): void {
    let at = this.length
    if (at + 8 > this.#bytes.length) this.#reserve(8)
    const bytes = this.#bytes
    while (value >= 0x8000_0000) {
      bytes[at++] = (value % 128) | 0x80
      value = Math.floor(value / 128)
    }
    // From here on without the remainder of doubles, which costs as much as all the rest.
    let rest = value | 0
    while (rest >= 0x80) {
      bytes[at++] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    bytes[at++] = rest
    this.length = at
  }

  /** A double: wall times and Infinity. */
  f64(value: number): void {
    if (this.length + 8 > this.#bytes.length) this.#reserve(8)
    this.length = this.#bytes.writeDoubleLE(value, this.length)
  }

  bytes(from: Uint8Array, start = 0, end = from.length): void {
    this.varint(end - start)
    this.raw(from, start, end)
  }

  /** Without a length before them. */
  raw(from: Uint8Array, start = 0, end = from.length): void {
    const size = end - start
    if (this.length + size > this.#bytes.length) this.#reserve(size)
    const into = this.#bytes
    const at = this.length
    this.length = at + size
    if (size <= SMALL_COPY) for (let i = 0; i < size; i++) into[at + i] = from[start + i]!
    // `Buffer.copy` makes no view, but has cost a backend some 100 ns more for a message (Node 24).
    else into.set(size === from.length ? from : from.subarray(start, end), at)
  }

  text(value: string): void {
    this.bytes(Buffer.from(value, 'utf8'))
  }

  /**
   * For a layout whose size is known and that writes many fields: the buffer, with room for `size` bytes from `length` on. The caller
   * writes there and adds what it wrote to `length` before anything else is appended.
   */
  room(size: number): Buffer {
    if (this.length + size > this.#bytes.length) this.#reserve(size)
    return this.#bytes
  }

  /** Sets the value of an earlier `u32`: of what must have its place before its value is known. */
  patchU32At(at: number, value: number): void {
    const bytes = this.#bytes
    bytes[at] = value
    bytes[at + 1] = value >>> 8
    bytes[at + 2] = value >>> 16
    bytes[at + 3] = value >>> 24
  }

  /** A view of what was written, valid until more is. */
  written(): Buffer {
    return this.#bytes.subarray(0, this.length)
  }

  /** Bytes that fit without a larger buffer. */
  get capacity(): number {
    return this.#bytes.length
  }

  /**
   * Hands over what was written and starts anew with an empty buffer.
   * @param next the buffer to go on with, whatever is in it; without one, a fresh one of a similar size
   */
  take(next?: Buffer): Buffer {
    const taken = this.#bytes.subarray(0, this.length)
    this.#bytes = next ?? Buffer.allocUnsafe(Math.max(MIN_FRESH_BYTES, Math.min(this.length, MAX_FRESH_BYTES)))
    this.length = 0
    return taken
  }

  #reserve(more: number): void {
    const grown = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.length + more))
    this.#bytes.copy(grown, 0, 0, this.length)
    this.#bytes = grown
  }
}

const SMALL_COPY = 24
const MIN_FRESH_BYTES = 256
const MAX_FRESH_BYTES = 65_536
