/** The bytes are no frames: the connection cannot be read on. */
export class FrameError extends Error {
  override readonly name = 'FrameError'
}

/** Length (u32, little-endian, of what follows it) and method (u8) stand before the body. */
export const LENGTH_BYTES = 4
export const FRAME_HEADER_BYTES = 5

const EMPTY = Buffer.alloc(0)
/** The first buffer for a frame that comes in parts; it doubles as bytes arrive, whatever length the frame claims. */
const GATHER_BYTES_MIN = 1_024
/** A gathering buffer up to this size is kept for the next frame. */
const GATHER_BYTES_KEPT = 65_536

/**
 * Receives one frame: its body is `bytes[start, end)`, valid only during the call.
 * @returns false to get nothing more of what was fed
 */
export type OnFrame = (method: number, bytes: Buffer, start: number, end: number) => boolean

/**
 * Cuts a byte stream into frames. One that lies in one chunk is handed on where it lies; only the parts of others are copied.
 */
export class FrameSplitter {
  /** Largest length of method and body that is accepted; may change between frames. */
  frameBytesMax: number
  #gathered: Buffer = EMPTY
  /** Bytes of an incomplete frame, header included, at the start of `#gathered`. */
  #have = 0

  constructor(frameBytesMax: number) {
    this.frameBytesMax = frameBytesMax
  }

  /** Bytes held because the rest of their frame is missing. */
  get heldBytes(): number {
    return this.#have
  }

  /** Memory held for them. */
  get heldCapacity(): number {
    return this.#gathered.length
  }

  /** @throws {FrameError} a length of 0 or over `frameBytesMax`: known from its four bytes, before the rest is there */
  feed(chunk: Buffer, onFrame: OnFrame): void {
    let at = 0
    if (this.#have > 0) {
      at = this.#finishGathered(chunk, onFrame)
      if (at < 0) return
    }
    while (chunk.length - at >= LENGTH_BYTES) {
      const end = at + LENGTH_BYTES + this.#length(chunk, at)
      if (end > chunk.length) break
      if (!onFrame(chunk[at + LENGTH_BYTES]!, chunk, at + FRAME_HEADER_BYTES, end)) return
      at = end
    }
    this.#gather(chunk, at, chunk.length)
  }

  /** Where the next frame starts in `chunk`, or -1 when there is nothing more to do with it. */
  #finishGathered(chunk: Buffer, onFrame: OnFrame): number {
    let at = 0
    if (this.#have < LENGTH_BYTES) {
      at = Math.min(LENGTH_BYTES - this.#have, chunk.length)
      this.#gather(chunk, 0, at)
      if (this.#have < LENGTH_BYTES) return -1
    }
    const size = LENGTH_BYTES + this.#length(this.#gathered, 0)
    const end = Math.min(at + size - this.#have, chunk.length)
    this.#gather(chunk, at, end)
    if (this.#have < size) return -1
    const frame = this.#gathered
    this.#have = 0
    if (frame.length > GATHER_BYTES_KEPT) this.#gathered = EMPTY
    return onFrame(frame[LENGTH_BYTES]!, frame, FRAME_HEADER_BYTES, size) ? end : -1
  }

  #length(bytes: Buffer, at: number): number {
    const length = (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0
    if (length === 0 || length > this.frameBytesMax) throw new FrameError(`a frame of ${length} bytes`)
    return length
  }

  #gather(chunk: Buffer, start: number, end: number): void {
    const needed = this.#have + end - start
    if (needed > this.#gathered.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#gathered.length * 2, GATHER_BYTES_MIN))
      this.#gathered.copy(larger, 0, 0, this.#have)
      this.#gathered = larger
    }
    chunk.copy(this.#gathered, this.#have, start, end)
    this.#have = needed
  }
}
