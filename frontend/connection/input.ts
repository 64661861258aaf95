import { INCOMPLETE, frameEnd } from '#shared/mqtt/framing.ts'

const FIRST_HELD_BYTES = 64
const NONE = Buffer.alloc(0)

export interface FrameTaker {
  /** Takes one whole Control Packet, `bytes[start, end)`, valid during the call. False: take no more for now. */
  onFrame(bytes: Buffer, start: number, end: number): boolean
}

/**
 * Cuts the byte stream of one client into Control Packets (§2.1). Packets that arrive whole are handed on in place; of one that
 * does not, what has come is copied, growing with what arrives, never with what a length promises.
 */
export class Input {
  #held: Buffer = NONE
  #heldLength = 0
  #isBlocked = false

  /** Bytes kept until more arrive or until `resume`. */
  get heldBytes(): number {
    return this.#heldLength
  }

  get isBlocked(): boolean {
    return this.#isBlocked
  }

  /** @throws {ProtocolError} as `frameEnd`, and whatever `taker` throws; then the stream is at its end */
  feed(chunk: Buffer, packetBytesMax: number, taker: FrameTaker): void {
    if (this.#isBlocked) return this.#hold(chunk, 0, chunk.length)
    let at = 0
    if (this.#heldLength > 0) {
      at = this.#completeHeld(chunk, packetBytesMax, taker)
      if (this.#heldLength > 0 && !this.#isBlocked) return
    }
    this.#cut(chunk, at, chunk.length, packetBytesMax, taker)
  }

  /** Goes on with what was held back since `taker` answered false. */
  resume(packetBytesMax: number, taker: FrameTaker): void {
    if (!this.#isBlocked) return
    this.#isBlocked = false
    const held = this.#held
    const length = this.#heldLength
    this.#held = NONE
    this.#heldLength = 0
    this.#cut(held, 0, length, packetBytesMax, taker)
  }

  #cut(bytes: Buffer, start: number, limit: number, packetBytesMax: number, taker: FrameTaker): void {
    let at = start
    while (at < limit && !this.#isBlocked) {
      const end = frameEnd(bytes, at, limit, packetBytesMax)
      if (end === INCOMPLETE) break
      const frameStart = at
      at = end
      if (!taker.onFrame(bytes, frameStart, end)) this.#isBlocked = true
    }
    if (at < limit) this.#hold(bytes, at, limit)
  }

  /** Moves bytes of the packet begun before, and no more, out of `chunk`; answers how many. */
  #completeHeld(chunk: Buffer, packetBytesMax: number, taker: FrameTaker): number {
    let at = 0
    while (at < chunk.length) {
      const missing = this.#missing(packetBytesMax)
      const take = Math.min(missing, chunk.length - at)
      this.#hold(chunk, at, at + take)
      at += take
      if (take < missing || frameEnd(this.#held, 0, this.#heldLength, packetBytesMax) === INCOMPLETE) continue
      const frame = this.#held
      const length = this.#heldLength
      this.#held = NONE
      this.#heldLength = 0
      if (!taker.onFrame(frame, 0, length)) this.#isBlocked = true
      return at
    }
    return at
  }

  /** Bytes until the held packet is whole; 1 while its length is not known. */
  #missing(packetBytesMax: number): number {
    let remainingLength = 0
    for (let at = 1, shift = 0; at < this.#heldLength; at++, shift += 7) {
      const byte = this.#held[at]!
      remainingLength |= (byte & 0x7f) << shift
      if ((byte & 0x80) === 0) return at + 1 + remainingLength - this.#heldLength
    }
    frameEnd(this.#held, 0, this.#heldLength, packetBytesMax)
    return 1
  }

  #hold(from: Buffer, start: number, end: number): void {
    const needed = this.#heldLength + end - start
    if (needed > this.#held.length) {
      const grown = Buffer.allocUnsafe(Math.max(FIRST_HELD_BYTES, this.#held.length * 2, needed))
      this.#held.copy(grown, 0, 0, this.#heldLength)
      this.#held = grown
    }
    from.copy(this.#held, this.#heldLength, start, end)
    this.#heldLength = needed
  }
}
