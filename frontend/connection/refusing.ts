import { encodeConnack } from '#shared/mqtt/connack-codec.ts'
import { type ReasonCode, reasonName } from '#shared/mqtt/reason-code.ts'
import type { AuditedObject } from '#shared/telemetry/audit.ts'
import type { AuditedAction } from '../audit.ts'
import { close } from './closing.ts'
import type { Connection } from './connection.ts'

export interface ConnectRefused {
  readonly reason: ReasonCode
  /** For the client too: no secrets and no policy text. */
  readonly detail: string
  /** For the log alone; absent where it would say the same. */
  readonly cause?: string
  /** False: the end without CONNACK. */
  readonly canAnswer: boolean
}

/** CONNACK with a failure, then the end [MQTT-3.1.4-6]: also of an exchange of AUTH packets [MQTT-4.12.0-4]. */
export function refuse(connection: Connection, { reason, detail, cause, canAnswer }: ConnectRefused): void {
  const { frontend } = connection
  if (connection.phase === 'closing' || connection.phase === 'closed') return
  frontend.counters.connectionsRefused++
  frontend.log.warn('connect_refused', {
    listener: connection.port.name,
    remote: connection.transport.remoteAddress,
    client: connection.clientId,
    code: reason,
    reason: detail,
    ...(cause !== undefined && { cause }),
  })
  if (canAnswer) {
    const properties = connection.version === 5 ? { reasonString: detail } : null
    const connack = encodeConnack(connection.version, false, reason, properties, connection.packetBytesMaxOut)
    if (connack.length <= connection.packetBytesMaxOut) connection.output.append(connack)
  }
  close(connection, { discardWill: true, sessionExpirySeconds: null })
}

/** A refusal of something that an open connection wanted or had, for the audit. */
export function auditRefusal(connection: Connection, action: AuditedAction, about: AuditedObject, cause: string): void {
  connection.frontend.audit.refused({
    action,
    listener: connection.port.name,
    remoteAddress: connection.transport.remoteAddress,
    clientId: connection.clientId,
    userName: connection.grant?.identity.userName ?? '',
    ...about,
    cause,
  })
}

/** Why an open connection is ended: a decision about it. */
export interface Ended {
  readonly action: AuditedAction
  readonly reason: ReasonCode
  /** For the client: Reason String of DISCONNECT. */
  readonly detail: string
  /** For log and audit. */
  readonly cause: string
}

/** Log line and audit of such an end. */
export function logEnd(connection: Connection, { action, reason, cause }: Ended): void {
  connection.frontend.log.info('connection_ended', {
    client: connection.clientId,
    listener: connection.port.name,
    action,
    code: reasonName(reason),
    cause,
  })
  auditRefusal(connection, action, {}, cause)
}
