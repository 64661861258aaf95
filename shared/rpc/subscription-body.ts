import { type ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import type { ByteWriter } from '#shared/base/byte-writer.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { type ParsedFilter, parseTopicFilter } from '#shared/mqtt/topic.ts'
import type { SubscriptionRequest } from './backend-port.ts'
import { readCount, readFilter, readReason, readSubscriptionIdentifier, readText } from './body-fields.ts'

const QOS = 0b0000_0011
const NO_LOCAL = 0b0000_0100
const RETAIN_AS_PUBLISHED = 0b0000_1000
const RETAIN_HANDLING_SHIFT = 4
const IS_REFUSED = 0b0100_0000
const FLAGS_LIMIT = 0b1000_0000

/** A refused one. */
const SUBSCRIPTION_BYTES_MIN = 2

/** Of a refused one nothing matters but its place in the list: its filter may be none. */
const REFUSED = {
  filter: { text: '', group: null, filter: '' },
  qos: 0,
  noLocal: false,
  retainAsPublished: false,
  retainHandling: 0,
  identifier: 0,
} as const

export function writeSubscriptions(writer: ByteWriter, subscriptions: readonly SubscriptionRequest[]): void {
  writer.varint(subscriptions.length)
  for (const { filter, refused, qos, noLocal, retainAsPublished, retainHandling, identifier } of subscriptions) {
    if (refused !== null) {
      writer.u8(IS_REFUSED)
      writer.u8(refused)
      continue
    }
    writer.u8(qos | (noLocal ? NO_LOCAL : 0) | (retainAsPublished ? RETAIN_AS_PUBLISHED : 0) | (retainHandling << RETAIN_HANDLING_SHIFT))
    writer.text(filter.text)
    writer.varint(identifier)
  }
}

export function readSubscriptions(reader: ByteReader, levelsMax: number): SubscriptionRequest[] {
  const subscriptions: SubscriptionRequest[] = []
  for (let left = readCount(reader, SUBSCRIPTION_BYTES_MIN); left > 0; left--) subscriptions.push(readSubscription(reader, levelsMax))
  return subscriptions
}

function readSubscription(reader: ByteReader, levelsMax: number): SubscriptionRequest {
  const flags = reader.u8()
  if (flags >= FLAGS_LIMIT || (flags > IS_REFUSED && (flags & IS_REFUSED) !== 0)) throw new ByteReaderError(`subscription flags ${flags}`)
  if (flags === IS_REFUSED) return { ...REFUSED, refused: readReason(reader) }
  return {
    filter: readFilter(reader, levelsMax),
    refused: null,
    qos: upToTwo(flags & QOS, 'QoS'),
    noLocal: (flags & NO_LOCAL) !== 0,
    retainAsPublished: (flags & RETAIN_AS_PUBLISHED) !== 0,
    retainHandling: upToTwo((flags >> RETAIN_HANDLING_SHIFT) & 3, 'Retain Handling'),
    identifier: readSubscriptionIdentifier(reader),
  }
}

/** QoS and Retain Handling: 3 is none. */
export function upToTwo(value: number, what: string): 0 | 1 | 2 {
  if (value === 0 || value === 1 || value === 2) return value
  throw new ByteReaderError(`${what} ${value}`)
}

export function writeFilters(writer: ByteWriter, filters: readonly ParsedFilter[]): void {
  writer.varint(filters.length)
  for (const filter of filters) writer.text(filter.text)
}

/** Topic Filters to forget: one that is not valid is none that anybody can have, and no fault of the peer. */
export function readFilters(reader: ByteReader, levelsMax: number): ParsedFilter[] {
  const filters: ParsedFilter[] = []
  for (let left = readCount(reader, 1); left > 0; left--) filters.push(readAnyFilter(reader, levelsMax))
  return filters
}

function readAnyFilter(reader: ByteReader, levelsMax: number): ParsedFilter {
  const text = readText(reader)
  try {
    return parseTopicFilter(text, levelsMax)
  } catch (error) {
    if (error instanceof ProtocolError) return { text, group: null, filter: text }
    throw error
  }
}
