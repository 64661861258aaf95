/** Things whose turns come one after another, evenly over a time. */
export class Paced<T> {
  readonly #items: readonly T[]
  readonly #startMs: number
  readonly #gapMs: number
  #next = 0

  /** @param withinMs the first is due at `startMs`, the last one before `startMs + withinMs` */
  constructor(items: readonly T[], startMs: number, withinMs: number) {
    this.#items = items
    this.#startMs = startMs
    this.#gapMs = withinMs / Math.max(1, items.length)
  }

  get isDone(): boolean {
    return this.#next === this.#items.length
  }

  /** The next one that is due; null when none is. */
  take(nowMs: number): T | null {
    if (this.isDone || this.#startMs + this.#next * this.#gapMs > nowMs) return null
    return this.#items[this.#next++]!
  }
}
