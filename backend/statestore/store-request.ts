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
  /** For watches that are kept: the change of the key before it; who does not know that one has missed something. Null for others. */
  readonly previous: StoreClock | null
  readonly watchers: readonly WatcherId[]
}

/** What has to be recorded, in this order, before anybody is told of it; and who is to be told of it then. */
export interface Effects {
  readonly changes: readonly StoreChange[]
  readonly notifications: readonly StoreNotification[]
}

const NO_CHANGES: StoreChange[] = []
const NO_NOTIFICATIONS: StoreNotification[] = []

/** Of what is being done. Most requests change one thing at most and tell nobody: arrays are made for what there is, 180 bytes less. */
export class OpenEffects implements Effects {
  changes: StoreChange[] = NO_CHANGES
  notifications: StoreNotification[] = NO_NOTIFICATIONS

  change(change: StoreChange): void {
    if (this.changes.length === 0) this.changes = [change]
    else this.changes.push(change)
  }

  notify(notification: StoreNotification): void {
    if (this.notifications.length === 0) this.notifications = [notification]
    else this.notifications.push(notification)
  }
}

/** What was done for one request. */
export class Executed extends OpenEffects {
  /**
   * `repeated`: it was done before, the reply is that of then.
   * `stale`: its frontend had its answer long ago; this is a late copy, was not executed, and `answer` is empty: nobody waits for it.
   */
  is: 'executed' | 'repeated' | 'stale' = 'executed'
  reply: Reply = NO_REPLY

  /** `__ts` of the response; null: it has none. */
  get version(): StoreClock | null {
    return this.reply.version
  }

  /** Payload of the response, of GET another copy of the value. Never to be written into. */
  get answer(): Buffer {
    return this.reply.answer ?? valueAnswer(this.reply.value!)
  }
}

/** Either `answer`, which is never to be written into, or what GET has found. */
export interface Reply {
  readonly answer: Buffer | null
  readonly value: StoredBytes | null
  readonly version: StoreClock | null
}

const NO_REPLY: Reply = { answer: Buffer.alloc(0), value: null, version: null }
