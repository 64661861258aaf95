import { StoreError, type ShardReading } from '../shard-store.ts'
import { Chain } from './chain.ts'
import type { Connection, RedisCommand } from './connection.ts'
import { ENTRY_FIELD, FORMAT, isAfter, type Keys, LINK_FIELD, LOG_START, type LogId, logIdText, parseLogId } from './keys.ts'
import { LAST_ID } from './scripts.ts'

export type Visit = (kind: 'snapshot' | 'log', bytes: Uint8Array) => void

/** Runs something on the connection to the node of a shard, again and again until Redis has answered. */
export type OnSide = <T>(shard: number, run: (side: Connection) => Promise<T>) => Promise<T>

/** What one answer may hold, as far as the size of the last entries tells; one entry or chunk at least. */
const PAGE_BYTES = 1024 * 1024
/** Large entries may follow small ones: so many of them at most come in one answer. An entry is what one commit wrote. */
const PAGE_ENTRIES_MAX = 32

type Page = readonly (readonly [LogId, readonly Buffer[]])[]

/** Reads a shard from Redis page by page: see ShardReading. */
export class RedisReading implements ShardReading {
  readonly #shard: number
  readonly #keys: Keys
  readonly #onSide: OnSide
  readonly #onRead: (reading: RedisReading) => void
  /** Null: not begun. */
  #chain: Chain | null = null
  #at: LogId = LOG_START
  #pageEntries = 8
  /** Bytes of log entries visited, by the epoch that wrote them. */
  #bytes = new Map<number, number>()

  /** @param onRead called after each `readOn` that reached the end */
  constructor(shard: number, keys: Keys, onSide: OnSide, onRead: (reading: RedisReading) => void) {
    this.#shard = shard
    this.#keys = keys
    this.#onSide = onSide
    this.#onRead = onRead
  }

  /** Bytes of log entries visited that were written before `epoch`. */
  bytesBefore(epoch: number): number {
    let bytes = 0
    for (const [written, count] of this.#bytes) if (written < epoch) bytes += count
    return bytes
  }

  async readOn(visit: Visit): Promise<boolean> {
    if (this.#chain === null && !(await this.#begin(visit))) return false
    const end = parseLogId(String(await this.#side(side => side.call('eval', LAST_ID, 1, this.#keys.log(this.#shard)))))
    while (isAfter(end, this.#at)) {
      const page = await this.#page(end)
      if (page === null) return false
      if (page.length === 0) break
      const largest = page.reduce((most, [id, fields]) => Math.max(most, this.#visitEntry(id, fields, visit)), 1)
      this.#pageEntries = Math.max(1, Math.min(PAGE_ENTRIES_MAX, this.#pageEntries * 2, Math.floor(PAGE_BYTES / largest)))
    }
    // What was trimmed away here was covered by a snapshot that is newer than our place.
    if (await this.#isOvertaken()) return false
    this.#onRead(this)
    return true
  }

  #side<T>(run: (side: Connection) => Promise<T>): Promise<T> {
    return this.#onSide(this.#shard, run)
  }

  async #begin(visit: Visit): Promise<boolean> {
    const meta = this.#keys.meta(this.#shard)
    const [format, snapshot, chunks, covered] = textsOf(
      await this.#side(side => side.call('hmget', meta, 'format', 'snap', 'chunks', 'covered')),
    )
    if (Number(format ?? FORMAT) > FORMAT) throw newerFormat(meta, format!)
    if (snapshot !== undefined) {
      const count = Number(chunks)
      for (let index = 0; index < count; index++) {
        const chunk = await this.#chunk(snapshot, index)
        if (chunk === null) return false
        visit('snapshot', chunk)
      }
    }
    this.#at = covered === undefined ? LOG_START : parseLogId(covered)
    this.#chain = new Chain(this.#at)
    return true
  }

  /** Null when another snapshot has taken the place of this one. */
  async #chunk(snapshot: string, index: number): Promise<Buffer | null> {
    const list = this.#keys.snapshotPrefix(this.#shard) + snapshot
    const commands: RedisCommand[] = [
      ['lrange', list, index, index],
      ['hget', this.#keys.meta(this.#shard), 'snap'],
    ]
    const [chunks, valid] = await this.#all(commands)
    if (String(valid) !== snapshot) return null
    const chunk: unknown = Array.isArray(chunks) ? chunks[0] : undefined
    if (!(chunk instanceof Buffer)) throw new StoreError('corrupt', `${list} lacks chunk ${index}; restore a backup of Redis`)
    return chunk
  }

  /** Null when a snapshot covers more than was read so far: entries may be missing then. */
  async #page(end: LogId): Promise<Page | null> {
    const commands: RedisCommand[] = [
      ['xrange', this.#keys.log(this.#shard), `(${logIdText(this.#at)}`, logIdText(end), 'COUNT', this.#pageEntries],
      // After the entries, so that nothing can have been trimmed before they were read without being seen here.
      ['hget', this.#keys.meta(this.#shard), 'covered'],
    ]
    const [entries, covered] = await this.#all(commands)
    if (isOvertaken(this.#at, covered)) return null
    if (!Array.isArray(entries)) return []
    return (entries as [Buffer, Buffer[]][]).map(([id, fields]) => [parseLogId(String(id)), fields] as const)
  }

  /** @returns its bytes */
  #visitEntry(id: LogId, fields: readonly Buffer[], visit: Visit): number {
    this.#at = id
    const link = String(fields[0]) === LINK_FIELD ? Number(fields[1]) : null
    if (!this.#chain!.admits(id, link)) return 0
    let bytes = 0
    for (let at = link === null ? 0 : 2; at + 1 < fields.length; at += 2) {
      if (String(fields[at]) !== ENTRY_FIELD) throw newerFormat(this.#keys.log(this.#shard), `field ${String(fields[at]).slice(0, 20)}`)
      bytes += fields[at + 1]!.length
    }
    this.#bytes.set(id.epoch, (this.#bytes.get(id.epoch) ?? 0) + bytes)
    for (let at = link === null ? 0 : 2; at + 1 < fields.length; at += 2) visit('log', fields[at + 1]!)
    return bytes
  }

  async #isOvertaken(): Promise<boolean> {
    return isOvertaken(this.#at, await this.#side(side => side.call('hget', this.#keys.meta(this.#shard), 'covered')))
  }

  async #all(commands: readonly RedisCommand[]): Promise<unknown[]> {
    return await this.#side(async side => {
      const replies = await side.callAll(commands)
      for (const reply of replies) if (reply instanceof Error) throw reply
      return replies
    })
  }
}

function isOvertaken(at: LogId, covered: unknown): boolean {
  return covered instanceof Buffer && isAfter(parseLogId(covered.toString()), at)
}

/** Texts of an answer; undefined where there is nothing. */
export function textsOf(reply: unknown): (string | undefined)[] {
  return Array.isArray(reply)
    ? reply.map((value: unknown) => (value instanceof Buffer || typeof value === 'string' ? value.toString() : undefined))
    : []
}

export function newerFormat(key: string, found: string): StoreError {
  return new StoreError('newerFormat', `${key} has format ${found}, this version reads up to ${FORMAT}; run the version that wrote it`)
}
