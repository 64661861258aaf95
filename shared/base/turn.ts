/** Work that is collected while an event-loop turn runs and done once at its end: batch, never delay. */
export interface Turn {
  /** Runs `flush` once at the end of the current turn. A second call before that is one comparison. */
  request(): void
}

/**
 * Steps run in the order in which they were given, once for each turn in which somebody requested it.
 * A request made while the steps run asks for the next turn.
 */
export class ImmediateTurn implements Turn {
  readonly #steps: readonly (() => void)[]
  #requested = false

  constructor(steps: readonly (() => void)[]) {
    this.#steps = steps
  }

  request(): void {
    if (this.#requested) return
    this.#requested = true
    setImmediate(this.#run)
  }

  readonly #run = (): void => {
    this.#requested = false
    for (const step of this.#steps) step()
  }
}
