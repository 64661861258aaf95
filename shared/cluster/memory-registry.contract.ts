import type { Clock } from '#shared/base/clock.ts'
import { EvictedError, LEASE_MS, type Member, type Registry } from './member.ts'

/** The registry of a cluster inside one process, for tests and simulations: one for all its members, with a clock of its own. */
export class MemoryRegistry implements Registry {
  readonly #clock: Clock
  readonly #entries = new Map<string, { readonly member: Member; readonly expiryMs: number }>()

  /** Instances that may not renew their lease, and until when. */
  readonly #evicted = new Map<string, number>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  heartbeat(self: Member): Promise<readonly Member[]> {
    const nowMs = this.#clock.monotonicMs()
    if ((this.#evicted.get(self.instance) ?? -Infinity) > nowMs) return Promise.reject(new EvictedError())
    this.#entries.set(`${self.role}:${self.id}`, { member: { ...self, figures: new Map(self.figures) }, expiryMs: nowMs + LEASE_MS })
    for (const [key, { expiryMs }] of this.#entries) if (expiryMs <= nowMs) this.#entries.delete(key)
    return Promise.resolve([...this.#entries.values()].map(entry => entry.member))
  }

  evict(id: string, instance: string): Promise<void> {
    if (this.#remove(id, instance)) this.#evicted.set(instance, this.#clock.monotonicMs() + LEASE_MS)
    return Promise.resolve()
  }

  leave(self: Member): Promise<void> {
    this.#remove(self.id, self.instance)
    return Promise.resolve()
  }

  #remove(id: string, instance: string): boolean {
    const found = [...this.#entries].filter(([, { member }]) => member.id === id && member.instance === instance)
    return found.map(([key]) => this.#entries.delete(key)).includes(true)
  }
}
