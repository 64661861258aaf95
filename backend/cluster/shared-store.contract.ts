import {
  type ClusterStore,
  type DurabilityLevel,
  type ShardEntry,
  type ShardOwner,
  type ShardReading,
  type SnapshotWriter,
  StoreError,
} from '../store/shard-store.ts'

/** Entries read in one step, so that others get their turn meanwhile. */
const PAGE_ENTRIES = 4

interface KeptShard {
  owner: ShardOwner | null
  snapshot: readonly Uint8Array[]
  log: Uint8Array[]
  /** Entries ever trimmed: the place of `log[0]`. */
  trimmed: number
}

/** What all backends of a test store their shards in. */
export class SharedStore {
  readonly shards: KeptShard[]
  readonly level: DurabilityLevel

  constructor(shardCount: number, level: DurabilityLevel = 'stored') {
    this.level = level
    this.shards = Array.from({ length: shardCount }, () => ({ owner: null, snapshot: [], log: [], trimmed: 0 }))
  }

  open(owner: { readonly id: string; readonly instance: string }): SharedStoreClient {
    return new SharedStoreClient(this, owner)
  }
}

interface Step {
  /** The shard whose missing entries hold it up, if any are missing. */
  readonly shards: readonly number[]
  readonly run: () => void
  readonly reject: (error: Error) => void
}

interface Owned {
  readonly epoch: number
  passed: number
  stored: number
  isForsaken: boolean
}

/**
 * One backend's way to the shards: a ClusterStore as slow as the test likes. What is written waits in order until `complete`, unless
 * `isPrompt`. At level memory commits are forgotten and snapshots are kept, as with Redis.
 */
export class SharedStoreClient implements ClusterStore {
  readonly level: DurabilityLevel
  readonly shardCount: number
  onFenced: ((shard: number) => void) | null = null
  onIncomplete: ((shard: number) => void) | null = null
  isPrompt = true
  /** The shard whose log claims to be long enough for a snapshot. */
  snapshotDue = -1
  readonly #shared: SharedStore
  readonly #identity: { readonly id: string; readonly instance: string }
  /** Epoch of what is claimed, and what this process has passed to `commit` of it. */
  readonly #owned = new Map<number, Owned>()
  readonly #incomplete = new Set<number>()
  #steps: Step[] = []
  #isClosed = false

  constructor(shared: SharedStore, identity: { readonly id: string; readonly instance: string }) {
    this.#shared = shared
    this.#identity = identity
    this.level = shared.level
    this.shardCount = shared.shards.length
  }

  /** Steps that could be completed. */
  get waiting(): number {
    return this.#steps.filter(step => !this.#isHeldUp(step)).length
  }

  /** Completes the oldest `count` steps. */
  complete(count = Infinity): void {
    for (let done = 0; done < count; done++) {
      const at = this.#steps.findIndex(step => !this.#isHeldUp(step))
      if (at === -1) return
      this.#steps.splice(at, 1)[0]!.run()
    }
  }

