import { encodeWithin, generatePacket, type OptionalText, parsePacket, textProperties } from './packet-library.ts'
import { Property } from './property.ts'
import type { ProtocolVersion } from './protocol-version.ts'
import { ReasonCode } from './reason-code.ts'
import { allowProperties, readProperties, type UserProperty } from './strict-properties.ts'
import { checkFlags, malformed, StrictReader } from './strict-reader.ts'

/** DISCONNECT from a client (§3.14). Before MQTT 5 it has no content: then `reason` is Success. */
export interface Disconnect {
  readonly reason: ReasonCode
  /** in seconds; null: as CONNECT said */
  readonly sessionExpiry: number | null
  readonly reasonString: string | null
  readonly userProperties: UserProperty[]
}

/** What a client may send; Server Reference and the other reasons are the server's (table 3-13, [MQTT-3.14.2-1]). */
const CLIENT_PROPERTIES = allowProperties(Property.SessionExpiryInterval, Property.ReasonString)
const CLIENT_REASONS: ReadonlySet<number> = new Set<number>([
  ReasonCode.Success,
  ReasonCode.DisconnectWithWillMessage,
  ReasonCode.UnspecifiedError,
  ReasonCode.MalformedPacket,
  ReasonCode.ProtocolError,
  ReasonCode.ImplementationSpecificError,
  ReasonCode.TopicNameInvalid,
  ReasonCode.ReceiveMaximumExceeded,
  ReasonCode.TopicAliasInvalid,
  ReasonCode.PacketTooLarge,
  ReasonCode.MessageRateTooHigh,
  ReasonCode.QuotaExceeded,
  ReasonCode.AdministrativeAction,
  ReasonCode.PayloadFormatInvalid,
])

const NORMAL: Disconnect = { reason: ReasonCode.Success, sessionExpiry: null, reasonString: null, userProperties: [] }

/**
 * Decodes the DISCONNECT `bytes[start, end)` of a client, whose ends `frameEnd` found. Whether the Session Expiry
 * Interval may be set (not when CONNECT had 0, §3.14.2.2.2) is for the caller, who knows CONNECT.
 * @throws {ProtocolError} MalformedPacket: flags [MQTT-3.14.1-1], a reason or property that clients do not send, bytes behind
 *   the end or any before MQTT 5. ProtocolError: a property twice.
 */
export function decodeDisconnect(bytes: Buffer, start: number, end: number, version: ProtocolVersion): Disconnect {
  checkFlags(bytes, start, 0)
  const reader = new StrictReader(bytes, start, end)
  if (version !== 5) reader.finish()
  if (reader.left === 0) return NORMAL
  const reason = reader.u8()
  if (!CLIENT_REASONS.has(reason)) throw malformed('MQTT-3.14.2-1', `Reason Code 0x${reason.toString(16)} in a client's DISCONNECT`)
  // Property Length may be left out too (§3.14.2.2.1).
  const properties = reader.left > 0 ? readProperties(reader, CLIENT_PROPERTIES) : null
  reader.finish()
  const packet = parsePacket('disconnect', bytes.subarray(start, end), version)
  return {
    reason: reason as ReasonCode,
    sessionExpiry: packet.properties?.sessionExpiryInterval ?? null,
    reasonString: packet.properties?.reasonString ?? null,
    userProperties: properties?.userProperties ?? [],
  }
}

/** What a server's DISCONNECT may say besides its reason. */
export interface DisconnectProperties extends OptionalText {
  serverReference?: string | undefined
}

/**
 * DISCONNECT from the server (§3.14), MQTT 5 only: older clients are just cut off.
 * @param maximumBytes the client's Maximum Packet Size; User Properties, then the Reason String, are left out to keep it
 */
export function encodeDisconnect(reason: ReasonCode, properties: DisconnectProperties | null = null, maximumBytes = Infinity): Buffer {
  const reference = properties?.serverReference
  return encodeWithin(maximumBytes, properties, text =>
    generatePacket(
      {
        cmd: 'disconnect',
        reasonCode: reason,
        properties: { ...(reference === undefined ? {} : { serverReference: reference }), ...textProperties(text) },
      },
      5,
    ),
  )
}
