import { type ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import type { ByteWriter } from '#shared/base/byte-writer.ts'
import type { ParsedFilter } from '#shared/mqtt/topic.ts'
import type { SubscriptionRequest } from './backend-port.ts'
import { readCount, readFilter, readReason, readSubscriptionIdentifier } from './body-fields.ts'

const QOS = 0b0000_0011
const NO_LOCAL = 0b0000_0100
const RETAIN_AS_PUBLISHED = 0b0000_1000
const RETAIN_HANDLING_SHIFT = 4
const IS_REFUSED = 0b0100_0000
const FLAGS_LIMIT = 0b1000_0000

/** A filter of one character with its length. */
const FILTER_BYTES_MIN = 2
const SUBSCRIPTION_BYTES_MIN = FILTER_BYTES_MIN + 2

export function writeSubscriptions(writer: ByteWriter, subscriptions: readonly SubscriptionRequest[]): void {
  writer.varint(subscriptions.length)
  for (const { filter, refused, qos, noLocal, retainAsPublished, retainHandling, identifier } of subscriptions) {
    writer.text(filter.text)
    writer.u8(
      qos |
        (noLocal ? NO_LOCAL : 0) |
        (retainAsPublished ? RETAIN_AS_PUBLISHED : 0) |
        (retainHandling << RETAIN_HANDLING_SHIFT) |
        (refused === null ? 0 : IS_REFUSED),
    )
    if (refused !== null) writer.u8(refused)
    writer.varint(identifier)
  }
}

export function readSubscriptions(reader: ByteReader, levelsMax: number): SubscriptionRequest[] {
  const subscriptions: SubscriptionRequest[] = []
  for (let left = readCount(reader, SUBSCRIPTION_BYTES_MIN); left > 0; left--) subscriptions.push(readSubscription(reader, levelsMax))
  return subscriptions
}

function readSubscription(reader: ByteReader, levelsMax: number): SubscriptionRequest {
  const filter = readFilter(reader, levelsMax)
  const flags = reader.u8()
  if (flags >= FLAGS_LIMIT) throw new ByteReaderError(`subscription flags ${flags}`)
  return {
    filter,
    refused: (flags & IS_REFUSED) === 0 ? null : readReason(reader),
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

export function readFilters(reader: ByteReader, levelsMax: number): ParsedFilter[] {
  const filters: ParsedFilter[] = []
  for (let left = readCount(reader, FILTER_BYTES_MIN); left > 0; left--) filters.push(readFilter(reader, levelsMax))
  return filters
}
