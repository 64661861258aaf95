import { thrownField } from '#shared/base/thrown.ts'
import type { Timers } from '../base/timers.ts'
import type { Turn } from '../base/turn.ts'
import type { Log } from '../telemetry/log.ts'
import type { FramedSocket } from './framed-socket.ts'
import { LinkCounters } from './link-counters.ts'
import type { LinkTotals } from './link-counters.ts'
import { DEFAULT_LINK_LIMITS } from './link-limits.ts'
import type { LinkLimits } from './link-limits.ts'
import { SocketLink } from './link-socket.ts'
import type { LinkHome } from './link-socket.ts'
import type { PeerIdentity } from './link.ts'

/** How often `LinkHub.tick` is to be called. */
export const LINK_TICK_MS = 100

export interface LinkHubOptions {
  /** One of its steps, after those that send, is `endTurn`. */
  readonly turn: Turn
  readonly timers: Timers
  /** Who can connect can cause lines: a RateLimitedLog. */
  readonly log: Log
  readonly limits?: Partial<LinkLimits>
}

/** What all links of a process share: the flush at the end of a turn, the tick, limits and counters. */
export class LinkHub implements LinkHome, LinkTotals {
  readonly counters = new LinkCounters()
  readonly limits: LinkLimits
  readonly timers: Timers
  readonly log: Log
  /** Of all listeners: connections in a handshake. */
  unauthenticatedCount = 0
  readonly #turn: Turn
  readonly #links = new Set<SocketLink>()
  #due: SocketLink[] = []
  #flushing: SocketLink[] = []

  constructor({ turn, timers, log, limits }: LinkHubOptions) {
    this.#turn = turn
    this.timers = timers
    this.log = log
    this.limits = { ...DEFAULT_LINK_LIMITS, ...limits }
  }

  /** A step of the turn: one write for each link that something was appended to. */
  endTurn(): void {
    const links = this.#due
    this.#due = this.#flushing
    this.#flushing = links
    for (const link of links) link.flush()
    links.length = 0
  }

  /** Heartbeats, credit and silence of all links: each LINK_TICK_MS. */
  tick(): void {
    const nowMs = this.nowMs()
    for (const link of this.#links) link.tick(nowMs, LINK_TICK_MS)
  }

  get openCount(): number {
    return this.#links.size
  }

  get congestedCount(): number {
    let count = 0
    for (const link of this.#links) if (link.isCongested) count++
    return count
  }

  get unacknowledgedBytes(): number {
    let bytes = 0
    for (const link of this.#links) bytes += link.unacknowledgedBytes
    return bytes
  }

  /** Writes what is appended, then ends every link. */
  closeAll(reason: string): void {
    for (const link of this.#links) link.close(reason)
  }

  nowMs(): number {
    return this.timers.nowMs()
  }

  /** A link of `stream`, which begins when its handler is there and `admit` is called. */
  makeLink(stream: FramedSocket, peer: PeerIdentity, peerWindowBytes: number): SocketLink {
    return new SocketLink(stream, peer, peerWindowBytes, this)
  }

  admit(link: SocketLink): void {
    this.#links.add(link)
    this.counters.opened++
    this.log.info('link_opened', fieldsOf(link.peer))
  }

  requestFlush(link: SocketLink): void {
    this.#due.push(link)
    this.#turn.request()
  }

  onFault({ role, id }: PeerIdentity, error: unknown): void {
    this.log.error('link_handler_failed', { peerRole: role, id, error: thrownField(error) })
  }

  onGone(link: SocketLink, reason: string): void {
    if (!this.#links.delete(link)) return
    this.counters.closed++
    this.log.info('link_closed', { ...fieldsOf(link.peer), reason })
  }
}

/** `role` in a log line of a cluster on one machine is that of the process which wrote it. */
function fieldsOf({ role, id, instance, protocolVersion }: PeerIdentity): Record<string, string | number> {
  return { peerRole: role, id, instance, protocolVersion }
}
