import { open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Clock } from '#shared/base/clock.ts'
import type { ShardEntry } from '../shard-store.ts'
import { type Environment, syncEnvironment } from './environment.ts'
import { corruptError, mismatchError, newerFormatError } from './errors.ts'
import * as layout from './layout.ts'

/** What is known of a shard; the byte counts are of log entries and only grow. */
export interface ShardState {
  pointer: layout.Pointer
  /** Of the chunks that `pointer` names, in pages. */
  snapshotBytes: number
  /** Of any snapshot begun, finished or not: chunks that are being removed are never those of a later snapshot. */
  lastGeneration: number
  loggedBytes: number
  coveredBytes: number
  snapshotUnderWay: boolean
}

export interface LoadedStore {
  readonly shards: readonly ShardState[]
  readonly lastSequence: number
  /** Of all records, covered or not. */
  readonly journalBytes: number
  /** Of entries in the journal that a snapshot covers. */
  readonly coveredBytes: number
  /** Of all values, rounded up to pages. */
  readonly usedBytes: number
}

export interface Identity {
  readonly shardCount: number
  readonly clusterName: string
}

const NO_SNAPSHOT: layout.Pointer = { generation: 0, chunks: 0, covered: 0 }
const STEP_BYTES_MAX = 1024 * 1024
const STEP_RECORDS_MAX = 512

/**
 * Checks that the environment is ours and of this store, creates it when it is empty, removes what an unfinished
 * snapshot left, and counts the journal. Reads the journal whole, a step at a time.
 * @throws {StoreError} mismatch, newerFormat, corrupt
 */
export async function loadStore(db: Environment, file: string, identity: Identity, clock: Clock): Promise<LoadedStore> {
  await checkIdentity(db, file, identity, clock)
  const shards = Array.from({ length: identity.shardCount }, (_, shard) => loadShard(db, file, shard))
  await sweepChunks(db, shards)
  let usedBytes = shards.reduce((sum, shard) => sum + shard.snapshotBytes, 0)
  let lastSequence = Math.max(0, ...shards.map(shard => shard.pointer.covered))
  let [journalBytes, coveredBytes] = [0, 0]
  for await (const step of journal(db, file)) {
    for (const record of step) {
      coveredBytes += countRecord(record, shards, file)
      journalBytes += record.value.length
      usedBytes += pagesBytes(record.value.length)
      lastSequence = Math.max(lastSequence, record.sequence)
    }
  }
  return { shards, lastSequence, journalBytes, coveredBytes, usedBytes }
}

export interface StoredRecord {
  readonly key: Buffer
  readonly sequence: number
  readonly value: Buffer
  readonly entries: readonly ShardEntry[]
}

/**
 * The journal in order, some records at a time and a turn apart: neither memory nor the event loop nor a read
 * transaction (which would keep LMDB from using freed pages again) is held for long.
 * @throws {StoreError} corrupt, newerFormat
 */
export async function* journal(db: Environment, file: string, after = 0): AsyncGenerator<StoredRecord[]> {
  for (let last = after; ; ) {
    const step = readStep(db, file, last)
    const end = step.at(-1)
    if (!end) return
    yield step
    last = end.sequence
    await nextTurn()
  }
}

/** The next records after sequence `after`, none at the end. */
export function readStep(
  db: Environment,
  file: string,
  after: number,
  bytesMax = STEP_BYTES_MAX,
  recordsMax = STEP_RECORDS_MAX,
): StoredRecord[] {
  const step: StoredRecord[] = []
  const range = { start: layout.recordKey(after + 1), end: layout.endOfKind(layout.KEY_KIND.record), limit: recordsMax }
  let bytes = 0
  for (const { key, value } of db.getRange(range)) {
    const sequence = layout.recordSequence(key)
    const entries = reading(file, `record ${sequence}`, () => layout.decodeRecord(key, value))
    step.push({ key, sequence, value, entries })
    bytes += value.length
    if (bytes >= bytesMax) break
  }
  return step
}

/**
 * Chunk `index` of the valid snapshot of `shard`.
 * @throws {StoreError} corrupt, newerFormat
 */
export function readChunk(db: Environment, file: string, shard: number, generation: number, index: number): Buffer {
  const key = layout.chunkKey(shard, generation, index)
  const what = `snapshot chunk ${index} of shard ${shard}`
  const value = db.getBinary(key)
  if (!value) throw corruptError(file, `${what} is missing`)
  return reading(file, what, () => layout.decodeValue(key, value))
}

