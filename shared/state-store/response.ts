import { Message } from '#shared/mqtt/message.ts'
import { Property } from '#shared/mqtt/property.ts'
import type { Topic } from '#shared/mqtt/topic.ts'
import type { StoreClock } from './hybrid-clock.ts'
import { formatClock } from './hybrid-clock.ts'
import { STATUS_DONE, StoreProperty } from './properties.ts'

const STATUS = Buffer.from([Property.UserProperty, ...field(StoreProperty.Status), ...field(STATUS_DONE)])
const VERSION = Buffer.from([Property.UserProperty, ...field(StoreProperty.Timestamp)])
/** Identifier and length of Correlation Data; the length of a version. */
const HEAD_BYTES = 3
const LENGTH_BYTES = 2

/**
 * The response to a request (spec state-store.md 3): QoS 1, with the Correlation Data at `correlation[start, end)`, the status that means
 * done, and `version` if there is one. Written into one buffer that it owns.
 */
export function responseMessage(
  topic: Topic,
  correlation: Buffer,
  start: number,
  end: number,
  version: StoreClock | null,
  answer: Buffer,
): Message {
  const clock = version === null ? '' : formatClock(version)
  const clockBytes = version === null ? 0 : VERSION.length + LENGTH_BYTES + clock.length
  const propertiesEnd = HEAD_BYTES + (end - start) + STATUS.length + clockBytes
  const bytes = Buffer.allocUnsafe(propertiesEnd + answer.length)
  bytes[0] = Property.CorrelationData
  putLength(bytes, 1, end - start)
  let at = HEAD_BYTES + correlation.copy(bytes, HEAD_BYTES, start, end)
  at = put(bytes, at, STATUS)
  if (version !== null) {
    at = put(bytes, at, VERSION)
    putLength(bytes, at, clock.length)
    // Digits and a fixed name: one byte for each character.
    bytes.write(clock, at + LENGTH_BYTES, 'latin1')
  }
  answer.copy(bytes, propertiesEnd)
  return ownMessage(topic, bytes, propertiesEnd)
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
  for (let i = 0; i < from.length; i++) bytes[at + i] = from[i]!
  return at + from.length
}
