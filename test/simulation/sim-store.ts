import {
  type ClusterStore,
  type DurabilityLevel,
  type ShardEntry,
  type ShardOwner,
  type ShardReading,
  type SnapshotWriter,
  StoreError,
} from '../../backend/store/shard-store.ts'
import { RedisClient } from './redis-client.ts'
import type { SimRedis, StoredShard } from './sim-redis.ts'
import type { SimProcess } from './world.ts'

/** So much shorter may logs grow here than in earnest before a snapshot is due, so that short runs have some. */
const LOG_SCALE = 256
/** Entries read in one call. */
const PAGE_ENTRIES = 20

export interface SimStoreOptions {
  readonly level: DurabilityLevel
  readonly memberId: string
  /** Mutation: an owner that was replaced takes no notice when its appends are refused. */
  readonly isFencingIgnored?: boolean
  /** Mutation: a commit counts before it is stored. */
  readonly isAnsweredEarly?: boolean
  /** Mutation: who takes a shard over does not read the newest entry. */
  readonly isLastEntryUnread?: boolean
}

interface Pending {
  readonly number: number
  readonly bytes: Uint8Array
  readonly done: () => void
}

/** A shard that this process has claimed. */
interface Owned {
  readonly epoch: number
  /** Number of the last entry passed to `commit`, and of the last answered one. */
  passed: number
  answered: number
  /** Passed and not answered, in order. */
  pending: Pending[]
  logBytes: number
  /** Answered entries are missing: commits wait for a snapshot. */
  isIncomplete: boolean
}

/** ClusterStore of one process on the simulated Redis. */
export class SimStore implements ClusterStore {
  readonly level: DurabilityLevel
  readonly shardCount: number
  onFenced: ((shard: number) => void) | null = null
  onIncomplete: ((shard: number) => void) | null = null
  readonly #options: SimStoreOptions
  readonly #redis: SimRedis
  readonly #process: SimProcess
  readonly #client: RedisClient
  readonly #owned = new Map<number, Owned>()
  /** Claimed by others since, or let go: what comes for them is passed over. */
  readonly #gone = new Set<number>()
  #isRepairing = false
  #isClosed = false

  constructor(redis: SimRedis, process: SimProcess, options: SimStoreOptions) {
    this.level = options.level
    this.shardCount = redis.shardCount
    this.#options = options
    this.#redis = redis
    this.#process = process
    this.#client = new RedisClient(redis, process, options.level === 'replicated', 'store')
  }

  // ---- ownership

  ownerOf(shard: number): Promise<ShardOwner | null> {
    this.#check(shard)
    return this.#client.ask('read', () => this.#stored(shard).owner)
  }

