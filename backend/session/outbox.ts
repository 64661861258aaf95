import { Ring } from '#shared/base/ring.ts'
import { PacketIdentifiers } from './packet-identifiers.ts'
import type { Delivery } from './delivery.ts'

/**
 * QoS 1 and 2 messages on their way to one session, in order. Made when the first such message comes.
 *
 *   queued ─identifier, place in the window→ due ─send→ AWAITING_PUBACK ─PUBACK→ gone
 *                                            due ─stored, send→ AWAITING_PUBREC ─PUBREC, stored→ AWAITING_PUBCOMP ─PUBCOMP→ gone
 *
 * All of `due` comes before all of `queued`. A QoS 2 message of a persistent session is sent after the journal has stored it together
 * with its identifier: after a restart the same identifier must mean the same message, or the receiver would drop a new one as a repeat.
 */
export class Outbox {
  /** Everything that has an identifier: `due`, and what was sent. */
  readonly ids = new PacketIdentifiers()
  /** Has an identifier and is to be sent, for the first time or again on a new connection. */
  readonly due = new Ring<Delivery>()
  /** Has no identifier yet: what the queue limits count. */
  readonly queued = new Ring<Delivery>()
  queuedBytes = 0
  /** Places of the present connection's Receive Maximum that are taken: sent and not acknowledged, or reserved in `due`. */
  inWindow = 0
  /** Wall time at which expired messages were last looked for in a full queue. */
  sweptMs = 0

  /** Nothing waits to be sent. */
  get isIdle(): boolean {
    return this.due.length === 0 && this.queued.length === 0
  }

  enqueue(delivery: Delivery): void {
    this.queued.push(delivery)
    this.queuedBytes += delivery.message.storedBytes
  }

  /** The oldest delivery without an identifier leaves the queue: to get one, or to be dropped. */
  takeQueued(): Delivery | null {
    const delivery = this.queued.shift()
    if (delivery === undefined) return null
    this.queuedBytes -= delivery.message.storedBytes
    return delivery
  }

  /** No connection: what is unacknowledged may stay for long, and must not pin a pool of small buffers. */
  moveApart(): void {
    for (const delivery of this.ids.deliveries()) delivery.message.moveApart()
  }

  /** A new connection: everything unacknowledged goes again, oldest first, before what is queued [MQTT-4.4.0-1]. */
  restart(): void {
    this.due.clear()
    // What only the former connection's client knew of.
    this.ids.freeUnknown()
    for (const delivery of this.ids.deliveries()) {
      delivery.inWindow = false
      this.due.push(delivery)
    }
    this.inWindow = 0
  }
}
