/** One-shot timers, handed in like the clock, so that time-outs run in tests and simulations without waiting. */
export interface Timers {
  /** Runs `run` once, `ms` milliseconds from now. The answer cancels it; cancelling late or twice does nothing. */
  after(ms: number, run: () => void): () => void
  /** Monotonic time in milliseconds, of the same clock as Clock.monotonicMs. */
  nowMs(): number
}

/** The machine's timers. A pending one keeps the process alive, so whoever starts one cancels it when it is not needed any more. */
export const systemTimers: Timers = {
  after: (ms, run) => {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  },
  nowMs: () => performance.now(),
}

/** Timers that fire only when told that time has passed: by due time, then in the order in which they were started. */
export class ManualTimers implements Timers {
  readonly #pending = new Set<{ readonly dueMs: number; readonly run: () => void }>()
  #nowMs = 0

  after(ms: number, run: () => void): () => void {
    const timer = { dueMs: this.#nowMs + ms, run }
    this.#pending.add(timer)
    return () => {
      this.#pending.delete(timer)
    }
  }

  nowMs(): number {
    return this.#nowMs
  }

  /** Timers that neither fired nor were cancelled. */
  get pendingCount(): number {
    return this.#pending.size
  }

  /** Lets `ms` milliseconds pass; timers that start meanwhile take part when they fall due inside them. */
  advance(ms: number): void {
    const endMs = this.#nowMs + ms
    for (let next = this.#nextDue(endMs); next !== null; next = this.#nextDue(endMs)) {
      this.#pending.delete(next)
      this.#nowMs = next.dueMs
      next.run()
    }
    this.#nowMs = endMs
  }

  #nextDue(endMs: number): { readonly dueMs: number; readonly run: () => void } | null {
    let next: { readonly dueMs: number; readonly run: () => void } | null = null
    for (const timer of this.#pending) if (timer.dueMs <= endMs && (next === null || timer.dueMs < next.dueMs)) next = timer
    return next
  }
}
