import { setImmediate as nextTurn } from 'node:timers/promises'
import type { ShardEntry } from '../shard-store.ts'
import type { Committer } from './committer.ts'
import type { Environment } from './environment.ts'
import * as layout from './layout.ts'
import { type LoadedStore, type ShardState, type StoredRecord, pagesBytes, readStep } from './load.ts'

const STEP_BYTES_MAX = 1024 * 1024
const STEP_RECORDS_MAX = 128
const CHUNKS_PER_STEP = 4

/** Of a snapshot that is not needed; `bytes` in pages. */
interface Chunks {
  readonly generation: number
  readonly chunks: number
  readonly bytes: number
}

/**
 * Removes in the background what snapshots made superfluous, one step per transaction, so that commits, which travel
 * in the same transactions, wait for one step at most.
 *
 * A pass over the journal is made once at least half of it is covered, so each byte is read for trimming about twice
 * in its life, however many shards there are. A record that is covered for most of its bytes but not all (a shard that
 * changes rarely has no snapshot for long) is written again without the covered entries, under its key.
 */
export class Trimmer {
  readonly #db: Environment
  readonly #file: string
  readonly #committer: Committer
  readonly #shards: readonly ShardState[]
  readonly #trimBytesMin: number
  #journalBytes: number
  #coveredBytes: number
  #usedBytes: number
  #work: Promise<void> | undefined
  #former: { shard: number; chunks: Chunks }[] = []
  #stopped = false

  constructor(db: Environment, file: string, committer: Committer, loaded: LoadedStore, trimBytesMin: number) {
    this.#db = db
    this.#file = file
    this.#committer = committer
    this.#shards = loaded.shards
    this.#journalBytes = loaded.journalBytes
    this.#coveredBytes = loaded.coveredBytes
    this.#usedBytes = loaded.usedBytes
    this.#trimBytesMin = trimBytesMin
  }

  /** Bytes of all values, in pages. */
  get usedBytes(): number {
    return this.#usedBytes
  }

  addRecord(valueBytes: number): void {
    this.#journalBytes += valueBytes
    this.#usedBytes += pagesBytes(valueBytes)
  }

  /** Returns the bytes in pages. */
  addChunk(valueBytes: number): number {
    const bytes = pagesBytes(valueBytes)
    this.#usedBytes += bytes
    return bytes
  }

  /** The chunks of `former` and `coveredBytes` of entries are not needed any more: `shard` has a new pointer. */
  superseded(shard: number, former: Chunks, coveredBytes: number): void {
    this.#coveredBytes += coveredBytes
    if (former.chunks > 0) this.#former.push({ shard, chunks: former })
    if (this.#work || this.#stopped) return
    this.#work = this.#run().finally(() => {
      this.#work = undefined
    })
    // A failed write has failed the store, which every commit reports; a damaged record is reported by the next `recover`.
    this.#work.catch(() => {})
  }

  /** Ends after the step under way. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.#work?.catch(() => {})
  }

  async #run(): Promise<void> {
    while (!this.#stopped && (this.#former.length > 0 || this.#worthwhile())) {
      for (let former = this.#former.shift(); former; former = this.#former.shift()) await this.#dropChunks(former.shard, former.chunks)
      if (this.#worthwhile()) await this.#trimJournal()
    }
  }

  #worthwhile(): boolean {
    return this.#coveredBytes >= this.#trimBytesMin && this.#coveredBytes >= this.#journalBytes / 2
  }

  async #dropChunks(shard: number, { generation, chunks, bytes }: Chunks): Promise<void> {
    for (let index = 0; index < chunks && !this.#stopped; ) {
      let written: Promise<void> | undefined
      for (const end = Math.min(chunks, index + CHUNKS_PER_STEP); index < end; index++) {
        written = this.#committer.remove(layout.chunkKey(shard, generation, index))
      }
      await written
    }
    this.#usedBytes -= bytes
  }

  async #trimJournal(): Promise<void> {
    for (let last = 0; !this.#stopped; ) {
      const step = readStep(this.#db, this.#file, last, STEP_BYTES_MAX, STEP_RECORDS_MAX)
      const end = step.at(-1)
      if (!end) return
      last = end.sequence
      let written: Promise<void> | undefined
      for (const record of step) written = this.#trim(record) ?? written
      await (written ?? nextTurn())
    }
  }

  #trim({ key, sequence, value, entries }: StoredRecord): Promise<void> | undefined {
    const live = entries.filter((entry: ShardEntry) => sequence > this.#shards[entry.shard]!.pointer.covered)
    const bytes = live.length === 0 ? 0 : layout.recordBytes(live)
    if (bytes > value.length / 2) return undefined
    this.#journalBytes += bytes - value.length
    this.#coveredBytes += entryBytes(live) - entryBytes(entries)
    this.#usedBytes += pagesBytes(bytes) - pagesBytes(value.length)
    if (bytes === 0) return this.#committer.remove(key)
    const smaller = Buffer.allocUnsafeSlow(bytes)
    layout.encodeRecord(smaller, key, live)
    return this.#committer.put(key, smaller, 'anywhere')
  }
}

function entryBytes(entries: readonly ShardEntry[]): number {
  return entries.reduce((sum, entry) => sum + entry.bytes.length, 0)
}
