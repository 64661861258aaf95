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
  /** Bytes that wait are `#held[#heldStart, #heldEnd)`. */
  #held: Buffer = NONE
  #heldStart = 0
  #heldEnd = 0
  #isBlocked = false

  /** Bytes kept until more arrive or until `resume`. */
  get heldBytes(): number {
    return this.#heldEnd - this.#heldStart
  }

  get isBlocked(): boolean {
    return this.#isBlocked
  }

  /** Hands nothing on until `resume`. */
  block(): void {
    this.#isBlocked = true
  }

  /** @throws {ProtocolError} as `frameEnd`, and whatever `taker` throws; then the stream is at its end */
  feed(chunk: Buffer, packetBytesMax: number, taker: FrameTaker): void {
    if (this.#isBlocked) return this.#hold(chunk, 0, chunk.length)
    let at = 0
    if (this.heldBytes > 0) {
      at = this.#completeHeld(chunk, packetBytesMax, taker)
      if (this.heldBytes > 0 && !this.#isBlocked) return
    }
    if (!this.#isBlocked) at = this.#cut(chunk, at, chunk.length, packetBytesMax, taker)
    if (at < chunk.length) this.#hold(chunk, at, chunk.length)
  }

  /** Goes on with what was held back since `taker` answered false: in place, however often that happens. */
  resume(packetBytesMax: number, taker: FrameTaker): void {
    if (!this.#isBlocked) return
    this.#isBlocked = false
    this.#heldStart = this.#cut(this.#held, this.#heldStart, this.#heldEnd, packetBytesMax, taker)
    if (this.heldBytes === 0) this.#letGo()
  }

  /** Answers where it stopped: at the end, at a packet that is not whole, or behind one after which `taker` took no more. */
  #cut(bytes: Buffer, start: number, limit: number, packetBytesMax: number, taker: FrameTaker): number {
    let at = start
    while (at < limit && !this.#isBlocked) {
      const end = frameEnd(bytes, at, limit, packetBytesMax)
      if (end === INCOMPLETE) break
      const frameStart = at
      at = end
      if (!taker.onFrame(bytes, frameStart, end)) this.#isBlocked = true
    }
    return at
  }

  /** Moves bytes of the packet begun before, and no more, out of `chunk`; answers how many. */
  #completeHeld(chunk: Buffer, packetBytesMax: number, taker: FrameTaker): number {
    let at = 0
    while (at < chunk.length) {
      const missing = this.#missing(packetBytesMax)
      const take = Math.min(missing, chunk.length - at)
      this.#hold(chunk, at, at + take)
      at += take
      if (take < missing || frameEnd(this.#held, this.#heldStart, this.#heldEnd, packetBytesMax) === INCOMPLETE) continue
      const frame = this.#held
      const start = this.#heldStart
      const end = this.#heldEnd
      this.#letGo()
      if (!taker.onFrame(frame, start, end)) this.#isBlocked = true
      return at
    }
    return at
  }

  /** Bytes until the held packet is whole; 1 while its length is not known. */
  #missing(packetBytesMax: number): number {
    let remainingLength = 0
    for (let at = this.#heldStart + 1, shift = 0; at < this.#heldEnd; at++, shift += 7) {
      const byte = this.#held[at]!
      remainingLength |= (byte & 0x7f) << shift
      if ((byte & 0x80) === 0) return at + 1 + remainingLength - this.#heldEnd
    }
    frameEnd(this.#held, this.#heldStart, this.#heldEnd, packetBytesMax)
    return 1
  }

  #hold(from: Buffer, start: number, end: number): void {
    const more = end - start
    if (this.#heldEnd + more > this.#held.length) this.#makeRoom(more)
    from.copy(this.#held, this.#heldEnd, start, end)
    this.#heldEnd += more
  }

  #makeRoom(more: number): void {
    const needed = this.heldBytes + more
    const grown = Buffer.allocUnsafe(Math.max(FIRST_HELD_BYTES, this.heldBytes * 2, needed))
    this.#held.copy(grown, 0, this.#heldStart, this.#heldEnd)
    this.#heldEnd = this.heldBytes
    this.#heldStart = 0
    this.#held = grown
  }

  #letGo(): void {
    this.#held = NONE
    this.#heldStart = 0
    this.#heldEnd = 0
  }
}
