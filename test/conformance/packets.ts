import { field, frame, u8, u16 } from './bytes.ts'
import { encodeProperties, type Properties } from './properties.ts'

/** Encoders of what a client sends. Every field can be given a value that MQTT forbids: that is what most tests are about. */

/** 5, 4 for MQTT 3.1.1, 3 for MQTT 3.1. */
export type Version = 5 | 4 | 3

export interface Will {
  topic: string | Buffer
  payload?: string | Buffer
  qos?: number
  retain?: boolean
  properties?: Properties | Buffer
}

export interface Connect {
  version?: Version
  protocolName?: string
  /** Byte 7 of the header when it shall not be `version`. */
  protocolLevel?: number
  clientId?: string | Buffer
  cleanStart?: boolean
  keepAlive?: number
  properties?: Properties | Buffer
  will?: Will
  userName?: string | Buffer
  password?: string | Buffer
  /** Connect Flags instead of those that the other fields ask for. */
  flags?: number
  /** Everything after the Variable Header instead of what the other fields ask for. */
  payload?: Buffer
}

export function connect(packet: Connect = {}): Buffer {
  const version = packet.version ?? 5
  return frame(
    0x10,
    field(packet.protocolName ?? (version === 3 ? 'MQIsdp' : 'MQTT')),
    u8(packet.protocolLevel ?? version),
    u8(packet.flags ?? connectFlags(packet)),
    u16(packet.keepAlive ?? 0),
    ...(version === 5 ? [encodeProperties(packet.properties)] : []),
    packet.payload ?? connectPayload(packet, version),
  )
}

function connectFlags({ cleanStart = true, will, userName, password }: Connect): number {
  const willFlags = will ? 0x04 | ((will.qos ?? 0) << 3) | (will.retain ? 0x20 : 0) : 0
  return (cleanStart ? 0x02 : 0) | willFlags | (userName === undefined ? 0 : 0x80) | (password === undefined ? 0 : 0x40)
}

function connectPayload({ clientId = '', will, userName, password }: Connect, version: Version): Buffer {
  const fields = [field(clientId)]
  if (will && version === 5) fields.push(encodeProperties(will.properties))
  if (will) fields.push(field(will.topic), field(will.payload ?? ''))
  if (userName !== undefined) fields.push(field(userName))
  if (password !== undefined) fields.push(field(password))
  return Buffer.concat(fields)
}

export interface Publish {
  topic: string | Buffer
  payload?: string | Buffer
  qos?: number
  retain?: boolean
  dup?: boolean
  packetId?: number
  properties?: Properties | Buffer
}

export function publish(packet: Publish, version: Version = 5): Buffer {
  const qos = packet.qos ?? 0
  const payload = packet.payload ?? ''
  return frame(
    0x30 | (packet.dup ? 8 : 0) | (qos << 1) | (packet.retain ? 1 : 0),
    field(packet.topic),
    ...(qos > 0 ? [u16(packet.packetId ?? 1)] : []),
    ...(version === 5 ? [encodeProperties(packet.properties)] : []),
    typeof payload === 'string' ? Buffer.from(payload) : payload,
  )
}

const ACK_FIRST_BYTE = { puback: 0x40, pubrec: 0x50, pubrel: 0x62, pubcomp: 0x70 } as const
export type AckType = keyof typeof ACK_FIRST_BYTE

/** PUBACK, PUBREC, PUBREL or PUBCOMP; two bytes of body unless a reason or properties are given. */
export function ack(type: AckType, packetId: number, reason?: number, properties?: Properties | Buffer): Buffer {
  const reasoned = reason === undefined ? [] : [u8(reason)]
  return frame(ACK_FIRST_BYTE[type], u16(packetId), ...reasoned, ...(properties === undefined ? [] : [encodeProperties(properties)]))
}

export interface Subscription {
  filter: string | Buffer
  qos?: number
  noLocal?: boolean
  retainAsPublished?: boolean
  retainHandling?: number
  /** The whole options byte instead of the fields above. */
  options?: number
}

export function subscribe(packetId: number, subscriptions: Subscription[], version: Version = 5, properties?: Properties | Buffer): Buffer {
  return frame(
    0x82,
    u16(packetId),
    ...(version === 5 ? [encodeProperties(properties)] : []),
    ...subscriptions.flatMap(each => [field(each.filter), u8(each.options ?? subscriptionOptions(each))]),
  )
}

function subscriptionOptions({ qos = 0, noLocal, retainAsPublished, retainHandling = 0 }: Subscription): number {
  return qos | (noLocal ? 4 : 0) | (retainAsPublished ? 8 : 0) | (retainHandling << 4)
}

export function unsubscribe(
  packetId: number,
  filters: (string | Buffer)[],
  version: Version = 5,
  properties?: Properties | Buffer,
): Buffer {
  return frame(0xa2, u16(packetId), ...(version === 5 ? [encodeProperties(properties)] : []), ...filters.map(field))
}

export const PINGREQ: Buffer = frame(0xc0)

/** Without a reason: the two-byte form, which is all that MQTT 3.1.1 has. */
export function disconnect(reason?: number, properties?: Properties | Buffer): Buffer {
  return frame(0xe0, ...(reason === undefined ? [] : [u8(reason)]), ...(properties === undefined ? [] : [encodeProperties(properties)]))
}

export function auth(reason: number, properties: Properties | Buffer): Buffer {
  return frame(0xf0, u8(reason), encodeProperties(properties))
}
