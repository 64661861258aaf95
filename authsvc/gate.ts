/** Lets so many through at a time; further ones wait in order, up to a limit. */
export class Gate {
  readonly #insideMax: number
  readonly #waitingMax: number
  readonly #waiting = new Set<() => void>()
  #inside = 0

  constructor(insideMax: number, waitingMax: number) {
    this.#insideMax = insideMax
    this.#waitingMax = waitingMax
  }

  get inside(): number {
    return this.#inside
  }

  /** Who is let in calls `leave`. `full`: too many wait. `late`: `signal` came first. */
  async enter(signal: AbortSignal): Promise<'inside' | 'full' | 'late'> {
    if (this.#inside < this.#insideMax) {
      this.#inside++
      return 'inside'
    }
    if (this.#waiting.size >= this.#waitingMax) return 'full'
    return await new Promise(resolve => {
      const admit = (): void => {
        signal.removeEventListener('abort', giveUp)
        resolve('inside')
      }
      const giveUp = (): void => {
        this.#waiting.delete(admit)
        resolve('late')
      }
      this.#waiting.add(admit)
      signal.addEventListener('abort', giveUp, { once: true })
    })
  }

  leave(): void {
    // The place passes on: nobody who comes just now overtakes who waits.
    for (const admit of this.#waiting) {
      this.#waiting.delete(admit)
      return admit()
    }
    this.#inside--
  }
}
