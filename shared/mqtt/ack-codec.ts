import { bodyStart, variableByteIntegerBytes, writeVariableByteInteger } from './framing.ts'
import { PacketType } from './packet-type.ts'
import { Property } from './property.ts'
import { ProtocolError } from './protocol-error.ts'
import type { ProtocolVersion } from './protocol-version.ts'
import { ReasonCode } from './reason-code.ts'
import { utf8StringEnd } from './utf8.ts'

/** Control Packet type of an acknowledgement. */
export type AckType = typeof PacketType.PUBACK | typeof PacketType.PUBREC | typeof PacketType.PUBREL | typeof PacketType.PUBCOMP

/** A decoded acknowledgement; reusable. */
export class Ack {
  packetId: number = 0
  reason: ReasonCode = ReasonCode.Success
}

/** The first byte of PUBREL has 0b0010 in its low half [MQTT-3.6.1-1], that of the others 0. */
function firstByte(type: AckType): number {
  return (type << 4) | (type === PacketType.PUBREL ? 2 : 0)
}

/** Length of the packet that `encodeAck` writes: 4 bytes, 5 with a reason, more with a Reason String. */
export function ackFrameBytes(version: ProtocolVersion, reason: ReasonCode, reasonString: string | null): number {
  if (version !== 5) return 4
  if (reasonString === null) return reason === ReasonCode.Success ? 4 : 5
  const properties = 3 + Buffer.byteLength(reasonString)
  const remaining = 3 + variableByteIntegerBytes(properties) + properties
  return 1 + variableByteIntegerBytes(remaining) + remaining
}

/**
 * Writes PUBACK, PUBREC, PUBREL or PUBCOMP (§3.4 to §3.7) in its shortest form at `at`; answers the offset behind it.
 * `into` must have `ackFrameBytes` of room there. Before MQTT 5 there are neither reasons nor Reason Strings: both are left out.
 * @param reasonString at most 65,535 bytes of UTF-8, only when the receiver asked for problem information [MQTT-3.1.2-29]
 *   and only when the packet stays within its Maximum Packet Size [MQTT-3.4.2-2]
 */
export function encodeAck(
  into: Buffer,
  at: number,
  type: AckType,
  packetId: number,
  version: ProtocolVersion,
  reason: ReasonCode,
  reasonString: string | null,
): number {
  into[at] = firstByte(type)
  if (version === 5 && (reason !== ReasonCode.Success || reasonString !== null)) {
    return encodeReason(into, at + 1, packetId, reason, reasonString)
  }
  into[at + 1] = 2
  into[at + 2] = packetId >>> 8
  into[at + 3] = packetId
  return at + 4
}

function encodeReason(into: Buffer, at: number, packetId: number, reason: ReasonCode, reasonString: string | null): number {
  const stringBytes = reasonString === null ? 0 : Buffer.byteLength(reasonString)
  const properties = stringBytes + 3
  at = writeVariableByteInteger(into, at, reasonString === null ? 3 : 3 + variableByteIntegerBytes(properties) + properties)
  into[at++] = packetId >>> 8
  into[at++] = packetId
  into[at++] = reason
  if (reasonString === null) return at
  at = writeVariableByteInteger(into, at, properties)
  into[at++] = Property.ReasonString
  into[at++] = stringBytes >>> 8
  into[at++] = stringBytes
  return at + into.write(reasonString, at, stringBytes, 'utf8')
}

/**
 * Decodes the PUBACK, PUBREC, PUBREL or PUBCOMP `bytes[start, end)`, whose ends `frameEnd` found, into `into`.
 * The type is the high half of its first byte. Properties are validated and dropped: nothing here uses them.
 * @throws {ProtocolError} MalformedPacket: flags [MQTT-2.1.3-1], lengths, bad UTF-8, a property or Reason Code that the
 *   packet does not have. ProtocolError: Packet Identifier 0 [MQTT-2.2.1-3], a second Reason String (§3.4.2.2.2).
 */
export function decodeAck(bytes: Buffer, start: number, end: number, version: ProtocolVersion, into: Ack): void {
  const first = bytes[start]!
  const type = (first >> 4) as AckType
  // A PUBREL of MQTT 3.1 may carry DUP when it is repeated.
  if ((version === 3 && type === PacketType.PUBREL ? first & ~8 : first) !== firstByte(type))
    throw malformed('MQTT-2.1.3-1', 'reserved flags of an acknowledgement')
  const at = bodyStart(bytes, start, end)
  const length = end - at
  if (length < 2 || (length > 2 && version !== 5)) throw malformed('§3.4.2', `acknowledgement with ${length} bytes`)
  const packetId = (bytes[at]! << 8) | bytes[at + 1]!
  if (packetId === 0) throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-2.2.1-3', 'Packet Identifier 0')
  into.packetId = packetId
  into.reason = ReasonCode.Success
  if (length === 2) return
  into.reason = ackReason(type, bytes[at + 2]!)
  if (length > 3) checkProperties(bytes, at + 3, end)
}

function malformed(clause: `MQTT-${string}` | `§${string}`, detail: string): ProtocolError {
  return new ProtocolError(ReasonCode.MalformedPacket, clause, detail)
}

/** The Reason Code, when the packet may carry it (tables 3-4 to 3-7). */
function ackReason(type: AckType, reason: number): ReasonCode {
  switch (reason) {
    case ReasonCode.Success:
      return reason
    case ReasonCode.NoMatchingSubscribers:
    case ReasonCode.UnspecifiedError:
    case ReasonCode.ImplementationSpecificError:
    case ReasonCode.NotAuthorized:
    case ReasonCode.TopicNameInvalid:
    case ReasonCode.PacketIdentifierInUse:
    case ReasonCode.QuotaExceeded:
    case ReasonCode.PayloadFormatInvalid:
      if (type === PacketType.PUBACK || type === PacketType.PUBREC) return reason
      break
    case ReasonCode.PacketIdentifierNotFound:
      if (type === PacketType.PUBREL || type === PacketType.PUBCOMP) return reason
      break
  }
  throw malformed(`MQTT-3.${type}.2-1`, `Reason Code 0x${reason.toString(16)}`)
}

function checkProperties(bytes: Buffer, at: number, end: number): void {
  let length = 0
  let shift = 0
  let byte = 0x80
  while (byte & 0x80) {
    if (at >= end || shift > 21) throw malformed('§2.2.2.1', 'Property Length')
    byte = bytes[at++]!
    length |= (byte & 0x7f) << shift
    shift += 7
  }
  if (byte === 0 && shift > 7) throw malformed('MQTT-1.5.5-1', 'Property Length not in its shortest form')
  if (at + length !== end) throw malformed('§2.2.2.1', 'Property Length is not the rest of the packet')
  let hasReasonString = false
  while (at < end) {
    const property = bytes[at++]!
    if (property === Property.UserProperty) {
      at = utf8StringEnd(bytes, utf8StringEnd(bytes, at, end), end)
    } else if (property === Property.ReasonString) {
      if (hasReasonString) throw new ProtocolError(ReasonCode.ProtocolError, '§3.4.2.2.2', 'two Reason Strings')
      hasReasonString = true
      at = utf8StringEnd(bytes, at, end)
    } else throw malformed('§2.2.2.2', `property 0x${property.toString(16)} in an acknowledgement`)
  }
}
