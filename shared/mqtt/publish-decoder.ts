import { isUtf8 } from 'node:buffer'
import { bodyStart } from './framing.ts'
import { EMPTY, type Message } from './message.ts'
import { Property } from './property.ts'
import { ProtocolError } from './protocol-error.ts'
import type { ProtocolVersion } from './protocol-version.ts'
import { ReasonCode } from './reason-code.ts'
import { responseTopicEnd } from './response-topic.ts'
import { sameBytes, type Topic, type TopicCache } from './topic.ts'
import { binaryDataEnd, utf8StringEnd } from './utf8.ts'

/** Flags in the first byte (§3.3.1). */
const DUP = 0x08
const RETAIN = 0x01

/** What a client may put into PUBLISH. */
export interface PublishLimits {
  /** as announced in CONNACK; 0 accepts no alias */
  readonly topicAliasMaximum: number
  /** in one packet; more are refused with QuotaExceeded. No limit when left out */
  readonly userPropertiesMax?: number
  /** whether a payload must be UTF-8 when its Payload Format Indicator says so (§3.3.2.3.2); costs a pass over it. No when left out */
  readonly checkPayloadFormat?: boolean
}

/**
 * Decodes the PUBLISH packets of one Network Connection (§3.3), which a client sent. Remembers the last topic, so that a
 * repeated topic costs a comparison and no string, and the Topic Aliases that the client has set.
 */
export class PublishDecoder {
  readonly #cache: TopicCache
  readonly #version: ProtocolVersion
  readonly #topicAliasMaximum: number
  readonly #checkPayloadFormat: boolean
  #last: Topic | null = null
  /** by alias; made when the first alias comes. Grows with the aliases in use, not with the maximum: V8 makes it a dictionary when they lie far apart. */
  #aliases: (Topic | undefined)[] | null = null
  readonly #userPropertiesMax: number

  constructor(cache: TopicCache, version: ProtocolVersion, limits: PublishLimits) {
    this.#cache = cache
    this.#version = version
    this.#topicAliasMaximum = limits.topicAliasMaximum
    this.#checkPayloadFormat = limits.checkPayloadFormat ?? false
    this.#userPropertiesMax = limits.userPropertiesMax ?? Infinity
  }

  /**
   * Decodes the packet `bytes[start, end)`, whose ends `frameEnd` found, into `into`, all fields of which are set.
   * Payload and properties stay where they are: `into` is good as long as `bytes` is.
   * @throws {ProtocolError} MalformedPacket: QoS 3 [MQTT-3.3.1-4], a field past the end, bad UTF-8, a property that PUBLISH does
   *   not have. ProtocolError: DUP with QoS 0 [MQTT-3.3.1-2], Packet Identifier 0 [MQTT-2.2.1-3], a property twice, Subscription
   *   Identifier [MQTT-3.3.4-6], no topic. TopicNameInvalid [MQTT-3.3.2-2]. TopicAliasInvalid [MQTT-3.3.2-8], [MQTT-3.3.2-9].
   *   PayloadFormatInvalid. `into` and the aliases are then as they were, or `into` is half filled: drop it.
   */
  decode(bytes: Buffer, start: number, end: number, into: Message): void {
    const first = bytes[start]!
    const qos = (first >> 1) & 3
    if (qos === 3) throw new ProtocolError(ReasonCode.MalformedPacket, 'MQTT-3.3.1-4', 'PUBLISH with QoS 3')
    if (qos === 0 && (first & DUP) !== 0) throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-3.3.1-2', 'DUP with QoS 0')

    const topicAt = bodyStart(bytes, start, end) + 2
    let at = binaryDataEnd(bytes, topicAt - 2, end)
    const topic = at === topicAt ? null : this.#topicOf(bytes, topicAt, at)

    let packetId = 0
    if (qos > 0) {
      if (at + 2 > end) throw new ProtocolError(ReasonCode.MalformedPacket, '§3.3.2.2', 'no Packet Identifier')
      packetId = (bytes[at]! << 8) | bytes[at + 1]!
      if (packetId === 0) throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-2.2.1-3', 'Packet Identifier 0')
      at += 2
    }
    into.qos = qos
    into.retain = (first & RETAIN) !== 0
    into.dup = (first & DUP) !== 0
    into.packetId = packetId
    into.expirySeconds = -1
    into.expiresAtMs = Infinity
    into.payloadBytes = bytes
    into.payloadEnd = end
    if (this.#version === 5) {
      at = this.#properties(bytes, at, end, topic, into)
    } else {
      if (topic === null) throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-4.7.3-1', 'empty Topic Name')
      into.topic = topic
      into.propertyBytes = EMPTY
      into.propertiesStart = into.propertiesEnd = 0
    }
    into.payloadStart = at
  }

