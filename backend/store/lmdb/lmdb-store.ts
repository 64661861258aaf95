import { join } from 'node:path'
import { open } from 'lmdb'
import { assert } from '#shared/base/assert.ts'
import { type Clock, systemClock } from '#shared/base/clock.ts'
import { type DurabilityLevel, type ShardEntry, type ShardStore, type SnapshotWriter, StoreError } from '../shard-store.ts'
import { Committer } from './committer.ts'
import { deferred } from './deferred.ts'
import { type DirectoryLock, lockDirectory } from './directory-lock.ts'
import * as layout from './layout.ts'
import { type Environment, type LoadedStore, type ShardState, journal, loadStore, readChunk } from './load.ts'
import { LmdbSnapshotWriter } from './snapshot.ts'
import { Trimmer } from './trimmer.ts'

export interface LmdbStoreOptions {
  readonly directory: string
  readonly shardCount: number
  readonly clusterName: string
  readonly level: Exclude<DurabilityLevel, 'memory'>
  /** Bytes that may be stored, rounded up to pages; no limit but the disk when left out. Reached: `commit` rejects with `full`. */
  readonly mapBytesMax?: number
  /** Bytes of covered entries in the journal below which it is not worth trimming. */
  readonly trimBytesMin?: number
  readonly clock?: Clock
}

export const JOURNAL_FILE = 'journal.mdb'
const TRIM_BYTES_MIN = 16 * 1024 * 1024

/**
 * Opens, or creates, the store in `directory`. It belongs to this process until `close`.
 * @throws {StoreError} locked, mismatch, newerFormat, corrupt
 */
export async function openLmdbStore(options: LmdbStoreOptions): Promise<ShardStore> {
  const lock = await lockDirectory(options.directory)
  const file = join(options.directory, JOURNAL_FILE)
  let db: Environment | undefined
  try {
    db = openEnvironment(file, options.level)
    const loaded = await loadStore(db, file, options, options.clock ?? systemClock)
    return new LmdbStore({ db, lock, file, options, loaded })
  } catch (error) {
    await db?.close()
    await lock.release()
    throw error
  }
}

function openEnvironment(file: string, level: DurabilityLevel): Environment {
  return open<Buffer, Buffer>({
    path: file,
    encoding: 'binary',
    keyEncoding: 'binary',
    maxDbs: 1,
    // Its promises would resolve no earlier, and after a failed transaction `close` would wait for ever.
    overlappingSync: false,
    noSync: level === 'stored',
    noMemInit: true,
  })
}

interface Parts {
  readonly db: Environment
  readonly lock: DirectoryLock
  readonly file: string
  readonly options: LmdbStoreOptions
  readonly loaded: LoadedStore
}

type Visit = (kind: 'snapshot' | 'log', bytes: Uint8Array) => void

class LmdbStore implements ShardStore {
  readonly level: DurabilityLevel
  readonly shardCount: number
  readonly #db: Environment
  readonly #lock: DirectoryLock
  readonly #file: string
  readonly #bytesMax: number
  readonly #shards: readonly ShardState[]
  readonly #committer: Committer
  readonly #trimmer: Trimmer
  #sequence: number
  #closing: Promise<void> | undefined
  /** Recoveries that will share the next reading of the journal. */
  #readers: Reader[] = []

  constructor({ db, lock, file, options, loaded }: Parts) {
    this.level = options.level
    this.shardCount = options.shardCount
    this.#db = db
    this.#lock = lock
    this.#file = file
    this.#bytesMax = options.mapBytesMax ?? Number.POSITIVE_INFINITY
    this.#shards = loaded.shards
    this.#sequence = loaded.lastSequence
    this.#committer = new Committer(db, (error) => this.#failure(error))
    this.#trimmer = new Trimmer(db, file, this.#committer, loaded, options.trimBytesMin ?? TRIM_BYTES_MIN)
  }

