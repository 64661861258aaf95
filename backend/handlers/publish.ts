import { hasUserProperty, type Message } from '#shared/mqtt/message.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { Engine } from '../engine.ts'
import { findsQueueFull, matchOf, offerToAll } from '../publishing/route.ts'
import { keepRetained, wouldExceedRetained } from '../queue/retained-store.ts'
import { endPublication } from '../publishing/collecting.ts'
import { limitExpiry } from '../publishing/publication.ts'
import type { Session } from '../session/session.ts'
import { Record, writeNumbered } from '../shard/records.ts'
import type { MatchResult } from '../subscription/match-cache.ts'

/** §3.3, from an attached connection. See BackendPort.publish. */
export function onPublish(engine: Engine, session: Session, ticket: number, message: Message): void {
  engine.counters.publishesReceived++
  engine.counters.payloadBytesReceived += message.payloadLength
  limitExpiry(engine, message)
  if (message.qos === 0) return publishQos0(engine, session, message)
  const held = session.receivedQos2?.has(message.packetId) === true
  if (held) {
    // The identifier still means the message received before [MQTT-4.3.3-10]; as a QoS 1 message it would mean another.
    const reason = message.qos === 2 ? ReasonCode.Success : ReasonCode.PacketIdentifierInUse
    return engine.journal.acknowledgeWhenStored(session.link!.port, session.connection, ticket, reason)
  }
  const result = matchOf(engine, message)
  const refused = refusal(engine, session, message, result)
  if (refused !== null) return session.link!.port.acknowledged(session.connection, ticket, refused)
  const recordsBefore = engine.journal.records
  engine.publication.begin(message)
  if (message.retain) keepRetained(engine, engine.publication)
  const receivers = offerToAll(engine, session, result)
  if (message.qos === 2) holdQos2(engine, session, message.packetId)
  endPublication(engine)
  const reason = receivers === 0 ? ReasonCode.NoMatchingSubscribers : ReasonCode.Success
  // An empty Retained Message may rest on another client's that is not stored yet.
  const waits = engine.journal.records !== recordsBefore || message.retain
  if (!waits) session.link!.port.acknowledged(session.connection, ticket, reason)
  else engine.journal.acknowledgeWhenStored(session.link!.port, session.connection, ticket, reason)
}

function publishQos0(engine: Engine, session: Session, message: Message): void {
  if (engine.isFull && !isHighPriority(engine, message)) {
    engine.counters.qos0DroppedIncoming++
    return
  }
  engine.publication.begin(message)
  if (message.retain && !wouldExceedRetained(engine, message)) keepRetained(engine, engine.publication)
  offerToAll(engine, session, matchOf(engine, message))
  endPublication(engine)
}

/** PUBREL (§3.6): the identifier may be used for another message once this is stored [MQTT-4.3.3-12]. `isRetry`: see OwnerPort. */
export function onRelease(engine: Engine, session: Session, ticket: number, packetId: number, isRetry: boolean): void {
  const { port } = session.link!
  if (session.receivedQos2?.delete(packetId) !== true) {
    const reason = isRetry ? ReasonCode.Success : ReasonCode.PacketIdentifierNotFound
    return engine.journal.acknowledgeWhenStored(port, session.connection, ticket, reason)
  }
  if (session.isJournalled) {
    writeNumbered(engine.journal.writer(session.shard), Record.Qos2Released, session.number, packetId)
    return engine.journal.acknowledgeWhenStored(port, session.connection, ticket, ReasonCode.Success)
  }
  port.acknowledged(session.connection, ticket, ReasonCode.Success)
}

function holdQos2(engine: Engine, session: Session, packetId: number): void {
  session.receivedQos2 ??= new Set()
  session.receivedQos2.add(packetId)
  if (session.isJournalled) {
    writeNumbered(engine.journal.writer(session.shard), Record.Qos2Held, session.number, packetId)
  }
}

/** Decided before anything is changed, so that a refused publish reached nobody. */
function refusal(engine: Engine, session: Session, message: Message, result: MatchResult<Session>): ReasonCode | null {
  // Older clients have no code for it: frontends stop reading them instead (FrontendPort.pressure).
  if (engine.isFull && session.protocolVersion === 5 && !isHighPriority(engine, message)) {
    engine.counters.refusedMemory++
    return ReasonCode.QuotaExceeded
  }
  if (findsQueueFull(engine, message, result)) {
    engine.counters.refusedQueueFull++
    return ReasonCode.QuotaExceeded
  }
  if (message.retain && wouldExceedRetained(engine, message)) {
    engine.counters.refusedRetainedFull++
    return ReasonCode.QuotaExceeded
  }
  return null
}

/** Taken while others are refused (docs/settings.md). */
export function isHighPriority(engine: Engine, message: Message): boolean {
  if (engine.settings.highPriorityMessagesBackpressureHandling === 'Reject') return false
  return message.propertiesLength > 0 && hasUserProperty(message, '$high_priority')
}
