import { FairQueue } from './fair-queue.ts'

/** Lets so many through at a time; further ones wait, up to a limit, their sources taking turns. */
export class Gate {
  readonly #insideMax: number
  readonly #waitingMax: number
  readonly #waiting = new FairQueue<Waiting>()
  #inside = 0

  constructor(insideMax: number, waitingMax: number) {
    this.#insideMax = insideMax
    this.#waitingMax = waitingMax
  }

  get inside(): number {
    return this.#inside
  }

  /**
   * Who is let in calls `leave`. `full`: too many wait. `late`: `signal` came first.
   * @param source whom it is for (see requestSource); where too many wait, the source with most of them loses its newest to one that has fewer
   */
  async enter(signal: AbortSignal, source = ''): Promise<'inside' | 'full' | 'late'> {
    if (this.#inside < this.#insideMax) {
      this.#inside++
      return 'inside'
    }
    if (this.#waiting.length >= this.#waitingMax) {
      const displaced = this.#waiting.makeRoomFor(source)
      if (displaced === undefined) return 'full'
      displaced.settle('full')
    }
    return await new Promise(resolve => {
      const giveUp = (): void => {
        this.#waiting.delete(source, waiting)
        resolve('late')
      }
      const waiting: Waiting = {
        settle: outcome => {
          signal.removeEventListener('abort', giveUp)
          resolve(outcome)
        },
      }
      this.#waiting.push(source, waiting)
      signal.addEventListener('abort', giveUp, { once: true })
    })
  }

  leave(): void {
    // The place passes on: nobody who comes just now overtakes who waits.
    const next = this.#waiting.shift()
    if (next === undefined) this.#inside--
    else next.settle('inside')
  }
}

interface Waiting {
  readonly settle: (outcome: 'inside' | 'full') => void
}
