import { PublishDecoder } from '#shared/mqtt/publish-decoder.ts'
import { packetIdOffset } from '#shared/mqtt/publish-encoder.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { TOO_MANY_LEVELS } from '#shared/mqtt/topic.ts'
import { REQUEST_TOPIC } from '#shared/state-store/topics.ts'
import { disconnect } from '../connection/closing.ts'
import type { Connection } from '../connection/connection.ts'
import { AnswerKind } from '../connection/pending-answers.ts'
import { isCutOffFor, mayPublish } from '../connection/permissions.ts'
import { checkOffered } from '../features.ts'
import { dropStoreRequest, onStoreRequest } from '../state-store/store-request.ts'

/** QoS in the first byte (§3.3.1.2). */
const QOS_BITS = 0b0110
const QOS_1 = 0b0010

/**
 * PUBLISH from a client (§3.3). QoS 1 and 2 are acknowledged once the backend has stored the message, not before.
 * @throws {ProtocolError} ReceiveMaximumExceeded [MQTT-3.3.4-9]; whatever PublishDecoder finds
 */
export function onPublish(connection: Connection, bytes: Buffer, start: number, end: number): void {
  const { frontend } = connection
  const message = frontend.message
  try {
    decoderOf(connection).decode(bytes, start, end, message)
  } catch (error) {
    if (isTooDeep(connection, error, bytes[start]!)) return refuseTooDeep(connection, bytes, start)
    throw error
  }
  let isStoreRequest = false
  if (message.topic !== connection.permittedTopic) {
    const answer = mayPublish(connection, message.topic)
    if (answer !== ReasonCode.Success) return refuse(connection, message.qos, message.packetId, answer)
    isStoreRequest = message.topic.name === REQUEST_TOPIC
  } else if (connection.permit !== null) connection.category.authorizationAllowed++
  checkOffered(frontend.features, message.qos, message.retain)
  if (message.qos === 0) return isStoreRequest ? dropStoreRequest(connection, 'QoS 0') : connection.publish(0, message)
  if (connection.version === 5 && ++connection.unfinishedPublishes > frontend.settings.receiveMaximum) {
    throw new ProtocolError(
      ReasonCode.ReceiveMaximumExceeded,
      'MQTT-3.3.4-9',
      `more than ${frontend.settings.receiveMaximum} unacknowledged publishes`,
    )
  }
  if (isStoreRequest) return onStoreRequest(connection, message)
  const kind = message.qos === 1 ? AnswerKind.Puback : AnswerKind.Pubrec
  const ticket = connection.expectAnswer(kind, message.packetId)
  connection.publish(ticket, message)
}

function decoderOf(connection: Connection): PublishDecoder {
  const { frontend } = connection
  connection.decoder ??= new PublishDecoder(frontend.topics, connection.version, {
    topicAliasMaximum: connection.version === 5 ? frontend.features.topicAliasMaximum : 0,
    userPropertiesMax: frontend.settings.userPropertiesPerPacketMax,
  })
  return connection.decoder
}

/** A Topic Name that is well-formed but has too many levels is refused by itself when there is an acknowledgement to say so in (§3.4.2.1). */
function isTooDeep(connection: Connection, error: unknown, firstByte: number): boolean {
  if (!(error instanceof ProtocolError) || error.clause !== TOO_MANY_LEVELS) return false
  return connection.version === 5 && (firstByte & QOS_BITS) !== 0
}

function refuseTooDeep(connection: Connection, bytes: Buffer, start: number): void {
  connection.unfinishedPublishes++
  const packetId = bytes.readUInt16BE(packetIdOffset(bytes, start))
  const ticket = connection.expectAnswer((bytes[start]! & QOS_BITS) === QOS_1 ? AnswerKind.Puback : AnswerKind.Pubrec, packetId)
  connection.settle(ticket, ReasonCode.TopicNameInvalid, null)
}

/** MQTT 5 says so, older versions cannot (docs/mqtt.md). The message goes nowhere. */
function refuse(connection: Connection, qos: number, packetId: number, refusal: ReasonCode): void {
  if (qos === 0) return
  if (isCutOffFor(connection, qos)) return disconnect(connection, refusal, null)
  const reason = connection.version === 5 ? refusal : ReasonCode.Success
  // In its place among the others: acknowledgements keep the order of the publishes [MQTT-4.6.0-2].
  if (connection.version === 5) connection.unfinishedPublishes++
  const ticket = connection.expectAnswer(qos === 1 ? AnswerKind.Puback : AnswerKind.Pubrec, packetId)
  connection.settle(ticket, reason, null)
}
