import { isUtf8 } from 'node:buffer'
import { type ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import type { ByteWriter } from '#shared/base/byte-writer.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { type ParsedFilter, parseTopicFilter } from '#shared/mqtt/topic.ts'
import { isMqttUtf8 } from '#shared/mqtt/utf8.ts'
import type { Shards } from './shards.ts'

/**
 * The fields that the bodies of calls are made of. Each reader checks its range: what comes out is what the types of OwnerPort and
 * CallerPort promise, or it throws ByteReaderError (ProtocolError for Topic Filters). Nothing is allocated by a number from the peer
 * that the bytes at hand do not bear out.
 */

const HIGH = 2 ** 32
const HIGH_MAX = 2 ** 21 - 1
const SHARD_BYTES = 2
/** Client Identifiers, ShareNames and Topic Filters are at most so long (§1.5.4). */
const MQTT_TEXT_BYTES_MAX = 65_535

/** §3.8.2.1.2 */
const SUBSCRIPTION_IDENTIFIER_MAX = 268_435_455

const IS_REASON = new Uint8Array(256)
for (const reason of Object.values(ReasonCode)) IS_REASON[reason] = 1

/**
 * A whole number up to 2^53 that is a place in a table with, above it, how often the place was used (ConnectionId, SessionHandle): the
 * low 32 bits as they are, because they are seldom small, and the rest, mostly 0, as a varint.
 */
export function writeId(writer: ByteWriter, id: number): void {
  writer.u32(id)
  writer.varint(id < HIGH ? 0 : Math.floor(id / HIGH))
}

export function readId(reader: ByteReader): number {
  const low = reader.u32()
  const high = reader.u8()
  if (high === 0) return low
  reader.at--
  return low + readHigh(reader) * HIGH
}

/** What `id` has above its low 32 bits. */
export function highOf(id: number): number {
  return Math.floor(id / HIGH)
}

/** Above 32 bits: at most 21 bits, so that the whole is exact. */
export function readHigh(reader: ByteReader): number {
  const high = reader.varint()
  if (high > HIGH_MAX) throw new ByteReaderError('a number over 2^53')
  return high
}

/** The whole of a number whose low 32 bits and rest were read apart. */
export function withHigh(low: number, high: number): number {
  return low + high * HIGH
}

export function writeFlag(writer: ByteWriter, flag: boolean): void {
  writer.u8(flag ? 1 : 0)
}

export function readFlag(reader: ByteReader): boolean {
  return readBelow(reader, 2, 'a flag') === 1
}

/** One byte less than `limit`: enumerations and sets of flags. */
export function readBelow(reader: ByteReader, limit: number, what: string): number {
  const value = reader.u8()
  if (value >= limit) throw new ByteReaderError(`${value} is not ${what}`)
  return value
}

/** A varint of at most 32 bits: seconds. */
export function readSeconds(reader: ByteReader): number {
  const value = reader.varint()
  if (value > 0xffff_ffff) throw new ByteReaderError(`${value} seconds`)
  return value
}

/** 1 to 65,535: Packet Identifier, Receive Maximum. */
export function readNonZeroU16(reader: ByteReader): number {
  const value = reader.u16()
  if (value === 0) throw new ByteReaderError('0 where the specification has 1 to 65,535')
  return value
}

export function readReason(reader: ByteReader): ReasonCode {
  const reason = reader.u8()
  if (IS_REASON[reason] === 0) throw new ByteReaderError(`Reason Code ${reason}`)
  return reason as ReasonCode
}

/** How many elements follow, each of `elementBytesMin` at least: never more than there are bytes for. */
export function readCount(reader: ByteReader, elementBytesMin: number): number {
  const count = reader.varint()
  if (count * elementBytesMin > reader.remaining) throw new ByteReaderError(`${count} elements in ${reader.remaining} bytes`)
  return count
}

export function writeShard(writer: ByteWriter, shard: number): void {
  writer.u16(shard)
}

export function readShard(reader: ByteReader, shardCount: number): number {
  const shard = reader.u16()
  if (shard >= shardCount) throw new ByteReaderError(`shard ${shard} of ${shardCount}`)
  return shard
}

export function writeShards(writer: ByteWriter, shards: Shards): void {
  const { count, numbers } = shards
  writer.varint(count)
  for (let i = 0; i < count; i++) writer.u16(numbers[i]!)
}

/** Into `into`, emptied before. At most `shardCount` shards. */
export function readShards(reader: ByteReader, shardCount: number, into: Shards): void {
  const count = readShardsCount(reader, shardCount)
  into.clear()
  for (let i = 0; i < count; i++) into.add(readShard(reader, shardCount))
}

/** No shards and null are one. */
export function writeShardList(writer: ByteWriter, shards: readonly number[] | null): void {
  writer.varint(shards === null ? 0 : shards.length)
  if (shards === null) return
  for (const shard of shards) writer.u16(shard)
}

/** Null for none. */
export function readShardList(reader: ByteReader, shardCount: number): number[] | null {
  let left = readShardsCount(reader, shardCount)
  if (left === 0) return null
  const shards: number[] = []
  for (; left > 0; left--) shards.push(readShard(reader, shardCount))
  return shards
}

function readShardsCount(reader: ByteReader, shardCount: number): number {
  const count = readCount(reader, SHARD_BYTES)
  if (count > shardCount) throw new ByteReaderError(`${count} shards of ${shardCount}`)
  return count
}

/** A text of ours, for people: any UTF-8. */
export function readText(reader: ByteReader): string {
  const bytes = reader.bytes()
  if (!isUtf8(bytes)) throw new ByteReaderError('a text is not UTF-8')
  return bytes.toString('utf8')
}

/** A text that came from a client (§1.5.4): Client Identifier, ShareName. May be empty. */
export function readMqttText(reader: ByteReader): string {
  const size = reader.varint()
  const start = reader.skip(size)
  if (size > MQTT_TEXT_BYTES_MAX || !isMqttUtf8(reader.buffer, start, reader.at))
    throw new ByteReaderError('a text that no client may send')
  return reader.buffer.toString('utf8', start, reader.at)
}

/** Never empty: the server has chosen one for a client without (§3.1.3.1). */
export function readClientId(reader: ByteReader): string {
  const clientId = readMqttText(reader)
  if (clientId === '') throw new ByteReaderError('an empty Client Identifier')
  return clientId
}

/** 0 for none. */
export function readSubscriptionIdentifier(reader: ByteReader): number {
  const identifier = reader.varint()
  if (identifier > SUBSCRIPTION_IDENTIFIER_MAX) throw new ByteReaderError(`Subscription Identifier ${identifier}`)
  return identifier
}

/**
 * A Topic Filter as it stands in SUBSCRIBE, Shared Subscriptions included.
 * @throws {ProtocolError} TopicFilterInvalid, as `parseTopicFilter`
 */
export function readFilter(reader: ByteReader, levelsMax: number): ParsedFilter {
  return parseTopicFilter(readMqttText(reader), levelsMax)
}

/** A Topic Filter to match with: without `$share/{ShareName}/`. */
export function readPlainFilter(reader: ByteReader, levelsMax: number): string {
  const parsed = readFilter(reader, levelsMax)
  if (parsed.group !== null) throw new ByteReaderError('a Shared Subscription where a filter to match with is expected')
  return parsed.text
}

export function writeTexts(writer: ByteWriter, texts: readonly string[]): void {
  writer.varint(texts.length)
  for (const text of texts) writer.text(text)
}

/** What names a Shared Subscription: its ShareName and Topic Filter. */
export interface GroupName {
  readonly groupName: string
  readonly groupFilter: string
}

export function writeGroup(writer: ByteWriter, group: GroupName): void {
  writer.text(group.groupName)
  writer.text(group.groupFilter)
}

export function readGroup(reader: ByteReader, levelsMax: number): GroupName {
  const groupName = readMqttText(reader)
  const groupFilter = readMqttText(reader)
  const parsed = parseTopicFilter(`$share/${groupName}/${groupFilter}`, levelsMax)
  if (parsed.group !== groupName || parsed.filter !== groupFilter) throw new ByteReaderError('a ShareName with a slash')
  return { groupName, groupFilter }
}

/** A list of Topic Filters to match with. */
export function readPlainFilters(reader: ByteReader, levelsMax: number): string[] {
  const filters: string[] = []
  for (let left = readCount(reader, 2); left > 0; left--) filters.push(readPlainFilter(reader, levelsMax))
  return filters
}
