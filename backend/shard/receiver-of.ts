import type { Delivery } from '../session/delivery.ts'
import { AWAITING_PUBCOMP } from '../session/packet-identifiers.ts'
import type { Session } from '../session/session.ts'
import type { ReceiverRecord } from './records.ts'

/** A delivery as the journal and snapshots hold it. */
export function receiverOf(session: Session, delivery: Delivery): ReceiverRecord {
  const hasIdentifier = delivery.packetId !== 0
  return {
    session: session.number,
    sequence: delivery.sequence,
    qos: delivery.qos,
    retain: delivery.retain,
    // One with an identifier may have gone out by the time somebody reads this.
    sent: hasIdentifier,
    isReceived: hasIdentifier && session.outbox!.ids.phase(delivery.packetId) === AWAITING_PUBCOMP,
    packetId: delivery.packetId,
    identifiers: delivery.identifiers,
    shared: delivery.shared,
  }
}
