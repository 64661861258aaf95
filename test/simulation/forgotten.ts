import type { HistoryEvent } from './history.ts'
import { NEVER, type Place } from './session-model.ts'

/** What was stored before a failover may reach its client so much later: links and clients' connections are slow. */
const ON_ITS_WAY_MS = 1_000
/** A client takes so long to acknowledge a message, in all its steps. What it got before is doubtful until then. */
const EXCHANGE_MS = 2_000

interface Span {
  readonly fromMs: number
  readonly toMs: number
}

/**
 * When the store has lost what it had answered (level stored: Redis answers before its replica has it). The replica has all writes up to one
 * moment, of all shards; so whatever was acknowledged before, or after the failover, must be there.
 */
export class Forgotten {
  readonly #events: readonly HistoryEvent[]
  readonly #spans: readonly Span[]

  constructor(events: readonly HistoryEvent[]) {
    this.#events = events
    this.#spans = events.flatMap(event => (event.is === 'mayForget' ? [{ fromMs: event.sinceMs, toMs: event.ms + ON_ITS_WAY_MS }] : []))
  }

  get isPossible(): boolean {
    return this.#spans.length > 0
  }

  /** What was acknowledged there may be gone. */
  has(at: Place): boolean {
    return this.isWithin(at, at)
  }

  /** What was done about a message on its way from `sent` to `received` may be gone: then it is done again. */
  hasOnTheWay(sent: Place, received: Place): boolean {
    return received !== NEVER && this.#isTouched(this.#msAt(sent), this.#msAt(received) + EXCHANGE_MS)
  }

  /** Something of what happened between the two may be gone. */
  isWithin(from: Place, to: Place): boolean {
    return this.#isTouched(this.#msAt(from), this.#msAt(to))
  }

  #isTouched(fromMs: number, toMs: number): boolean {
    return this.#spans.some(span => fromMs <= span.toMs && toMs >= span.fromMs)
  }

  #msAt(at: Place): number {
    return at === NEVER ? Infinity : this.#events[at]!.ms
  }
}
