import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { RECIPIENT_DUP, RECIPIENT_RETAIN } from '#shared/rpc/recipients.ts'
import type { Engine } from '../engine.ts'
import { setRemainingExpiry } from '../publishing/publication.ts'
import { writeIdentified } from '../shard/records.ts'
import type { Delivery } from './delivery.ts'
import { finish } from './finish.ts'
import type { Outbox } from './outbox.ts'
import { AWAITING_PUBACK, AWAITING_PUBCOMP, AWAITING_PUBREC } from './packet-identifiers.ts'
import { noteCrowded, takeQueued } from './queue-limits.ts'
import type { Session } from './session.ts'

/** Gives the delivery an identifier and a place in the window. */
export function reserve(outbox: Outbox, delivery: Delivery): void {
  delivery.packetId = outbox.ids.take(delivery.qos === 1 ? AWAITING_PUBACK : AWAITING_PUBREC, delivery)
  delivery.inWindow = true
  outbox.inWindow++
}

/** Sends what waits, in order, as far as the window, the socket and the journal allow. */
export function pump(engine: Engine, session: Session): void {
  const { outbox } = session
  if (outbox === null || outbox.isIdle || session.hasEnded) return
  sendDue(engine, session, outbox)
  // Retained Messages wait for the queue to be empty, whatever emptied it.
  if (outbox.queued.length > 0) return
  engine.resumeReplays(session)
  engine.cluster?.noteStanding(session)
}

function sendDue(engine: Engine, session: Session, outbox: Outbox): void {
  const nowMs = engine.clock.wallMs()
  while (session.takesMessages) {
    if (outbox.due.length === 0) identifyQueued(engine, session, outbox, nowMs)
    const delivery = outbox.due.peek()
    if (delivery === undefined) return
    if (outbox.ids.delivery(delivery.packetId) !== delivery) {
      // Acknowledged before it was sent again: the client had it from an earlier connection.
      outbox.due.shift()
      continue
    }
    if (delivery.message.expiresAtMs <= nowMs && !delivery.sent) {
      outbox.due.shift()
      expireDue(engine, session, outbox, delivery)
      continue
    }
    if (!hasPlace(session, outbox, delivery) || delivery.storedBy > engine.journal.committed) return
    outbox.due.shift()
    send(engine, session, outbox, delivery, nowMs)
  }
}

/** What goes again on a new connection has its identifier, and takes its place in this connection's window when its turn comes. */
function hasPlace(session: Session, outbox: Outbox, delivery: Delivery): boolean {
  if (delivery.inWindow) return true
  if (outbox.inWindow >= session.receiveMaximum) return false
  delivery.inWindow = true
  outbox.inWindow++
  return true
}

/** Moves as much of the queue as the window takes to what is due: all of it with one commit, where one is needed. */
function identifyQueued(engine: Engine, session: Session, outbox: Outbox, nowMs: number): void {
  let waitsForCommit = false
  while (outbox.queued.length > 0 && outbox.inWindow < session.receiveMaximum) {
    const delivery = takeQueued(engine, outbox)!
    if (delivery.message.expiresAtMs <= nowMs) {
      engine.counters.expiredMessages++
      finish(engine, session, delivery)
      continue
    }
    reserve(outbox, delivery)
    outbox.due.push(delivery)
    if (!session.isJournalled) continue
    writeIdentified(engine.journal.writer(session.shard), session.number, delivery.sequence, delivery.packetId)
    if (delivery.qos === 1) continue
    delivery.storedBy = engine.journal.open
    waitsForCommit = true
  }
  if (engine.crowdedQueues.size > 0) noteCrowded(engine, session, outbox)
  if (waitsForCommit) engine.journal.whenStored(() => pump(engine, session))
}

/** The QoS 2 message may go once the records made so far are stored (see Outbox). */
export function sendAfterCommit(engine: Engine, session: Session, delivery: Delivery): void {
  delivery.storedBy = engine.journal.open
  engine.journal.whenStored(() => pump(engine, session))
}

function send(engine: Engine, session: Session, outbox: Outbox, delivery: Delivery, nowMs: number): void {
  const link = session.link!
  if (outbox.ids.phase(delivery.packetId) === AWAITING_PUBCOMP)
    return link.port.released(session.connection, delivery.packetId, ReasonCode.Success)
  const { message } = delivery
  setRemainingExpiry(message, nowMs)
  const flags = delivery.qos | (delivery.retain ? RECIPIENT_RETAIN : 0) | (delivery.sent ? RECIPIENT_DUP : 0)
  delivery.sent = true
  engine.counters.publishesSent++
  engine.counters.payloadBytesSent += message.payloadLength
  link.single.add(session.connection, flags, delivery.packetId, delivery.identifiers, delivery.sequence)
  link.port.deliver(message, link.single)
  link.single.clear()
  if (session.keepsMessages || delivery.shared !== null) return
  outbox.ids.forgetDelivery(delivery.packetId)
  engine.letGo(message)
}

function expireDue(engine: Engine, session: Session, outbox: Outbox, delivery: Delivery): void {
  engine.counters.expiredMessages++
  if (delivery.inWindow) outbox.inWindow--
  outbox.ids.free(delivery.packetId)
  finish(engine, session, delivery)
}
