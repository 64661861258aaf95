import type { ShardOwner } from '../../backend/store/shard-store.ts'
import type { Member } from '#shared/cluster/member.ts'
import { LEASE_MS } from '#shared/cluster/member.ts'
import type { World } from './world.ts'

/** One stored journal entry: `number` counts the entries of an ownership, as the ids of a stream do. */
export interface StoredEntry {
  readonly epoch: number
  readonly number: number
  readonly bytes: Uint8Array
}

/** What Redis holds of a shard. */
export interface StoredShard {
  owner: ShardOwner | null
  snapshot: readonly Uint8Array[]
  /** Changes with each snapshot. */
  snapshotNumber: number
  log: StoredEntry[]
  /** Entries ever trimmed: the place of `log[0]`. */
  trimmed: number
  /** Whoever has read on in the log has all that is in the snapshot. */
  isSnapshotOfLog: boolean
  /** Of the owner's entries the highest number that is stored, or covered by the snapshot. */
  lastNumber: number
}

export interface StoredMember {
  readonly member: Member
  readonly seenMs: number
}

/** Everything that one Redis server holds. */
export class RedisState {
  shards: StoredShard[]
  members = new Map<string, StoredMember>()
  /** Instance → when it was evicted. */
  evicted = new Map<string, number>()

  constructor(shardCount: number) {
    this.shards = Array.from({ length: shardCount }, () => ({
      owner: null,
      snapshot: [],
      snapshotNumber: 0,
      log: [],
      trimmed: 0,
      isSnapshotOfLog: true,
      lastNumber: 0,
    }))
  }

  copy(): RedisState {
    const copy = new RedisState(0)
    copy.shards = this.shards.map(shard => ({ ...shard, log: shard.log.slice() }))
    copy.members = new Map(this.members)
    copy.evicted = new Map(this.evicted)
    return copy
  }

  remove(id: string, instance: string): void {
    for (const [key, { member }] of this.members) if (member.id === id && member.instance === instance) this.members.delete(key)
  }

  living(nowMs: number): Member[] {
    return [...this.members.keys()]
      .sort()
      .map(key => this.members.get(key)!)
      .filter(({ seenMs }) => nowMs - seenMs <= LEASE_MS)
      .map(({ member }) => member)
  }
}

type Write = (state: RedisState) => void

/**
 * A Redis with one replica that lags. Writes reach the primary one after the other and later the replica; a failover makes the replica
 * the primary and drops what had not reached it. Processes talk to it through SimStore and SimRegistry, which add the way there and back.
 */
export class SimRedis {
  readonly world: World
  readonly shardCount: number
  state: RedisState
  #replica: RedisState
  /** Writes that the replica has not had, oldest first. */
  #lagging: { readonly change: Write; readonly ms: number }[] = []
  #replicatedWaits: { readonly at: number; readonly run: (isReplicated: boolean) => void }[] = []
  #written = 0
  #isReplicating = false
  /** Nobody reaches it. */
  isDown = false
  /** Names of processes that do not reach it. */
  readonly unreachableFrom = new Set<string>()
  /** Grows with each failover and outage: a connection of before is gone. */
  incarnation = 0
  failovers = 0
  /** Milliseconds one way, and how far the replica is behind. */
  delayMsMax = 2
  lagMsMax = 10
  readonly #onReachable = new Set<() => void>()

  constructor(world: World, shardCount: number) {
    this.world = world
    this.shardCount = shardCount
    this.state = new RedisState(shardCount)
    this.#replica = new RedisState(shardCount)
  }

  isReachableBy(process: string): boolean {
    return !this.isDown && !this.unreachableFrom.has(process)
  }

  /** Changes the primary now, the replica later. */
  write(change: Write): void {
    change(this.state)
    this.#written++
    this.#lagging.push({ change, ms: this.world.nowMs })
    this.#replicate()
  }

  /** Somebody takes this process for dead: for a while the registry refuses it. */
  evict(id: string, instance: string): void {
    const { nowMs } = this.world
    this.write(state => {
      state.remove(id, instance)
      state.evicted.set(instance, nowMs)
    })
  }

  /** Runs when the replica has what was written so far; with false when a failover has dropped it. */
  whenReplicated(run: (isReplicated: boolean) => void): void {
    if (this.#lagging.length === 0) return run(true)
    this.#replicatedWaits.push({ at: this.#written, run })
  }

  /** The primary is lost and the replica takes over after `downMs`; answers how many writes are dropped, and when the first of them was made. */
  failOver(downMs: number): { readonly dropped: number; readonly sinceMs: number } {
    const dropped = this.#lagging.length
    const sinceMs = this.#lagging[0]?.ms ?? this.world.nowMs
    this.isDown = true
    this.incarnation++
    this.failovers++
    this.#written -= dropped
    this.#lagging = []
    this.state = this.#replica.copy()
    for (const wait of this.#replicatedWaits.splice(0)) wait.run(false)
    this.world.after(downMs, () => this.reachable(() => (this.isDown = false)))
    return { dropped, sinceMs }
  }

  /** Out of reach for everybody for a while; nothing is lost. */
  goDown(downMs: number): void {
    if (this.isDown) return
    this.isDown = true
    this.incarnation++
    this.world.after(downMs, () => this.reachable(() => (this.isDown = false)))
  }

  /** Cuts one process off. */
  cutOff(process: string): void {
    this.unreachableFrom.add(process)
  }

  letIn(process: string): void {
    this.reachable(() => this.unreachableFrom.delete(process))
  }

  /** Makes the change after which some reach it again. */
  reachable(change: () => void): void {
    change()
    for (const run of this.#onReachable) run()
  }

  /** Called whenever it may have come into reach; the answer stops it. */
  onReachable(run: () => void): () => void {
    this.#onReachable.add(run)
    return () => this.#onReachable.delete(run)
  }

  #replicate(): void {
    if (this.#isReplicating) return
    this.#isReplicating = true
    const { incarnation } = this
    this.world.after(this.world.random.next() * this.lagMsMax, () => {
      this.#isReplicating = false
      if (incarnation === this.incarnation) {
        for (const { change } of this.#lagging.splice(0)) change(this.#replica)
        const reached = this.#replicatedWaits.filter(({ at }) => at <= this.#written)
        this.#replicatedWaits = this.#replicatedWaits.filter(({ at }) => at > this.#written)
        for (const wait of reached) wait.run(true)
      }
      if (this.#lagging.length > 0) this.#replicate()
    })
  }
}