  /** Calls made in the same turn share one reading of the journal: recover all shards together. */
  recover(shard: number, visit: Visit): Promise<void> {
    if (this.#closing) return Promise.reject(closedError())
    const reader = new Reader(shard, this.#shard(shard), visit)
    if (this.#readers.push(reader) === 1) setImmediate(() => void this.#read())
    return reader.ended
  }

  commit(entries: readonly ShardEntry[]): Promise<void> {
    if (entries.length === 0 && !this.#closing) return this.#committer.failure ? Promise.reject(this.#committer.failure) : RESOLVED
    const bytes = layout.recordBytes(entries)
    try {
      this.#admit(bytes)
    } catch (error) {
      // Later commits must fail too, even if they were small enough: they may build on this one.
      return Promise.reject(this.#closing ? error : this.#committer.fail(error as Error))
    }
    for (const entry of entries) this.#shard(entry.shard).loggedBytes += entry.bytes.length
    const key = layout.recordKey(++this.#sequence)
    const value = this.#committer.allocate(bytes)
    layout.encodeRecord(value, key, entries)
    this.#trimmer.addRecord(bytes)
    return this.#committer.put(key, value, 'append')
  }

  beginSnapshot(shard: number): SnapshotWriter {
    this.#admit(0)
    const state = this.#shard(shard)
    assert(!state.snapshotUnderWay, `one snapshot at a time of shard ${shard}`)
    state.snapshotUnderWay = true
    const [committer, trimmer] = [this.#committer, this.#trimmer]
    const admit = (bytes: number): void => this.#admit(bytes)
    return new LmdbSnapshotWriter({ shard, state, covered: this.#sequence, committer, trimmer, admit })
  }

  logBytes(shard: number): number {
    const { loggedBytes, coveredBytes } = this.#shard(shard)
    return loggedBytes - coveredBytes
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  async #close(): Promise<void> {
    await this.#trimmer.stop()
    await this.#committer.idle()
    // At level `stored` the data may still be on its way to the disk; a store that was closed should survive the machine.
    if (!this.#committer.failure && this.level === 'stored') await synced(this.#db)
    await this.#db.close()
    await this.#lock.release()
  }

  async #read(): Promise<void> {
    const readers = this.#readers
    this.#readers = []
    try {
      await this.#committer.idle()
      for (const { shard, state, deliver } of readers) {
        const { generation, chunks } = state.pointer
        for (let index = 0; index < chunks; index++) deliver('snapshot', readChunk(this.#db, this.#file, shard, generation, index))
      }
      const byShard = groupByShard(readers)
      for await (const step of journal(this.#db, this.#file)) {
        for (const { sequence, entries } of step) {
          for (const { shard, bytes } of entries) {
            for (const reader of byShard.get(shard) ?? []) if (sequence > reader.state.pointer.covered) reader.deliver('log', bytes)
          }
        }
      }
      for (const reader of readers) reader.resolve()
    } catch (error) {
      for (const reader of readers) reader.reject(error)
    }
  }

  #shard(shard: number): ShardState {
    const state = this.#shards[shard]
    assert(state, `shard ${shard} of ${this.shardCount}`)
    return state
  }

  #admit(bytes: number): void {
    if (this.#closing) throw closedError()
    if (this.#committer.failure) throw this.#committer.failure
    if (this.#trimmer.usedBytes + bytes <= this.#bytesMax) return
    throw new StoreError('full', `${this.#file} has reached its limit of ${this.#bytesMax} bytes; raise the limit and restart`)
  }

  #failure(error: unknown): Error {
    const reason = error instanceof Error ? error.message : String(error)
    const isFull = /MDB_MAP_FULL|No space left|ENOSPC|Disk quota|File too large/i.test(reason)
    const remedy = isFull ? 'free space on its disk and restart' : 'check its disk and restart; nothing after the last acknowledgement was stored'
    return new StoreError(isFull ? 'full' : 'failed', `cannot write ${this.#file}: ${reason}; ${remedy}`, { cause: error })
  }
}

/** One call of `recover`; what its `visit` throws ends it alone. */
class Reader {
  readonly shard: number
  readonly state: ShardState
  readonly ended: Promise<void>
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
  readonly deliver: Visit

  constructor(shard: number, state: ShardState, visit: Visit) {
    const { promise, resolve, reject } = deferred()
    this.shard = shard
    this.state = state
    this.ended = promise
    this.resolve = resolve
    this.reject = reject
    let failed = false
    this.deliver = (kind, bytes) => {
      if (failed) return
      try {
        visit(kind, bytes)
      } catch (error) {
        failed = true
        reject(error)
      }
    }
  }
}

function groupByShard(readers: readonly Reader[]): Map<number, Reader[]> {
  const groups = new Map<number, Reader[]>()
  for (const reader of readers) groups.set(reader.shard, [...(groups.get(reader.shard) ?? []), reader])
  return groups
}

const RESOLVED = Promise.resolve()

function synced(db: Environment): Promise<void> {
  const { promise, resolve, reject } = deferred()
  // Missing in the package's types.
  const { sync } = db as unknown as { sync: (callback: (error?: Error) => void) => void }
  sync.call(db, (error) => (error ? reject(error) : resolve()))
  return promise
}

function closedError(): StoreError {
  return new StoreError('closed', 'the store is closed')
}