  async claim(shard: number, after: number): Promise<number | null> {
    this.#check(shard)
    const epoch = await this.#client.ask('write', isRepeated => this.#claimAt(shard, after, isRepeated))
    if (epoch === null) return null
    this.#gone.delete(shard)
    // What an earlier ownership of ours has left is nobody's any more: whoever gave it up has closed the links.
    for (const { done } of this.#owned.get(shard)?.pending.splice(0) ?? []) done()
    this.#owned.set(shard, { epoch, passed: 0, answered: 0, pending: [], logBytes: 0, isIncomplete: false })
    return epoch
  }

  #claimAt(shard: number, after: number, isRepeated: boolean): number | null {
    const { owner } = this.#stored(shard)
    const current = owner?.epoch ?? 0
    if (isRepeated && owner !== null && current > after && owner.instance === this.#process.instance) return current
    if (current !== after) return null
    this.#writeOwner(shard, current + 1)
    return current + 1
  }

  #writeOwner(shard: number, epoch: number): void {
    const owner: ShardOwner = { epoch, id: this.#options.memberId, instance: this.#process.instance, isReleased: false }
    this.#redis.write(state => {
      state.shards[shard]!.owner = owner
      state.shards[shard]!.lastNumber = 0
    })
  }

  async release(shard: number): Promise<void> {
    const owned = this.#owned.get(shard)
    if (owned === undefined) return
    if (owned.pending.length > 0) throw new Error(`shard ${shard} is let go with ${owned.pending.length} commits under way`)
    this.#owned.delete(shard)
    this.#gone.add(shard)
    await this.#client.ask('write', () => {
      if (!this.#isOwnerAt(shard, owned)) return
      this.#redis.write(state => {
        const stored = state.shards[shard]!
        stored.owner = { ...stored.owner!, isReleased: true }
      })
    })
  }

  // ---- journal

  commit(entries: readonly ShardEntry[]): Promise<void> {
    if (this.#isClosed) return Promise.reject(closed())
    if (this.level === 'memory') return Promise.resolve()
    return new Promise(resolve => {
      let left = 1
      const done = (): void => {
        if (--left === 0) resolve()
      }
      const shards = new Set<number>()
      for (const { shard, bytes } of entries) {
        const owned = this.#owned.get(shard)
        if (owned === undefined) {
          if (!this.#gone.has(shard)) throw new Error(`commit to shard ${shard}, which was not claimed`)
          continue
        }
        left++
        owned.pending.push({ number: ++owned.passed, bytes: bytes.slice(), done })
        owned.logBytes += bytes.length
        shards.add(shard)
      }
      for (const shard of shards) this.#append(shard, this.#owned.get(shard)!)
      if (this.#options.isAnsweredEarly === true) resolve()
      done()
    })
  }

  /** Sends what is pending and was not sent yet; all of it when repaired. */
  #append(shard: number, owned: Owned): void {
    if (owned.isIncomplete || this.#isRepairing) return
    const last = owned.passed
    this.#client.call(
      'write',
      () => this.#appendAt(shard, owned, last),
      outcome => {
        if (this.#owned.get(shard) !== owned) return
        if (outcome.is === 'lost') return this.#repair()
        if (!outcome.value) return this.#fenced(shard, owned)
        this.#answered(owned, last)
      },
    )
  }

  /** At Redis: everything pending up to `last` that is not stored yet. False: another owner has come. */
  #appendAt(shard: number, owned: Owned, last: number): boolean {
    if (!this.#isOwnerAt(shard, owned)) return this.#options.isFencingIgnored === true
    const from = this.#stored(shard).lastNumber
    const entries = owned.pending
      .filter(({ number }) => number <= last && number > from)
      .map(({ number, bytes }) => ({ epoch: owned.epoch, number, bytes }))
    if (entries.length === 0) return true
    this.#redis.write(state => {
      const stored = state.shards[shard]!
      stored.log.push(...entries)
      stored.lastNumber = last
    })
    return true
  }

  #answered(owned: Owned, last: number): void {
    if (last <= owned.answered) return
    owned.answered = last
    while (owned.pending.length > 0 && owned.pending[0]!.number <= last) owned.pending.shift()!.done()
  }

  #fenced(shard: number, owned: Owned): void {
    this.#owned.delete(shard)
    this.#gone.add(shard)
    this.onFenced?.(shard)
    for (const { done } of owned.pending.splice(0)) done()
  }

  /** The connection broke: once it is back, see for each shard what is stored, and write the rest again. */
  #repair(): void {
    if (this.#isRepairing) return
    this.#isRepairing = true
    this.#client.whenReachable(() => {
      this.#isRepairing = false
      for (const [shard, owned] of this.#owned) this.#repairShard(shard, owned)
    })
  }

  #repairShard(shard: number, owned: Owned): void {
    this.#client.call(
      'write',
      () => this.#lookAt(shard, owned),
      outcome => {
        if (this.#owned.get(shard) !== owned) return
        if (outcome.is === 'lost') return this.#repair()
        if (outcome.value === null) return this.#fenced(shard, owned)
        if (outcome.value < owned.answered && !owned.isIncomplete) {
          owned.isIncomplete = true
          this.onIncomplete?.(shard)
        }
        if (owned.pending.length > 0) this.#append(shard, owned)
      },
    )
  }

  /** At Redis: the number of our last entry there; null when somebody else has claimed. A claim that was lost is written again. */
  #lookAt(shard: number, owned: Owned): number | null {
    const { owner, lastNumber } = this.#stored(shard)
    if (this.#isOwnerAt(shard, owned)) return lastNumber
    if (this.#options.isFencingIgnored === true) return owned.answered
    if (owner !== null && owner.epoch >= owned.epoch) return null
    this.#writeOwner(shard, owned.epoch)
    return 0
  }

  forsake(shard: number): void {
    const owned = this.#owned.get(shard)
    if (owned?.isIncomplete !== true) return
    this.#owned.delete(shard)
    this.#gone.add(shard)
    for (const { done } of owned.pending.splice(0)) done()
  }

  // ---- snapshots

  beginSnapshot(shard: number): SnapshotWriter {
    if (this.#isClosed) throw closed()
    const owned = this.#owned.get(shard)
    if (owned === undefined) throw new StoreError('failed', `shard ${shard} is not ours`)
    const covered = owned.passed
    const bytesBefore = owned.logBytes
    const chunks: Uint8Array[] = []
    return {
      write: async chunk => {
        if (this.#isClosed) throw closed()
        chunks.push(chunk.slice())
        await this.#client.ask('read', () => null)
      },
      finish: async () => {
        if (this.#isClosed) throw closed()
        const isTaken = await this.#client.ask('write', () => this.#finishAt(shard, owned, covered, chunks))
        if (this.#owned.get(shard) !== owned) return
        if (!isTaken) {
          this.#fenced(shard, owned)
          throw new StoreError('failed', `shard ${shard} has another owner`)
        }
        owned.logBytes -= bytesBefore
        this.#answered(owned, covered)
        owned.isIncomplete = false
        if (owned.pending.length > 0) this.#append(shard, owned)
      },
      abandon: async () => {},
    }
  }

  #finishAt(shard: number, owned: Owned, covered: number, chunks: readonly Uint8Array[]): boolean {
    if (!this.#isOwnerAt(shard, owned)) return false
    const isOfLog = this.level !== 'memory' && !owned.isIncomplete
    this.#redis.write(state => {
      const stored = state.shards[shard]!
      const kept = stored.log.filter(({ epoch, number }) => epoch === owned.epoch && number > covered)
      stored.trimmed += stored.log.length - kept.length
      stored.log = kept
      stored.snapshot = chunks
      stored.snapshotNumber++
      stored.isSnapshotOfLog = isOfLog
      stored.lastNumber = Math.max(stored.lastNumber, covered)
    })
    return true
  }

  logBytes(shard: number): number {
    return (this.#owned.get(shard)?.logBytes ?? 0) * LOG_SCALE
  }

  // ---- reading

  async recover(shard: number, visit: (kind: 'snapshot' | 'log', bytes: Uint8Array) => void): Promise<void> {
    this.#check(shard)
    if (!(await this.read(shard).readOn(visit))) throw new StoreError('failed', `shard ${shard} changed while it was read`)
  }

  read(shard: number): ShardReading {
    this.#check(shard)
    let place = -1
    let snapshot = -1
    const { failovers } = this.#redis
    /** At Redis: the next entries; null when their place is gone. */
    const page = (): { readonly kind: 'snapshot' | 'log'; readonly bytes: readonly Uint8Array[]; readonly isLast: boolean } | null => {
      const stored = this.#stored(shard)
      if (failovers !== this.#redis.failovers) return null
      if (place === -1) {
        place = stored.trimmed
        snapshot = stored.snapshotNumber
        return { kind: 'snapshot', bytes: stored.snapshot, isLast: false }
      }
      // A snapshot of what was never appended (level memory, or after a loss) says more than the log that it covers.
      if (place < stored.trimmed || (snapshot !== stored.snapshotNumber && !stored.isSnapshotOfLog)) return null
      const found = stored.log.slice(place - stored.trimmed, place - stored.trimmed + PAGE_ENTRIES)
      place += found.length
      return { kind: 'log', bytes: found.map(({ bytes }) => bytes), isLast: place === stored.trimmed + stored.log.length }
    }
    return {
      readOn: async visit => {
        for (;;) {
          if (this.#isClosed) throw closed()
          const before = place
          const found = await this.#client.ask('read', isRepeated => {
            if (isRepeated) place = before
            return page()
          })
          if (found === null) return false
          const isCut = found.isLast && this.#options.isLastEntryUnread === true && this.#owned.has(shard)
          for (const bytes of isCut ? found.bytes.slice(0, -1) : found.bytes) visit(found.kind, bytes.slice())
          if (found.isLast) return true
        }
      },
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true
  }

  #stored(shard: number): StoredShard {
    return this.#redis.state.shards[shard]!
  }

  #isOwnerAt(shard: number, { epoch }: Owned): boolean {
    const { owner } = this.#stored(shard)
    return owner !== null && owner.epoch === epoch && owner.instance === this.#process.instance
  }

  #check(shard: number): void {
    if (this.#isClosed) throw closed()
    if (!(shard >= 0 && shard < this.shardCount)) throw new Error(`shard ${shard} of ${this.shardCount}`)
  }
}

function closed(): StoreError {
  return new StoreError('closed', 'the store is closed')
}
