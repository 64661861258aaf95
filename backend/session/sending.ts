import { Message } from '#shared/mqtt/message.ts'
import { RECIPIENT_DUP, RECIPIENT_RETAIN } from '#shared/rpc/recipients.ts'
import type { Engine } from '../engine.ts'
import {
  Record,
  beginEnqueued,
  endReceivers,
  writeIdentified,
  writeNumbered,
  writeReceiver,
  type ReceiverRecord,
} from '../shard/records.ts'
import type { Shard } from '../shard/shard.ts'
import { Delivery, type SharedOrigin } from './delivery.ts'
import { Outbox } from './outbox.ts'
import { AWAITING_PUBACK, AWAITING_PUBCOMP, AWAITING_PUBREC } from './packet-identifiers.ts'
import type { Session } from './session.ts'

/**
 * One publish on its way through the engine: the message as received, and its copy once somebody keeps it. The engine
 * has a single one and uses it again for each publish; publishes do not nest.
 */
export class Publication {
  message = new Message()
  #kept: Message | null = null

  /** A message whose bytes are valid only now. */
  begin(message: Message): void {
    this.message = message
    this.#kept = null
  }

  /** A message that owns its bytes already: retained, a Will, one that is handed on. */
  beginKept(message: Message): void {
    this.message = message
    this.#kept = message
  }

