import type { Timers } from '#shared/base/timers.ts'

/** As many calls as may be under way are: whoever asks is told to come back later. */
export class TooManyCalls extends Error {
  override readonly name = 'TooManyCalls'
}

export interface SharedAnswersOptions<T> {
  readonly timers: Timers
  /** How long an answer is good for, milliseconds; 0 or less: only for those who wait for it. */
  readonly keepMs: (answer: T) => number
  /** Answers that are kept; for a further one the oldest goes. */
  readonly keptMax: number
  /** Different calls under way; a further one is refused. */
  readonly pendingMax: number
}

/** Answers to calls by key: whoever asks while a call is under way shares it, and its answer is kept for a while. A failure is not kept. */
export class SharedAnswers<T> {
  readonly #options: SharedAnswersOptions<T>
  readonly #pending = new Map<string, Promise<T>>()
  readonly #kept = new Map<string, { readonly answer: T; readonly endMs: number }>()

  constructor(options: SharedAnswersOptions<T>) {
    this.#options = options
  }

  /** @throws {TooManyCalls}, and what `call` rejects with */
  async get(key: string, call: () => Promise<T>): Promise<T> {
    const kept = this.#kept.get(key)
    if (kept !== undefined && this.#options.timers.nowMs() < kept.endMs) return kept.answer
    const known = this.#pending.get(key)
    if (known !== undefined) return await known
    if (this.#pending.size >= this.#options.pendingMax) throw new TooManyCalls(`${this.#pending.size} calls are under way`)
    const pending = this.#call(key, call)
    this.#pending.set(key, pending)
    return await pending
  }

  async #call(key: string, call: () => Promise<T>): Promise<T> {
    try {
      const answer = await call()
      this.#keep(key, answer)
      return answer
    } finally {
      this.#pending.delete(key)
    }
  }

  #keep(key: string, answer: T): void {
    const { timers, keepMs, keptMax } = this.#options
    // Away first, so that it stands at the end: the order is that of age.
    this.#kept.delete(key)
    const forMs = keepMs(answer)
    if (forMs <= 0) return
    const nowMs = timers.nowMs()
    for (const [oldest, { endMs }] of this.#kept) {
      if (this.#kept.size < keptMax && nowMs < endMs) break
      this.#kept.delete(oldest)
    }
    this.#kept.set(key, { answer, endMs: nowMs + forMs })
  }
}
