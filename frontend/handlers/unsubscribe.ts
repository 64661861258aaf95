import { decodeUnsubscribe } from '#shared/mqtt/subscribe-codec.ts'
import type { Connection } from '../connection/connection.ts'
import { AnswerKind } from '../connection/pending-answers.ts'
import { checkCounts, parseFilter } from './subscribe.ts'

/**
 * UNSUBSCRIBE (§3.10). A Topic Filter that cannot be valid cannot have been subscribed to either: NoSubscriptionExisted.
 * @throws {ProtocolError} QuotaExceeded: more than filtersPerPacketMax; whatever decodeUnsubscribe finds
 */
export function onUnsubscribe(connection: Connection, bytes: Buffer, start: number, end: number): void {
  const packet = decodeUnsubscribe(bytes, start, end, connection.version)
  checkCounts(connection, packet.filters.length, packet.userProperties.length)
  const filters = packet.filters.map(text => parseFilter(connection, text) ?? { text, group: null, filter: text })
  const ticket = connection.expectAnswer(AnswerKind.Unsuback, packet.packetId)
  connection.frontend.backend.unsubscribe(connection.session, connection.id, ticket, packet.packetId, filters)
}