  #topicOf(bytes: Buffer, start: number, end: number): Topic {
    const last = this.#last
    if (last !== null && sameBytes(bytes, start, end, last.utf8)) return last
    const topic = this.#cache.get(bytes, start, end)
    this.#last = topic
    return topic
  }

  /** Answers where the payload starts. */
  #properties(bytes: Buffer, at: number, end: number, topic: Topic | null, into: Message): number {
    // No properties is the most frequent case, and needs none of what follows.
    if (at < end && bytes[at] === 0 && topic !== null) {
      into.topic = topic
      into.propertyBytes = EMPTY
      into.propertiesStart = into.propertiesEnd = 0
      return at + 1
    }
    found.read(bytes, at, end, this.#userPropertiesMax)
    this.#resolve(topic, found.alias, into)
    into.expirySeconds = found.expirySeconds
    keepTravelling(bytes, found, into)
    if (this.#checkPayloadFormat && found.isUtf8Payload && !isUtf8(bytes.subarray(found.end, end))) {
      throw new ProtocolError(
        ReasonCode.PayloadFormatInvalid,
        '§3.3.2.3.2',
        'the payload is not UTF-8 as its Payload Format Indicator says',
      )
    }
    return found.end
  }

  #resolve(topic: Topic | null, alias: number, into: Message): void {
    if (alias === -1) {
      if (topic === null) throw new ProtocolError(ReasonCode.ProtocolError, '§3.3.2.1', 'neither Topic Name nor Topic Alias')
      into.topic = topic
      return
    }
    if (alias === 0) throw new ProtocolError(ReasonCode.TopicAliasInvalid, 'MQTT-3.3.2-8', 'Topic Alias 0')
    if (alias > this.#topicAliasMaximum)
      throw new ProtocolError(ReasonCode.TopicAliasInvalid, 'MQTT-3.3.2-9', `Topic Alias ${alias} over the maximum`)
    if (topic === null) {
      const known = this.#aliases?.[alias]
      if (known === undefined) throw new ProtocolError(ReasonCode.ProtocolError, '§3.3.2.3.4', `Topic Alias ${alias} was not set`)
      into.topic = known
      return
    }
    this.#aliases ??= []
    this.#aliases[alias] = topic
    into.topic = topic
  }
}

/** What stood in the properties of a PUBLISH: one pass, no allocation. */
class FoundProperties {
  /** of the first property, and of the byte behind the last one */
  start = 0
  end = 0
  /** where Message Expiry Interval (5 bytes) and Topic Alias (3 bytes) stand, identifier included; -1: they do not */
  expiryAt = -1
  expirySeconds = -1
  aliasAt = -1
  alias = -1
  isUtf8Payload = false

  /**
   * Reads Property Length and properties from `at` (§3.3.2.3).
   * @throws {ProtocolError} as `PublishDecoder.decode`
   */
  read(bytes: Buffer, at: number, end: number, userPropertiesMax: number): void {
    this.expiryAt = this.expirySeconds = this.aliasAt = this.alias = -1
    this.isUtf8Payload = false
    at = this.#readLength(bytes, at, end)
    this.start = at
    const propertiesEnd = this.end
    let seen = 0
    let userProperties = 0
    while (at < propertiesEnd) {
      const property = bytes[at++]!
      if (property === Property.UserProperty) {
        at = utf8StringEnd(bytes, utf8StringEnd(bytes, at, propertiesEnd), propertiesEnd)
        if (++userProperties > userPropertiesMax) {
          throw new ProtocolError(ReasonCode.QuotaExceeded, '§4.13', `more than ${userPropertiesMax} User Properties`)
        }
        continue
      }
      // One bit for each property that may stand once: 0x23, the only one of PUBLISH that is over 31, takes bit 31.
      const bit = property === Property.TopicAlias ? 1 << 31 : property < 31 ? 1 << property : 0
      if ((seen & bit) !== 0) throw new ProtocolError(ReasonCode.ProtocolError, '§3.3.2.3', `property 0x${property.toString(16)} twice`)
      seen |= bit
      at = this.#readOne(bytes, property, at, propertiesEnd)
    }
  }

