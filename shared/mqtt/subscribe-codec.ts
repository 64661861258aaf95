import { encodeWithin, generatePacket, type OptionalText, parsePacket, textProperties } from './packet-library.ts'
import { Property } from './property.ts'
import { ProtocolError } from './protocol-error.ts'
import type { ProtocolVersion } from './protocol-version.ts'
import { ReasonCode } from './reason-code.ts'
import { allowProperties, readProperties, type UserProperty } from './strict-properties.ts'
import { checkFlags, malformed, StrictReader } from './strict-reader.ts'

/** SUBSCRIBE (§3.8). */
export interface Subscribe {
  readonly packetId: number
  /** 0 none */
  readonly subscriptionIdentifier: number
  /** at least one */
  readonly subscriptions: readonly RequestedSubscription[]
  readonly userProperties: UserProperty[]
}

export interface RequestedSubscription {
  /** as it was sent, `$share/…` included: well-formed UTF-8, otherwise not checked; see `parseTopicFilter` */
  readonly filter: string
  readonly qos: 0 | 1 | 2
  readonly noLocal: boolean
  readonly retainAsPublished: boolean
  /** §3.8.3.1: 0 send retained, 1 only for a new subscription, 2 never */
  readonly retainHandling: 0 | 1 | 2
}

/** UNSUBSCRIBE (§3.10). */
export interface Unsubscribe {
  readonly packetId: number
  /** at least one; checked as in `RequestedSubscription` */
  readonly filters: readonly string[]
  readonly userProperties: UserProperty[]
}

const SUBSCRIBE_PROPERTIES = allowProperties(Property.SubscriptionIdentifier)
const UNSUBSCRIBE_PROPERTIES = allowProperties()

/** `$share/`: a Shared Subscription (§4.8.2). */
const SHARE_PREFIX = Buffer.from('$share/')

/** Low half of the first byte of SUBSCRIBE and UNSUBSCRIBE [MQTT-3.8.1-1], [MQTT-3.10.1-1]; MQTT 3.1 also has DUP there. */
const FLAGS = 0x02
const DUP = 0x08

/**
 * Decodes the SUBSCRIBE `bytes[start, end)`, whose ends `frameEnd` found. Linear in its bytes; how many subscriptions
 * one packet may hold is for the caller to say. Topic Filters are not judged here: a bad one is answered in SUBACK.
 * @throws {ProtocolError} MalformedPacket: flags, lengths, UTF-8, reserved option bits [MQTT-3.8.3-5], a property of other packets.
 *   ProtocolError: Packet Identifier 0, no subscription [MQTT-3.8.3-2], QoS 3, Retain Handling 3 (§3.8.3.1), No Local on a Shared
 *   Subscription [MQTT-3.8.3-4], Subscription Identifier 0 or twice (§3.8.2.1.2).
 */
export function decodeSubscribe(bytes: Buffer, start: number, end: number, version: ProtocolVersion): Subscribe {
  const reader = openRequest(bytes, start, end, version)
  const packetId = reader.packetId()
  const properties = version === 5 ? readProperties(reader, SUBSCRIBE_PROPERTIES) : null
  if (reader.left === 0) throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-3.8.3-2', 'SUBSCRIBE without a subscription')
  while (reader.left > 0) {
    const filterAt = reader.at + 2
    reader.skipString()
    const isShared =
      reader.bytes.compare(SHARE_PREFIX, 0, SHARE_PREFIX.length, filterAt, Math.min(filterAt + SHARE_PREFIX.length, reader.at)) === 0
    checkOptions(reader.u8(), version, isShared)
  }
  const packet = parsePacket('subscribe', forLibrary(bytes, start, end), version)
  return {
    packetId,
    subscriptionIdentifier: packet.properties?.subscriptionIdentifier ?? 0,
    subscriptions: packet.subscriptions.map(subscription => ({
      filter: subscription.topic,
      qos: subscription.qos,
      noLocal: subscription.nl === true,
      retainAsPublished: subscription.rap === true,
      retainHandling: (subscription.rh ?? 0) as 0 | 1 | 2,
    })),
    userProperties: properties?.userProperties ?? [],
  }
}

