import { assert } from '../base/assert.ts'
import { variableByteIntegerBytes, writeVariableByteInteger } from './framing.ts'
import type { Message } from './message.ts'
import { Property } from './property.ts'
import type { ProtocolVersion } from './protocol-version.ts'

/** First byte of PUBLISH without flags (§3.3.1). */
const PUBLISH = 0x30

/** Up to this many bytes a loop beats `copy` of a part of a buffer (30 ns) and of a whole one (13 ns), on Node 24. */
const COPY_LOOP_BYTES_MAX = 32
const COPY_WHOLE_LOOP_BYTES_MAX = 12

/**
 * All that an outgoing PUBLISH has besides its message and its Packet Identifier. Receivers that want the same shape
 * get the same bytes but for the Packet Identifier. Meant to be reused: set every field before a call.
 */
export class PublishShape {
  /** 3 and 4 have no properties: then identifiers, expiry, alias and the message's properties are left out */
  version: ProtocolVersion = 5
  qos: number = 0
  retain: boolean = false
  dup: boolean = false
  /** Subscription Identifiers, or null for none */
  subscriptionIds: readonly number[] | null = null
  /** what remains of the Message Expiry Interval, in seconds; -1 none */
  expirySeconds: number = -1
  /** Topic Alias to send; 0 none */
  topicAlias: number = 0
  /** `aliasOnly`: the receiver knows `topicAlias`, so that the Topic Name is sent empty (§3.3.2.3.4) */
  topicMode: 'full' | 'aliasOnly' = 'full'
}

/** Length of the whole PUBLISH packet of `message` in `shape`, fixed header included: what Maximum Packet Size counts. */
export function publishFrameBytes(message: Message, shape: PublishShape): number {
  const remaining = remainingLength(message, shape, shape.version === 5 ? propertyLength(message, shape) : 0)
  return 1 + variableByteIntegerBytes(remaining) + remaining
}

/**
 * Writes PUBLISH (§3.3) at `at`; answers the offset behind it. `into` must have `publishFrameBytes` of room there.
 * @param packetId 0 for QoS 0. A frame may be encoded once, copied for each receiver and patched at `packetIdOffset`.
 */
export function encodePublish(into: Buffer, at: number, message: Message, shape: PublishShape, packetId: number): number {
  at = encodePublishHead(into, at, message, shape, packetId)
  assert(at + message.payloadLength <= into.length, 'room for the PUBLISH')
  return copy(message.payloadBytes, message.payloadStart, message.payloadEnd, into, at)
}

/** As `encodePublish`, without the payload: the caller sends that behind it from where it is. */
export function encodePublishHead(into: Buffer, at: number, message: Message, shape: PublishShape, packetId: number): number {
  const isVersion5 = shape.version === 5
  const properties = isVersion5 ? propertyLength(message, shape) : 0
  const remaining = remainingLength(message, shape, properties)
  into[at++] = PUBLISH | (shape.dup ? 8 : 0) | (shape.qos << 1) | (shape.retain ? 1 : 0)
  at = writeVariableByteInteger(into, at, remaining)

  const topic = message.topic.utf8
  const topicLength = isVersion5 && shape.topicMode === 'aliasOnly' ? 0 : topic.length
  into[at++] = topicLength >>> 8
  into[at++] = topicLength
  at = copy(topic, 0, topicLength, into, at)
  if (shape.qos > 0) {
    into[at++] = packetId >>> 8
    into[at++] = packetId
  }
  if (isVersion5) {
    at = writeVariableByteInteger(into, at, properties)
    if (properties > 0) at = writeProperties(into, at, message, shape)
  }
  assert(at <= into.length, 'room for the head of the PUBLISH')
  return at
}

/** Offset of the Packet Identifier in the PUBLISH with QoS 1 or 2 that was encoded at `start`. */
export function packetIdOffset(frame: Uint8Array, start: number): number {
  let at = start + 1
  while (frame[at]! & 0x80) at++
  return at + 3 + ((frame[at + 1]! << 8) | frame[at + 2]!)
}

function remainingLength(message: Message, shape: PublishShape, properties: number): number {
  const isVersion5 = shape.version === 5
  const topic = isVersion5 && shape.topicMode === 'aliasOnly' ? 0 : message.topic.utf8.length
  const length = 2 + topic + (shape.qos > 0 ? 2 : 0) + message.payloadEnd - message.payloadStart
  return isVersion5 ? length + variableByteIntegerBytes(properties) + properties : length
}

function propertyLength(message: Message, shape: PublishShape): number {
  let length = message.propertiesEnd - message.propertiesStart
  if (shape.expirySeconds >= 0) length += 5
  if (shape.topicAlias > 0) length += 3
  const ids = shape.subscriptionIds
  if (ids !== null) for (let i = 0; i < ids.length; i++) length += 1 + variableByteIntegerBytes(ids[i]!)
  return length
}

function writeProperties(into: Buffer, at: number, message: Message, shape: PublishShape): number {
  const expirySeconds = shape.expirySeconds
  if (expirySeconds >= 0) {
    into[at++] = Property.MessageExpiryInterval
    into[at++] = expirySeconds >>> 24
    into[at++] = expirySeconds >>> 16
    into[at++] = expirySeconds >>> 8
    into[at++] = expirySeconds
  }
  const alias = shape.topicAlias
  if (alias > 0) {
    into[at++] = Property.TopicAlias
    into[at++] = alias >>> 8
    into[at++] = alias
  }
  const ids = shape.subscriptionIds
  if (ids !== null) {
    for (let i = 0; i < ids.length; i++) {
      into[at++] = Property.SubscriptionIdentifier
      at = writeVariableByteInteger(into, at, ids[i]!)
    }
  }
  return copy(message.propertyBytes, message.propertiesStart, message.propertiesEnd, into, at)
}

/** Copies `from[start, end)` to `into` at `at`; answers the offset behind the copy. */
function copy(from: Buffer, start: number, end: number, into: Buffer, at: number): number {
  if (end - start > (end - start === from.length ? COPY_WHOLE_LOOP_BYTES_MAX : COPY_LOOP_BYTES_MAX)) {
    from.copy(into, at, start, end)
    return at + end - start
  }
  while (start < end) into[at++] = from[start++]!
  return at
}
