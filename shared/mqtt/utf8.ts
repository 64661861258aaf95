import { ProtocolError } from './protocol-error.ts'
import { ReasonCode } from './reason-code.ts'

/**
 * Whether `bytes[start, end)` may stand in a UTF-8 Encoded String: well-formed UTF-8 (no overlong forms, no surrogates
 * [MQTT-1.5.4-1], nothing above U+10FFFF) without U+0000 [MQTT-1.5.4-2]. A byte order mark is a character like others [MQTT-1.5.4-3].
 * Linear; no string is made.
 */
export function isMqttUtf8(bytes: Uint8Array, start: number, end: number): boolean {
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!
    if (byte === 0) return false
    if (byte > 0x7f) return isMqttUtf8FromNonAscii(bytes, at, end)
  }
  return true
}

function isMqttUtf8FromNonAscii(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start
  while (at < end) {
    const lead = bytes[at]!
    if (lead === 0) return false
    const length = lead < 0x80 ? 1 : multiByteLength(bytes, at, end, lead)
    if (length === 0) return false
    at += length
  }
  return true
}

/** 2, 3 or 4, or 0 when the sequence that `lead` starts is ill-formed (Unicode, table 3-7). */
function multiByteLength(bytes: Uint8Array, at: number, end: number, lead: number): number {
  if (lead < 0xc2 || lead > 0xf4) return 0
  const length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4
  if (at + length > end) return 0
  const second = bytes[at + 1]!
  let lowest = 0x80
  let highest = 0xbf
  if (lead === 0xe0) lowest = 0xa0
  else if (lead === 0xed) highest = 0x9f
  else if (lead === 0xf0) lowest = 0x90
  else if (lead === 0xf4) highest = 0x8f
  if (second < lowest || second > highest) return 0
  for (let next = at + 2; next < at + length; next++) if ((bytes[next]! & 0xc0) !== 0x80) return 0
  return length
}

/**
 * Offset behind the UTF-8 Encoded String whose two length bytes stand at `at` (§1.5.4).
 * @throws {ProtocolError} MalformedPacket: it runs past `end`, is ill-formed or holds U+0000
 */
export function utf8StringEnd(bytes: Uint8Array, at: number, end: number): number {
  const stringEnd = binaryDataEnd(bytes, at, end)
  if (isMqttUtf8(bytes, at + 2, stringEnd)) return stringEnd
  throw new ProtocolError(ReasonCode.MalformedPacket, 'MQTT-1.5.4-1', 'a string is not UTF-8 or holds U+0000')
}

/**
 * Offset behind the Binary Data whose two length bytes stand at `at` (§1.5.6).
 * @throws {ProtocolError} MalformedPacket: it runs past `end`
 */
export function binaryDataEnd(bytes: Uint8Array, at: number, end: number): number {
  if (at + 2 <= end) {
    const dataEnd = at + 2 + ((bytes[at]! << 8) | bytes[at + 1]!)
    if (dataEnd <= end) return dataEnd
  }
  throw new ProtocolError(ReasonCode.MalformedPacket, '§4.13.1', 'a field runs past the end')
}
