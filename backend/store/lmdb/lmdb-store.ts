import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { assert } from '#shared/base/assert.ts'
import { type Clock, systemClock } from '#shared/base/clock.ts'
import { type DurabilityLevel, type ShardEntry, type ShardStore, type SnapshotWriter, StoreError } from '../shard-store.ts'
import { Committer } from './committer.ts'
import { type DirectoryLock, lockDirectory } from './directory-lock.ts'
import { type Environment, openEnvironment, syncEnvironment } from './environment.ts'
import { closedError, openingError, writingError } from './errors.ts'
import { checkFile } from './file-check.ts'
import * as layout from './layout.ts'
import { type LoadedStore, type ShardState, journal, loadStore, readChunk } from './load.ts'
import { Reader, type Visit, groupByShard } from './reader.ts'
import { LmdbSnapshotWriter } from './snapshot.ts'
import { Trimmer } from './trimmer.ts'

export interface LmdbStoreOptions {
  /** Created when missing. */
  readonly directory: string
  readonly shardCount: number
  readonly clusterName: string
  readonly level: Exclude<DurabilityLevel, 'memory'>
  /**
   * Bytes of what is stored, in pages; no limit but the disk when left out. Reached: `commit` and everything after it
   * rejects with `full`, a snapshot just itself. The file may be somewhat larger, by pages that wait to be used again.
   */
  readonly mapBytesMax?: number
  /** Bytes of covered entries in the journal below which trimming is not worth a pass. */
  readonly trimBytesMin?: number
  readonly clock?: Clock
}

export const JOURNAL_FILE = 'journal.mdb'
const TRIM_BYTES_MIN = 16 * 1024 * 1024
const RESOLVED = Promise.resolve()

/**
 * The store of a broker that keeps its state on its own disk: one LMDB environment, which belongs to this process until `close`.
 *
 *   DIR/journal.mdb        the environment; DIR/journal.mdb-lock is LMDB's table of readers
 *   DIR/LOCK               process id of the owner, for messages; the lock itself is directory-lock.ts's
 *
 *   key (layout.ts)                                   value
 *   meta                                              shard count, cluster name, time of creation (JSON)
 *   pointer | shard u16                               the valid snapshot: generation, number of chunks, covered sequence
 *   chunk   | shard u16 | generation u32 | index u32  a chunk of a snapshot
 *   record  | sequence u48                            entries of one `commit`, of all its shards: (shard, length)…, bytes…
 *
 * The journal is one sequence for all shards, not one per shard. A transaction writes anew each tree page that it
 * changes: a commit of 100 messages in 32 entries changed 150 pages (5.6 µs a message) with a log per shard, and
 * changes about 17 (2.6 µs, or 1.0 µs when commits overlap) with one record. The price: `recover` reads the whole
 * journal, so all shards do it together, and a record goes only when snapshots of all its shards cover it (trimmer.ts
 * sees to it that a shard which rarely has a snapshot keeps only its own entries).
 *
 * A process that dies leaves no torn tail: a transaction writes only pages that nothing refers to, and takes effect
 * with the meta page, written last. Checksums find what the disk damages later. At level `stored` nothing is forced to
 * the disk: after the machine stopped, the file may not open (`corrupt`).
 *
 * @throws {StoreError} locked, mismatch, newerFormat, corrupt, failed
 */
export async function openLmdbStore(options: LmdbStoreOptions): Promise<ShardStore> {
  const lock = await lockDirectory(options.directory)
  const file = join(options.directory, JOURNAL_FILE)
  let db: Environment | undefined
  try {
    await checkFile(file)
    db = openEnvironment(file, options.level)
    const loaded = await loadStore(db, file, options, options.clock ?? systemClock)
    return new LmdbStore({ db, lock, file, options, loaded })
  } catch (error) {
    await db?.close()
    await lock.release()
    throw openingError(error, file)
  }
}

interface Parts {
  readonly db: Environment
  readonly lock: DirectoryLock
  readonly file: string
  readonly options: LmdbStoreOptions
  readonly loaded: LoadedStore
}

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
  /** Recoveries that will share the next reading of the journal. */
  #readers: Reader[] = []
  #reading: Promise<void> = RESOLVED
  #closing: Promise<void> | undefined

  constructor({ db, lock, file, options, loaded }: Parts) {
    this.level = options.level
    this.shardCount = options.shardCount
    this.#db = db
    this.#lock = lock
    this.#file = file
    this.#bytesMax = options.mapBytesMax ?? Number.POSITIVE_INFINITY
    this.#shards = loaded.shards
    this.#sequence = loaded.lastSequence
    this.#committer = new Committer(db, error => writingError(error, file))
    this.#trimmer = new Trimmer(db, file, this.#committer, loaded, options.trimBytesMin ?? TRIM_BYTES_MIN)
  }

  /** Calls made in the same turn share one reading of the journal: recover all shards together. */
  recover(shard: number, visit: Visit): Promise<void> {
    const state = this.#shard(shard)
    if (this.#closing) return Promise.reject(closedError())
    const reader = new Reader(shard, state, visit)
    if (this.#readers.push(reader) === 1) this.#reading = this.#reading.then(() => nextTurn()).then(() => this.#read())
    return reader.ended
  }

  commit(entries: readonly ShardEntry[]): Promise<void> {
    const bytes = layout.recordBytes(entries)
    try {
      this.#admit(bytes)
    } catch (error) {
      // Later commits fail too, even those small enough: they may build on this one.
      return Promise.reject(this.#closing ? error : this.#committer.fail(error as StoreError))
    }
    if (entries.length === 0) return RESOLVED
    for (const entry of entries) this.#shard(entry.shard).loggedBytes += entry.bytes.length
    const key = layout.recordKey(++this.#sequence)
    const value = this.#committer.allocate(bytes)
    layout.encodeRecord(value, key, entries)
    this.#trimmer.addRecord(bytes)
    return this.#committer.put(key, value, 'append')
  }

  beginSnapshot(shard: number): SnapshotWriter {
    const state = this.#shard(shard)
    this.#admit(0)
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
    await this.#reading
    await this.#committer.idle()
    try {
      // A store that was closed survives the machine at every level.
      if (!this.#committer.failure) await syncEnvironment(this.#db)
    } finally {
      await this.#db.close()
      await this.#lock.release()
    }
  }

  async #read(): Promise<void> {
    const readers = this.#readers
    this.#readers = []
    try {
      await this.#committer.idle()
      for (const reader of readers) await this.#readSnapshot(reader)
      await this.#readJournal(readers)
      for (const reader of readers) reader.resolve()
    } catch (error) {
      for (const reader of readers) reader.reject(error)
    }
  }

  async #readSnapshot({ shard, pointer, deliver }: Reader): Promise<void> {
    for (let index = 0; index < pointer.chunks; index++) {
      deliver('snapshot', readChunk(this.#db, this.#file, shard, pointer.generation, index))
      await nextTurn()
      if (this.#closing) throw closedError()
    }
  }

  async #readJournal(readers: readonly Reader[]): Promise<void> {
    const byShard = groupByShard(readers)
    for await (const step of journal(this.#db, this.#file)) {
      for (const { sequence, entries } of step) {
        for (const { shard, bytes } of entries) {
          for (const reader of byShard.get(shard) ?? []) if (sequence > reader.pointer.covered) reader.deliver('log', bytes)
        }
      }
      if (this.#closing) throw closedError()
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
    throw new StoreError('full', `${this.#file} has reached its limit of ${this.#bytesMax} bytes; raise the limit, then restart`)
  }
}
