import type { Message } from '#shared/mqtt/message.ts'
import type { HandOver } from '../cluster/hand-over.ts'
import type { Delivery } from '../session/delivery.ts'
import type { Session } from '../session/session.ts'
import type { KeyStore } from '../statestore/key-store.ts'

/**
 *   absent ─read ahead→ preparing ─claimed, read to the end→ serving ─asked for it→ leaving ─everything stored→ absent
 *                                                            serving ─another one has claimed it→ absent
 */
export type ShardPhase = 'absent' | 'preparing' | 'serving' | 'leaving'

/** Unit of state and ownership: the sessions whose Client Identifiers hash to it. */
export class Shard {
  readonly number: number
  phase: ShardPhase = 'absent'
  /** Of our ownership; only grows. */
  epoch = 0
  readonly sessions = new Map<string, Session>()
  /** The same sessions by their number in the journal. */
  readonly byNumber = new Map<number, Session>()
  /** Never used again, so that a record about a session that ended cannot hit a later one. */
  nextSession = 1
  /** Retained Messages of the topics that hash to it, in the order in which they came: what its snapshots hold. */
  readonly retained = new Set<Message>()
  /** Of a cluster: Engine.retainedSequence when it was taken over. What it retained before then no session of ours got as it came. */
  retainedSince = 0
  /** Deliveries of the publish being matched that this shard's journal must hold, and their sessions. */
  readonly receivers: Delivery[] = []
  readonly receivingSessions: Session[] = []
  /** Messages of this shard that other shards are still to take, oldest first. Of a cluster, as are the next three. */
  readonly handOvers = new Map<number, HandOver>()
  nextHandOver = 1
  /** By shard of origin: the last hand-over that was taken here. */
  readonly seen = new Map<number, number>()
  /** Sessions with Shared Subscriptions and the text of each, by the shard that owns its group. */
  readonly sharers = new Map<number, Map<Session, Set<string>>>()
  /** Its part of the state store, made when it is first needed. */
  store: KeyStore | null = null
  /** Of a cluster whose policy chooses what outlives a stop: the run (ClusterRun) that this state is of; else empty. */
  runId = ''
  /** Size of the last snapshot, which decides when the log has grown enough for the next. */
  snapshotBytes = 0

  constructor(number: number) {
    this.number = number
  }

  /** Whether we answer for it. */
  get isServing(): boolean {
    return this.phase === 'serving'
  }

  /**
   * A delivery of the publish being matched is over before the journal heard of it, and never will: true. A record of its end would
   * stand before that of its beginning, and recovery would bring it back.
   */
  withdraw(delivery: Delivery): boolean {
    // All are of one message: this alone answers for nearly every other delivery.
    if (this.receivers.at(-1)?.message !== delivery.message) return false
    const index = this.receivers.lastIndexOf(delivery)
    if (index === -1) return false
    this.receivers.splice(index, 1)
    this.receivingSessions.splice(index, 1)
    return true
  }
}
