/**
 * Time as values. `wallMs` is the civil time (Unix epoch, milliseconds), for what must survive a restart;
 * `monotonicMs` never goes back, for time-outs inside one process.
 */
export interface Clock {
  wallMs(): number
  monotonicMs(): number
}

/** The only place that reads the machine's clocks. */
export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
}

/** A clock that stands still until told otherwise. */
export class ManualClock implements Clock {
  #ms: number

  constructor(startMs = 1_700_000_000_000) {
    this.#ms = startMs
  }

  wallMs(): number {
    return this.#ms
  }

  monotonicMs(): number {
    return this.#ms
  }

  advance(ms: number): void {
    this.#ms += ms
  }
}
