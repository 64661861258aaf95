import { bodyStart } from './framing.ts'
import { checkFlags, malformed } from './strict-reader.ts'

/** PINGREQ (§3.12) and PINGRESP (§3.13) have two bytes and always the same. Shared: do not write into them. */
export const PINGREQ: Buffer = Buffer.from([0xc0, 0])
export const PINGRESP: Buffer = Buffer.from([0xd0, 0])

/** @throws {ProtocolError} MalformedPacket: flags [MQTT-2.1.3-1], or a body, which PINGREQ does not have (§3.12.1) */
export function checkPingreq(bytes: Uint8Array, start: number, end: number): void {
  checkFlags(bytes, start, 0)
  if (bodyStart(bytes, start, end) !== end) throw malformed('§3.12.1', 'PINGREQ with a body')
}
