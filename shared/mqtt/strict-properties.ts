import { Property, PROPERTY_LIMIT } from './property.ts'
import { ProtocolError } from './protocol-error.ts'
import { responseTopicEnd } from './response-topic.ts'
import { ReasonCode } from './reason-code.ts'
import { malformed, type StrictReader } from './strict-reader.ts'

/** A name and its value. Order and repetition are kept (§2.2.2.2). */
export type UserProperty = [name: string, value: string]

/** Properties that a packet may have; index by property identifier. */
export type AllowedProperties = Uint8Array

/** The properties of a packet: all of `properties`, and User Property, which every list may hold. */
export function allowProperties(...properties: Property[]): AllowedProperties {
  const allowed = new Uint8Array(PROPERTY_LIMIT)
  for (const property of [...properties, Property.UserProperty]) allowed[property] = 1
  return allowed
}

/** What `readProperties` found. */
export interface StrictProperties {
  /** range of the properties in the packet, Property Length not included */
  readonly start: number
  readonly end: number
  readonly userProperties: UserProperty[]
  /** where each property that may stand once stands, identifier included; absent: it does not */
  readonly offsets: ReadonlyMap<number, number>
}

/**
 * Reads Property Length and properties (§2.2.2) at the reader. Linear in their bytes.
 * @throws {ProtocolError} MalformedPacket: a property that the packet does not have, a value that does not fit (§2.2.2.2).
 *   ProtocolError: a property twice, a value that its section forbids.
 */
export function readProperties(reader: StrictReader, allowed: AllowedProperties): StrictProperties {
  const length = reader.variableByteInteger()
  const start = reader.at
  const end = start + length
  const packetEnd = reader.end
  if (end > packetEnd) throw malformed('§2.2.2.1', 'Property Length past the end of the packet')
  const userProperties: UserProperty[] = []
  const offsets = new Map<number, number>()
  reader.end = end
  while (reader.at < end) {
    const at = reader.at
    const property = reader.u8()
    if (allowed[property] !== 1) throw malformed('§2.2.2.2', `property 0x${property.toString(16)} is not one of this packet's`)
    if (property === Property.UserProperty) {
      userProperties.push([reader.string(), reader.string()])
    } else {
      if (offsets.has(property)) throw new ProtocolError(ReasonCode.ProtocolError, '§2.2.2.2', `property 0x${property.toString(16)} twice`)
      offsets.set(property, at)
      skipValue(reader, property as Property)
    }
  }
  reader.end = packetEnd
  return { start, end, userProperties, offsets }
}

/** Skips and checks the value of a property that may stand once. */
function skipValue(reader: StrictReader, property: Property): void {
  switch (property) {
    case Property.PayloadFormatIndicator:
    case Property.RequestProblemInformation:
    case Property.RequestResponseInformation:
    case Property.MaximumQoS:
    case Property.RetainAvailable:
    case Property.WildcardSubscriptionAvailable:
    case Property.SubscriptionIdentifierAvailable:
    case Property.SharedSubscriptionAvailable:
      return refuse(reader.u8() > 1, property, 'neither 0 nor 1')
    case Property.ReceiveMaximum:
      return refuse(reader.u16() === 0, property, '0')
    case Property.MaximumPacketSize:
      return refuse(reader.u32() === 0, property, '0')
    case Property.SubscriptionIdentifier:
      return refuse(reader.variableByteInteger() === 0, property, '0')
    case Property.ServerKeepAlive:
    case Property.TopicAliasMaximum:
    case Property.TopicAlias:
      reader.u16()
      return
    case Property.MessageExpiryInterval:
    case Property.SessionExpiryInterval:
    case Property.WillDelayInterval:
      reader.u32()
      return
    case Property.CorrelationData:
    case Property.AuthenticationData:
      return reader.skipBinary()
    case Property.ResponseTopic:
      reader.at = responseTopicEnd(reader.bytes, reader.at, reader.end)
      return
    default:
      reader.skipString()
  }
}

const SECTIONS: { readonly [property in Property]?: `§${string}` } = {
  [Property.PayloadFormatIndicator]: '§3.1.3.2.3',
  [Property.RequestProblemInformation]: '§3.1.2.11.7',
  [Property.RequestResponseInformation]: '§3.1.2.11.6',
  [Property.ReceiveMaximum]: '§3.1.2.11.3',
  [Property.MaximumPacketSize]: '§3.1.2.11.4',
  [Property.SubscriptionIdentifier]: '§3.8.2.1.2',
}

function refuse(isWrong: boolean, property: Property, what: string): void {
  if (isWrong)
    throw new ProtocolError(ReasonCode.ProtocolError, SECTIONS[property] ?? '§2.2.2.2', `property 0x${property.toString(16)} is ${what}`)
}
