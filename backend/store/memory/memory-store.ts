import { assert } from '#shared/base/assert.ts'
import { type ShardEntry, type ShardStore, type SnapshotWriter, StoreError } from '../shard-store.ts'

export interface MemoryStoreOptions {
  readonly shardCount: number
}

/**
 * A store that remembers nothing: for benchmarks, and for brokers whose users chose level `memory`. `commit` resolves
 * at once, `recover` visits nothing, and `logBytes` stays 0 so that nobody spends time on a snapshot.
 */
export function openMemoryStore(options: MemoryStoreOptions): ShardStore {
  return new ForgetfulStore(options.shardCount)
}

/** A store that keeps everything in memory, for tests and simulation: recovery without a disk. */
export function openKeepingStore(options: MemoryStoreOptions): KeepingStore {
  return new KeepingStore(Array.from({ length: options.shardCount }, emptyShard))
}

class ForgetfulStore implements ShardStore {
  readonly level = 'memory'
  readonly shardCount: number
  #closed = false

  constructor(shardCount: number) {
    this.shardCount = shardCount
  }

  async recover(): Promise<void> {
    if (this.#closed) throw closedError()
  }

  commit(): Promise<void> {
    return this.#closed ? Promise.reject(closedError()) : RESOLVED
  }

  beginSnapshot(): SnapshotWriter {
    if (this.#closed) throw closedError()
    return NO_SNAPSHOT
  }

  logBytes(): number {
    return 0
  }

  async close(): Promise<void> {
    this.#closed = true
  }
}

const RESOLVED = Promise.resolve()
const NO_SNAPSHOT: SnapshotWriter = { write: () => RESOLVED, finish: () => RESOLVED, abandon: () => RESOLVED }

interface KeptShard {
  snapshot: readonly Uint8Array[]
  log: Uint8Array[]
  logBytes: number
  /** Entries ever passed to `commit`; `log` holds the last ones of them. */
  written: number
  snapshotUnderWay: boolean
}

function emptyShard(): KeptShard {
  return { snapshot: [], log: [], logBytes: 0, written: 0, snapshotUnderWay: false }
}

/**
 * See {@link openKeepingStore}. A commit takes effect, and resolves, in the turn in which it was made. Says `stored`, because
 * what it holds outlives the engine that wrote it: engines on a `memory` store do not even make records.
 */
export class KeepingStore implements ShardStore {
  readonly level = 'stored'
  readonly #shards: KeptShard[]
  #closed = false

  constructor(shards: KeptShard[]) {
    this.#shards = shards
  }

  get shardCount(): number {
    return this.#shards.length
  }

  /** What a restart after a crash at this moment would find: finished snapshots and committed entries, nothing half written. */
  crashCopy(): KeepingStore {
    return new KeepingStore(this.#shards.map(shard => ({ ...shard, log: shard.log.slice(), snapshotUnderWay: false })))
  }

  async recover(shard: number, visit: (kind: 'snapshot' | 'log', bytes: Uint8Array) => void): Promise<void> {
    if (this.#closed) throw closedError()
    const kept = this.#shard(shard)
    for (const bytes of kept.snapshot) visit('snapshot', bytes.slice())
    for (const bytes of kept.log) visit('log', bytes.slice())
  }

  commit(entries: readonly ShardEntry[]): Promise<void> {
    if (this.#closed) return Promise.reject(closedError())
    for (const { shard, bytes } of entries) {
      const kept = this.#shard(shard)
      kept.log.push(bytes.slice())
      kept.logBytes += bytes.length
      kept.written++
    }
    return RESOLVED
  }

  beginSnapshot(shard: number): SnapshotWriter {
    if (this.#closed) throw closedError()
    const kept = this.#shard(shard)
    assert(!kept.snapshotUnderWay, `one snapshot at a time of shard ${shard}`)
    kept.snapshotUnderWay = true
    const covered = kept.written
    const chunks: Uint8Array[] = []
    const end = (): void => {
      assert(kept.snapshotUnderWay, 'a snapshot ends once')
      kept.snapshotUnderWay = false
    }
    return {
      write: async chunk => {
        if (this.#closed) throw closedError()
        chunks.push(chunk.slice())
      },
      finish: async () => {
        if (this.#closed) throw closedError()
        end()
        kept.snapshot = chunks
        kept.log = kept.log.slice(kept.log.length - (kept.written - covered))
        kept.logBytes = kept.log.reduce((sum, bytes) => sum + bytes.length, 0)
      },
      abandon: async () => end(),
    }
  }

  logBytes(shard: number): number {
    return this.#shard(shard).logBytes
  }

  async close(): Promise<void> {
    this.#closed = true
  }

  #shard(shard: number): KeptShard {
    const kept = this.#shards[shard]
    assert(kept, `shard ${shard} of ${this.#shards.length}`)
    return kept
  }
}

function closedError(): StoreError {
  return new StoreError('closed', 'the store is closed')
}
