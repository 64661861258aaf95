import { type ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import type { ByteWriter } from '#shared/base/byte-writer.ts'
import { highOf, readCount, readHigh, readNonZeroU16, readSubscriptionIdentifier, withHigh } from './body-fields.ts'
import { RECIPIENT_QOS, type Recipients } from './recipients.ts'

/**
 * The layout of the recipients of one message: how many, then for each the flags of Recipients with those below and the low 32 bits of
 * the connection (its slot and the first 256 uses of it); QoS 1 and 2: Packet Identifier and sequence; then what the flags announce.
 * So 5 bytes for QoS 0.
 */
const HAS_IDENTIFIERS = 0b01_0000
const HAS_HIGH = 0b10_0000
const FLAGS_LIMIT = 0b100_0000
const BYTES_MIN = 5
/** Without what HAS_IDENTIFIERS and HAS_HIGH announce. */
const BYTES_MAX = BYTES_MIN + 2 + 8
const HIGH = 2 ** 32

/** In one frame: more go in several, so that what a reader keeps for the arrays stays bounded. */
export const RECIPIENTS_MAX = 8_192

/** Those from `start` up to `end`, at most RECIPIENTS_MAX. */
export function writeRecipients(writer: ByteWriter, recipients: Recipients, start: number, end: number): void {
  const { connections, flags, packetIds, sequences, identifiers } = recipients
  writer.varint(end - start)
  let into = writer.room((end - start) * BYTES_MAX)
  let at = writer.length
  for (let i = start; i < end; i++) {
    const connection = connections[i]!
    const low = connection >>> 0
    const own = identifiers[i]!
    const isWide = connection >= HIGH
    into[at] = flags[i]! | (own === null ? 0 : HAS_IDENTIFIERS) | (isWide ? HAS_HIGH : 0)
    into[at + 1] = low
    into[at + 2] = low >>> 8
    into[at + 3] = low >>> 16
    into[at + 4] = low >>> 24
    at += BYTES_MIN
    if ((flags[i]! & RECIPIENT_QOS) !== 0) {
      into[at] = packetIds[i]!
      into[at + 1] = packetIds[i]! >>> 8
      at = putVarint(into, at + 2, sequences[i]!)
    }
    if (own === null && !isWide) continue
    writer.length = at
    if (isWide) writer.varint(highOf(connection))
    if (own !== null) writeIdentifiers(writer, own)
    into = writer.room((end - i) * BYTES_MAX)
    at = writer.length
  }
  writer.length = at
}

/** As ByteWriter.varint, into bytes that are there. Answers the offset behind it. */
function putVarint(into: Buffer, at: number, value: number): number {
  while (value >= 0x8000_0000) {
    into[at++] = (value % 128) | 0x80
    value = Math.floor(value / 128)
  }
  let rest = value | 0
  while (rest >= 0x80) {
    into[at++] = (rest & 0x7f) | 0x80
    rest >>>= 7
  }
  into[at++] = rest
  return at
}

function writeIdentifiers(writer: ByteWriter, identifiers: readonly number[]): void {
  writer.varint(identifiers.length)
  for (const identifier of identifiers) writer.varint(identifier)
}

/**
 * Into `into`, emptied before.
 * @throws {ByteReaderError} truncated, none or more than RECIPIENTS_MAX, a field out of range
 */
export function readRecipients(reader: ByteReader, into: Recipients): void {
  const count = readCount(reader, BYTES_MIN)
  if (count === 0 || count > RECIPIENTS_MAX) throw new ByteReaderError(`${count} recipients in one frame`)
  into.clear()
  const { buffer } = reader
  for (let i = 0; i < count; i++) {
    const at = reader.skip(BYTES_MIN)
    const flags = buffer[at]!
    const low = (buffer[at + 1]! | (buffer[at + 2]! << 8) | (buffer[at + 3]! << 16) | (buffer[at + 4]! << 24)) >>> 0
    if (flags >= FLAGS_LIMIT || (flags & RECIPIENT_QOS) === 3) throw new ByteReaderError(`recipient flags ${flags}`)
    if ((flags & (RECIPIENT_QOS | HAS_IDENTIFIERS | HAS_HIGH)) === 0) into.add(low, flags, 0, null)
    else readRest(reader, flags, low, into)
  }
}

function readRest(reader: ByteReader, flags: number, low: number, into: Recipients): void {
  const hasQos = (flags & RECIPIENT_QOS) !== 0
  const packetId = hasQos ? readNonZeroU16(reader) : 0
  const sequence = hasQos ? reader.varint() : 0
  const connection = (flags & HAS_HIGH) === 0 ? low : withHigh(low, readHigh(reader))
  const identifiers = (flags & HAS_IDENTIFIERS) === 0 ? null : readIdentifiers(reader)
  into.add(connection, flags & ~(HAS_IDENTIFIERS | HAS_HIGH), packetId, identifiers, sequence)
}

function readIdentifiers(reader: ByteReader): number[] {
  const identifiers: number[] = []
  for (let left = readCount(reader, 1); left > 0; left--) {
    const identifier = readSubscriptionIdentifier(reader)
    if (identifier === 0) throw new ByteReaderError('Subscription Identifier 0')
    identifiers.push(identifier)
  }
  return identifiers
}
