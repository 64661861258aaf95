import type { IConnackPacket } from 'mqtt-packet'
import { encodeWithin, generatePacket, type OptionalText, textProperties } from './packet-library.ts'
import type { ProtocolVersion } from './protocol-version.ts'
import { connackReturnCode311, ReasonCode } from './reason-code.ts'

/** The properties of CONNACK (§3.2.2.3); what is absent is not sent, and then has the specification's default. */
export interface ConnackProperties extends OptionalText {
  /** in seconds */
  sessionExpiry?: number | undefined
  receiveMaximum?: number | undefined
  /** 0 or 1: send nothing for QoS 2 */
  maximumQoS?: 0 | 1 | undefined
  retainAvailable?: boolean | undefined
  /** in bytes */
  maximumPacketSize?: number | undefined
  assignedClientIdentifier?: string | undefined
  topicAliasMaximum?: number | undefined
  wildcardSubscriptionAvailable?: boolean | undefined
  subscriptionIdentifiersAvailable?: boolean | undefined
  sharedSubscriptionAvailable?: boolean | undefined
  /** in seconds */
  serverKeepAlive?: number | undefined
  responseInformation?: string | undefined
  serverReference?: string | undefined
  authenticationMethod?: string | undefined
  authenticationData?: Buffer | undefined
}

/**
 * CONNACK (§3.2) as `version` wants it: MQTT 3.1 and 3.1.1 have no properties, and return codes 0 to 5 instead of Reason
 * Codes; 3.1 has no Session Present either. A refusal never says Session Present [MQTT-3.2.2-6].
 * @param maximumBytes the client's Maximum Packet Size; User Properties, then the Reason String, are left out to keep it
 */
export function encodeConnack(
  version: ProtocolVersion,
  sessionPresent: boolean,
  reason: ReasonCode,
  properties: ConnackProperties | null = null,
  maximumBytes = Infinity,
): Buffer {
  const isAccepted = reason === ReasonCode.Success
  const head = { cmd: 'connack', sessionPresent: sessionPresent && isAccepted && version !== 3 } as const
  if (version !== 5) return generatePacket({ ...head, returnCode: isAccepted ? 0 : connackReturnCode311(reason) }, version)
  return encodeWithin(maximumBytes, properties, text =>
    generatePacket({ ...head, reasonCode: reason, properties: { ...libraryProperties(properties ?? {}), ...textProperties(text) } }, 5),
  )
}

function libraryProperties(properties: ConnackProperties): NonNullable<IConnackPacket['properties']> {
  const { sessionExpiry, reasonString: _reason, userProperties: _user, ...rest } = properties
  const given = { sessionExpiryInterval: sessionExpiry, ...rest }
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
}
