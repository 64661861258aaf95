import { Ack, decodeAck } from '#shared/mqtt/ack-codec.ts'
import type { Connection } from '../connection/connection.ts'
import { AnswerKind } from '../connection/pending-answers.ts'

const ack = new Ack()

/** PUBACK (§3.4). One for an identifier that is not in use is ignored: it may answer a delivery of before a restart. */
export function onPuback(connection: Connection, bytes: Buffer, start: number, end: number): void {
  decodeAck(bytes, start, end, connection.version, ack)
  connection.frontend.backend.puback(connection.session, connection.id, ack.packetId)
}

/** PUBREC (§3.5). */
export function onPubrec(connection: Connection, bytes: Buffer, start: number, end: number): void {
  decodeAck(bytes, start, end, connection.version, ack)
  connection.frontend.backend.pubrec(connection.session, connection.id, ack.packetId, ack.reason)
}

/** PUBREL (§3.6): PUBCOMP follows once the backend has stored that the identifier is free. */
export function onPubrel(connection: Connection, bytes: Buffer, start: number, end: number): void {
  decodeAck(bytes, start, end, connection.version, ack)
  const ticket = connection.expectAnswer(AnswerKind.Pubcomp, ack.packetId)
  connection.frontend.backend.release(connection.session, connection.id, ticket, ack.packetId)
}

/** PUBCOMP (§3.7). */
export function onPubcomp(connection: Connection, bytes: Buffer, start: number, end: number): void {
  decodeAck(bytes, start, end, connection.version, ack)
  connection.frontend.backend.pubcomp(connection.session, connection.id, ack.packetId)
}
