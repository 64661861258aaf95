import { encodeWithin, generatePacket, type OptionalText, parsePacket, textProperties } from './packet-library.ts'
import { Property } from './property.ts'
import { ProtocolError } from './protocol-error.ts'
import { ReasonCode } from './reason-code.ts'
import { allowProperties, readProperties, type UserProperty } from './strict-properties.ts'
import { checkFlags, malformed, StrictReader } from './strict-reader.ts'

/** Reasons of AUTH (table 3-14). */
export type AuthReason = typeof ReasonCode.Success | typeof ReasonCode.ContinueAuthentication | typeof ReasonCode.ReAuthenticate

/** AUTH from a client (§3.15), MQTT 5 only. */
export interface Auth {
  readonly reason: typeof ReasonCode.ContinueAuthentication | typeof ReasonCode.ReAuthenticate
  readonly method: string
  readonly data: Buffer | null
  readonly reasonString: string | null
  readonly userProperties: UserProperty[]
}

const AUTH_PROPERTIES = allowProperties(Property.AuthenticationMethod, Property.AuthenticationData, Property.ReasonString)

/**
 * Decodes the AUTH `bytes[start, end)` of a client, whose ends `frameEnd` found. The result holds no view of `bytes`.
 * @throws {ProtocolError} MalformedPacket: flags [MQTT-3.15.1-1], lengths, UTF-8, a reason that AUTH does not have [MQTT-3.15.2-1].
 *   ProtocolError: Success, which only a server says (table 3-14), no Authentication Method (§3.15.2.2.2), a property twice.
 */
export function decodeAuth(bytes: Buffer, start: number, end: number): Auth {
  checkFlags(bytes, start, 0)
  const reader = new StrictReader(bytes, start, end)
  // Without content it means Success (§3.15.2.1).
  const reason = reader.left === 0 ? ReasonCode.Success : reader.u8()
  if (reason === ReasonCode.Success) throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-3.15.2-1', 'AUTH with Success from a client')
  if (reason !== ReasonCode.ContinueAuthentication && reason !== ReasonCode.ReAuthenticate) {
    throw malformed('MQTT-3.15.2-1', `Reason Code 0x${reason.toString(16)} in AUTH`)
  }
  const properties = readProperties(reader, AUTH_PROPERTIES)
  reader.finish()
  if (!properties.offsets.has(Property.AuthenticationMethod)) {
    throw new ProtocolError(ReasonCode.ProtocolError, '§3.15.2.2.2', 'AUTH without Authentication Method')
  }
  const given = parsePacket('auth', bytes.subarray(start, end), 5).properties ?? {}
  return {
    reason,
    method: given.authenticationMethod ?? '',
    data: given.authenticationData === undefined ? null : Buffer.from(given.authenticationData),
    reasonString: given.reasonString ?? null,
    userProperties: properties.userProperties,
  }
}

/** What an AUTH packet says besides its reason. */
export interface AuthProperties extends OptionalText {
  method: string
  data?: Buffer | undefined
}

/**
 * AUTH (§3.15).
 * @param maximumBytes the receiver's Maximum Packet Size; User Properties, then the Reason String, are left out to keep it
 */
export function encodeAuth(reason: AuthReason, properties: AuthProperties, maximumBytes = Infinity): Buffer {
  const { method, data } = properties
  return encodeWithin(maximumBytes, properties, text =>
    generatePacket(
      {
        cmd: 'auth',
        reasonCode: reason,
        properties: { authenticationMethod: method, ...(data === undefined ? {} : { authenticationData: data }), ...textProperties(text) },
      },
      5,
    ),
  )
}
