import { field, FieldReader, u8, u16, u32, varint } from './bytes.ts'

/** Properties of MQTT 5 (§2.2.2.2) by name. Flags are 0 or 1, as on the wire; keys are written in the order they stand. */
export interface Properties {
  payloadFormatIndicator?: number
  messageExpiryInterval?: number
  contentType?: string
  responseTopic?: string
  correlationData?: Buffer
  subscriptionIdentifier?: number | number[]
  sessionExpiryInterval?: number
  assignedClientIdentifier?: string
  serverKeepAlive?: number
  authenticationMethod?: string
  authenticationData?: Buffer
  requestProblemInformation?: number
  willDelayInterval?: number
  requestResponseInformation?: number
  responseInformation?: string
  serverReference?: string
  reasonString?: string
  receiveMaximum?: number
  topicAliasMaximum?: number
  topicAlias?: number
  maximumQoS?: number
  retainAvailable?: number
  userProperty?: [string, string][]
  maximumPacketSize?: number
  wildcardSubscriptionAvailable?: number
  subscriptionIdentifierAvailable?: number
  sharedSubscriptionAvailable?: number
}

type Kind = 'byte' | 'u16' | 'u32' | 'varint' | 'utf8' | 'binary' | 'pair'

const TABLE: Record<keyof Properties, readonly [id: number, kind: Kind]> = {
  payloadFormatIndicator: [0x01, 'byte'],
  messageExpiryInterval: [0x02, 'u32'],
  contentType: [0x03, 'utf8'],
  responseTopic: [0x08, 'utf8'],
  correlationData: [0x09, 'binary'],
  subscriptionIdentifier: [0x0b, 'varint'],
  sessionExpiryInterval: [0x11, 'u32'],
  assignedClientIdentifier: [0x12, 'utf8'],
  serverKeepAlive: [0x13, 'u16'],
  authenticationMethod: [0x15, 'utf8'],
  authenticationData: [0x16, 'binary'],
  requestProblemInformation: [0x17, 'byte'],
  willDelayInterval: [0x18, 'u32'],
  requestResponseInformation: [0x19, 'byte'],
  responseInformation: [0x1a, 'utf8'],
  serverReference: [0x1c, 'utf8'],
  reasonString: [0x1f, 'utf8'],
  receiveMaximum: [0x21, 'u16'],
  topicAliasMaximum: [0x22, 'u16'],
  topicAlias: [0x23, 'u16'],
  maximumQoS: [0x24, 'byte'],
  retainAvailable: [0x25, 'byte'],
  userProperty: [0x26, 'pair'],
  maximumPacketSize: [0x27, 'u32'],
  wildcardSubscriptionAvailable: [0x28, 'byte'],
  subscriptionIdentifierAvailable: [0x29, 'byte'],
  sharedSubscriptionAvailable: [0x2a, 'byte'],
}

const BY_ID = new Map(Object.entries(TABLE).map(([name, [id, kind]]) => [id, { name: name as keyof Properties, kind }]))

/** Property Length and properties. A Buffer stands for properties that are already bytes, legal or not. */
export function encodeProperties(properties: Properties | Buffer = {}): Buffer {
  const bytes = Buffer.isBuffer(properties)
    ? properties
    : Buffer.concat(Object.entries(properties).map(([name, value]) => encodeOne(name, value)))
  return Buffer.concat([varint(bytes.length), bytes])
}

function encodeOne(name: string, value: unknown): Buffer {
  const [id, kind] = TABLE[name as keyof Properties]
  const values = Array.isArray(value) ? value : [value]
  return Buffer.concat(values.flatMap(each => [u8(id), encodeValue(kind, each)]))
}

function encodeValue(kind: Kind, value: unknown): Buffer {
  switch (kind) {
    case 'byte':
      return u8(value as number)
    case 'u16':
      return u16(value as number)
    case 'u32':
      return u32(value as number)
    case 'varint':
      return varint(value as number)
    case 'utf8':
    case 'binary':
      return field(value as string | Buffer)
    case 'pair': {
      const [name, text] = value as [string, string]
      return Buffer.concat([field(name), field(text)])
    }
  }
}

/** What the broker may put into which packet (§2.2.2.2, table 2-4). */
const ACK = ['reasonString', 'userProperty'] as const
export const ALLOWED = {
  connack: [
    'sessionExpiryInterval',
    'assignedClientIdentifier',
    'serverKeepAlive',
    'authenticationMethod',
    'authenticationData',
    'responseInformation',
    'serverReference',
    'reasonString',
    'receiveMaximum',
    'topicAliasMaximum',
    'maximumQoS',
    'retainAvailable',
    'userProperty',
    'maximumPacketSize',
    'wildcardSubscriptionAvailable',
    'subscriptionIdentifierAvailable',
    'sharedSubscriptionAvailable',
  ],
  publish: [
    'payloadFormatIndicator',
    'messageExpiryInterval',
    'contentType',
    'responseTopic',
    'correlationData',
    'subscriptionIdentifier',
    'topicAlias',
    'userProperty',
  ],
  puback: ACK,
  pubrec: ACK,
  pubrel: ACK,
  pubcomp: ACK,
  suback: ACK,
  unsuback: ACK,
  disconnect: ['serverReference', ...ACK],
  auth: ['authenticationMethod', 'authenticationData', ...ACK],
} as const satisfies Record<string, readonly (keyof Properties)[]>

/** Reads Property Length and properties; throws at a property that is unknown, repeated without leave, or not allowed in `packet`. */
export function decodeProperties(reader: FieldReader, packet: keyof typeof ALLOWED): Properties {
  const section = new FieldReader(reader.take(reader.varint()))
  const found: Record<string, unknown> = {}
  while (section.left > 0) {
    const id = section.varint()
    const property = BY_ID.get(id)
    if (!property) throw new Error(`the broker sent the unknown property ${id}`)
    if (!(ALLOWED[packet] as readonly string[]).includes(property.name)) throw new Error(`the broker sent ${property.name} in a ${packet}`)
    const value = decodeValue(section, property.kind)
    if (property.kind === 'pair' || property.kind === 'varint')
      found[property.name] = [...((found[property.name] as unknown[]) ?? []), value]
    else if (property.name in found) throw new Error(`the broker sent ${property.name} twice in one ${packet}`)
    else found[property.name] = value
  }
  return found
}

function decodeValue(reader: FieldReader, kind: Kind): unknown {
  switch (kind) {
    case 'byte':
      return reader.u8()
    case 'u16':
      return reader.u16()
    case 'u32':
      return reader.u32()
    case 'varint':
      return reader.varint()
    case 'utf8':
      return reader.utf8()
    case 'binary':
      return Buffer.from(reader.binary())
    case 'pair':
      return [reader.utf8(), reader.utf8()]
  }
}
