/** Hand-made packets, so that the loop that sends them copies bytes and patches numbers, and nothing else. */

export type ProtocolVersion = 3 | 4 | 5
export type Qos = 0 | 1 | 2

export const PacketType = {
  connect: 1,
  connack: 2,
  publish: 3,
  puback: 4,
  pubrec: 5,
  pubrel: 6,
  pubcomp: 7,
  subscribe: 8,
  suback: 9,
  unsubscribe: 10,
  unsuback: 11,
  pingreq: 12,
  pingresp: 13,
  disconnect: 14,
  auth: 15,
} as const

export interface WillMessage {
  readonly topic: string
  readonly payload: Uint8Array
  readonly qos: Qos
  readonly retain: boolean
}

export interface ConnectFields {
  readonly clientId: string
  readonly clean: boolean
  readonly keepAliveS: number
  /** Version 5 only: Session Expiry Interval. 3.1.1 keeps a session that was not started clean. */
  readonly sessionExpiryS?: number | undefined
  readonly username?: string | undefined
  readonly password?: string | undefined
  readonly will?: WillMessage | undefined
}

/** A ready PUBLISH and where the changing parts of it are. */
export interface PublishTemplate {
  readonly bytes: Uint8Array
  /** Offset of the Packet Identifier; 0 for QoS 0. */
  readonly packetIdAt: number
  readonly payloadAt: number
}

export const pingreqFrame = Uint8Array.of(0xc0, 0)

const text = new TextEncoder()

/** A string with its length before it, §1.5.4. */
export function utf8(value: string): number[] {
  const bytes = text.encode(value)
  return [bytes.length >> 8, bytes.length & 0xff, ...bytes]
}

function packet(firstByte: number, body: readonly number[]): Uint8Array {
  return Uint8Array.from([firstByte, ...variableByteInteger(body.length), ...body])
}

function variableByteInteger(value: number): number[] {
  const digits: number[] = []
  let rest = value
  do {
    const digit = rest & 0x7f
    rest >>>= 7
    digits.push(rest > 0 ? digit | 0x80 : digit)
  } while (rest > 0)
  return digits
}

export function connectFrame(protocol: ProtocolVersion, fields: ConnectFields): Uint8Array {
  const { will, username, password } = fields
  const flags =
    (fields.clean ? 0x02 : 0) |
    (will ? 0x04 | (will.qos << 3) | (will.retain ? 0x20 : 0) : 0) |
    (password === undefined ? 0 : 0x40) |
    (username === undefined ? 0 : 0x80)
  const body = [...utf8(protocol === 3 ? 'MQIsdp' : 'MQTT'), protocol, flags, fields.keepAliveS >> 8, fields.keepAliveS & 0xff]
  if (protocol === 5) {
    const expiry = fields.sessionExpiryS ?? 0
    if (expiry > 0) body.push(5, 0x11, expiry >>> 24, (expiry >>> 16) & 0xff, (expiry >>> 8) & 0xff, expiry & 0xff)
    else body.push(0)
  }
  body.push(...utf8(fields.clientId))
  if (will) {
    if (protocol === 5) body.push(0)
    body.push(...utf8(will.topic), will.payload.length >> 8, will.payload.length & 0xff, ...will.payload)
  }
  if (username !== undefined) body.push(...utf8(username))
  if (password !== undefined) body.push(...utf8(password))
  return packet(0x10, body)
}

export function subscribeFrame(protocol: ProtocolVersion, packetId: number, filter: string, qos: Qos): Uint8Array {
  return packet(0x82, [packetId >> 8, packetId & 0xff, ...(protocol === 5 ? [0] : []), ...utf8(filter), qos])
}

export function unsubscribeFrame(protocol: ProtocolVersion, packetId: number, filter: string): Uint8Array {
  return packet(0xa2, [packetId >> 8, packetId & 0xff, ...(protocol === 5 ? [0] : []), ...utf8(filter)])
}

/** DISCONNECT 0x00. `sessionExpiryS` (version 5) changes how long the session is kept, §3.14.2.2.2. */
export function disconnectFrame(): Uint8Array {
  return Uint8Array.of(0xe0, 0)
}

/**
 * @param properties version 5 only: encoded, without their length
 * @param payload its bytes are copied; senders overwrite the first ones
 */
export function publishTemplate(
  protocol: ProtocolVersion,
  fields: {
    readonly topic: string
    readonly qos: Qos
    readonly retain?: boolean
    readonly properties?: readonly number[]
    readonly payload: Uint8Array
  },
): PublishTemplate {
  const topic = utf8(fields.topic)
  const packetIdBytes = fields.qos > 0 ? 2 : 0
  const { properties = [] } = fields
  const propertyBytes = protocol === 5 ? [...variableByteInteger(properties.length), ...properties] : []
  const remaining = topic.length + packetIdBytes + propertyBytes.length + fields.payload.length
  const header = [0x30 | (fields.qos << 1) | (fields.retain ? 1 : 0), ...variableByteInteger(remaining), ...topic]
  const payloadAt = header.length + packetIdBytes + propertyBytes.length
  const bytes = new Uint8Array(payloadAt + fields.payload.length)
  bytes.set(header)
  bytes.set(propertyBytes, header.length + packetIdBytes)
  bytes.set(fields.payload, payloadAt)
  return { bytes, packetIdAt: fields.qos > 0 ? header.length : 0, payloadAt }
}

/** `sizeBytes` of printable filler. */
export function filler(sizeBytes: number): Uint8Array {
  return Uint8Array.from({ length: sizeBytes }, (_, at) => 97 + (at % 26))
}
