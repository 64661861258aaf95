/** So many failures in a row, with no answer between them, and nobody waits for that server any more. */
export const FAILURES_MAX = 5
/** How long it is left alone then; doubles with each probe that fails. */
export const OPEN_MS_MIN = 1_000
export const OPEN_MS_MAX = 30_000

/** Permission to ask once; comes back with what came of it. */
export interface Attempt {
  readonly generation: number
  readonly isProbe: boolean
}

/**
 * Keeps clients from waiting for a server that is not there. `nowMs` is monotonic.
 *   closed ─FAILURES_MAX failures→ open ─time is over→ one probe at a time ─failure→ open, longer      any answer → closed
 */
export class Breaker {
  #failures = 0
  #openMs = OPEN_MS_MIN
  /** Null: closed. */
  #openUntilMs: number | null = null
  #isProbing = false
  /** Attempts from before it opened say nothing about the time after. */
  #generation = 0

  /** Whether `begin` would be refused. */
  isOpen(nowMs: number): boolean {
    return this.#openUntilMs !== null && (nowMs < this.#openUntilMs || this.#isProbing)
  }

  /** Null: not now. */
  begin(nowMs: number): Attempt | null {
    if (this.isOpen(nowMs)) return null
    const isProbe = this.#openUntilMs !== null
    this.#isProbing = isProbe
    return { generation: this.#generation, isProbe }
  }

  /** @param outcome `reached`: it answered, whatever it said */
  end(attempt: Attempt, outcome: 'reached' | 'failed', nowMs: number): void {
    if (outcome === 'reached') return this.#close()
    if (attempt.generation !== this.#generation) return
    if (attempt.isProbe) return this.#open(nowMs, Math.min(this.#openMs * 2, OPEN_MS_MAX))
    this.#failures++
    if (this.#failures >= FAILURES_MAX) this.#open(nowMs, OPEN_MS_MIN)
  }

  #open(nowMs: number, openMs: number): void {
    this.#generation++
    this.#isProbing = false
    this.#openMs = openMs
    this.#openUntilMs = nowMs + openMs
  }

  #close(): void {
    // A failure of what began while it was open must not count as a probe's.
    if (this.#openUntilMs !== null) this.#generation++
    this.#failures = 0
    this.#isProbing = false
    this.#openUntilMs = null
  }
}
