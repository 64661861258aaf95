import { ByteReader } from '../base/byte-reader.ts'
import { ByteWriter } from '../base/byte-writer.ts'
import type { Clock } from '../base/clock.ts'
import type { Link, LinkHandler, PeerIdentity } from './link.ts'

export interface LinkPairOptions {
  /** For `heardMs`; without one it stays 0. */
  readonly clock?: Pick<Clock, 'monotonicMs'>
  /** Bytes under way from one end from which on its `isCongested` is true; false again below half. Default: never. */
  readonly windowBytes?: number
  /**
   * Something waits for `deliver`: a frame, or the end of the link. At most one call between two deliveries, so that a Turn can be
   * requested: `linkPair(a, b, { onTraffic: () => turn.request() })` with `() => pair.deliver()` as a step of that turn.
   */
  readonly onTraffic?: () => void
}

/** What stands in for bytes that a handler may not keep: a kept view reads as this. */
const STALE_BYTE = 0xdb

interface Frame {
  readonly method: number
  readonly body: Buffer
}

/** One end of a link in memory. Nothing arrives at the other end before `deliver`. */
export class PairedLink implements Link {
  readonly peer: PeerIdentity
  heardMs = 0
  /** Bodies of frames under way to the other end. */
  pendingBytes = 0
  /** Why the link ended; null while it has not. */
  closed: string | null = null
  readonly #options: LinkPairOptions
  readonly #writer = new ByteWriter()
  readonly #reader = new ByteReader(Buffer.alloc(0))
  readonly #pending: Frame[] = []
  #handler: LinkHandler | null = null
  #other: PairedLink | null = null
  #method = -1
  #forced = false
  #congested = false
  #announced = false
  #isClosedTold = false

  constructor(peer: PeerIdentity, options: LinkPairOptions) {
    this.peer = peer
    this.#options = options
  }

  /** Whom this end tells. Before this, nothing may be delivered to it. */
  start(handler: LinkHandler): void {
    this.#handler = handler
  }

  connect(other: PairedLink): void {
    this.#other = other
  }

  beginFrame(method: number): ByteWriter {
    if (this.#method !== -1) throw new Error(`beginFrame(${method}) before the endFrame of ${this.#method}`)
    this.#method = method
    return this.#writer
  }

  endFrame(): void {
    if (this.#method === -1) throw new Error('endFrame without beginFrame')
    const frame = { method: this.#method, body: this.#writer.take() }
    this.#method = -1
    if (this.closed !== null) return
    this.#pending.push(frame)
    this.pendingBytes += frame.body.length
    this.#weigh()
    this.#options.onTraffic?.()
  }

  get isCongested(): boolean {
    return this.#congested || this.#forced
  }

  /** Congested, or not, whatever is under way; told to the handler at once. */
  setCongested(isCongested: boolean): void {
    this.#forced = isCongested
    this.#tellCongestion()
  }

  get pendingFrames(): number {
    return this.#pending.length
  }

  /** What this end has sent is lost, its handler and then the other one hear of the end with the next `deliver`. */
  close(reason: string): void {
    if (this.closed !== null) return
    this.end(reason)
    this.#other?.end('closed by the peer')
    this.#options.onTraffic?.()
  }

  end(reason: string): void {
    if (this.closed !== null) return
    this.closed = reason
    this.#pending.length = 0
    this.pendingBytes = 0
  }

  /**
   * Hands frames that this end has sent to the other end's handler, in order, those that it sends meanwhile included.
   * @returns how many
   */
  deliver(framesMax = Infinity): number {
    let delivered = 0
    while (delivered < framesMax && this.#pending.length > 0) {
      const frame = this.#pending.shift()!
      this.pendingBytes -= frame.body.length
      delivered++
      this.#other!.take(frame)
      this.#weigh()
    }
    this.#tellCongestion()
    return delivered
  }

  take(frame: Frame): void {
    if (this.#handler === null) throw new Error('a frame arrives at an end without handler: call start first')
    this.hear()
    this.#reader.reset(frame.body, 0, frame.body.length)
    try {
      this.#handler.onFrame(frame.method, this.#reader)
    } catch (error) {
      this.close(`handler: ${error instanceof Error ? error.message : String(error)}`)
      this.thrown.push(error)
    }
    frame.body.fill(STALE_BYTE)
  }

  /** What the handler of this end has thrown. Look at it: a real link only counts. */
  readonly thrown: unknown[] = []

  hear(): void {
    this.heardMs = this.#options.clock?.monotonicMs() ?? 0
  }

  tellClosed(): void {
    if (this.closed === null || this.#isClosedTold) return
    this.#isClosedTold = true
    this.#handler?.onClosed(this.closed)
  }

  #weigh(): void {
    const { windowBytes = Infinity } = this.#options
    if (this.pendingBytes > windowBytes) this.#congested = true
    else if (this.pendingBytes < windowBytes / 2) this.#congested = false
  }

  #tellCongestion(): void {
    if (this.closed !== null || this.#announced === this.isCongested) return
    this.#announced = this.isCongested
    this.#handler?.onCongestion(this.isCongested)
  }
}

/** Two ends of a link in memory. */
export class LinkPair {
  /** The end of the first identity: its `peer` is the second. */
  readonly a: PairedLink
  readonly b: PairedLink
  /** A network that swallows everything: nothing is delivered or heard, nobody is told. What was sent waits. */
  isStalled = false

  constructor(a: PairedLink, b: PairedLink) {
    this.a = a
    this.b = b
  }

  /** Hands on everything in both directions, what comes of it included, then the end of the link if it has ended. Answers the number of frames. */
  deliver(): number {
    if (this.isStalled) return 0
    let delivered = 0
    for (let more = 1; more > 0; delivered += more) more = this.a.deliver() + this.b.deliver()
    this.a.tellClosed()
    this.b.tellClosed()
    return delivered
  }

  /** A heartbeat each way. */
  tick(): void {
    if (this.isStalled || this.a.closed !== null) return
    this.a.hear()
    this.b.hear()
  }

  /** The connection breaks: what is under way is lost, and both handlers are told now. */
  cut(reason = 'cut'): void {
    this.a.end(reason)
    this.b.end(reason)
    this.a.tellClosed()
    this.b.tellClosed()
  }
}

/**
 * Two linked ends without a socket. Give each its handler (`pair.a.start(…)`, `pair.b.start(…)`), send through either, and let `deliver`
 * run the handlers. Frames given to a handler are overwritten after its call, so that a view it keeps is noticed.
 */
export function linkPair(a: PeerIdentity, b: PeerIdentity, options: LinkPairOptions = {}): LinkPair {
  const atA = new PairedLink(b, options)
  const atB = new PairedLink(a, options)
  atA.connect(atB)
  atB.connect(atA)
  return new LinkPair(atA, atB)
}
