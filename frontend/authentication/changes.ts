import type { Timers } from '#shared/base/timers.ts'

/**
 * News of what stands behind BrokerAuthentications, from several services. Each service's news counts: one that has heard of a change later
 * than the others would have answered a recheck by what was before. What comes within a short time is told once.
 */
export class Changes {
  readonly #timers: Timers
  readonly #mergeMs: number
  readonly #listeners = new Set<(authentication: string) => void>()
  /** By name, as last heard from anybody. Names are of resources: as many as the operator has written. */
  readonly #digests = new Map<string, string>()
  readonly #changed = new Set<string>()
  #cancel: (() => void) | null = null

  constructor(timers: Timers, mergeMs: number) {
    this.#timers = timers
    this.#mergeMs = mergeMs
  }

  listen(onChanged: (authentication: string) => void): () => void {
    this.#listeners.add(onChanged)
    return () => this.#listeners.delete(onChanged)
  }

  /** See AuthAskerPort. */
  standing(authentication: string, digest: string, isChanged: boolean): void {
    const known = this.#digests.get(authentication)
    this.#digests.set(authentication, digest)
    // While there was no link to anybody it may have changed unheard.
    if (!isChanged && (known === undefined || known === digest)) return
    this.#changed.add(authentication)
    this.#cancel ??= this.#timers.after(this.#mergeMs, () => this.#tell())
  }

  close(): void {
    this.#cancel?.()
    this.#listeners.clear()
  }

  #tell(): void {
    this.#cancel = null
    const changed = [...this.#changed]
    this.#changed.clear()
    for (const authentication of changed) for (const listener of this.#listeners) listener(authentication)
  }
}
