import { type ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import type { ByteWriter } from '#shared/base/byte-writer.ts'
import { readBelow } from '#shared/rpc/body-fields.ts'
import { formatClock, type HybridClock, parseClock, type StoreClock, storeClock } from '#shared/state-store/hybrid-clock.ts'
import { copyBytes, type StoredBytes } from '#shared/state-store/stored-bytes.ts'
import { StoreError } from '../store/shard-store.ts'
import type { RequestOrigin, WatcherId } from './store-request.ts'

/** An entry as it is after a SET. Keys have a character U+0000 to U+00FF for each byte. */
export interface EntrySet {
  readonly is: 'set'
  readonly key: string
  readonly value: StoredBytes
  readonly version: StoreClock
  readonly token: HybridClock | null
  /** Wall time from which on it is absent; Infinity: none. */
  readonly deadlineWallMs: number
  readonly isPersistent: boolean
  /** Client Identifier whose quota it counts in; null: nobody's. */
  readonly owner: string | null
}

/** A request was executed, and with what answer. */
export interface RequestAnswered {
  readonly is: 'answered'
  readonly origin: RequestOrigin
  readonly answer: Buffer
  readonly version: StoreClock | null
}

/** A client watches a key, over connections (KEEP). */
export interface WatchKept {
  readonly is: 'kept'
  readonly key: string
  /** One of its connections; without any, the last. */
  readonly watcher: WatcherId
  /** For how long without one. */
  readonly keepMs: number
  /** All changes after that one are owed to it. */
  readonly since: StoreClock
  /** What the last answer said where it begins. */
  readonly begun: StoreClock
  /** Wall time at which it ends, since it has no connection; Infinity: it has. */
  readonly deadlineWallMs: number
}

/** In snapshots: a change that is remembered for those who watch so. */
export interface PastChange {
  readonly is: 'past'
  readonly key: string
  readonly version: StoreClock
  /** Null: the key was deleted, or its time was over. */
  readonly value: StoredBytes | null
}

/**
 * What changes in a KeyStore. Absolute, as all records are (backend/shard/records.ts): applied to a state that has it already, it changes
 * nothing.
 */
export type StoreChange =
  | EntrySet
  | RequestAnswered
  /** Deleted or expired. `clock`: the store's after it, when somebody was told. */
  | { readonly is: 'deleted'; readonly key: string; readonly clock: StoreClock | null }
  /** In snapshots: versions of entries that are gone were given too. */
  | { readonly is: 'clock'; readonly clock: StoreClock }
  | { readonly is: 'watched'; readonly key: string; readonly watcher: WatcherId }
  | { readonly is: 'unwatched'; readonly key: string; readonly watcher: WatcherId }
  /** The same of all keys that begin so. */
  | { readonly is: 'watchedUnder'; readonly prefix: string; readonly watcher: WatcherId }
  | { readonly is: 'unwatchedUnder'; readonly prefix: string; readonly watcher: WatcherId }
  /** All that a connection watched. */
  | { readonly is: 'connectionGone'; readonly frontend: string; readonly connection: number }
  /** All that connections of a frontend watched, and which requests of it were answered. */
  | { readonly is: 'frontendGone'; readonly frontend: string }
  | { readonly is: 'watchersGone' }
  | WatchKept
  | PastChange
  | { readonly is: 'unkept'; readonly key: string; readonly clientId: string }
  /** One of its connections watches it so no more. */
  | { readonly is: 'released'; readonly key: string; readonly watcher: WatcherId }
  /** What a connection watches with KEEP is without connection since then. */
  | { readonly is: 'away'; readonly frontend: string; readonly connection: number; readonly wallMs: number }

/** Those of watches that outlive connections. */
type KeptChange = Extract<StoreChange, { is: 'kept' | 'past' | 'unkept' | 'away' | 'released' }>

/**
 * The body of a store record. Its first byte is this layout: a later one, with other tags or fields, is refused, because whoever passes
 * over what it does not know would lose entries.
 */
const LAYOUT = 1

/** Never used again for something else. */
const TAGS = {
  set: 1,
  deleted: 2,
  clock: 3,
  watched: 4,
  unwatched: 5,
  connectionGone: 6,
  frontendGone: 7,
  watchersGone: 8,
  answered: 9,
  watchedUnder: 10,
  unwatchedUnder: 11,
  kept: 20,
  past: 21,
  unkept: 22,
  away: 23,
  released: 24,
} as const satisfies Record<StoreChange['is'], number>

const HAS_TOKEN = 1
const HAS_DEADLINE = 2
const IS_PERSISTENT = 4
const HAS_OWNER = 8
const SET_FLAGS = 16

export function writeStoreChange(writer: ByteWriter, change: StoreChange): void {
  writer.u8(LAYOUT)
  writer.u8(TAGS[change.is])
  switch (change.is) {
    case 'set':
      return writeSet(writer, change)
    case 'deleted':
      writeStored(writer, change.key)
      return writeOptionalClock(writer, change.clock)
    case 'clock':
      return writeClock(writer, change.clock)
    case 'watched':
    case 'unwatched':
      return writeWatch(writer, change.key, change.watcher)
    case 'watchedUnder':
    case 'unwatchedUnder':
      return writeWatch(writer, change.prefix, change.watcher)
    case 'connectionGone':
      return writeConnection(writer, change)
    case 'frontendGone':
      return writer.text(change.frontend)
    case 'watchersGone':
      return
    case 'answered':
      return writeAnswered(writer, change)
    default:
      return writeKept(writer, change)
  }
}

/**
 * The change whose bytes follow; its value and answer are views.
 * @throws {ByteReaderError} they are none
 * @throws {StoreError} newerFormat
 */
export function readStoreChange(reader: ByteReader): StoreChange {
  const layout = reader.u8()
  if (layout > LAYOUT)
    throw new StoreError(
      'newerFormat',
      `the state store holds records of layout ${layout}, this version reads up to ${LAYOUT}: run the version that wrote them`,
    )
  if (layout !== LAYOUT) throw new ByteReaderError(`layout ${layout} of a state store record`)
  const tag = reader.u8()
  switch (tag) {
    case TAGS.set:
      return readSet(reader)
    case TAGS.deleted:
      return { is: 'deleted', key: readKey(reader), clock: readOptionalClock(reader) }
    case TAGS.clock:
      return { is: 'clock', clock: readClock(reader) }
    case TAGS.watched:
      return { is: 'watched', key: readKey(reader), watcher: readWatcher(reader) }
    case TAGS.unwatched:
      return { is: 'unwatched', key: readKey(reader), watcher: readWatcher(reader) }
    case TAGS.watchedUnder:
      return { is: 'watchedUnder', prefix: readText(reader), watcher: readWatcher(reader) }
    case TAGS.unwatchedUnder:
      return { is: 'unwatchedUnder', prefix: readText(reader), watcher: readWatcher(reader) }
    case TAGS.connectionGone:
      return { is: 'connectionGone', frontend: reader.text(), connection: reader.varint() }
    case TAGS.frontendGone:
      return { is: 'frontendGone', frontend: reader.text() }
    case TAGS.watchersGone:
      return { is: 'watchersGone' }
    case TAGS.answered:
      return readAnswered(reader)
    default:
      return readKept(reader, tag)
  }
}

function writeSet(writer: ByteWriter, entry: EntrySet): void {
  const { key, value, version, token, deadlineWallMs, owner } = entry
  const hasDeadline = deadlineWallMs !== Infinity
  writer.u8(
    (token === null ? 0 : HAS_TOKEN) |
      (hasDeadline ? HAS_DEADLINE : 0) |
      (entry.isPersistent ? IS_PERSISTENT : 0) |
      (owner === null ? 0 : HAS_OWNER),
  )
  writeStored(writer, key)
  writeStored(writer, value)
  writeClock(writer, version)
  // A token is a client's clock: its numbers may have 64 bits, which the text form has and varints have not.
  if (token !== null) writer.text(formatClock(token))
  if (hasDeadline) writer.f64(deadlineWallMs)
  if (owner !== null) writer.text(owner)
}

function readSet(reader: ByteReader): EntrySet {
  const flags = readBelow(reader, SET_FLAGS, 'a set of flags')
  return {
    is: 'set',
    key: readKey(reader),
    value: reader.bytes(),
    version: readClock(reader),
    token: (flags & HAS_TOKEN) === 0 ? null : readToken(reader),
    deadlineWallMs: (flags & HAS_DEADLINE) === 0 ? Infinity : reader.f64(),
    isPersistent: (flags & IS_PERSISTENT) !== 0,
    owner: (flags & HAS_OWNER) === 0 ? null : reader.text(),
  }
}

function readToken(reader: ByteReader): HybridClock {
  const token = parseClock(reader.text())
  if (token === null) throw new ByteReaderError('a fencing token that is no clock')
  return token
}

function writeAnswered(writer: ByteWriter, { origin, answer, version }: RequestAnswered): void {
  writer.text(origin.frontend)
  writer.varint(origin.sequence)
  writer.varint(origin.settledBefore)
  writer.bytes(answer)
  writeOptionalClock(writer, version)
}

function readAnswered(reader: ByteReader): RequestAnswered {
  const origin = { frontend: reader.text(), sequence: reader.varint(), settledBefore: reader.varint() }
  return { is: 'answered', origin, answer: reader.bytes(), version: readOptionalClock(reader) }
}

function writeWatch(writer: ByteWriter, key: string, watcher: WatcherId): void {
  writeStored(writer, key)
  writeConnection(writer, watcher)
  writer.text(watcher.clientId)
}

function writeKept(writer: ByteWriter, change: KeptChange): void {
  switch (change.is) {
    case 'kept':
      writeStored(writer, change.key)
      writeConnection(writer, change.watcher)
      writer.text(change.watcher.clientId)
      writer.varint(change.keepMs)
      writeClock(writer, change.since)
      writeClock(writer, change.begun)
      return writer.f64(change.deadlineWallMs)
    case 'past':
      writeStored(writer, change.key)
      writeClock(writer, change.version)
      writer.u8(change.value === null ? 0 : 1)
      if (change.value !== null) writeStored(writer, change.value)
      return
    case 'unkept':
      writeStored(writer, change.key)
      return writer.text(change.clientId)
    case 'released':
      return writeWatch(writer, change.key, change.watcher)
    case 'away':
      writeConnection(writer, change)
      return writer.f64(change.wallMs)
  }
}

function readKept(reader: ByteReader, tag: number): KeptChange {
  switch (tag) {
    case TAGS.kept: {
      const [key, watcher] = [readKey(reader), readWatcher(reader)]
      return {
        is: 'kept',
        key,
        watcher,
        keepMs: reader.varint(),
        since: readClock(reader),
        begun: readClock(reader),
        deadlineWallMs: reader.f64(),
      }
    }
    case TAGS.past: {
      const [key, version] = [readKey(reader), readClock(reader)]
      return { is: 'past', key, version, value: readBelow(reader, 2, 'a flag') === 0 ? null : reader.bytes() }
    }
    case TAGS.unkept:
      return { is: 'unkept', key: readKey(reader), clientId: reader.text() }
    case TAGS.released:
      return { is: 'released', key: readKey(reader), watcher: readWatcher(reader) }
    case TAGS.away:
      return { is: 'away', frontend: reader.text(), connection: reader.varint(), wallMs: reader.f64() }
    default:
      throw new ByteReaderError(`tag ${tag} of a state store record`)
  }
}

function writeConnection(writer: ByteWriter, { frontend, connection }: { readonly frontend: string; readonly connection: number }): void {
  writer.text(frontend)
  writer.varint(connection)
}

function readWatcher(reader: ByteReader): WatcherId {
  return { frontend: reader.text(), connection: reader.varint(), clientId: reader.text() }
}

function writeStored(writer: ByteWriter, bytes: StoredBytes): void {
  writer.varint(bytes.length)
  const room = writer.room(bytes.length)
  writer.length = copyBytes(bytes, room, writer.length)
}

function readKey(reader: ByteReader): string {
  const key = readText(reader)
  if (key === '') throw new ByteReaderError('an empty key')
  return key
}

/** A character for each byte. */
function readText(reader: ByteReader): string {
  return reader.bytes().toString('latin1')
}

function writeClock(writer: ByteWriter, { wall, counter }: StoreClock): void {
  writer.varint(wall)
  writer.varint(counter)
}

function readClock(reader: ByteReader): StoreClock {
  return storeClock(reader.varint(), reader.varint())
}

function writeOptionalClock(writer: ByteWriter, clock: StoreClock | null): void {
  writer.u8(clock === null ? 0 : 1)
  if (clock !== null) writeClock(writer, clock)
}

function readOptionalClock(reader: ByteReader): StoreClock | null {
  return readBelow(reader, 2, 'a flag') === 0 ? null : readClock(reader)
}
