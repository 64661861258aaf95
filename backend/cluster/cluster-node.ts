import type { Message } from '#shared/mqtt/message.ts'
import type { OwnerPort } from '#shared/rpc/owner-port.ts'
import type { Engine } from '../engine.ts'
import type { Session } from '../session/session.ts'
import type { PersistencePolicy } from '../shard/persistence.ts'
import type { ClusterStore } from '../store/shard-store.ts'
import { RouteAnnouncements } from './announcements.ts'
import type { Caller } from './caller.ts'
import { Awaiting } from './awaiting.ts'
import { Groups } from './groups.ts'
import { HandOvers } from './hand-overs.ts'
import { Memberships } from './memberships.ts'
import { StoreFrontends } from './store-frontends.ts'
import { StoreTurns } from './store-turns.ts'
import type { RetainedRead } from './retained-read.ts'

/** The owners of other shards, as this backend knows them as a caller (shared/cluster/directory.ts). */
export interface OtherOwners {
  /** Whom to call about `shard` when its routes are known to be right; null when it is not certain, or is our own. */
  freshOwner(shard: number): OwnerPort | null
  /** Shards of others that have a route for the topic. */
  match(topicName: string): readonly number[]
}

/** What makes an engine one of several. */
export interface ClusterParts {
  readonly store: ClusterStore
  readonly others: OtherOwners
  /** Keys (`id/instance`) of the registered processes that call backends, but this one. */
  readonly registeredCallers: () => Iterable<string>
  /** Null, or left out: everything outlives a stop. */
  readonly persistence?: () => ClusterPersistence | null
}

/** What outlives a stop of all backends. */
export interface ClusterPersistence {
  readonly policy: PersistencePolicy
  /** ClusterRun.id: what is stored of an earlier run has outlived one. */
  readonly runId: string
}

/** The state of a backend that is one of several: who calls it, and what goes to and comes from the others. */
export class ClusterNode {
  readonly #engine: Engine
  readonly store: ClusterStore
  readonly others: OtherOwners
  readonly registeredCallers: () => Iterable<string>
  readonly persistence: () => ClusterPersistence | null
  readonly callers = new Set<Caller>()
  readonly announcements: RouteAnnouncements
  readonly handOvers: HandOvers
  readonly storeTurns: StoreTurns
  readonly groups: Groups
  readonly memberships: Memberships
  readonly awaiting: Awaiting
  /** For Subscriptions of our sessions. */
  readonly retainedReads = new Set<RetainedRead>()
  readonly #readByQuery = new Map<number, RetainedRead>()
  readonly #asking = new Set<RetainedRead>()
  readonly #storeFrontends: StoreFrontends
  #lastQuery = 0

  constructor(engine: Engine, parts: ClusterParts) {
    this.#engine = engine
    this.store = parts.store
    this.others = parts.others
    this.registeredCallers = parts.registeredCallers
    this.persistence = parts.persistence ?? (() => null)
    this.announcements = new RouteAnnouncements({
      shardCount: engine.shards.length,
      clock: engine.clock,
      followers: () => this.callers,
      registered: parts.registeredCallers,
      serving: shard => engine.shards[shard]!.isServing,
    })
    this.storeTurns = new StoreTurns(engine.turn, {
      of: shard => engine.shards[shard]!.handOvers.size,
      all: () => engine.shards.reduce((sum, { handOvers }) => sum + handOvers.size, 0),
    })
    this.handOvers = new HandOvers(engine, this)
    this.groups = new Groups(engine, this)
    this.memberships = new Memberships(engine, this)
    this.awaiting = new Awaiting(engine)
    this.#storeFrontends = new StoreFrontends(engine, () => [...parts.registeredCallers(), ...[...this.callers].map(({ key }) => key)])
  }

  /** The session takes messages now, or does not any more: the groups that it is a member of may choose others. */
  noteStanding(session: Session): void {
    if (session.groupCount > 0) this.memberships.noteStanding(session)
  }

  /** A shard of another backend can be called, or one of our own has begun to serve: what waited for it goes on. */
  onFresh(shard: number): void {
    const { shards, retainedSequence } = this.#engine
    if (shards[shard]!.isServing) shards[shard]!.retainedSince = retainedSequence
    this.memberships.onFresh(shard)
    this.handOvers.onFresh(shard)
    for (const read of this.retainedReads) read.onFresh(shard)
  }

  /** A shard of another backend cannot be called any more by the link by which it could. */
  onLost(shard: number): void {
    for (const read of this.retainedReads) read.onLost(shard)
  }

  /** The read has shards to ask for: at the end of the turn, when all that came with it are known. */
  askSoon(read: RetainedRead): void {
    this.#asking.add(read)
    this.#engine.turn.request()
  }

  /** A message that its topic retains goes to these: it overtakes what others read of it before. */
  noteRetained(topicName: string, recipients: readonly { readonly subscriber: Session }[]): void {
    if (this.retainedReads.size === 0) return
    for (const { subscriber } of recipients) for (const replay of subscriber.replays?.values() ?? []) replay.overtake(topicName)
  }

  /** A number for a read of Retained Messages of others. */
  newRead(read: RetainedRead): number {
    this.#readByQuery.set(++this.#lastQuery, read)
    return this.#lastQuery
  }

  forgetRead(query: number): void {
    this.#readByQuery.delete(query)
  }

  /** CallerPort.retained. */
  onRetained(query: number, messages: readonly Message[], isDone: boolean): void {
    this.#readByQuery.get(query)?.onMessages(query, messages, isDone)
  }

  /** A few times a second. */
  tick(): void {
    this.awaiting.tick()
    this.#storeFrontends.tick()
    this.announcements.check()
    this.memberships.tick()
    this.storeTurns.goOn()
  }

  /** End of a turn, before the journal's. */
  endTurn(): void {
    for (const read of this.#asking) if (this.retainedReads.has(read)) read.ask()
    this.#asking.clear()
    this.storeTurns.goOn()
    this.memberships.flush()
    this.handOvers.flush()
    this.announcements.flush()
  }
}
