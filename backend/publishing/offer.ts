import { RECIPIENT_RETAIN } from '#shared/rpc/recipients.ts'
import type { Engine } from '../engine.ts'
import { Delivery, type SharedOrigin } from '../session/delivery.ts'
import { Outbox } from '../session/outbox.ts'
import { AWAITING_PUBACK, AWAITING_PUBREC } from '../session/packet-identifiers.ts'
import { enqueue, lacksRoom } from '../session/queue-limits.ts'
import { reserve } from '../session/sending.ts'
import type { Session } from '../session/session.ts'
import { addReceiver, addRecipient } from './collecting.ts'

/** The publication that is under way, at QoS 0: to a connection or to nobody; never queued (§4.3.1). */
export function offerQos0(engine: Engine, session: Session, retain: boolean, identifiers: readonly number[] | null): void {
  if (session.link === null) return
  if (session.link.isCongested) engine.counters.qos0DroppedOutgoing++
  else addRecipient(engine, session, retain ? RECIPIENT_RETAIN : 0, 0, identifiers, 0)
}

/**
 * The publication that is under way, at QoS 1 or 2: sent at once when the client's window has room, else queued. For a persistent
 * session it is journalled first; `endPublication` does both.
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
  const flags = qos | (retain ? RECIPIENT_RETAIN : 0)
  const canSend = session.takesMessages && outbox.isIdle && outbox.inWindow < session.receiveMaximum
  if (canSend && !session.keepsMessages && shared === null) {
    // The session ends with its connection, so nothing could ever send this again: only the identifier is remembered.
    const packetId = outbox.ids.take(qos === 1 ? AWAITING_PUBACK : AWAITING_PUBREC, null)
    outbox.inWindow++
    return addRecipient(engine, session, flags, packetId, identifiers, 0)
  }
  if (!canSend && !engine.publication.isAdmitted && lacksRoom(engine, session, engine.publication.message.storedBytes)) {
    // A message of the broker's own, a Will: publishers were refused before.
    engine.counters.queueDropped++
    return
  }
  const delivery = new Delivery(engine.publication.kept(engine), session.nextSequence++, qos, retain, identifiers, shared)
  engine.hold(delivery.message)
  const waitsForCommit = session.isJournalled && qos === 2
  const goesNow = canSend && !waitsForCommit
  if (canSend || (waitsForCommit && isNextInWindow(session, outbox))) reserve(outbox, delivery)
  if (session.isJournalled) addReceiver(engine, session, delivery)
  if (goesNow) {
    delivery.sent = true
    addRecipient(engine, session, flags, delivery.packetId, identifiers, delivery.sequence)
  } else if (delivery.packetId !== 0) outbox.due.push(delivery)
  else enqueue(engine, session, outbox, delivery)
}

/**
 * Whether everything that waits has its place in the window already, and there is one more. One given to a newer message would be
 * missing for an older one that goes again on a new connection, and behind which the newer one waits.
 */
function isNextInWindow(session: Session, outbox: Outbox): boolean {
  if (session.link === null || outbox.queued.length > 0 || outbox.inWindow >= session.receiveMaximum) return false
  return outbox.due.at(outbox.due.length - 1)?.inWindow !== false
}
