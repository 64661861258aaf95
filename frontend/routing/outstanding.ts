import type { OutstandingDelivery } from '#shared/rpc/owner-port.ts'

type Phase = OutstandingDelivery['phase']

const INITIAL_SLOTS = 4
const FREE = 0
const PHASES = [null, 'sent', 'received', 'released'] as const
const NUMBERS: Record<Phase, number> = { sent: 1, received: 2, released: 3 }

/**
 * Packet Identifiers of QoS 1 and 2 messages that the client of one connection has and has not finished acknowledging, with their phases.
 * Backends give identifiers out in turn, so `id & mask` finds a free slot nearly always; the arrays grow where it does not.
 */
export class Outstanding {
  #ids = new Uint16Array(INITIAL_SLOTS)
  #phases = new Uint8Array(INITIAL_SLOTS)
  #sequences = new Float64Array(INITIAL_SLOTS)
  #count = 0

  get count(): number {
    return this.#count
  }

  phase(packetId: number): Phase | null {
    const slot = packetId & (this.#ids.length - 1)
    return this.#ids[slot] === packetId ? PHASES[this.#phases[slot]!]! : null
  }

  /** The client gets the message with this number, or again. */
  sent(packetId: number, sequence: number): void {
    this.#put(packetId, 'sent', sequence)
  }

  /** A message that came on an earlier connection may be unknown here: its number is then 0. */
  setPhase(packetId: number, phase: Phase): void {
    const slot = packetId & (this.#ids.length - 1)
    const isKnown = this.#phases[slot] !== FREE && this.#ids[slot] === packetId
    this.#put(packetId, phase, isKnown ? this.#sequences[slot]! : 0)
  }

  delete(packetId: number): void {
    const slot = packetId & (this.#ids.length - 1)
    if (this.#ids[slot] !== packetId || this.#phases[slot] === FREE) return
    this.#ids[slot] = 0
    this.#phases[slot] = FREE
    this.#count--
  }

  list(): OutstandingDelivery[] {
    const list: OutstandingDelivery[] = []
    for (let slot = 0; slot < this.#ids.length; slot++) {
      const phase = PHASES[this.#phases[slot]!]!
      if (phase !== null) list.push({ packetId: this.#ids[slot]!, sequence: this.#sequences[slot]!, phase })
    }
    return list
  }

  #put(packetId: number, phase: Phase, sequence: number): void {
    while (this.#isTaken(packetId)) this.#grow()
    const slot = packetId & (this.#ids.length - 1)
    if (this.#phases[slot] === FREE) this.#count++
    this.#ids[slot] = packetId
    this.#phases[slot] = NUMBERS[phase]
    this.#sequences[slot] = sequence
  }

  /** Whether another identifier has the slot of this one. With 65,536 slots none has. */
  #isTaken(packetId: number): boolean {
    const slot = packetId & (this.#ids.length - 1)
    return this.#phases[slot] !== FREE && this.#ids[slot] !== packetId
  }

  #grow(): void {
    const [ids, phases, sequences] = [this.#ids, this.#phases, this.#sequences]
    this.#ids = new Uint16Array(ids.length * 2)
    this.#phases = new Uint8Array(ids.length * 2)
    this.#sequences = new Float64Array(ids.length * 2)
    for (let slot = 0; slot < ids.length; slot++) {
      if (phases[slot] === FREE) continue
      const to = ids[slot]! & (this.#ids.length - 1)
      this.#ids[to] = ids[slot]!
      this.#phases[to] = phases[slot]!
      this.#sequences[to] = sequences[slot]!
    }
  }
}
