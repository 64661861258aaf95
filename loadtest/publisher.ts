import type { AckSink, LoadClient } from './client.ts'
import type { PublishTemplate } from './frames.ts'
import { GENERATION_MASK, generationOf, slotOf, ticketOf, writeU32 } from './message.ts'

/** Told by a publisher whose slot became free, and whose window therefore has room. */
export interface SlotWatcher {
  slotFreed(publisher: WindowPublisher): void
}

export interface PublisherOptions {
  /** Unique over all generator processes; travels in each message. */
  readonly id: number
  readonly runId: number
  readonly client: LoadClient
  readonly template: PublishTemplate
  /** Messages in flight at most. */
  readonly window: number
  readonly qos: number
  /** Arrivals that complete a message: its copies, or the reports of processes that count copies. */
  readonly shares: number
}

/**
 * The window of one publisher. A message holds a slot until it is acknowledged (QoS 1, 2) AND all its copies have
 * arrived, so that no broker looks good by queueing or by dropping. The Packet Identifier is the slot + 1.
 */
export class WindowPublisher implements AckSink {
  readonly id: number
  readonly client: LoadClient
  template: PublishTemplate
  readonly #runId: number
  readonly #qos: number
  readonly #shares: number
  readonly #watcher: SlotWatcher
  readonly #free: Uint16Array
  readonly #busy: Uint8Array
  readonly #awaitsAck: Uint8Array
  readonly #left: Uint32Array
  readonly #generation: Uint32Array
  #freeCount: number
  /** Listed as having room; kept here so that listing is one comparison. */
  isListed = false

  constructor(options: PublisherOptions, watcher: SlotWatcher) {
    const window = options.qos > 0 ? Math.min(options.window, options.client.receiveMaximum) : options.window
    this.id = options.id
    this.client = options.client
    this.template = options.template
    this.#runId = options.runId
    this.#qos = options.qos
    this.#shares = options.shares
    this.#watcher = watcher
    this.#free = Uint16Array.from({ length: window }, (_, index) => window - 1 - index)
    this.#busy = new Uint8Array(window)
    this.#awaitsAck = new Uint8Array(window)
    this.#left = new Uint32Array(window)
    this.#generation = new Uint32Array(window)
    this.#freeCount = window
    options.client.acks = this
  }

  get freeSlots(): number {
    return this.#freeCount
  }

  /** Writes one message into the client's buffer of this turn. There must be a free slot. */
  publish(stampUs: number): void {
    const slot = this.#free[--this.#freeCount]!
    const generation = (this.#generation[slot]! + 1) & GENERATION_MASK
    this.#generation[slot] = generation
    this.#busy[slot] = 1
    this.#left[slot] = this.#shares
    this.#awaitsAck[slot] = this.#qos > 0 ? 1 : 0
    const { bytes, packetIdAt, payloadAt } = this.template
    const at = this.client.reserve(bytes.length)
    const out = this.client.outBuffer
    out.set(bytes, at)
    if (packetIdAt > 0) {
      out[at + packetIdAt] = (slot + 1) >> 8
      out[at + packetIdAt + 1] = slot + 1
    }
    writeU32(out, at + payloadAt, stampUs)
    writeU32(out, at + payloadAt + 4, this.id)
    writeU32(out, at + payloadAt + 8, ticketOf(generation, slot))
    writeU32(out, at + payloadAt + 12, this.#runId)
  }

  acked(packetId: number): void {
    const slot = packetId - 1
    if (slot < 0 || slot >= this.#busy.length || this.#awaitsAck[slot] === 0) return
    this.#awaitsAck[slot] = 0
    this.#settle(slot)
  }

  /** One share of the message has arrived. False when it is not awaited: a duplicate, or a stranger's message. */
  arrived(ticket: number): boolean {
    const slot = slotOf(ticket)
    if (slot >= this.#busy.length || this.#left[slot] === 0 || this.#generation[slot] !== generationOf(ticket)) return false
    this.#left[slot]!--
    this.#settle(slot)
    return true
  }

  /** Frees every slot; returns the shares that never came. */
  giveUp(): number {
    let missing = 0
    for (let slot = 0; slot < this.#busy.length; slot++) {
      if (this.#busy[slot] === 0) continue
      missing += this.#left[slot]!
      this.#left[slot] = 0
      this.#awaitsAck[slot] = 0
      this.#settle(slot)
    }
    return missing
  }

  #settle(slot: number): void {
    if (this.#busy[slot] === 0 || this.#awaitsAck[slot] === 1 || this.#left[slot]! > 0) return
    this.#busy[slot] = 0
    this.#free[this.#freeCount++] = slot
    this.#watcher.slotFreed(this)
  }
}
