import { Message } from '#shared/mqtt/message.ts'
import { Property } from '#shared/mqtt/property.ts'
import type { Topic } from '#shared/mqtt/topic.ts'
import { blobBytes, writeBlob } from './answer.ts'
import { type StoreClock, storeClockBytes, writeStoreClock } from './hybrid-clock.ts'
import { STATUS_DONE, StoreProperty } from './properties.ts'
import type { StoredBytes } from './stored-bytes.ts'

const STATUS = Buffer.from([Property.UserProperty, ...field(StoreProperty.Status), ...field(STATUS_DONE)])
const VERSION = Buffer.from([Property.UserProperty, ...field(StoreProperty.Timestamp)])
/** Identifier and length of Correlation Data; the length of a version. */
const HEAD_BYTES = 3
const LENGTH_BYTES = 2
/** Up to so many a loop is faster than `copy`. */
const COPY_LOOP_BYTES_MAX = 32

/** What a response says: `answer`, or `value`. */
export interface ResponseContent {
  readonly version: StoreClock | null
  /** Of GET: the payload is this, as a blob. */
  readonly value: StoredBytes | null
  readonly answer: Buffer | null
}

/**
 * The response to a request (spec state-store.md 3): QoS 1, with the Correlation Data at `correlation[start, end)`, the status that means
 * done, and a version if there is one. Written into one buffer that it owns.
 */
export function responseMessage(topic: Topic, correlation: Buffer, start: number, end: number, content: ResponseContent): Message {
  const bytes = Buffer.allocUnsafe(responseBytes(end - start, content))
  return ownMessage(topic, bytes, writeResponse(bytes, 0, correlation, start, end, content))
}

/** How many bytes `writeResponse` writes. */
export function responseBytes(correlationBytes: number, { version, value, answer }: ResponseContent): number {
  const clockBytes = version === null ? 0 : VERSION.length + LENGTH_BYTES + storeClockBytes(version)
  return HEAD_BYTES + correlationBytes + STATUS.length + clockBytes + (value === null ? answer!.length : blobBytes(value))
}

/** Properties and payload of a response, as `responseMessage` has them, at `into[at]`. Answers where the properties end and the payload begins. */
export function writeResponse(
  into: Buffer,
  at: number,
  correlation: Buffer,
  start: number,
  end: number,
  { version, value, answer }: ResponseContent,
): number {
  into[at] = Property.CorrelationData
  putLength(into, at + 1, end - start)
  at = putRange(into, at + HEAD_BYTES, correlation, start, end)
  at = put(into, at, STATUS)
  if (version !== null) {
    at = put(into, at, VERSION)
    putLength(into, at, storeClockBytes(version))
    at = writeStoreClock(into, at + LENGTH_BYTES, version)
  }
  if (value === null) put(into, at, answer!)
  else writeBlob(into, at, value)
  return at
}

function ownMessage(topic: Topic, bytes: Buffer, propertiesEnd: number): Message {
  const message = new Message()
  message.topic = topic
  message.qos = 1
  message.propertyBytes = bytes
  message.propertiesEnd = propertiesEnd
  message.payloadBytes = bytes
  message.payloadStart = propertiesEnd
  message.payloadEnd = bytes.length
  message.ownsBytes = true
  return message
}

function field(text: string): number[] {
  const bytes = [...Buffer.from(text)]
  return [bytes.length >> 8, bytes.length & 0xff, ...bytes]
}

function putLength(bytes: Buffer, at: number, length: number): void {
  bytes[at] = length >> 8
  bytes[at + 1] = length
}

function put(bytes: Buffer, at: number, from: Buffer): number {
  return putRange(bytes, at, from, 0, from.length)
}

function putRange(bytes: Buffer, at: number, from: Buffer, start: number, end: number): number {
  if (end - start > COPY_LOOP_BYTES_MAX) return at + from.copy(bytes, at, start, end)
  for (let i = start; i < end; i++) bytes[at++] = from[i]!
  return at
}
