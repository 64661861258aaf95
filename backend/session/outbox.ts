import { Ring } from '#shared/base/ring.ts'
import { PacketIdentifiers } from './packet-identifiers.ts'
import type { Delivery } from './delivery.ts'

/**
 * QoS 1 and 2 messages on their way to one session, in order: those with a place in the client's Receive Maximum
 * (`ids`), and those behind them (`waiting`). Made when the first such message comes.
 *
 *   waiting ─send→ AWAITING_PUBACK ─PUBACK→ gone
 *   waiting ─send→ AWAITING_PUBREC ─PUBREC, stored→ AWAITING_PUBCOMP ─PUBCOMP→ gone
 *
 * A QoS 2 message of a persistent session gets its identifier first, and is sent after the journal has stored both:
 * after a restart the same identifier must mean the same message, or the receiver would drop a new one as a repeat.
 */
export class Outbox {
  readonly ids = new PacketIdentifiers()
  readonly waiting = new Ring<Delivery>()
  /** Bytes of the messages in `waiting` that have no identifier yet: what the queue limits count. */
  queuedBytes = 0
  queuedMessages = 0
  /** Deliveries that the present connection has been sent and not acknowledged, or that have a place reserved. */
  inWindow = 0

  enqueue(delivery: Delivery): void {
    this.waiting.push(delivery)
    if (delivery.packetId !== 0) return
    this.queuedMessages++
    this.queuedBytes += delivery.message.storedBytes
  }

  /** The delivery leaves the queue part: it got an identifier or was dropped. */
  leaveQueue(delivery: Delivery): void {
    this.queuedMessages--
    this.queuedBytes -= delivery.message.storedBytes
  }

  /** Takes out the oldest delivery that has no Packet Identifier yet. */
  takeOldestQueued(): Delivery | null {
    const ahead: Delivery[] = []
    let oldest: Delivery | null = null
    while (oldest === null && this.waiting.length > 0) {
      const head = this.waiting.shift()!
      if (head.packetId === 0) oldest = head
      else ahead.push(head)
    }
    if (ahead.length > 0) this.#putBefore(ahead)
    if (oldest !== null) this.leaveQueue(oldest)
    return oldest
  }

  /** A new connection: everything unacknowledged goes again, oldest first, before what waits [MQTT-4.4.0-1]. */
  restart(): void {
    const queued: Delivery[] = []
    for (let head = this.waiting.shift(); head !== undefined; head = this.waiting.shift()) if (head.packetId === 0) queued.push(head)
    for (const delivery of this.ids.deliveries()) {
      delivery.inWindow = false
      this.waiting.push(delivery)
    }
    for (const delivery of queued) this.waiting.push(delivery)
    this.inWindow = 0
  }

  #putBefore(ahead: readonly Delivery[]): void {
    const behind: Delivery[] = []
    for (let head = this.waiting.shift(); head !== undefined; head = this.waiting.shift()) behind.push(head)
    for (const delivery of ahead) this.waiting.push(delivery)
    for (const delivery of behind) this.waiting.push(delivery)
  }
}
