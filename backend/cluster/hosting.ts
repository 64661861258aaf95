import type { TimerHandle } from '#shared/base/timer-wheel.ts'
import type { Engine } from '../engine.ts'
import { loseLink } from '../handlers/attach.ts'
import type { ShardHost } from '../ownership/shard-host.ts'
import { cancelReplays } from '../queue/retained-replay.ts'
import { removeRetained } from '../queue/retained-store.ts'
import { takeQueued } from '../session/queue-limits.ts'
import { hasExpired, type Session } from '../session/session.ts'
import { endSession, scheduleExpiry } from '../session/ending.ts'
import { forgetAll } from '../session/subscriptions.ts'
import { connectionWillDue, setWill } from '../session/will.ts'
import { dropUnchosen } from '../shard/persistence.ts'
import { writeRun } from '../shard/records.ts'
import type { Shard } from '../shard/shard.ts'
import { ShardRecovery } from '../shard/recovery.ts'
import type { Snapshotter } from '../shard/snapshotter.ts'
import { StoreError, type ShardReading } from '../store/shard-store.ts'
import type { ClusterNode } from './cluster-node.ts'
import { noteRecovered } from './releases.ts'

/** Snapshots that replace what is being read, one after the other: then something else is wrong. */
const READ_TRIES_MAX = 5

/** So long after a shard was let go its memory is given back: by then its next owner has it. */
const FORGET_AFTER_MS = 200

interface Preparation {
  readonly reading: ShardReading
  readonly recovery: ShardRecovery
}

/** Brings shards into the engine and takes them out of it, while the others go on. */
export class Hosting implements ShardHost {
  readonly #engine: Engine
  readonly #node: ClusterNode
  readonly #snapshotter: Snapshotter
  readonly #mayServe: (shard: number) => boolean
  readonly #preparations = new Map<number, Preparation>()
  /** Let go, and still in memory. */
  readonly #leavers = new Map<Shard, TimerHandle>()
  /** By shard: the call of `prepare` or `take` that is under way. One that was overtaken ends without effect. */
  readonly #attempts: (object | null)[]

  constructor(engine: Engine, node: ClusterNode, snapshotter: Snapshotter, mayServe: (shard: number) => boolean) {
    this.#engine = engine
    this.#node = node
    this.#snapshotter = snapshotter
    this.#mayServe = mayServe
    this.#attempts = engine.shards.map(() => null)
  }

  async prepare(number: number): Promise<void> {
    // What nobody journals is written down when its owner lets it go: there is nothing to read before.
    if (!this.#engine.journal.isDurable) return
    await this.#attempt(this.#engine.shards[number]!, () => undefined)
  }

  async take(number: number, epoch: number): Promise<void> {
    const shard = this.#engine.shards[number]!
    await this.#attempt(shard, ({ recovery }) => {
      if (!this.#mayServe(number)) throw notNeeded(shard)
      this.#preparations.delete(number)
      shard.epoch = epoch
      recovery.finish()
      this.#serve(shard)
    })
  }

  async stop(number: number): Promise<void> {
    const shard = this.#engine.shards[number]!
    shard.phase = 'leaving'
    for (const session of shard.sessions.values()) {
      loseLink(session)
      // What is due from now on is the next owner's.
      session.timer = this.#engine.cancel(session.timer)
      session.willTimer = this.#engine.cancel(session.willTimer)
    }
    // What was received in this turn has its records and answers in the open commit.
    await this.#engine.journal.stored()
    await this.#snapshotter.leave(shard)
  }

