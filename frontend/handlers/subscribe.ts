import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { decodeSubscribe, type RequestedSubscription } from '#shared/mqtt/subscribe-codec.ts'
import { type ParsedFilter, parseTopicFilter } from '#shared/mqtt/topic.ts'
import type { SubscriptionRequest } from '#shared/rpc/backend-port.ts'
import type { Connection } from '../connection/connection.ts'
import { AnswerKind } from '../connection/pending-answers.ts'
import { maySubscribe } from '../connection/permissions.ts'

/**
 * SUBSCRIBE (§3.8). Each Topic Filter gets its own reason in SUBACK [MQTT-3.8.4-6]; one that is refused does not hold up the others.
 * @throws {ProtocolError} QuotaExceeded: more than filtersPerPacketMax; SubscriptionIdentifiersNotSupported; whatever decodeSubscribe finds
 */
export function onSubscribe(connection: Connection, bytes: Buffer, start: number, end: number): void {
  const packet = decodeSubscribe(bytes, start, end, connection.version)
  checkCounts(connection, packet.subscriptions.length, packet.userProperties.length)
  if (packet.subscriptionIdentifier !== 0 && !connection.frontend.features.hasSubscriptionIdentifiers) {
    throw new ProtocolError(ReasonCode.SubscriptionIdentifiersNotSupported, '§3.2.2.3.12', 'Subscription Identifier')
  }
  const requests = packet.subscriptions.map(subscription => request(connection, subscription, packet.subscriptionIdentifier))
  const ticket = connection.expectAnswer(AnswerKind.Suback, packet.packetId)
  connection.frontend.backend.subscribe(connection.session, connection.id, ticket, packet.packetId, requests)
}

/** @throws {ProtocolError} QuotaExceeded: more Topic Filters or User Properties than one packet may hold */
export function checkCounts(connection: Connection, filters: number, userProperties: number): void {
  const { filtersPerPacketMax, userPropertiesPerPacketMax } = connection.frontend.settings
  if (userProperties > userPropertiesPerPacketMax) {
    throw new ProtocolError(
      ReasonCode.QuotaExceeded,
      '§4.13',
      `${userProperties} User Properties in one packet, ${userPropertiesPerPacketMax} allowed`,
    )
  }
  if (filters > filtersPerPacketMax) {
    throw new ProtocolError(ReasonCode.QuotaExceeded, '§4.13', `${filters} Topic Filters in one packet, ${filtersPerPacketMax} allowed`)
  }
}

function request(connection: Connection, subscription: RequestedSubscription, identifier: number): SubscriptionRequest {
  const { filter: text, noLocal, retainAsPublished, retainHandling } = subscription
  // Granted is what can be given [MQTT-3.8.4-8].
  const qos = Math.min(subscription.qos, connection.frontend.features.maximumQoS) as 0 | 1 | 2
  const parsed = parseFilter(connection, text)
  const filter = parsed ?? { text, group: null, filter: text }
  const answer = parsed === null ? ReasonCode.TopicFilterInvalid : maySubscribe(connection, filter.filter)
  const refused = answer === ReasonCode.Success ? null : answer
  return { filter, refused, qos, noLocal, retainAsPublished, retainHandling, identifier }
}

/** Null when it is not a valid Topic Filter (§4.7, §4.8.2). */
export function parseFilter(connection: Connection, text: string): ParsedFilter | null {
  try {
    return parseTopicFilter(text, connection.frontend.settings.topicLevelsMax)
  } catch (error) {
    if (error instanceof ProtocolError) return null
    throw error
  }
}
