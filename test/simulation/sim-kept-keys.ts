import { compareVersions } from '../linearizability/key-model.ts'
import type { History } from './history.ts'

interface Told {
  readonly key: string
  readonly version: string
  /** Of the change before it. */
  readonly previous: string
  readonly value: string | null
}

/** What a client knows of the keys that it keeps watches of (docs/state-store.md, KEEP): it survives its connections and sessions. */
export class KeptKeys {
  readonly #history: History
  readonly #clientId: string
  /** The last version of each. */
  readonly #known = new Map<string, string>()
  /** Keys that are watched on this connection, or were on the last one. */
  readonly #watched = new Set<string>()
  /** By key: the request that is not answered. */
  readonly #waiting = new Map<string, string>()

  constructor(history: History, clientId: string) {
    this.#history = history
    this.#clientId = clientId
  }

  /** Answers can come on a new connection: what is to be asked for again. */
  onOpen(): readonly string[] {
    this.#waiting.clear()
    return [...this.#watched]
  }

  isWaiting(key: string): boolean {
    return this.#waiting.has(key)
  }

  knownOf(key: string): string | null {
    return this.#known.get(key) ?? null
  }

  onAsked(key: string, request: string): void {
    this.#watched.add(key)
    this.#waiting.set(key, request)
  }

  onStop(key: string): void {
    this.#watched.delete(key)
  }

  onRefused(request: string): void {
    for (const [key, asked] of this.#waiting) if (asked === request) this.#waiting.delete(key)
  }

  /** @param version where it begins; null: it goes on. An answer of an earlier connection says nothing. */
  onAnswer(request: string, version: string | null, missed: number): void {
    for (const [key, asked] of this.#waiting) {
      if (asked !== request) continue
      this.#waiting.delete(key)
      if (version === null) this.#history.add({ is: 'keptOn', client: this.#clientId, key, missed })
      else {
        this.#known.set(key, version)
        this.#history.add({ is: 'keptFrom', client: this.#clientId, key, version })
      }
    }
  }

  /**
   * What is not newer than what is known is a repetition, and what names a newer one as the change before it does not follow: it is left over from a
   * connection before, of a watch that began anew, or others were dropped. False: it is to be asked again.
   */
  onTold({ key, version, previous, value }: Told): boolean {
    const known = this.#known.get(key)
    if (!this.#watched.has(key) || known === undefined || compareVersions(version, known) <= 0) return true
    if (compareVersions(previous, known) > 0) return false
    this.#known.set(key, version)
    this.#history.add({ is: 'keptTold', client: this.#clientId, key, version, value })
    return true
  }
}
