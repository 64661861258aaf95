import type { IConnectPacket } from 'mqtt-packet'
import { parsePacket } from './packet-library.ts'
import { Property } from './property.ts'
import { type Clause, ProtocolError } from './protocol-error.ts'
import type { ProtocolVersion } from './protocol-version.ts'
import { ReasonCode } from './reason-code.ts'
import { allowProperties, readProperties, type StrictProperties, type UserProperty } from './strict-properties.ts'
import { checkFlags, malformed, StrictReader } from './strict-reader.ts'
import { checkTopicName, TOPIC_LEVELS_MAX } from './topic.ts'

/** Session Expiry Interval of a session that never expires (§3.1.2.11.2). */
export const SESSION_NEVER_EXPIRES = 0xffff_ffff

/** CONNECT (§3.1), defaults filled in. */
export interface Connect {
  readonly protocolVersion: ProtocolVersion
  /** Clean Start; Clean Session before MQTT 5 */
  readonly cleanStart: boolean
  /** in seconds, 0 none */
  readonly keepAlive: number
  /** may be empty; whether that is allowed, the caller decides (MQTT 3.1: 1 to 23 characters) */
  readonly clientId: string
  readonly userName: string | null
  readonly password: Buffer | null
  readonly will: Will | null
  /** in seconds, SESSION_NEVER_EXPIRES for ever. Before MQTT 5: 0 with Clean Session, for ever without */
  readonly sessionExpiry: number
  readonly receiveMaximum: number
  /** in bytes, Infinity when the client did not say */
  readonly maximumPacketSize: number
  readonly topicAliasMaximum: number
  readonly requestResponseInformation: boolean
  readonly requestProblemInformation: boolean
  readonly authenticationMethod: string | null
  readonly authenticationData: Buffer | null
  readonly userProperties: UserProperty[]
}

/** The Will Message of a CONNECT. Its topic is a valid Topic Name. */
export interface Will {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: 0 | 1 | 2
  readonly retain: boolean
  /** encoded properties that travel on, laid out as `Message.properties`: without Message Expiry and Will Delay Interval */
  readonly properties: Buffer
  /** Message Expiry Interval in seconds, -1 none */
  readonly expirySeconds: number
  /** Will Delay Interval in seconds */
  readonly delaySeconds: number
}

/** A CONNECT that cannot be accepted as it stands. */
export class ConnectRefusal extends ProtocolError {
  override readonly name = 'ConnectRefusal'
  /**
   * In which version CONNACK may say so; null: close without an answer, the peer does not seem to speak MQTT, or its
   * version has no return code for this.
   */
  readonly answerVersion: ProtocolVersion | null

  constructor(reason: ReasonCode, clause: Clause, detail: string, answerVersion: ProtocolVersion | null) {
    super(reason, clause, detail)
    this.answerVersion = answerVersion
  }
}

const FLAG_RESERVED = 0x01
const FLAG_WILL = 0x04
const FLAG_WILL_RETAIN = 0x20
const FLAG_PASSWORD = 0x40
const FLAG_USER_NAME = 0x80

const CONNECT_PROPERTIES = allowProperties(
  Property.SessionExpiryInterval,
  Property.ReceiveMaximum,
  Property.MaximumPacketSize,
  Property.TopicAliasMaximum,
  Property.RequestResponseInformation,
  Property.RequestProblemInformation,
  Property.AuthenticationMethod,
  Property.AuthenticationData,
)

const WILL_PROPERTIES = allowProperties(
  Property.WillDelayInterval,
  Property.PayloadFormatIndicator,
  Property.MessageExpiryInterval,
  Property.ContentType,
  Property.ResponseTopic,
  Property.CorrelationData,
)

/**
 * Decodes the CONNECT `bytes[start, end)`, whose ends `frameEnd` found. The first byte must be that of CONNECT or it is
 * refused [MQTT-3.1.0-1]. The result holds no view of `bytes`.
 * @throws {ConnectRefusal} with `answerVersion`. UnsupportedProtocolVersion [MQTT-3.1.2-2]; else as the specification says for
 *   each field. Nothing else is thrown.
 */
export function decodeConnect(bytes: Buffer, start: number, end: number, topicLevelsMax: number = TOPIC_LEVELS_MAX): Connect {
  let version: ProtocolVersion | null = null
  try {
    if (bytes[start]! >> 4 !== 1) throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-3.1.0-1', 'the first packet is not CONNECT')
    checkFlags(bytes, start, 0)
    const reader = new StrictReader(bytes, start, end)
    version = readVersion(reader)
    return decodeBody(reader, start, version, topicLevelsMax)
  } catch (error) {
    if (!(error instanceof ProtocolError) || error instanceof ConnectRefusal) throw error
    // Before MQTT 5 there is no return code for a broken CONNECT: the connection is closed without CONNACK (3.1.1 §3.1.4).
    const detail = error.message.slice(0, -error.clause.length - 3)
    throw new ConnectRefusal(error.reason, error.clause, detail, version === 5 ? 5 : null)
  }
}

