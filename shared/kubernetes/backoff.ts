import type { Fractions } from '../base/random.ts'
import type { Timers } from '../base/timers.ts'

const FIRST_MS = 250
const LONGEST_MS = 30_000

/** Pauses between attempts: each twice as long as the one before, up to half a minute, and each cut by up to its half, so that many do not come back at once. */
export class Backoff {
  readonly #timers: Timers
  readonly #random: Fractions
  #nextMs = FIRST_MS
  #end: (() => void) | null = null
  #isStopped = false

  constructor(timers: Timers, random: Fractions) {
    this.#timers = timers
    this.#random = random
  }

  /** One at a time. After `stop` there is none. */
  async pause(): Promise<void> {
    if (this.#isStopped) return
    const ms = this.#nextMs * (0.5 + this.#random.fraction() / 2)
    this.#nextMs = Math.min(this.#nextMs * 2, LONGEST_MS)
    await new Promise<void>(resolve => {
      const cancel = this.#timers.after(ms, resolve)
      this.#end = () => {
        cancel()
        resolve()
      }
    })
    this.#end = null
  }

  /** The next pause is the shortest again. */
  reset(): void {
    this.#nextMs = FIRST_MS
  }

  /** Ends the present pause: what was waited for may be different now. */
  wake(): void {
    this.#end?.()
  }

  /** Ends the present pause, and there is no further one. */
  stop(): void {
    this.#isStopped = true
    this.wake()
  }
}