/** What a value takes in the file: beyond about half a page LMDB gives it pages of its own. */
export function pagesBytes(valueBytes: number): number {
  if (valueBytes === 0) return 0
  const pageBytes = 4096
  return valueBytes < 2000 ? valueBytes + 24 : Math.ceil((valueBytes + 24) / pageBytes) * pageBytes
}

async function checkIdentity(db: Environment, file: string, identity: Identity, clock: Clock): Promise<void> {
  const value = db.getBinary(layout.META_KEY)
  if (!value) {
    for (const _ of db.getKeys({ limit: 1 })) throw corruptError(file, 'it has data but no description of the store')
    const created = new Date(clock.wallMs()).toISOString()
    await db.put(layout.META_KEY, layout.encodeValue(layout.META_KEY, Buffer.from(JSON.stringify({ ...identity, created }))))
    await syncEnvironment(db)
    await syncDirectories(dirname(file))
    return
  }
  const found = reading(file, 'the description of the store', () => parseIdentity(layout.decodeValue(layout.META_KEY, value)))
  if (found.clusterName !== identity.clusterName) throw mismatchError(file, 'cluster', found.clusterName, identity.clusterName)
  if (found.shardCount !== identity.shardCount) throw mismatchError(file, 'number of shards', found.shardCount, identity.shardCount)
}

/** A file that was just created survives the machine only when its directory's entry does. */
async function syncDirectories(directory: string): Promise<void> {
  for (const path of [directory, dirname(directory)]) {
    const handle = await open(path)
    await handle.sync().catch(() => {}) // not every file system can
    await handle.close()
  }
}

function parseIdentity(body: Buffer): Identity {
  const found: unknown = JSON.parse(body.toString())
  if (typeof found !== 'object' || found === null) throw new layout.DamagedValueError('is not an object')
  const { shardCount, clusterName } = found as Partial<Identity>
  if (typeof shardCount !== 'number' || typeof clusterName !== 'string') throw new layout.DamagedValueError('is incomplete')
  return { shardCount, clusterName }
}

function loadShard(db: Environment, file: string, shard: number): ShardState {
  const key = layout.pointerKey(shard)
  const value = db.getBinary(key)
  const pointer = value ? reading(file, `the snapshot pointer of shard ${shard}`, () => layout.decodePointer(key, value)) : NO_SNAPSHOT
  return { pointer, snapshotBytes: 0, lastGeneration: pointer.generation, loggedBytes: 0, coveredBytes: 0, snapshotUnderWay: false }
}

/** Removes chunks that no pointer names: a snapshot that never finished, or a former one. Counts the others. */
async function sweepChunks(db: Environment, shards: readonly ShardState[]): Promise<void> {
  const { chunk } = layout.KEY_KIND
  for (let start: Buffer | undefined = Buffer.from([chunk]); start; ) {
    const stale: Buffer[] = []
    let next: Buffer | undefined
    for (const { key, value } of db.getRange({ start, end: layout.endOfKind(chunk), limit: 64 })) {
      const { shard, generation, index } = layout.chunkPosition(key)
      const state = shards[shard]
      if (state?.pointer.generation === generation && index < state.pointer.chunks) state.snapshotBytes += pagesBytes(value.length)
      else stale.push(key)
      next = Buffer.concat([key, Buffer.from([0])])
    }
    start = next
    if (stale.length > 0) await db.batch(() => stale.forEach(key => void db.remove(key)))
    await nextTurn()
  }
}

/** Adds the entries to their shards' logs; returns the bytes of those that a snapshot covers. */
function countRecord(record: StoredRecord, shards: readonly ShardState[], file: string): number {
  let coveredBytes = 0
  for (const entry of record.entries) {
    const state = shards[entry.shard]
    if (!state) throw corruptError(file, `record ${record.sequence} is of shard ${entry.shard}, which does not exist`)
    if (record.sequence > state.pointer.covered) state.loggedBytes += entry.bytes.length
    else coveredBytes += entry.bytes.length
  }
  return coveredBytes
}

/** Runs a decoder; adds to what it throws where that was, and what to do. */
function reading<T>(file: string, what: string, decode: () => T): T {
  try {
    return decode()
  } catch (error) {
    if (error instanceof layout.NewerValueError) throw newerFormatError(file, `${what} ${error.message}`, layout.FORMAT, error)
    if (error instanceof layout.DamagedValueError || error instanceof SyntaxError)
      throw corruptError(file, `${what} ${error.message}`, error)
    throw error
  }
}