  /** The same message in memory of its own; made at most once for a publish. */
  kept(engine: Engine): Message {
    if (this.#kept !== null) return this.#kept
    // What stays for long must not pin a shared pool of small buffers.
    const kept = this.message.retain ? this.message.keepApart() : this.message.keep()
    kept.expiresAtMs = expiresAtMs(engine, this.message)
    this.#kept = kept
    return kept
  }
}

/** Wall time at which a message that came now expires (§3.3.2.3.3), the configured ceiling applied; Infinity for never. */
export function expiresAtMs(engine: Engine, message: Message): number {
  const ceiling = engine.settings.maxMessageExpirySeconds
  if (message.expirySeconds < 0) return ceiling === null ? Infinity : engine.clock.wallMs() + ceiling * 1_000
  const seconds = ceiling === null ? message.expirySeconds : Math.min(ceiling, message.expirySeconds)
  return engine.clock.wallMs() + seconds * 1_000
}

/**
 * A QoS 1 or 2 message for one session: sent at once when the client's window has room, else queued. For a persistent
 * session it is journalled first; `endPublication` closes the records that this opens.
 */
export function offer(
  engine: Engine,
  session: Session,
  qos: 1 | 2,
  retain: boolean,
  identifiers: readonly number[] | null,
  shared: SharedOrigin | null,
): void {
  const outbox = (session.outbox ??= new Outbox())
  const canSend = session.link !== null && session.isWritable && outbox.waiting.length === 0 && outbox.inWindow < session.receiveMaximum
  if (canSend && !session.isPersistent && shared === null) {
    // The session ends with its connection, so nothing could ever send this again: only the identifier is remembered.
    const packetId = outbox.ids.take(qos === 1 ? AWAITING_PUBACK : AWAITING_PUBREC, null)
    outbox.inWindow++
    addRecipient(engine, session, qos | (retain ? RECIPIENT_RETAIN : 0), packetId, identifiers)
    return
  }
  if (!canSend && lacksRoom(engine, session, engine.publication.message.storedBytes)) {
    // A message of the broker's own, a Will: publishers were refused before.
    engine.counters.queueDropped++
    return
  }
  const delivery = new Delivery(engine.publication.kept(engine), session.nextSequence++, qos, retain, identifiers, shared)
  engine.hold(delivery.message)
  const isJournalled = session.isPersistent && session.isRecorded
  if (canSend || (isJournalled && qos === 2 && hasRoom(session, outbox))) reserve(outbox, delivery)
  if (isJournalled) record(engine, session, delivery)
  if (canSend && !(isJournalled && qos === 2)) {
    delivery.sent = true
    addRecipient(engine, session, qos | (retain ? RECIPIENT_RETAIN : 0), delivery.packetId, identifiers)
    return
  }
  outbox.enqueue(delivery)
  if (delivery.packetId === 0) admitToQueue(engine, session, outbox)
}

/**
 * Whether everything that waits has its place in the window already, and there is one more. One given to a newer message would be
 * missing for an older one that goes again on a new connection, and behind which the newer one waits.
 */
function hasRoom(session: Session, outbox: Outbox): boolean {
  const last = outbox.waiting.at(outbox.waiting.length - 1)
  return session.link !== null && last?.inWindow !== false && outbox.inWindow < session.receiveMaximum
}

function reserve(outbox: Outbox, delivery: Delivery): void {
  delivery.packetId = outbox.ids.take(delivery.qos === 1 ? AWAITING_PUBACK : AWAITING_PUBREC, delivery)
  delivery.inWindow = true
  outbox.inWindow++
}

function sendAfterCommit(engine: Engine, session: Session, delivery: Delivery): void {
  delivery.storedBy = engine.journal.open
  engine.journal.whenStored(() => pump(engine, session))
}

/** Keeps the queue within its limits once a message was added (limits of BackendSettings; `None` was decided before, see lacksRoom). */
function admitToQueue(engine: Engine, session: Session, outbox: Outbox): void {
  engine.counters.queuedMessages++
  const { queueMessagesMax, queueBytesMax, queueStrategy } = engine.settings
  while (outbox.queuedMessages > queueMessagesMax || (outbox.queuedBytes > queueBytesMax && outbox.queuedMessages > 1)) {
    if (queueStrategy === 'None') break
    const oldest = outbox.takeOldestQueued()
    if (oldest === null) break
    engine.counters.queueDropped++
    engine.counters.queuedMessages--
    finish(engine, session, oldest)
  }
  noteCrowded(engine, session, outbox)
}

/**
 * With `None`: whether `bytes` more would put the queue over its limits, so that the message must be refused. One message alone
 * always fits: a session whose limit is below the size of a message would otherwise stop its publishers for ever.
 */
export function lacksRoom(engine: Engine, session: Session, bytes: number): boolean {
  const { outbox } = session
  const { queueMessagesMax, queueBytesMax, queueStrategy } = engine.settings
  if (queueStrategy !== 'None' || outbox === null || outbox.queuedMessages === 0) return false
  return outbox.queuedMessages >= queueMessagesMax || outbox.queuedBytes + bytes > queueBytesMax
}

/** Whether any queue may lack room for this message. Nearly always not, and then nobody needs to look at each. */
export function mayLackRoom(engine: Engine, message: Message): boolean {
  return engine.crowdedQueues.size > 0 || message.storedBytes > engine.settings.queueBytesMax / 2
}

/** A queue is crowded when it holds as many messages, or half as many bytes, as it may: a message of at most the other half fits into any other. */
export function noteCrowded(engine: Engine, session: Session, outbox: Outbox): void {
  const { queueMessagesMax, queueBytesMax, queueStrategy } = engine.settings
  if (queueStrategy !== 'None') return
  if (outbox.queuedMessages >= queueMessagesMax || outbox.queuedBytes > queueBytesMax / 2) engine.crowdedQueues.add(session)
  else engine.crowdedQueues.delete(session)
}

/** A delivery is over: acknowledged, dropped or expired. Its identifier, if any, was freed by the caller. */
export function finish(engine: Engine, session: Session, delivery: Delivery): void {
  engine.letGo(delivery.message)
  if (session.isPersistent && session.isRecorded) {
    writeNumbered(engine.journal.writer(session.shard), Record.Done, session.number, delivery.sequence)
  }
}

/** Sends what waits, in order, as far as the window, the socket and the journal allow. */
export function pump(engine: Engine, session: Session): void {
  const { outbox } = session
  if (outbox === null || session.hasEnded) return
  const nowMs = outbox.waiting.length > 0 ? engine.clock.wallMs() : 0
  while (outbox.waiting.length > 0 && session.link !== null && session.isWritable) {
    const delivery = outbox.waiting.peek()!
    if (delivery.packetId !== 0 && outbox.ids.delivery(delivery.packetId) !== delivery) {
      // Acknowledged before it was sent again: the client had it from an earlier connection.
      outbox.waiting.shift()
      continue
    }
    if (delivery.message.expiresAtMs <= nowMs && !delivery.sent) {
      outbox.waiting.shift()
      expire(engine, session, outbox, delivery)
      continue
    }
    if (!delivery.inWindow && outbox.inWindow >= session.receiveMaximum) break
    if (!mayBeSent(engine, session, outbox, delivery)) break
    outbox.waiting.shift()
    send(engine, session, outbox, delivery, nowMs)
  }
}

/** Gives the delivery its identifier and place in the window; false while the journal has not stored what must be stored first. */
function mayBeSent(engine: Engine, session: Session, outbox: Outbox, delivery: Delivery): boolean {
  const isJournalled = session.isPersistent && session.isRecorded
  if (delivery.packetId === 0) {
    outbox.leaveQueue(delivery)
    engine.counters.queuedMessages--
    if (engine.crowdedQueues.size > 0) noteCrowded(engine, session, outbox)
    reserve(outbox, delivery)
    if (isJournalled) {
      writeIdentified(engine.journal.writer(session.shard), session.number, delivery.sequence, delivery.packetId)
      if (delivery.qos === 2) sendAfterCommit(engine, session, delivery)
    }
  } else if (!delivery.inWindow) {
    delivery.inWindow = true
    outbox.inWindow++
  }
  return delivery.storedBy <= engine.journal.committed
}

function send(engine: Engine, session: Session, outbox: Outbox, delivery: Delivery, nowMs: number): void {
  const link = session.link!
  if (outbox.ids.phase(delivery.packetId) === AWAITING_PUBCOMP) return link.port.released(session.connection, delivery.packetId)
  const { message } = delivery
  setRemainingExpiry(message, nowMs)
  const flags = delivery.qos | (delivery.retain ? RECIPIENT_RETAIN : 0) | (delivery.sent ? RECIPIENT_DUP : 0)
  delivery.sent = true
  engine.counters.publishesSent++
  engine.counters.payloadBytesSent += message.payloadLength
  link.single.add(session.connection, flags, delivery.packetId, delivery.identifiers)
  link.port.deliver(message, link.single)
  link.single.clear()
  if (session.isPersistent || delivery.shared !== null) return
  outbox.ids.forgetDelivery(delivery.packetId)
  engine.letGo(message)
}

/** The Message Expiry Interval to send now: what was received less the time it waited [MQTT-3.3.2-6]. */
export function setRemainingExpiry(message: Message, nowMs: number): void {
  message.expirySeconds = message.expiresAtMs === Infinity ? -1 : Math.max(0, Math.ceil((message.expiresAtMs - nowMs) / 1_000))
}

function expire(engine: Engine, session: Session, outbox: Outbox, delivery: Delivery): void {
  engine.counters.expiredMessages++
  if (delivery.packetId === 0) {
    outbox.leaveQueue(delivery)
    engine.counters.queuedMessages--
    noteCrowded(engine, session, outbox)
  } else {
    if (delivery.inWindow) outbox.inWindow--
    outbox.ids.free(delivery.packetId)
  }
  finish(engine, session, delivery)
}

function addRecipient(engine: Engine, session: Session, flags: number, packetId: number, identifiers: readonly number[] | null): void {
  const link = session.link!
  if (link.recipients.count === 0) engine.touchedLinks.push(link)
  link.recipients.add(session.connection, flags, packetId, identifiers)
}

/** QoS 0: to a connection or to nobody; never queued (§4.3.1). */
export function offerQos0(engine: Engine, session: Session, retain: boolean, identifiers: readonly number[] | null): void {
  if (session.link !== null) addRecipient(engine, session, retain ? RECIPIENT_RETAIN : 0, 0, identifiers)
}

/** Remembers whom the publish goes to; `endPublication` writes one record for each shard. */
function record(engine: Engine, session: Session, delivery: Delivery): void {
  const shard = engine.shards[session.shard]!
  if (shard.receivers.length === 0) engine.openShards.push(shard)
  shard.receivers.push(delivery)
  shard.receivingSessions.push(session)
}

/** Every `offer` of one publish was made: journals it and hands the message to the frontends. */
export function endPublication(engine: Engine): void {
  for (const shard of engine.openShards) writeEnqueued(engine, shard)
  engine.openShards.length = 0
  for (const link of engine.touchedLinks) {
    engine.counters.publishesSent += link.recipients.count
    engine.counters.payloadBytesSent += link.recipients.count * engine.publication.message.payloadLength
    link.port.deliver(engine.publication.message, link.recipients)
    link.recipients.clear()
  }
  engine.touchedLinks.length = 0
}

function writeEnqueued(engine: Engine, shard: Shard): void {
  const writer = engine.journal.writer(shard.number)
  beginEnqueued(writer, engine.publication.kept(engine))
  for (let i = 0; i < shard.receivers.length; i++) writeReceiver(writer, receiverOf(shard.receivingSessions[i]!, shard.receivers[i]!))
  endReceivers(writer)
  for (let i = 0; i < shard.receivers.length; i++) {
    const delivery = shard.receivers[i]!
    if (delivery.qos === 2 && delivery.packetId !== 0) sendAfterCommit(engine, shard.receivingSessions[i]!, delivery)
  }
  shard.receivers.length = 0
  shard.receivingSessions.length = 0
}

/** A delivery as the journal and snapshots hold it. */
export function receiverOf(session: Session, delivery: Delivery): ReceiverRecord {
  return {
    session: session.number,
    sequence: delivery.sequence,
    qos: delivery.qos,
    retain: delivery.retain,
    // One with an identifier may have gone out by the time somebody reads this.
    sent: delivery.packetId !== 0,
    isReceived: delivery.packetId !== 0 && session.outbox!.ids.phase(delivery.packetId) === AWAITING_PUBCOMP,
    packetId: delivery.packetId,
    identifiers: delivery.identifiers,
    shared: delivery.shared,
  }
}
