import { valueAnswer } from '#shared/state-store/answer.ts'
import type { ClockTime, Given, HybridClock, StoreClock } from '#shared/state-store/hybrid-clock.ts'
import type { Command, KeepCommand, ScanCommand, WatchCommand } from '#shared/state-store/command.ts'
import type { StoredBytes } from '#shared/state-store/stored-bytes.ts'
import type { StoreChange } from './changes.ts'

/** One network connection of a client. After a takeover or a reconnect the same client is another watcher. */
export interface WatcherId {
  /** One run of one frontend: never the name of a later one. */
  readonly frontend: string
  /** Never used again by that frontend. */
  readonly connection: number
  readonly clientId: string
}

/** Which request of a frontend it is: what is asked again after a failover must not be done again. */
export interface RequestOrigin {
  /** As in WatcherId. */
  readonly frontend: string
  /** Of the frontend's requests, each repeat included under the number of its first; only grows. */
  readonly sequence: number
  /** All requests below have their answer, or nobody waits for it any more: none of them is sent again. */
  readonly settledBefore: number
}

/** SCAN, and which of how many shards it has come to: its cursor may name another one. */
export interface ShardScan extends ScanCommand {
  readonly shard: number
  readonly shardCount: number
}

/** What was done in this shard and in others, MGET or WATCH, and is to be answered. */
export interface JoinedAnswer {
  readonly is: 'joined'
  readonly answer: Buffer
}

/** What a store executes. */
export type StoreCommand = Command | ShardScan | WatchCommand | KeepCommand | JoinedAnswer

/** A request that its frontend has found well-formed and allowed (spec state-store.md 2 to 5, 11). */
export interface StoreRequest {
  /** Keys and values may be views: what is kept of them is copied. */
  readonly command: StoreCommand
  /** `__ts` */
  readonly timestamp: Given<ClockTime>
  /** `__ft` */
  readonly fencingToken: Given<HybridClock>
  /** The persistence policy, or the request itself, chose the entry to outlive a stop of all processes. */
  readonly isPersistent: boolean
  /** Who asks, and who is to be told of changes after KEYNOTIFY. */
  readonly watcher: WatcherId
  /** Null where requests are not repeated: in one process. */
  readonly origin: RequestOrigin | null
}

/** Owed to each of `watchers` whose connection is still that of its client's session, once, in order, without a look at subscriptions. */
export interface StoreNotification {
  /** A character for each byte. */
  readonly key: string
  readonly payload: Buffer
  /** Its `__ts`. */
  readonly clock: StoreClock
  readonly watchers: readonly WatcherId[]
}

/** What has to be recorded, in this order, before anybody is told of it; and who is to be told of it then. */
export interface Effects {
  readonly changes: readonly StoreChange[]
  readonly notifications: readonly StoreNotification[]
}

export class Executed implements Effects {
  /**
   * `repeated`: it was done before, `answer` is that of then.
   * `stale`: its frontend had its answer long ago; this is a late copy, was not executed, and `answer` is empty: nobody waits for it.
   */
  readonly is: 'executed' | 'repeated' | 'stale'
  /** `__ts` of the response; null: it has none. */
  readonly version: StoreClock | null
  /** What GET has found. Whoever makes a response of it needs no `answer`, which is another copy. */
  readonly value: StoredBytes | null
  readonly changes: readonly StoreChange[]
  readonly notifications: readonly StoreNotification[]
  readonly #answer: Buffer | null

  constructor(is: Executed['is'], reply: Reply, { changes, notifications }: Effects) {
    this.is = is
    this.version = reply.version
    this.value = reply.value
    this.changes = changes
    this.notifications = notifications
    this.#answer = reply.answer
  }

  /** Payload of the response. Never to be written into. */
  get answer(): Buffer {
    return this.#answer ?? valueAnswer(this.value!)
  }
}

/** Either `answer` or `value`. */
export interface Reply {
  readonly answer: Buffer | null
  readonly value: StoredBytes | null
  readonly version: StoreClock | null
}
