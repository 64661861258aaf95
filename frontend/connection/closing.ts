import { encodeDisconnect } from '#shared/mqtt/disconnect-codec.ts'
import type { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ConnectionEnd } from '#shared/rpc/backend-port.ts'
import type { Connection } from './connection.ts'

const ABNORMAL: ConnectionEnd = { discardWill: false, sessionExpirySeconds: null }

/**
 * We end the connection: MQTT 5 clients are told why (§3.14), older ones are cut off. The session's Will goes out, as the client
 * did not ask for this (§3.1.2.5).
 * @param detail Reason String; null for none. No secrets and no policy text.
 */
export function disconnect(connection: Connection, reason: ReasonCode, detail: string | null, serverReference?: string): void {
  if (connection.phase === 'closing' || connection.phase === 'closed') return
  if (connection.isAttached && connection.version === 5) {
    connection.send(encodeDisconnect(reason, { reasonString: detail ?? undefined, serverReference }, connection.packetBytesMaxOut))
  }
  close(connection, ABNORMAL)
}

/** The end without a DISCONNECT, as if the network had failed: the Will goes out, and the session stays for its time. */
export function cutOff(connection: Connection): void {
  if (connection.phase !== 'closing' && connection.phase !== 'closed') close(connection, ABNORMAL)
}

/** Writes out what is gathered and closes; the session learns how the connection ended. */
export function close(connection: Connection, end: ConnectionEnd): void {
  release(connection, end)
  connection.phase = 'closing'
  connection.output.flush()
  connection.transport.end()
}

/** The session goes on without this connection. */
export function release(connection: Connection, end: ConnectionEnd): void {
  const { frontend } = connection
  frontend.deadlines.cancel(connection)
  frontend.unauthenticated.remove(connection)
  connection.reauthentication?.stop()
  connection.duty = null
  connection.kept = null
  connection.onAnswer = null
  if (!connection.isAttached) return
  connection.phase = 'closing'
  frontend.backend.detach(connection.session, connection.id, end)
}

/** The socket is gone. */
export function onSocketClosed(connection: Connection): void {
  release(connection, ABNORMAL)
  connection.phase = 'closed'
}