/** Protocol Name and Protocol Version (§3.1.2.1, §3.1.2.2). */
function readVersion(reader: StrictReader): ProtocolVersion {
  const name = reader.string()
  if (name !== 'MQTT' && name !== 'MQIsdp') {
    throw new ConnectRefusal(ReasonCode.UnsupportedProtocolVersion, 'MQTT-3.1.2-1', 'unknown Protocol Name', null)
  }
  const level = reader.u8()
  if (name === 'MQTT' && (level === 4 || level === 5)) return level
  if (name === 'MQIsdp' && level === 3) return level
  // An older client understands only the old return code, and so does a bridge that sets bit 7 to try what we are.
  const answerVersion = name === 'MQIsdp' ? 3 : (level & 0x7f) < 5 ? 4 : 5
  throw new ConnectRefusal(ReasonCode.UnsupportedProtocolVersion, 'MQTT-3.1.2-2', `${name} level ${level}`, answerVersion)
}

function decodeBody(reader: StrictReader, start: number, version: ProtocolVersion, topicLevelsMax: number): Connect {
  const flags = reader.u8()
  checkConnectFlags(flags, version)
  reader.u16() // Keep Alive
  const properties = version === 5 ? readProperties(reader, CONNECT_PROPERTIES) : null
  if (properties?.offsets.has(Property.AuthenticationData) && !properties.offsets.has(Property.AuthenticationMethod)) {
    throw new ProtocolError(ReasonCode.ProtocolError, '§3.1.2.11.10', 'Authentication Data without Authentication Method')
  }
  reader.skipString() // Client Identifier
  let willProperties: StrictProperties | null = null
  if (flags & FLAG_WILL) {
    if (version === 5) willProperties = readProperties(reader, WILL_PROPERTIES)
    const topicAt = reader.at + 2
    reader.skipString()
    checkTopicName(reader.bytes, topicAt, reader.at, topicLevelsMax)
    reader.skipBinary()
  }
  if (flags & FLAG_USER_NAME) reader.skipString()
  if (flags & FLAG_PASSWORD) reader.skipBinary()
  reader.finish()
  const packet = parsePacket('connect', reader.bytes.subarray(start, reader.end), version)
  return connectOf(packet, version, properties, willOf(packet, reader.bytes, willProperties))
}

function checkConnectFlags(flags: number, version: ProtocolVersion): void {
  if (flags & FLAG_RESERVED) throw malformed('MQTT-3.1.2-3', 'reserved connect flag')
  const willQoS = (flags >> 3) & 3
  if (willQoS === 3) throw malformed('MQTT-3.1.2-12', 'Will QoS 3')
  if (!(flags & FLAG_WILL)) {
    if (willQoS !== 0) throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-3.1.2-11', 'Will QoS without a Will')
    if (flags & FLAG_WILL_RETAIN) throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-3.1.2-13', 'Will Retain without a Will')
  }
  if (version !== 5 && flags & FLAG_PASSWORD && !(flags & FLAG_USER_NAME)) {
    throw new ProtocolError(ReasonCode.ProtocolError, '§3.1.2.9', 'password without user name before MQTT 5 (3.1.1 [MQTT-3.1.2-22])')
  }
}

function connectOf(packet: IConnectPacket, version: ProtocolVersion, properties: StrictProperties | null, will: Will | null): Connect {
  const given = packet.properties ?? {}
  const cleanStart = packet.clean === true
  const neverExpires = version !== 5 && !cleanStart
  return {
    protocolVersion: version,
    cleanStart,
    keepAlive: packet.keepalive ?? 0,
    clientId: packet.clientId,
    userName: packet.username ?? null,
    password: copyOf(packet.password),
    will,
    sessionExpiry: neverExpires ? SESSION_NEVER_EXPIRES : (given.sessionExpiryInterval ?? 0),
    receiveMaximum: given.receiveMaximum ?? 65_535,
    maximumPacketSize: given.maximumPacketSize ?? Infinity,
    topicAliasMaximum: given.topicAliasMaximum ?? 0,
    requestResponseInformation: given.requestResponseInformation ?? false,
    requestProblemInformation: given.requestProblemInformation ?? true,
    authenticationMethod: given.authenticationMethod ?? null,
    authenticationData: copyOf(given.authenticationData),
    userProperties: properties?.userProperties ?? [],
  }
}

function willOf(packet: IConnectPacket, bytes: Buffer, properties: StrictProperties | null): Will | null {
  const will = packet.will
  if (will === undefined) return null
  return {
    topic: will.topic,
    payload: Buffer.from(will.payload as Buffer),
    qos: will.qos ?? 0,
    retain: will.retain === true,
    properties: travellingProperties(bytes, properties),
    expirySeconds: will.properties?.messageExpiryInterval ?? -1,
    delaySeconds: will.properties?.willDelayInterval ?? 0,
  }
}

/** The will's properties but Will Delay and Message Expiry Interval, each of which takes five bytes. */
function travellingProperties(bytes: Buffer, properties: StrictProperties | null): Buffer {
  if (properties === null) return Buffer.alloc(0)
  const cuts = [Property.WillDelayInterval, Property.MessageExpiryInterval].map(property => properties.offsets.get(property))
  const parts: Buffer[] = []
  let from = properties.start
  for (const cut of cuts.filter(at => at !== undefined).sort((a, b) => a - b)) {
    parts.push(bytes.subarray(from, cut))
    from = cut + 5
  }
  parts.push(bytes.subarray(from, properties.end))
  return Buffer.concat(parts)
}

function copyOf(bytes: Buffer | undefined): Buffer | null {
  return bytes === undefined ? null : Buffer.from(bytes)
}