  /** The process dies; the oldest `reached` of what waits gets through, though nobody is told. */
  kill(reached = 0): void {
    for (let done = 0; done < reached && this.#steps.length > 0; done++) this.#steps.shift()!.run()
    this.#steps = []
    this.#isClosed = true
    this.onFenced = null
    this.onIncomplete = null
  }

  /** A failover of the store has lost the last `count` entries of the shard: commits of it wait for a snapshot. */
  loseEntries(shard: number, count: number): void {
    const kept = this.#shared.shards[shard]!
    kept.log.length = Math.max(0, kept.log.length - count)
    this.#incomplete.add(shard)
    this.onIncomplete?.(shard)
  }

  async ownerOf(shard: number): Promise<ShardOwner | null> {
    return this.#shared.shards[shard]!.owner
  }

  async claim(shard: number, after: number): Promise<number | null> {
    const kept = this.#shared.shards[shard]!
    if ((kept.owner?.epoch ?? 0) !== after) return null
    // Nobody has written down what the last owner had in its memory.
    if (this.level === 'memory' && kept.owner?.isReleased === false) kept.snapshot = []
    const epoch = after + 1
    kept.owner = { epoch, ...this.#identity, isReleased: false }
    this.#owned.set(shard, { epoch, passed: 0, stored: 0, isForsaken: false })
    this.#incomplete.delete(shard)
    return epoch
  }

  async release(shard: number): Promise<void> {
    const owned = this.#owned.get(shard)
    if (owned === undefined) return
    if (owned.passed !== owned.stored) throw new Error(`shard ${shard} is let go before its last commit was answered`)
    this.#owned.delete(shard)
    const kept = this.#shared.shards[shard]!
    if (kept.owner!.epoch === owned.epoch) kept.owner = { ...kept.owner!, isReleased: true }
  }

  commit(entries: readonly ShardEntry[]): Promise<void> {
    if (this.#isClosed) return Promise.reject(closed())
    if (this.level === 'memory') return Promise.resolve()
    const ours = entries.flatMap(({ shard, bytes }) => {
      const owned = this.#owned.get(shard)
      if (owned !== undefined) owned.passed++
      return owned === undefined ? [] : [{ shard, owned, bytes: bytes.slice() }]
    })
    return this.#later(
      ours.map(({ shard }) => shard),
      () => {
        for (const { shard, owned, bytes } of ours) {
          owned.stored++
          if (!this.#isOwner(shard, owned.epoch)) this.#fence(shard, owned)
          else if (!owned.isForsaken) this.#shared.shards[shard]!.log.push(bytes)
        }
      },
    )
  }

  forsake(shard: number): void {
    const owned = this.#owned.get(shard)
    if (!this.#incomplete.delete(shard) || owned === undefined) return
    owned.isForsaken = true
    this.#owned.delete(shard)
  }

  beginSnapshot(shard: number): SnapshotWriter {
    if (this.#isClosed) throw closed()
    const owned = this.#owned.get(shard)
    if (owned === undefined) throw new StoreError('failed', `shard ${shard} is not ours`)
    this.snapshotDue = -1
    const kept = this.#shared.shards[shard]!
    const chunks: Uint8Array[] = []
    let covered = 0
    void this.#later([], () => {
      covered = kept.trimmed + kept.log.length
    })
    return {
      write: async chunk => {
        if (this.#isClosed) throw closed()
        chunks.push(chunk.slice())
      },
      finish: async () => {
        let isOurs = false
        await this.#later([], () => {
          isOurs = this.#isOwner(shard, owned.epoch)
          if (!isOurs) return this.#fence(shard, owned)
          kept.snapshot = chunks
          kept.log.splice(0, covered - kept.trimmed)
          kept.trimmed = Math.max(kept.trimmed, covered)
          this.#incomplete.delete(shard)
        })
        if (!isOurs) throw new StoreError('failed', `shard ${shard} has another owner`)
      },
      abandon: async () => {},
    }
  }

  logBytes(shard: number): number {
    if (this.snapshotDue === shard) return Number.MAX_SAFE_INTEGER
    return this.#owned.has(shard) ? this.#shared.shards[shard]!.log.reduce((sum, { length }) => sum + length, 0) : 0
  }

  async recover(shard: number, visit: (kind: 'snapshot' | 'log', bytes: Uint8Array) => void): Promise<void> {
    if (!(await this.read(shard).readOn(visit))) throw new StoreError('failed', `shard ${shard} changed while it was read`)
  }

  read(shard: number): ShardReading {
    const kept = this.#shared.shards[shard]!
    let place = -1
    return {
      readOn: async visit => {
        if (place === -1) {
          const { snapshot } = kept
          place = kept.trimmed
          for (const chunk of snapshot) visit('snapshot', chunk.slice())
        }
        for (;;) {
          await Promise.resolve()
          if (this.#isClosed) throw closed()
          if (place < kept.trimmed) return false
          const found = kept.log.slice(place - kept.trimmed, place - kept.trimmed + PAGE_ENTRIES)
          place += found.length
          for (const bytes of found) visit('log', bytes.slice())
          if (place === kept.trimmed + kept.log.length) return true
        }
      },
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true
  }

  #isOwner(shard: number, epoch: number): boolean {
    const { owner } = this.#shared.shards[shard]!
    return owner?.epoch === epoch && owner.instance === this.#identity.instance
  }

  #fence(shard: number, owned: { readonly epoch: number }): void {
    if (this.#owned.get(shard) !== owned) return
    this.#owned.delete(shard)
    this.onFenced?.(shard)
  }

  /** Commits are answered in order of each shard; what waits for a snapshot lets others pass. */
  #isHeldUp({ shards }: Step): boolean {
    return shards.some(shard => this.#incomplete.has(shard))
  }

  #later(shards: readonly number[], run: () => void): Promise<void> {
    if (this.#isClosed) return Promise.reject(closed())
    return new Promise((resolve, reject) => {
      const step = {
        shards,
        reject,
        run: () => {
          run()
          resolve()
        },
      }
      if (this.isPrompt && this.#steps.length === 0 && !this.#isHeldUp(step)) step.run()
      else this.#steps.push(step)
    })
  }
}

function closed(): StoreError {
  return new StoreError('closed', 'the store is closed')
}
