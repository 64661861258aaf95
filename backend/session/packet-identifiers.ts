import { assert } from '#shared/base/assert.ts'
import type { Delivery } from './delivery.ts'

/** Where a delivery with a Packet Identifier stands (§4.3). */
export const FREE = 0
export const AWAITING_PUBACK = 1
export const AWAITING_PUBREC = 2
export const AWAITING_PUBCOMP = 3
export type DeliveryPhase = typeof FREE | typeof AWAITING_PUBACK | typeof AWAITING_PUBREC | typeof AWAITING_PUBCOMP

const INITIAL_SLOTS = 8
const PACKET_ID_MAX = 65_535

/**
 * Packet Identifiers of messages from the Server to one Client: given out in turn, found by `id & mask` in a few
 * nanoseconds, never used twice at once [MQTT-2.2.1-4]. A slot holds the Delivery when the message must
 * survive the connection, or null when only the identifier matters (a session that ends with its connection).
 */
export class PacketIdentifiers {
  #ids = new Uint16Array(INITIAL_SLOTS)
  #phases = new Uint8Array(INITIAL_SLOTS)
  #deliveries: (Delivery | null)[] = noDeliveries(INITIAL_SLOTS)
  #last = 0
  #inUse = 0

  get inUse(): number {
    return this.#inUse
  }

  /** Gives out the next free identifier. The caller keeps below 65,535 at once. */
  take(phase: DeliveryPhase, delivery: Delivery | null): number {
    if (this.#inUse >= this.#ids.length) this.#grow()
    const mask = this.#ids.length - 1
    let id = this.#last
    do id = id === PACKET_ID_MAX ? 1 : id + 1
    while (this.#ids[id & mask] !== 0)
    this.#last = id
    this.#put(id, phase, delivery)
    return id
  }

  /** Puts back an identifier that was given out before a restart, or by another backend; `null`: for a message that nobody has. */
  restore(id: number, phase: DeliveryPhase, delivery: Delivery | null): void {
    const known = this.phase(id)
    while (known === FREE && this.#ids[id & (this.#ids.length - 1)] !== 0) this.#grow()
    if (known === FREE) this.#put(id, phase, delivery)
    else {
      this.#phases[id & (this.#ids.length - 1)] = phase
      this.#deliveries[id & (this.#ids.length - 1)] = delivery
    }
    if (id > this.#last) this.#last = id
  }

  phase(id: number): DeliveryPhase {
    const slot = id & (this.#ids.length - 1)
    return this.#ids[slot] === id && id !== 0 ? (this.#phases[slot] as DeliveryPhase) : FREE
  }

  delivery(id: number): Delivery | null {
    const slot = id & (this.#ids.length - 1)
    return this.#ids[slot] === id ? this.#deliveries[slot]! : null
  }

  setPhase(id: number, phase: DeliveryPhase): void {
    assert(this.phase(id) !== FREE, 'phase of a Packet Identifier that is not in use')
    this.#phases[id & (this.#ids.length - 1)] = phase
  }

  /** The identifier stays in use, but what it stands for can never be sent again. */
  forgetDelivery(id: number): void {
    if (this.phase(id) !== FREE) this.#deliveries[id & (this.#ids.length - 1)] = null
  }

  free(id: number): void {
    const slot = id & (this.#ids.length - 1)
    assert(this.#ids[slot] === id && id !== 0, 'freeing a Packet Identifier that is not in use')
    this.#ids[slot] = 0
    this.#phases[slot] = FREE
    this.#deliveries[slot] = null
    this.#inUse--
  }

  /** In no particular order. */
  inPhase(phase: DeliveryPhase): number[] {
    return [...this.#ids].filter((id, slot) => id !== 0 && this.#phases[slot] === phase)
  }

  /** Frees those that stand for a message that nobody has. */
  freeUnknown(): void {
    for (let slot = 0; slot < this.#ids.length; slot++) {
      if (this.#ids[slot] !== 0 && this.#deliveries[slot] === null) this.free(this.#ids[slot]!)
    }
  }

  /** Deliveries that hold an identifier, oldest first. */
  deliveries(): Delivery[] {
    const found = this.#deliveries.filter(delivery => delivery !== null)
    return found.sort((a, b) => a.sequence - b.sequence)
  }

  #put(id: number, phase: DeliveryPhase, delivery: Delivery | null): void {
    const slot = id & (this.#ids.length - 1)
    this.#ids[slot] = id
    this.#phases[slot] = phase
    this.#deliveries[slot] = delivery
    this.#inUse++
  }

  #grow(): void {
    const { length } = this.#ids
    const ids = this.#ids
    const phases = this.#phases
    const deliveries = this.#deliveries
    this.#ids = new Uint16Array(length * 2)
    this.#phases = new Uint8Array(length * 2)
    this.#deliveries = noDeliveries(length * 2)
    this.#inUse = 0
    for (let slot = 0; slot < length; slot++) {
      if (ids[slot] !== 0) this.#put(ids[slot]!, phases[slot] as DeliveryPhase, deliveries[slot]!)
    }
  }
}

function noDeliveries(length: number): (Delivery | null)[] {
  return Array.from({ length }, () => null)
}
