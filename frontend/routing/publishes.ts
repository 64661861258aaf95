import type { Message } from '#shared/mqtt/message.ts'
import { isFailure, ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ConnectionId } from '#shared/rpc/backend-port.ts'
import type { Shards } from '#shared/rpc/shards.ts'
import { isRefusable, type SessionRoute } from './session-routes.ts'

/** `PendingPublish.ticket` of a held QoS 0 publish: nobody waits for its answer. */
export const NO_TICKET = -1

/** A publish that is not answered: sent in parts, one for each backend, or held for shards that are not open, or both. */
export class PendingPublish {
  /** Of the order of publishing, over all publishers of this frontend. */
  readonly number: number
  readonly connection: ConnectionId
  /** Client Identifier of the publisher: by the time that it is sent, or sent again, its connection may be gone. */
  readonly publisher: string
  readonly ticket: number
  readonly isRefusable: boolean
  /** Ours; null once all is done. */
  message: Message | null
  readonly bytes: number
  readonly sinceMs: number
  /** Monotonic, Infinity for none. */
  readonly expiresAtMs: number
  /** What is missing: parts that are not answered, and shards that it is held for. */
  missing: number
  /** Joined of all answers so far. */
  reason: ReasonCode = ReasonCode.NoMatchingSubscribers
  /** Shards that it is to be sent to (again) once they are open, besides those that were closed when it was published. */
  owed: number[] | null = null
  before: PendingPublish | null = null
  after: PendingPublish | null = null

  constructor(
    number: number,
    connection: ConnectionId,
    ticket: number,
    route: SessionRoute | null,
    message: Message,
    missing: number,
    nowMs: number,
  ) {
    this.number = number
    this.connection = connection
    this.publisher = route === null ? '' : route.clientId
    this.ticket = ticket
    this.isRefusable = isRefusable(route)
    this.message = message
    this.bytes = message.storedBytes
    this.sinceMs = nowMs
    this.expiresAtMs = message.expirySeconds < 0 ? Infinity : nowMs + message.expirySeconds * 1_000
    this.missing = missing
  }

  /** The worst failure counts, then that anybody got it. */
  join(reason: ReasonCode): void {
    if (isFailure(this.reason)) return
    if (isFailure(reason) || reason === ReasonCode.Success) this.reason = reason
  }

  owe(shard: number): void {
    if (this.owed === null) this.owed = [shard]
    else this.owed.push(shard)
  }
}

/** All that are not answered, in the order of publishing: each is added at the end and may leave from anywhere. */
export class PendingPublishes {
  first: PendingPublish | null = null
  #last: PendingPublish | null = null

  add(publish: PendingPublish): void {
    const last = this.#last
    publish.before = last
    if (last === null) this.first = publish
    else last.after = publish
    this.#last = publish
  }

  /** The first with this number or a later one. */
  from(number: number): PendingPublish | null {
    if (this.#last === null || this.#last.number < number) return null
    let publish = this.first
    while (publish !== null && publish.number < number) publish = publish.after
    return publish
  }

  remove(publish: PendingPublish): void {
    const { before, after } = publish
    if (before === null) this.first = after
    else before.after = after
    if (after === null) this.#last = before
    else after.before = before
    publish.before = null
    publish.after = null
  }
}

const INITIAL_SLOTS = 64
/** Sequences between the oldest unanswered part and the newest: so many answers cannot be missing on a link that works. */
export const PART_SPAN_MAX = 2 ** 20

/** The parts sent over one link and not answered, by sequence: a ring, as the sequences grow by one. */
export class UnansweredParts {
  #publishes: (PendingPublish | null)[] = []
  #shards: (Shards | null)[] = []
  #head = 1
  #tail = 1
  /** Of the part that `take` answered. */
  takenShards: Shards | null = null

  /** From the oldest unanswered part to the newest. */
  get span(): number {
    return this.#tail - this.#head
  }

  /** Answers the sequence. `shards` must not change while it is here. */
  add(publish: PendingPublish, shards: Shards): number {
    if (this.#tail - this.#head === this.#publishes.length) this.#grow()
    const slot = this.#tail & (this.#publishes.length - 1)
    this.#publishes[slot] = publish
    this.#shards[slot] = shards
    return this.#tail++
  }

  /** The part is answered; null when there is none with this sequence. */
  take(sequence: number): PendingPublish | null {
    if (sequence < this.#head || sequence >= this.#tail) return null
    const mask = this.#publishes.length - 1
    const slot = sequence & mask
    const publish = this.#publishes[slot]!
    this.takenShards = this.#shards[slot]!
    this.#publishes[slot] = null
    this.#shards[slot] = null
    if (sequence === this.#head) while (this.#head < this.#tail && this.#publishes[this.#head & mask] === null) this.#head++
    return publish
  }

  /** How many parts are for `shard`, among others. */
  countFor(shard: number): number {
    let count = 0
    for (const shards of this.#shards) if (shards !== null && includes(shards, shard)) count++
    return count
  }

  /** Takes all, oldest first. */
  *drain(): Generator<PendingPublish> {
    for (let sequence = this.#head; sequence < this.#tail; sequence++) {
      const publish = this.take(sequence)
      if (publish !== null) yield publish
    }
  }

  #grow(): void {
    const { length } = this.#publishes
    const size = Math.max(INITIAL_SLOTS, length * 2)
    const publishes = Array.from({ length: size }, (): PendingPublish | null => null)
    const shards = Array.from({ length: size }, (): Shards | null => null)
    for (let sequence = this.#head; sequence < this.#tail; sequence++) {
      publishes[sequence & (size - 1)] = this.#publishes[sequence & (length - 1)]!
      shards[sequence & (size - 1)] = this.#shards[sequence & (length - 1)]!
    }
    this.#publishes = publishes
    this.#shards = shards
  }
}

export function includes(shards: Shards, shard: number): boolean {
  for (let at = 0; at < shards.count; at++) if (shards.numbers[at] === shard) return true
  return false
}