  #readLength(bytes: Buffer, at: number, end: number): number {
    let length = 0
    for (let shift = 0; at < end && shift <= 21; shift += 7) {
      const byte = bytes[at++]!
      length |= (byte & 0x7f) << shift
      if (byte & 0x80) continue
      if (byte === 0 && shift > 0)
        throw new ProtocolError(ReasonCode.MalformedPacket, 'MQTT-1.5.5-1', 'Property Length not in its shortest form')
      if (at + length > end) break
      this.end = at + length
      return at
    }
    throw new ProtocolError(ReasonCode.MalformedPacket, '§2.2.2.1', 'Property Length past the end of the packet')
  }

  /** Everything but User Property. Answers the offset behind the value. */
  #readOne(bytes: Buffer, property: number, at: number, end: number): number {
    switch (property) {
      case Property.PayloadFormatIndicator:
        needBytes(at, 1, end)
        if (bytes[at]! > 1) throw new ProtocolError(ReasonCode.ProtocolError, '§3.3.2.3.2', `Payload Format Indicator ${bytes[at]}`)
        this.isUtf8Payload = bytes[at] === 1
        return at + 1
      case Property.MessageExpiryInterval:
        needBytes(at, 4, end)
        this.expiryAt = at - 1
        this.expirySeconds = bytes.readUInt32BE(at)
        return at + 4
      case Property.TopicAlias:
        needBytes(at, 2, end)
        this.aliasAt = at - 1
        this.alias = (bytes[at]! << 8) | bytes[at + 1]!
        return at + 2
      case Property.ContentType:
        return utf8StringEnd(bytes, at, end)
      case Property.CorrelationData:
        return binaryDataEnd(bytes, at, end)
      case Property.ResponseTopic:
        return responseTopicEnd(bytes, at, end)
      case Property.SubscriptionIdentifier:
        throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-3.3.4-6', 'Subscription Identifier in a PUBLISH from a client')
      default:
        throw new ProtocolError(ReasonCode.MalformedPacket, '§2.2.2.2', `property 0x${property.toString(16)} in PUBLISH`)
    }
  }
}

/** One for all decoders: each use is over before the next begins. */
const found = new FoundProperties()

function needBytes(at: number, count: number, end: number): void {
  if (at + count > end) throw new ProtocolError(ReasonCode.MalformedPacket, '§4.13.1', 'a property runs past the Property Length')
}

const EXPIRY_BYTES = 5
const ALIAS_BYTES = 3

/**
 * Leaves out Message Expiry Interval and Topic Alias, which belong to this hop. They mostly stand first or last, so that
 * narrowing the range is enough; else the rest moves into a buffer of its own.
 */
function keepTravelling(bytes: Buffer, found: FoundProperties, into: Message): void {
  let start = found.start
  let end = found.end
  let expiryAt = found.expiryAt
  let aliasAt = found.aliasAt
  for (;;) {
    if (expiryAt !== -1 && (start === expiryAt || end === expiryAt + EXPIRY_BYTES)) {
      if (start === expiryAt) start += EXPIRY_BYTES
      else end = expiryAt
      expiryAt = -1
    } else if (aliasAt !== -1 && (start === aliasAt || end === aliasAt + ALIAS_BYTES)) {
      if (start === aliasAt) start += ALIAS_BYTES
      else end = aliasAt
      aliasAt = -1
    } else break
  }
  if (expiryAt === -1 && aliasAt === -1) {
    into.propertyBytes = bytes
    into.propertiesStart = start
    into.propertiesEnd = end
    return
  }
  const parts: Buffer[] = []
  const cuts = [
    [expiryAt, EXPIRY_BYTES],
    [aliasAt, ALIAS_BYTES],
  ] as const
  for (const [cut, length] of cuts.filter(([cutAt]) => cutAt !== -1).sort((a, b) => a[0] - b[0])) {
    parts.push(bytes.subarray(start, cut))
    start = cut + length
  }
  parts.push(bytes.subarray(start, end))
  into.propertyBytes = Buffer.concat(parts)
  into.propertiesStart = 0
  into.propertiesEnd = into.propertyBytes.length
}
