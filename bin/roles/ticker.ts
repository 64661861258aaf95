import type { Timers } from '#shared/base/timers.ts'

const TICK_MS = 100
const SECOND_MS = 1_000

/** The one timer of a process: what is due by the clock, a few times a second. */
export class Ticker {
  readonly #timers: Timers
  readonly #work: { tick(): void; everySecond(): void }
  #sinceSecondMs = 0
  #cancel: () => void = () => undefined

  constructor(timers: Timers, work: { tick(): void; everySecond(): void }) {
    this.#timers = timers
    this.#work = work
    this.#start()
  }

  stop(): void {
    this.#cancel()
  }

  #start(): void {
    this.#cancel = this.#timers.after(TICK_MS, () => {
      this.#start()
      this.#work.tick()
      this.#sinceSecondMs += TICK_MS
      if (this.#sinceSecondMs < SECOND_MS) return
      this.#sinceSecondMs = 0
      this.#work.everySecond()
    })
  }
}