  /** Its next owner is told before the shard is taken out of memory: that takes longer than all the rest, and is nobody's hurry. */
  released(number: number): void {
    const shard = this.#engine.shards[number]!
    for (const { calls } of this.#node.callers) calls.lost(number)
    const forget = (): void => {
      this.#leavers.delete(shard)
      this.#forget(shard)
    }
    this.#leavers.set(shard, this.#engine.at(this.#engine.clock.wallMs() + FORGET_AFTER_MS, forget))
  }

  drop(number: number): void {
    const shard = this.#engine.shards[number]!
    const wasServing = shard.isServing
    this.#forget(shard)
    if (wasServing) for (const { calls } of this.#node.callers) calls.lost(number)
  }

  abandon(number: number): void {
    if (this.#engine.shards[number]!.phase === 'preparing') this.#forget(this.#engine.shards[number]!)
  }

  /** Reads, then does `then` in the same turn. When either fails, nothing of the shard is kept, unless another attempt has begun. */
  async #attempt(shard: Shard, then: (preparation: Preparation) => void): Promise<void> {
    if (this.#leavers.has(shard)) this.#forget(shard)
    // One that is under way still goes on reading where this one would.
    if (this.#attempts[shard.number] !== null) this.#clear(shard, false)
    const attempt = (this.#attempts[shard.number] = {})
    const isCurrent = (): boolean => this.#attempts[shard.number] === attempt
    shard.phase = 'preparing'
    try {
      then(await this.#read(shard, isCurrent))
      this.#attempts[shard.number] = null
    } catch (error) {
      if (isCurrent()) this.#forget(shard)
      throw error
    }
  }

  /** Reads on to the end of what is stored now; from the beginning when nothing was read, or a snapshot has taken its place. */
  async #read(shard: Shard, isCurrent: () => boolean): Promise<Preparation> {
    for (let tries = 0; tries < READ_TRIES_MAX; tries++) {
      let preparation = this.#preparations.get(shard.number)
      if (preparation === undefined) {
        preparation = { reading: this.#node.store.read(shard.number), recovery: new ShardRecovery(this.#engine, shard) }
        this.#preparations.set(shard.number, preparation)
      }
      const { reading, recovery } = preparation
      const isWhole = await reading.readOn((_kind, bytes) => {
        if (!isCurrent()) throw notNeeded(shard)
        recovery.apply(bytes)
      })
      if (!isCurrent()) throw notNeeded(shard)
      if (isWhole) return preparation
      this.#clear(shard, false)
    }
    throw new StoreError('failed', `shard ${shard.number} is replaced by snapshots faster than it can be read`)
  }

  #serve(shard: Shard): void {
    const engine = this.#engine
    shard.phase = 'serving'
    this.#enterRun(shard)
    const nowMs = engine.clock.wallMs()
    const sessions = [...shard.sessions.values()]
    for (const { calls } of this.#node.callers) this.#node.announcements.announceOwned(calls, shard.number, shard.epoch)
    for (const session of sessions) this.#revive(session, nowMs)
    this.#node.awaiting.shardTaken(shard)
    noteRecovered(shard)
    this.#node.handOvers.resume(shard)
    this.#node.memberships.resume(shard)
    this.#node.onFresh(shard.number)
    engine.turn.request()
  }

  /** The run of the cluster, or its policy, is another one: what we serve is of the present one, whatever comes after it. */
  noteRun(): void {
    const runId = this.#node.persistence()?.runId ?? ''
    for (const shard of this.#engine.shards) if (shard.isServing) this.#writeRun(shard, runId)
  }

  /** All backends had stopped since the shard was stored: as at the start of a single process. */
  #enterRun(shard: Shard): void {
    const persistence = this.#node.persistence()
    if (persistence !== null && shard.runId !== '' && shard.runId !== persistence.runId) {
      dropUnchosen(this.#engine, [shard], persistence.policy)
    }
    this.#writeRun(shard, persistence?.runId ?? '')
  }

  #writeRun(shard: Shard, runId: string): void {
    if (shard.runId === runId) return
    shard.runId = runId
    const { journal } = this.#engine
    if (journal.isDurable) writeRun(journal.writer(shard.number), runId)
  }

  /** A session that has no connection goes on waiting for its Will and its end; one that has waits for its frontend. */
  #revive(session: Session, nowMs: number): void {
    if (session.isConnected) {
      this.#engine.counters.sessionsConnected++
      return
    }
    connectionWillDue(this.#engine, session)
    if (hasExpired(session, nowMs)) endSession(this.#engine, session)
    else scheduleExpiry(this.#engine, session)
  }

  #forget(shard: Shard): void {
    this.#engine.cancel(this.#leavers.get(shard) ?? null)
    this.#leavers.delete(shard)
    const wasServing = shard.phase === 'serving' || shard.phase === 'leaving'
    shard.phase = 'absent'
    this.#snapshotter.forget(shard)
    this.#attempts[shard.number] = null
    this.#clear(shard, wasServing)
  }

  /** Takes everything of the shard out of the engine's memory; what is stored is not touched. */
  #clear(shard: Shard, wasServing: boolean): void {
    const engine = this.#engine
    this.#preparations.delete(shard.number)
    for (const session of shard.sessions.values()) this.#forgetSession(session, wasServing)
    for (const message of shard.retained) removeRetained(engine, message.topic.name)
    for (const { message } of shard.handOvers.values()) engine.letGo(message)
    shard.handOvers.clear()
    shard.seen.clear()
    shard.sharers.clear()
    shard.store = null
    shard.runId = ''
    shard.snapshotBytes = 0
    this.#node.groups.forget(shard.number)
    this.#node.memberships.forget(shard.number)
    this.#node.announcements.clear(shard.number)
    engine.journal.discard(shard.number)
  }

  #forgetSession(session: Session, wasServing: boolean): void {
    const engine = this.#engine
    if (wasServing && session.isConnected) engine.counters.sessionsConnected--
    loseLink(session)
    session.hasEnded = true
    session.timer = engine.cancel(session.timer)
    setWill(engine, session, null)
    cancelReplays(engine, session)
    engine.crowdedQueues.delete(session)
    forgetAll(engine, session)
    const { outbox } = session
    session.outbox = null
    if (outbox !== null) {
      for (const delivery of outbox.ids.deliveries()) engine.letGo(delivery.message)
      for (let queued = takeQueued(engine, outbox); queued !== null; queued = takeQueued(engine, outbox)) engine.letGo(queued.message)
    }
    engine.forget(session)
  }
}

function notNeeded(shard: Shard): StoreError {
  return new StoreError('closed', `shard ${shard.number} is another backend's, or not needed any more`)
}
