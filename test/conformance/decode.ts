import { FieldReader } from './bytes.ts'
import type { AckType, Version } from './packets.ts'
import { decodeProperties, type Properties } from './properties.ts'

/** What a broker may send, decoded strictly: any byte that the specification forbids throws, so every test also checks the broker's encoding. */
export type Packet = Connack | Publish | Ack | Suback | Unsuback | Pingresp | Disconnect | Auth

/** Identifiers of a received PUBLISH are a list, since there may be several. */
export type ReceivedProperties = Omit<Properties, 'subscriptionIdentifier'> & { subscriptionIdentifier?: number[] }

interface Sized {
  /** Size on the wire, fixed header included. */
  bytes: number
}
export interface Connack extends Sized {
  type: 'connack'
  sessionPresent: boolean
  reason: number
  properties: Properties
}
export interface Publish extends Sized {
  type: 'publish'
  /** As on the wire: empty when only an alias was sent. */
  topic: string
  qos: number
  dup: boolean
  retain: boolean
  packetId: number
  payload: Buffer
  properties: ReceivedProperties
}
interface AckOf<T extends AckType> extends Sized {
  type: T
  packetId: number
  reason: number
  properties: Properties
}
export type Ack = { [T in AckType]: AckOf<T> }[AckType]
export interface Suback extends Sized {
  type: 'suback'
  packetId: number
  reasons: number[]
  properties: Properties
}
export interface Unsuback extends Sized {
  type: 'unsuback'
  packetId: number
  reasons: number[]
  properties: Properties
}
export interface Pingresp extends Sized {
  type: 'pingresp'
}
export interface Disconnect extends Sized {
  type: 'disconnect'
  reason: number
  properties: Properties
}
export interface Auth extends Sized {
  type: 'auth'
  reason: number
  properties: Properties
}

/** Reason Codes that the tables of §3.2 to §3.15 let a Server send. */
const SERVER_REASONS = {
  connack: [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
  ],
  puback: [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
  pubrec: [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
  pubrel: [0x00, 0x92],
  pubcomp: [0x00, 0x92],
  suback: [0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2],
  unsuback: [0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91],
  disconnect: [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c,
    0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
  ],
  auth: [0x00, 0x18],
} as const satisfies Record<string, readonly number[]>

function checked(packet: keyof typeof SERVER_REASONS, reason: number): number {
  if (!(SERVER_REASONS[packet] as readonly number[]).includes(reason))
    throw new Error(`the broker sent ${packet} with reason 0x${reason.toString(16)}`)
  return reason
}

/** The first whole packet in `bytes`, or null while it is incomplete. */
export function decodePacket(bytes: Buffer, version: Version): Packet | null {
  if (bytes.length < 2 || (bytes.length < 5 && bytes.subarray(1).every(byte => byte & 0x80))) return null
  const header = new FieldReader(bytes)
  const firstByte = header.u8()
  const remainingLength = header.varint()
  if (header.left < remainingLength) return null
  const body = new FieldReader(header.take(remainingLength))
  const packet = { ...decodeBody(firstByte, body, version), bytes: bytes.length - header.left }
  if (body.left > 0) throw new Error(`the broker sent ${body.left} bytes too many in a ${packet.type}`)
  return packet as Packet
}

type Bare = { [K in Packet['type']]: Omit<Extract<Packet, { type: K }>, 'bytes'> }[Packet['type']]

function decodeBody(firstByte: number, body: FieldReader, version: Version): Bare {
  if (firstByte >> 4 === 3) return decodePublish(firstByte & 15, body, version)
  switch (firstByte) {
    case 0x20:
      return decodeConnack(body, version)
    case 0x40:
      return decodeAck('puback', body, version)
    case 0x50:
      return decodeAck('pubrec', body, version)
    case 0x62:
      return decodeAck('pubrel', body, version)
    case 0x70:
      return decodeAck('pubcomp', body, version)
    case 0x90:
      return decodeSuback('suback', body, version)
    case 0xb0:
      return version === 5
        ? decodeSuback('unsuback', body, version)
        : { type: 'unsuback', packetId: body.u16(), reasons: [], properties: {} }
    case 0xd0:
      return { type: 'pingresp' }
    case 0xe0:
      if (version === 5) return { type: 'disconnect', ...decodeReason('disconnect', body) }
      break
    case 0xf0:
      if (version === 5) return { type: 'auth', ...decodeReason('auth', body) }
  }
  throw new Error(`the broker sent a packet that begins with 0x${firstByte.toString(16)} to an MQTT ${version} client`)
}

function decodeConnack(body: FieldReader, version: Version): Bare {
  const flags = body.u8()
  if (flags > 1) throw new Error(`the broker sent Connect Acknowledge Flags 0x${flags.toString(16)}`)
  const reason = body.u8()
  if (version === 5) checked('connack', reason)
  else if (reason > 5) throw new Error(`the broker sent return code ${reason}`)
  return { type: 'connack', sessionPresent: flags === 1, reason, properties: version === 5 ? decodeProperties(body, 'connack') : {} }
}

function decodePublish(flags: number, body: FieldReader, version: Version): Bare {
  const qos = (flags >> 1) & 3
  if (qos === 3) throw new Error('the broker sent PUBLISH with QoS 3')
  const topic = body.utf8()
  if (/[+#]/.test(topic)) throw new Error(`the broker sent the Topic Name ${topic}`)
  const packetId = qos > 0 ? body.u16() : 0
  if (qos > 0 && packetId === 0) throw new Error('the broker sent Packet Identifier 0')
  const properties = (version === 5 ? decodeProperties(body, 'publish') : {}) as ReceivedProperties
  return {
    type: 'publish',
    topic,
    qos,
    dup: (flags & 8) !== 0,
    retain: (flags & 1) !== 0,
    packetId,
    properties,
    payload: Buffer.from(body.rest()),
  }
}

function decodeAck<T extends AckType>(type: T, body: FieldReader, version: Version): Omit<AckOf<T>, 'bytes'> {
  const packetId = body.u16()
  return { type, packetId, ...(version === 5 ? decodeReason(type, body) : { reason: 0, properties: {} }) }
}

/** Reason Code and properties, both of which may be left out at the end of a packet. */
function decodeReason(packet: AckType | 'disconnect' | 'auth', body: FieldReader): { reason: number; properties: Properties } {
  const reason = body.left > 0 ? checked(packet, body.u8()) : 0
  return { reason, properties: body.left > 0 ? decodeProperties(body, packet) : {} }
}

function decodeSuback(type: 'suback' | 'unsuback', body: FieldReader, version: Version): Bare {
  const packetId = body.u16()
  const properties = version === 5 ? decodeProperties(body, type) : {}
  const reasons = [...body.rest()]
  if (version === 5) for (const reason of reasons) checked(type, reason)
  else if (!reasons.every(reason => reason <= 2 || (reason === 0x80 && version === 4)))
    throw new Error(`the broker sent SUBACK return codes ${reasons.join()}`)
  return { type, packetId, reasons, properties }
}
