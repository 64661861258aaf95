import type { Message } from '#shared/mqtt/message.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { CACHED_TOPIC_BYTES_MAX, sameBytes, TOO_MANY_LEVELS, type Topic } from '#shared/mqtt/topic.ts'
import { type ExtendedCommand, parseExtendedCommand } from '#shared/state-store/command.ts'
import { isSupportedVersion } from '#shared/state-store/properties.ts'
import { RequestProperties } from '#shared/state-store/request-properties.ts'
import { isForbiddenResponseTopic } from '#shared/state-store/topics.ts'
import { disconnect } from '../connection/closing.ts'
import type { Connection } from '../connection/connection.ts'
import { mayHearOn } from '../connection/permissions.ts'
import { AnswerKind } from '../connection/pending-answers.ts'
import { keyFault } from './key-rights.ts'

/** One for all requests: each use is over before the next begins. */
const properties = new RequestProperties()
/** Of the message whose `properties` were read last. */
let addressed: Addressed = 'missing'

/** Where the answer is to go; or why it cannot. */
type Addressed = Topic | 'missing' | 'forbidden' | 'tooDeep'

/**
 * A PUBLISH of QoS 1 or 2 to the state store's request topic by a client that may publish there (docs/state-store.md). It reaches no subscriber. What the
 * store answers is a message to the Response Topic; PUBACK says that change, answer and notifications are stored.
 */
export function onStoreRequest(connection: Connection, message: Message): void {
  if (connection.version !== 5) return acknowledge(connection, message, ReasonCode.Success)
  // Without exactly one answer for exactly one request the store would have to remember both for as long as the client may ask.
  if (message.qos === 2) return refuse(connection, message, 'QoS 2')
  const topic = read(connection, message)
  if (topic === 'missing') return refuse(connection, message, 'no Response Topic')
  if (topic === 'forbidden')
    return disconnect(connection, ReasonCode.TopicNameInvalid, 'the state store does not answer to this Response Topic')
  if (properties.correlationStart === properties.correlationEnd) return refuse(connection, message, 'no Correlation Data')
  if (topic === 'tooDeep') return acknowledge(connection, message, ReasonCode.TopicNameInvalid)
  connection.publish(connection.expectAnswer(AnswerKind.Puback, message.packetId), message, ask)
}

/** The rights that count are those of the moment it goes. */
function ask(connection: Connection, ticket: number, message: Message): void {
  const { frontend, clientId } = connection
  // Another message when it was held: a copy, and others were read meanwhile.
  const responseTopic = properties.message === message ? addressed : read(connection, message)
  if (typeof responseTopic === 'string') return connection.settle(ticket, ReasonCode.TopicNameInvalid, null)
  // Its answer would carry the value to a place where its client may not read.
  const mayRead = mayHearOn(connection, responseTopic)
  if (mayRead !== ReasonCode.Success) return connection.settle(ticket, mayRead, null)
  const parsed = isSupportedVersion(properties.protocolVersion)
    ? parseExtendedCommand(message.payloadBytes, message.payloadStart, message.payloadEnd)
    : null
  const command = typeof parsed === 'string' ? null : parsed
  const fault = typeof parsed === 'string' ? parsed : command === null ? null : keyFault(connection, command)
  const shardKey = shardKeyOf(command, clientId)
  const shard = command?.is === 'scan' ? command.cursor.shard : null
  const isWatch = fault === null && (command?.is === 'keynotify' || command?.is === 'keep' || command?.is === 'watch')
  connection.mayWatch ||= isWatch
  const call = { clientId, shardKey, shard, isWatch, fault, command, properties, responseTopic, message }
  frontend.backend.askStore(connection.session, connection.id, ticket, call)
}

/** A character for each byte. */
function shardKeyOf(command: ExtendedCommand | null, clientId: string): string {
  if (command === null || command.is === 'scan' || command.is === 'watch') return Buffer.from(clientId, 'utf8').toString('latin1')
  return command.is === 'mget' ? command.keys[0]! : command.key
}

function read(connection: Connection, message: Message): Addressed {
  properties.read(message)
  return (addressed = responseTopicOf(connection, message))
}

/** Clients repeat themselves, so the connection remembers the last one. */
function responseTopicOf(connection: Connection, { propertyBytes }: Message): Addressed {
  const { topicStart, topicEnd } = properties
  if (topicStart === -1) return 'missing'
  const last = connection.responseTopic
  if (last !== null && sameBytes(propertyBytes, topicStart, topicEnd, last.utf8)) return last
  if (isForbiddenResponseTopic(propertyBytes.toString('utf8', topicStart, topicEnd))) return 'forbidden'
  try {
    const topic = connection.frontend.topics.get(propertyBytes, topicStart, topicEnd)
    if (topic.utf8.length <= CACHED_TOPIC_BYTES_MAX) connection.responseTopic = topic
    return topic
  } catch (error) {
    if (error instanceof ProtocolError && error.clause === TOO_MANY_LEVELS) return 'tooDeep'
    throw error
  }
}

/** Nothing can be answered; the client is a stranger to the protocol. */
export function dropStoreRequest(connection: Connection, why: string): void {
  connection.frontend.counters.storeRequestsDropped++
  connection.frontend.log.warn('store_request_dropped', { client: connection.clientId, listener: connection.port.name, why })
}

/** It can be told in PUBACK or PUBREC. */
function refuse(connection: Connection, message: Message, why: string): void {
  dropStoreRequest(connection, why)
  acknowledge(connection, message, ReasonCode.ImplementationSpecificError, `the state store takes no request with ${why}`)
}

/** In its place among the other acknowledgements [MQTT-4.6.0-2]; not executed. */
function acknowledge(connection: Connection, message: Message, reason: ReasonCode, text: string | null = null): void {
  const ticket = connection.expectAnswer(message.qos === 1 ? AnswerKind.Puback : AnswerKind.Pubrec, message.packetId)
  connection.settle(ticket, reason, null, text)
}
