import { decodeAuth } from '#shared/mqtt/auth-codec.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { Connection } from '../connection/connection.ts'

/**
 * AUTH (§3.15) in an open connection. No method is under way here: CONNECT named none, so the client must not send it [MQTT-4.12.0-6].
 * @throws {ProtocolError} always
 */
export function onAuth(connection: Connection, bytes: Buffer, start: number, end: number): void {
  if (connection.version !== 5) throw new ProtocolError(ReasonCode.ProtocolError, '§2.1.2', 'AUTH before MQTT 5')
  decodeAuth(bytes, start, end)
  throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-4.12.0-6', 'AUTH without an Authentication Method in CONNECT')
}
