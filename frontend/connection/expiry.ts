import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { cutOff, disconnect } from './closing.ts'
import type { Connection } from './connection.ts'
import { auditRefusal } from './refusing.ts'

/**
 * The credential of the connection is no longer valid: it ends without a word, so that the Will goes out and the session stays as after a
 * loss (docs/mqtt.md), or with DISCONNECT where the port says so.
 */
export function expire(connection: Connection): void {
  const { frontend, port } = connection
  frontend.counters.credentialsExpired++
  frontend.log.info('credential_expired', { client: connection.clientId, listener: port.name, method: connection.grant?.method })
  auditRefusal(connection, 'expiry', {}, 'the credential has expired')
  if (port.rules.disconnectsOnExpiry) disconnect(connection, ReasonCode.NotAuthorized, 'the credential has expired')
  else cutOff(connection)
}
