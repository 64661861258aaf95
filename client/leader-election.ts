import { compareHybridTimes } from './hybrid-clock.ts'
import { type HeldLock, LeasedLock } from './lock.ts'
import type { Bytes, Entry, StateStore } from './state-store.ts'

export interface ElectionOptions {
  /** This candidate's name, no other's; it stands in the key while it leads. */
  readonly candidate: Bytes
  /** How long a leader that went silent stays leader. Default 10 000. */
  readonly termMs?: number
}

/** One leader among candidates: whoever has the lock of the key. */
export class LeaderElection {
  readonly #store: StateStore
  readonly #key: Bytes
  readonly #lock: LeasedLock

  constructor(store: StateStore, key: Bytes, { candidate, termMs }: ElectionOptions) {
    this.#store = store
    this.#key = key
    this.#lock = new LeasedLock(store, key, { holder: candidate, ...(termMs !== undefined && { ttlMs: termMs }) })
  }

  /**
   * Resolves when this candidate leads. It does so until `release`, or until `signal` of the term aborts: then another one may lead, and
   * changes with the old token are refused.
   */
  campaign(options: { readonly signal?: AbortSignal } = {}): Promise<HeldLock> {
    return this.#lock.acquire(options)
  }

  /** The name of the leader; null while there is none. */
  async leader(): Promise<Uint8Array | null> {
    return (await this.#store.get(this.#key))?.value ?? null
  }

  /** The present leader, then each other one, until `signal` aborts. A leader that leads on is not told again. */
  async *leaders(signal?: AbortSignal): AsyncGenerator<Uint8Array | null, void, void> {
    const watch = await this.#store.watch(this.#key)
    try {
      let told: Uint8Array | null | undefined
      let found: Pick<Entry, 'value' | 'version'> | null = await this.#store.get(this.#key)
      for (;;) {
        const leader: Uint8Array | null = found?.value ?? null
        if (told === undefined || !isSame(told, leader)) yield leader
        told = leader
        const event = await watch.next(signal)
        if (event === null) return
        if (event.is === 'gap') found = await this.#store.get(this.#key)
        // What was read may be newer than what is told of.
        else if (found === null || compareHybridTimes(event.version, found.version) > 0) found = event.is === 'set' ? event : null
      }
    } finally {
      watch.close()
    }
  }
}

function isSame(a: Uint8Array | null, b: Uint8Array | null): boolean {
  return a === null || b === null ? a === b : Buffer.compare(a, b) === 0
}
