import { crc32 } from 'node:zlib'
import type { ShardEntry } from '../shard-store.ts'

/**
 * Bytes of what lmdb-store.ts keeps (its head has the table). Keys start with one of KEY_KIND, so that kinds lie one
 * after the other and the journal is last: its records are appended at the very end of the tree.
 * Every value starts with 8 bytes: format u8, number of entries u24 (0 but in records), CRC32 u32 of key and the rest.
 * All numbers are big-endian, as key order needs it.
 */
export const KEY_KIND = { meta: 1, pointer: 2, chunk: 3, record: 4 } as const

/** Raised when a reader of the former format would misread a value. */
export const FORMAT = 1
const HEADER_BYTES = 8
const ENTRY_HEADER_BYTES = 6

/** Thrown by the decoders; load.ts adds file and remedy. */
export class DamagedValueError extends Error {
  override readonly name = 'DamagedValueError'
}

/** Likewise. */
export class NewerValueError extends Error {
  override readonly name = 'NewerValueError'
}

export const META_KEY = Buffer.from([KEY_KIND.meta])

export function pointerKey(shard: number): Buffer {
  const key = Buffer.alloc(3)
  key[0] = KEY_KIND.pointer
  key.writeUInt16BE(shard, 1)
  return key
}

export function chunkKey(shard: number, generation: number, index: number): Buffer {
  const key = Buffer.alloc(11)
  key[0] = KEY_KIND.chunk
  key.writeUInt16BE(shard, 1)
  key.writeUInt32BE(generation, 3)
  key.writeUInt32BE(index, 7)
  return key
}

export function recordKey(sequence: number): Buffer {
  const key = Buffer.alloc(7)
  key[0] = KEY_KIND.record
  key.writeUIntBE(sequence, 1, 6)
  return key
}

/** First key after every key of `kind`. */
export function endOfKind(kind: number): Buffer {
  return Buffer.from([kind + 1])
}

export function chunkPosition(key: Buffer): { shard: number; generation: number; index: number } {
  return { shard: key.readUInt16BE(1), generation: key.readUInt32BE(3), index: key.readUInt32BE(7) }
}

export function recordSequence(key: Buffer): number {
  return key.readUIntBE(1, 6)
}

export function recordBytes(entries: readonly ShardEntry[]): number {
  let bytes = HEADER_BYTES + entries.length * ENTRY_HEADER_BYTES
  for (const entry of entries) bytes += entry.bytes.length
  return bytes
}

/** Writes the record of one commit into `target`, which is exactly `recordBytes(entries)` long. */
export function encodeRecord(target: Buffer, key: Buffer, entries: readonly ShardEntry[]): void {
  let at = HEADER_BYTES
  for (const entry of entries) {
    target.writeUInt16BE(entry.shard, at)
    target.writeUInt32BE(entry.bytes.length, at + 2)
    at += ENTRY_HEADER_BYTES
  }
  for (const entry of entries) {
    target.set(entry.bytes, at)
    at += entry.bytes.length
  }
  seal(target, key, entries.length)
}

/**
 * Entries of a record, in the order committed; views into `value`.
 * @throws {DamagedValueError}
 * @throws {NewerValueError}
 */
export function decodeRecord(key: Buffer, value: Buffer): ShardEntry[] {
  unseal(key, value)
  const count = value.readUIntBE(1, 3)
  const entries: ShardEntry[] = []
  let at = HEADER_BYTES + count * ENTRY_HEADER_BYTES
  for (let index = 0; index < count; index++) {
    const header = HEADER_BYTES + index * ENTRY_HEADER_BYTES
    if (header + ENTRY_HEADER_BYTES > value.length) throw new DamagedValueError('is shorter than its table')
    const end = at + value.readUInt32BE(header + 2)
    if (end > value.length) throw new DamagedValueError('is shorter than its entries')
    entries.push({ shard: value.readUInt16BE(header), bytes: value.subarray(at, end) })
    at = end
  }
  return entries
}

/** A value with its header in front of `body`: for chunks, pointers and the meta record. */
export function encodeValue(key: Buffer, body: Uint8Array): Buffer {
  const value = Buffer.allocUnsafeSlow(HEADER_BYTES + body.length)
  value.set(body, HEADER_BYTES)
  seal(value, key, 0)
  return value
}

/**
 * The body given to `encodeValue`, as a view into `value`.
 * @throws {DamagedValueError}
 * @throws {NewerValueError}
 */
export function decodeValue(key: Buffer, value: Buffer): Buffer {
  unseal(key, value)
  return value.subarray(HEADER_BYTES)
}

/** Which snapshot of a shard is valid, and up to which record it includes everything. */
export interface Pointer {
  readonly generation: number
  readonly chunks: number
  readonly covered: number
}

export function encodePointer(key: Buffer, pointer: Pointer): Buffer {
  const body = Buffer.alloc(14)
  body.writeUInt32BE(pointer.generation, 0)
  body.writeUInt32BE(pointer.chunks, 4)
  body.writeUIntBE(pointer.covered, 8, 6)
  return encodeValue(key, body)
}

export function decodePointer(key: Buffer, value: Buffer): Pointer {
  const body = decodeValue(key, value)
  if (body.length < 14) throw new DamagedValueError('is too short')
  return { generation: body.readUInt32BE(0), chunks: body.readUInt32BE(4), covered: body.readUIntBE(8, 6) }
}

function seal(value: Buffer, key: Buffer, entries: number): void {
  value[0] = FORMAT
  value.writeUIntBE(entries, 1, 3)
  value.writeUInt32BE(checksum(value, key), 4)
}

/** Key and entry count are part of it, so that a value under a wrong key is found too. */
function checksum(value: Buffer, key: Buffer): number {
  return crc32(value.subarray(HEADER_BYTES), crc32(key, value.readUInt32BE(0)))
}

function unseal(key: Buffer, value: Buffer): void {
  if (value.length < HEADER_BYTES) throw new DamagedValueError('is too short')
  const format = value[0]!
  // First: a newer format may have another checksum.
  if (format > FORMAT) throw new NewerValueError(`has format ${format}`)
  if (value.readUInt32BE(4) !== checksum(value, key)) throw new DamagedValueError('does not match its checksum')
}
