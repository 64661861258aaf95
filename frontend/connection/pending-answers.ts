import type { ReasonCode } from '#shared/mqtt/reason-code.ts'

/** What a ticket will be answered with; Restricted is for ourselves and sends nothing. */
export const AnswerKind = { Puback: 1, Pubrec: 2, Pubcomp: 3, Suback: 4, Unsuback: 5, Restricted: 6 } as const
export type AnswerKind = (typeof AnswerKind)[keyof typeof AnswerKind]

/** Answers that one client may wait for. Beyond it we stop reading its socket until half of them have left. */
export const PENDING_ANSWERS_MAX = 1_024

const INITIAL = 8
const WAITING = 0xff

export interface AnswerSender {
  /** Sends one answer; `reasons` is of SUBACK and UNSUBACK, `text` of a PUBACK or PUBREC that refuses for a reason of its own. */
  sendAnswer(kind: AnswerKind, packetId: number, reason: ReasonCode, reasons: readonly ReasonCode[] | null, text: string | null): void
}

const NO_BYTES = new Uint8Array(0)
const NO_IDS = new Uint16Array(0)

/**
 * Requests of one client that the backend has not answered, in order of arrival: acknowledgements leave in that order
 * [MQTT-4.6.0-2], [MQTT-4.6.0-3], whatever order they become known in. A ticket is a place in this order.
 */
export class PendingAnswers {
  // Made with the first request: most connections of a large fleet never have one.
  #kinds = NO_BYTES
  #packetIds = NO_IDS
  #reasons = NO_BYTES
  #lists: Map<number, readonly ReasonCode[]> | null = null
  #texts: Map<number, string> | null = null
  #head = 0
  #tail = 0

  get length(): number {
    return this.#tail - this.#head
  }

  /** Answers the ticket of the request. */
  add(kind: AnswerKind, packetId: number): number {
    if (this.#tail - this.#head === this.#kinds.length) this.#grow()
    const ticket = this.#tail++
    const slot = ticket & (this.#kinds.length - 1)
    this.#kinds[slot] = kind
    this.#packetIds[slot] = packetId
    this.#reasons[slot] = WAITING
    return ticket
  }

  /** The backend has answered `ticket`; sends it and those behind it that only waited for it. */
  settle(
    ticket: number,
    reason: ReasonCode,
    reasons: readonly ReasonCode[] | null,
    sender: AnswerSender,
    text: string | null = null,
  ): void {
    if (ticket < this.#head || ticket >= this.#tail) return
    const mask = this.#kinds.length - 1
    this.#reasons[ticket & mask] = reason
    if (reasons !== null) (this.#lists ??= new Map()).set(ticket, reasons)
    if (text === null) this.#texts?.delete(ticket)
    else (this.#texts ??= new Map()).set(ticket, text)
    if (ticket !== this.#head) return
    while (this.#head < this.#tail && this.#reasons[this.#head & mask] !== WAITING) {
      const slot = this.#head & mask
      const list = taken(this.#lists, this.#head)
      const own = taken(this.#texts, this.#head)
      this.#head++
      sender.sendAnswer(this.#kinds[slot] as AnswerKind, this.#packetIds[slot]!, this.#reasons[slot] as ReasonCode, list, own)
    }
  }

  #grow(): void {
    const mask = this.#kinds.length - 1
    const size = Math.max(INITIAL, this.#kinds.length * 2)
    const kinds = new Uint8Array(size)
    const packetIds = new Uint16Array(size)
    const reasons = new Uint8Array(size)
    for (let ticket = this.#head; ticket < this.#tail; ticket++) {
      const to = ticket & (size - 1)
      kinds[to] = this.#kinds[ticket & mask]!
      packetIds[to] = this.#packetIds[ticket & mask]!
      reasons[to] = this.#reasons[ticket & mask]!
    }
    this.#kinds = kinds
    this.#packetIds = packetIds
    this.#reasons = reasons
  }
}

function taken<T>(from: Map<number, T> | null, ticket: number): T | null {
  if (from === null) return null
  const value = from.get(ticket) ?? null
  from.delete(ticket)
  return value
}
