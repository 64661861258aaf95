import { decodeDisconnect } from '#shared/mqtt/disconnect-codec.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { close } from '../connection/closing.ts'
import type { Connection } from '../connection/connection.ts'

/**
 * DISCONNECT (§3.14): the Will is discarded unless the client asks for it [MQTT-3.14.4-3].
 * @throws {ProtocolError} a Session Expiry Interval for a session that was to end with its connection (§3.14.2.2.2)
 */
export function onDisconnect(connection: Connection, bytes: Buffer, start: number, end: number): void {
  const packet = decodeDisconnect(bytes, start, end, connection.version)
  if (packet.sessionExpiry !== null && packet.sessionExpiry > 0 && connection.sessionExpirySeconds === 0) {
    throw new ProtocolError(ReasonCode.ProtocolError, '§3.14.2.2.2', 'Session Expiry Interval over 0 in DISCONNECT, 0 in CONNECT')
  }
  const ceiling = connection.frontend.settings.maxSessionExpirySeconds ?? Infinity
  const sessionExpirySeconds = packet.sessionExpiry === null ? null : Math.min(packet.sessionExpiry, ceiling)
  close(connection, { discardWill: packet.reason === ReasonCode.Success, sessionExpirySeconds })
}
