import type { Timers } from '#shared/base/timers.ts'

/** Those who ask for something that may be there in a moment: looked for again whenever `wake` says that something has come. */
export class Waiters {
  readonly #timers: Timers
  readonly #waitMs: number
  readonly #waitersMax: number
  readonly #waiting = new Set<() => void>()

  /**
   * @param waitMs after which the answer is null
   * @param waitersMax one more does not wait
   */
  constructor(timers: Timers, waitMs: number, waitersMax: number) {
    this.#timers = timers
    this.#waitMs = waitMs
    this.#waitersMax = waitersMax
  }

  get count(): number {
    return this.#waiting.size
  }

  /** What `find` finds, now or in time; null when it does not. */
  async until<T>(find: () => T | null): Promise<T | null> {
    const found = find()
    if (found !== null || this.#waiting.size >= this.#waitersMax) return found
    return await new Promise(resolve => {
      const settle = (answer: T | null): void => {
        this.#waiting.delete(look)
        cancel()
        resolve(answer)
      }
      const look = (): void => {
        const late = find()
        if (late !== null) settle(late)
      }
      const cancel = this.#timers.after(this.#waitMs, () => settle(null))
      this.#waiting.add(look)
    })
  }

  wake(): void {
    for (const look of this.#waiting) look()
  }
}
