import { decodeAuth } from '#shared/mqtt/auth-codec.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { Connection } from '../connection/connection.ts'
import { Reauthentication } from '../connection/reauthentication.ts'

/**
 * AUTH (§3.15) in an open connection: the client authenticates itself again (§4.12.1). What it may do stays as it is until that is decided.
 * @throws {ProtocolError} MQTT before 5, CONNECT without a method [MQTT-4.12.0-7], another method [MQTT-4.12.1-1], AUTH out of turn;
 *   whatever decodeAuth finds
 */
export function onAuth(connection: Connection, bytes: Buffer, start: number, end: number): void {
  if (connection.version !== 5) throw new ProtocolError(ReasonCode.ProtocolError, '§2.1.2', 'AUTH before MQTT 5')
  const auth = decodeAuth(bytes, start, end)
  if (connection.authenticationMethod === null) {
    throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-4.12.0-7', 'AUTH without an Authentication Method in CONNECT')
  }
  if (auth.method !== connection.authenticationMethod) {
    throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-4.12.1-1', 'AUTH with another Authentication Method than CONNECT')
  }
  connection.reauthentication ??= new Reauthentication(connection)
  connection.reauthentication.onAuth(auth)
}
