import type { Message } from '#shared/mqtt/message.ts'
import type { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { AttachReply, ConnectionId, SessionHandle } from './backend-port.ts'
import type { FrontendPort } from './frontend-port.ts'

/**
 * What a backend tells a caller (a frontend or another backend) over their link: answers to OwnerPort, deliveries (FrontendPort), and
 * what it owns. Calls about something that is gone are ignored.
 */
export interface CallerPort extends FrontendPort {
  attached(request: number, reply: AttachReply): void
  /** The session's shard is not here: ask its owner. */
  attachMoved(request: number): void
  detached(connection: ConnectionId): void

  /**
   * Answer to `publish`: stored at the promised level by the addressed shards but those in `moved`, which this backend does not own
   * and which did nothing; null for none. The caller joins the reasons of all shards.
   */
  published(sequence: number, reason: ReasonCode, moved: readonly number[] | null): void

  /** Sessions of `resume` that are bound again. Those that are not get `disconnect`. Deliveries that the client has not had follow. */
  resumed(shard: number, sessions: readonly BoundSession[]): void

  /**
   * This backend owns `shard` since `epoch` and answers for it. First after the link opens, for each shard, then `allOwned`; later for each shard it
   * gains. `routes` and `routesDigest` say which Topic Filters it has routes for (RouteDigest): the caller asks for them when its own differ.
   */
  owned(shard: number, epoch: number, routes: number, routesDigest: number): void
  /** Everything that this backend owned when the link opened was told. */
  allOwned(): void
  /** It owns `shard` no longer; whatever the caller sent before and had no answer for was not done. */
  lost(shard: number): void
  /**
   * Topic Filters for which `shard` has gained its first or lost its last subscriber. `isWhole`: first forget what was known of it.
   * Answered by `routesApplied(barrier)`.
   */
  routes(shard: number, barrier: number, isWhole: boolean, added: readonly string[], removed: readonly string[]): void

  /**
   * Answer to `handOver` for these of its target shards: done, and stored; `moved`: not owned here. One call may be answered in
   * two parts.
   */
  handedOver(fromShard: number, sequence: number, shards: readonly number[], outcome: 'done' | 'moved'): void

  /** The next batch of a query; `isDone` ends it. Messages are valid only during the call. */
  retained(query: number, messages: readonly Message[], isDone: boolean): void

  membersApplied(request: number): void

  /** Answer to `askStore`: all is stored, or nothing was done. */
  storeAsked(sequence: number, reason: ReasonCode): void
  /**
   * Answer to `readStore`, in the order of its keys: null for one that is not there, and instead of all when they are longer than MGET_BYTES_MAX. To
   * `askStore` as a `part`: the one answer. They are valid during the call.
   */
  storeRead(sequence: number, values: readonly (Uint8Array | null)[] | null): void
  unwatched(shard: number, connection: ConnectionId): void

  /** Answer to `requestShard`: it is let go and its journal is complete; or not (not the owner, or it must keep it for now). */
  shardReleased(shard: number, isReleased: boolean): void
}

export interface BoundSession {
  readonly connection: ConnectionId
  readonly session: SessionHandle
}