function checkOptions(options: number, version: ProtocolVersion, isShared: boolean): void {
  if (options & (version === 5 ? 0xc0 : 0xfc)) throw malformed('MQTT-3.8.3-5', 'reserved bits of the Subscription Options')
  if ((options & 0x03) === 3) throw new ProtocolError(ReasonCode.ProtocolError, '§3.8.3.1', 'subscription with QoS 3')
  if ((options & 0x30) === 0x30) throw new ProtocolError(ReasonCode.ProtocolError, '§3.8.3.1', 'Retain Handling 3')
  if (isShared && options & 0x04) throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-3.8.3-4', 'No Local on a Shared Subscription')
}

/**
 * Decodes the UNSUBSCRIBE `bytes[start, end)`, whose ends `frameEnd` found. Linear in its bytes.
 * @throws {ProtocolError} MalformedPacket: flags, lengths, UTF-8, a property of other packets. ProtocolError: Packet Identifier 0, no
 *   Topic Filter [MQTT-3.10.3-2].
 */
export function decodeUnsubscribe(bytes: Buffer, start: number, end: number, version: ProtocolVersion): Unsubscribe {
  const reader = openRequest(bytes, start, end, version)
  const packetId = reader.packetId()
  const properties = version === 5 ? readProperties(reader, UNSUBSCRIBE_PROPERTIES) : null
  if (reader.left === 0) throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-3.10.3-2', 'UNSUBSCRIBE without a Topic Filter')
  while (reader.left > 0) reader.skipString()
  const packet = parsePacket('unsubscribe', forLibrary(bytes, start, end), version)
  return { packetId, filters: packet.unsubscriptions, userProperties: properties?.userProperties ?? [] }
}

function openRequest(bytes: Buffer, start: number, end: number, version: ProtocolVersion): StrictReader {
  checkFlags(bytes, start, version === 3 && bytes[start]! & DUP ? FLAGS | DUP : FLAGS)
  return new StrictReader(bytes, start, end)
}

/** mqtt-packet does not know the DUP flag that MQTT 3.1 has here, so it is taken away. */
function forLibrary(bytes: Buffer, start: number, end: number): Buffer {
  const packet = bytes.subarray(start, end)
  if (!(packet[0]! & DUP)) return packet
  const copy = Buffer.from(packet)
  copy[0]! &= ~DUP
  return copy
}

/**
 * SUBACK (§3.9): one reason for each requested subscription, in order [MQTT-3.8.4-6]. Before MQTT 5 a refusal is 0x80, and
 * there are no properties.
 * @param maximumBytes the client's Maximum Packet Size; User Properties, then the Reason String, are left out to keep it
 */
export function encodeSuback(
  packetId: number,
  reasons: readonly ReasonCode[],
  version: ProtocolVersion,
  text: OptionalText | null = null,
  maximumBytes = Infinity,
): Buffer {
  const head = { cmd: 'suback', messageId: packetId } as const
  if (version !== 5) return generatePacket({ ...head, granted: reasons.map(reason => Math.min(reason, 0x80)) }, version)
  return encodeWithin(maximumBytes, text, sent => generatePacket({ ...head, granted: [...reasons], properties: textProperties(sent) }, 5))
}

/**
 * UNSUBACK (§3.11): one reason for each Topic Filter, in order [MQTT-3.11.3-1]; before MQTT 5 only the Packet Identifier.
 * @param maximumBytes as for `encodeSuback`
 */
export function encodeUnsuback(
  packetId: number,
  reasons: readonly ReasonCode[],
  version: ProtocolVersion,
  text: OptionalText | null = null,
  maximumBytes = Infinity,
): Buffer {
  const head = { cmd: 'unsuback', messageId: packetId } as const
  if (version !== 5) return generatePacket({ ...head, granted: [] }, version)
  return encodeWithin(maximumBytes, text, sent => generatePacket({ ...head, granted: [...reasons], properties: textProperties(sent) }, 5))
}
