import { ProtocolError } from './protocol-error.ts'
import { ReasonCode } from './reason-code.ts'
import { utf8StringEnd } from './utf8.ts'

const PLUS = 0x2b
const HASH = 0x23

/**
 * Offset behind the Response Topic of a PUBLISH or a Will Message whose two length bytes stand at `at`.
 * @throws {ProtocolError} MalformedPacket: not UTF-8. ProtocolError: empty [MQTT-4.7.3-1], a wildcard [MQTT-3.3.2-14].
 */
export function responseTopicEnd(bytes: Uint8Array, at: number, end: number): number {
  const topicEnd = utf8StringEnd(bytes, at, end)
  if (topicEnd === at + 2) throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-4.7.3-1', 'empty Response Topic')
  for (let i = at + 2; i < topicEnd; i++) {
    if (bytes[i] === PLUS || bytes[i] === HASH)
      throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-3.3.2-14', 'wildcard in a Response Topic')
  }
  return topicEnd
}
