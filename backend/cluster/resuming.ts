import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { OutstandingDelivery, ResumedSession } from '#shared/rpc/owner-port.ts'
import type { Engine } from '../engine.ts'
import { bindLink, isOf } from '../handlers/attach.ts'
import type { Delivery } from '../session/delivery.ts'
import { finish } from '../session/finish.ts'
import type { FrontendLink } from '../session/frontend-link.ts'
import { Outbox } from '../session/outbox.ts'
import { AWAITING_PUBACK, AWAITING_PUBCOMP, AWAITING_PUBREC } from '../session/packet-identifiers.ts'
import { noteCrowded, takeQueued } from '../session/queue-limits.ts'
import type { Session } from '../session/session.ts'
import { Record, writeIdentified, writeNumbered } from '../shard/records.ts'
import type { Shard } from '../shard/shard.ts'

/**
 * OwnerPort.resume, for one session: its connection goes on by this link, and the client notices nothing. Null when the connection is not
 * the session's present one. The client gets nothing twice on one connection [MQTT-4.4.0-1]: what the frontend passed on is not sent again.
 */
export function resumeSession(engine: Engine, shard: Shard, link: FrontendLink, resumed: ResumedSession): Session | null {
  const session = shard.sessions.get(resumed.clientId)
  if (session === undefined || !isOf(session, link, resumed.connection)) return null
  bindLink(engine, session, link)
  session.protocolVersion = resumed.protocolVersion
  session.receiveMaximum = Math.min(resumed.receiveMaximum, engine.settings.inflightMax)
  if (session.outbox !== null || resumed.outstanding.length > 0) reconcile(engine, session, resumed)
  session.nextSequence = Math.max(session.nextSequence, resumed.lastSequence + 1)
  engine.resumeReplays(session)
  return session
}

/** Brings the outbox to where the client is. */
function reconcile(engine: Engine, session: Session, resumed: ResumedSession): void {
  const outbox = (session.outbox ??= new Outbox())
  const withClient = new Map(resumed.outstanding.filter(({ sequence }) => sequence > 0).map(entry => [entry.sequence, entry]))
  // What came to the client on an earlier connection has no number there, and is past its PUBREC.
  const older = new Map(resumed.outstanding.filter(({ sequence }) => sequence === 0).map(entry => [entry.packetId, entry]))
  const waiting: Delivery[] = []
  outbox.due.clear()
  outbox.inWindow = 0
  for (const delivery of outbox.ids.deliveries()) {
    const entry = withClient.get(delivery.sequence) ?? older.get(delivery.packetId)
    withClient.delete(delivery.sequence)
    older.delete(delivery.packetId)
    // A PUBREL that may not have arrived goes again: a client that waits for it takes the next message with this identifier for a repeat.
    const isReleased = outbox.ids.phase(delivery.packetId) === AWAITING_PUBCOMP
    if (entry === undefined && (isReleased || delivery.sequence > resumed.lastSequence)) {
      delivery.inWindow = false
      outbox.due.push(delivery)
      continue
    }
    if (entry === undefined || entry.packetId !== delivery.packetId) outbox.ids.free(delivery.packetId)
    if (entry === undefined) finish(engine, session, delivery)
    else hold(engine, session, outbox, delivery, entry)
  }
  for (let queued = takeQueued(engine, outbox); queued !== null; queued = takeQueued(engine, outbox)) {
    const entry = withClient.get(queued.sequence)
    withClient.delete(queued.sequence)
    if (queued.sequence > resumed.lastSequence) waiting.push(queued)
    else if (entry === undefined) finish(engine, session, queued)
    else hold(engine, session, outbox, queued, entry)
  }
  for (const delivery of waiting) {
    outbox.enqueue(delivery)
    engine.counters.queuedMessages++
  }
  // Messages that no journal knows of: their publishers had no acknowledgement. The client holds their identifiers nonetheless.
  for (const { packetId, phase } of [...withClient.values(), ...older.values()]) {
    outbox.ids.restore(packetId, phase === 'sent' ? AWAITING_PUBACK : AWAITING_PUBCOMP, null)
    outbox.inWindow++
  }
  noteCrowded(engine, session, outbox)
}

/** The client has the delivery and has not finished with it. */
function hold(engine: Engine, session: Session, outbox: Outbox, delivery: Delivery, entry: OutstandingDelivery): void {
  const isNew = delivery.packetId !== entry.packetId
  const sentPhase = delivery.qos === 1 ? AWAITING_PUBACK : AWAITING_PUBREC
  delivery.packetId = entry.packetId
  delivery.sent = true
  delivery.inWindow = true
  outbox.inWindow++
  outbox.ids.restore(entry.packetId, entry.phase === 'sent' ? sentPhase : AWAITING_PUBCOMP, delivery)
  if (isNew && session.isJournalled) {
    writeIdentified(engine.journal.writer(session.shard), session.number, delivery.sequence, entry.packetId)
  }
  if (entry.phase !== 'received') return
  // PUBREC came, and whether it was stored is not known: it is now, and PUBREL follows.
  if (session.isJournalled) writeNumbered(engine.journal.writer(session.shard), Record.Received, session.number, delivery.sequence)
  const { connection, link } = session
  engine.journal.whenStored(() => {
    if (session.link === link && session.connection === connection) link!.port.released(connection, entry.packetId, ReasonCode.Success)
  })
}
