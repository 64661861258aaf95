import { ProtocolError } from './protocol-error.ts'
import { ReasonCode } from './reason-code.ts'

/** Answer of `frameEnd` while the packet has not arrived whole. */
export const INCOMPLETE = -1

/** The largest value that four bytes of a Variable Byte Integer hold (§1.5.5). */
export const VARIABLE_BYTE_INTEGER_MAX = 268_435_455

/**
 * Offset just past the Control Packet that starts at `start`, or INCOMPLETE (§2.1.4). Once per packet received.
 * @param limit bytes received so far; `bytes` itself may be longer
 * @param packetBytesMax our Maximum Packet Size, header included; enforced before the rest has arrived
 * @throws {ProtocolError} MalformedPacket: a fifth length byte (§1.5.5), more bytes than needed [MQTT-1.5.5-1]. PacketTooLarge [MQTT-3.2.2-15].
 */
export function frameEnd(bytes: Uint8Array, start: number, limit: number, packetBytesMax: number): number {
  let remainingLength = 0
  for (let at = start + 1, shift = 0; at < limit; at++, shift += 7) {
    if (shift > 21) throw new ProtocolError(ReasonCode.MalformedPacket, '§1.5.5', 'Remaining Length over four bytes')
    const byte = bytes[at]!
    remainingLength |= (byte & 0x7f) << shift
    if (byte & 0x80) continue
    if (byte === 0 && shift > 0)
      throw new ProtocolError(ReasonCode.MalformedPacket, 'MQTT-1.5.5-1', 'Remaining Length not in its shortest form')
    const end = at + 1 + remainingLength
    if (end - start > packetBytesMax) throw new ProtocolError(ReasonCode.PacketTooLarge, 'MQTT-3.2.2-15', `${end - start} bytes`)
    return end <= limit ? end : INCOMPLETE
  }
  return INCOMPLETE
}

/**
 * Offset of the first byte behind the fixed header of the packet in `bytes[start, end)`, whose end `frameEnd` found.
 * @throws {ProtocolError} MalformedPacket when the Remaining Length does not end exactly at `end` (§2.1.4)
 */
export function bodyStart(bytes: Uint8Array, start: number, end: number): number {
  let remainingLength = 0
  for (let at = start + 1, shift = 0; at < end && shift <= 21; at++, shift += 7) {
    const byte = bytes[at]!
    remainingLength |= (byte & 0x7f) << shift
    if (byte & 0x80) continue
    if (at + 1 + remainingLength === end) return at + 1
    break
  }
  throw new ProtocolError(ReasonCode.MalformedPacket, '§2.1.4', 'Remaining Length is not that of the packet')
}

/** Bytes that `value` takes as a Variable Byte Integer: 1 to 4 (§1.5.5). */
export function variableByteIntegerBytes(value: number): number {
  if (value < 128) return 1
  if (value < 16_384) return 2
  return value < 2_097_152 ? 3 : 4
}

/** Writes `value` (0 to VARIABLE_BYTE_INTEGER_MAX) in its shortest form at `at`; answers the offset behind it (§1.5.5). */
export function writeVariableByteInteger(into: Uint8Array, at: number, value: number): number {
  while (value > 127) {
    into[at++] = (value & 0x7f) | 0x80
    value >>>= 7
  }
  into[at++] = value
  return at
}
