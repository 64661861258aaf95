/** A timer that fires up to this late says nothing about the broker, so the message is stamped when it is sent. */
const TIMER_SLACK_US = 2_000

/**
 * The schedule of an open loop: message `k` is due `k / perSecond` after the start, whatever became of the earlier ones.
 * A message that goes out later than a timer can explain carries the time at which it was due, so that a broker that
 * stalls the generator is not spared ("coordinated omission").
 */
export class Pace {
  readonly #perSecond: number
  readonly #startMs: number
  #taken = 0

  constructor(perSecond: number, startMs: number) {
    this.#perSecond = perSecond
    this.#startMs = startMs
  }

  /** Messages due by now and not taken yet. */
  due(nowMs: number): number {
    return Math.max(0, Math.floor(((nowMs - this.#startMs) * this.#perSecond) / 1_000) + 1 - this.#taken)
  }

  /** Takes the next message; returns the stamp that it carries, microseconds modulo 2^32. */
  take(nowMs: number): number {
    const dueUs = (this.#startMs + (this.#taken * 1_000) / this.#perSecond) * 1_000
    this.#taken++
    const nowUs = nowMs * 1_000
    return Math.floor(nowUs - dueUs > TIMER_SLACK_US ? dueUs : nowUs) >>> 0
  }
}
