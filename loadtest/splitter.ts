/** Takes Control Packets. `bytes` is valid only during the call; `start` is the first byte after the fixed header. */
export interface FrameSink {
  frame(firstByte: number, bytes: Uint8Array, start: number, end: number): void
}

/** Larger frames mean that the peer does not speak MQTT to us: none of the scenarios sends one. */
const FRAME_BYTES_MAX = 16 * 1024 * 1024

/**
 * Cuts a byte stream into Control Packets in place (§2.1). Only the incomplete tail of a chunk is copied.
 * The stream comes from the broker under test, so a bad length is an error that ends the connection, nothing finer.
 */
export class FrameSplitter {
  #tail: Uint8Array = new Uint8Array(0)
  #tailBytes = 0

  /** @throws {Error} a Remaining Length of five bytes (§1.5.5), or a frame over FRAME_BYTES_MAX */
  feed(chunk: Uint8Array, chunkBytes: number, sink: FrameSink): void {
    if (this.#tailBytes === 0) {
      const used = split(chunk, chunkBytes, sink)
      if (used < chunkBytes) this.#keep(chunk, used, chunkBytes)
      return
    }
    const total = this.#tailBytes + chunkBytes
    this.#grow(total)
    this.#tail.set(chunkBytes === chunk.length ? chunk : chunk.subarray(0, chunkBytes), this.#tailBytes)
    const used = split(this.#tail, total, sink)
    if (used > 0) this.#tail.copyWithin(0, used, total)
    this.#tailBytes = total - used
  }

  #keep(chunk: Uint8Array, from: number, to: number): void {
    this.#tailBytes = to - from
    this.#grow(this.#tailBytes)
    this.#tail.set(chunk.subarray(from, to))
  }

  #grow(bytes: number): void {
    if (bytes <= this.#tail.length) return
    const larger = new Uint8Array(Math.max(256, bytes * 2))
    larger.set(this.#tail.subarray(0, this.#tailBytes))
    this.#tail = larger
  }
}

/** Hands every complete frame to `sink`; returns the offset of the first incomplete one. */
function split(bytes: Uint8Array, limit: number, sink: FrameSink): number {
  let at = 0
  while (limit - at >= 2) {
    let remainingLength = 0
    let next = at + 1
    for (let shift = 0; ; shift += 7) {
      if (shift > 21) throw new Error('Remaining Length over four bytes [§1.5.5]')
      if (next >= limit) return at
      const digit = bytes[next++]!
      remainingLength |= (digit & 0x7f) << shift
      if (digit < 0x80) break
    }
    if (remainingLength > FRAME_BYTES_MAX) throw new Error(`a frame of ${remainingLength} bytes`)
    const end = next + remainingLength
    if (end > limit) return at
    sink.frame(bytes[at]!, bytes, next, end)
    at = end
  }
  return at
}
