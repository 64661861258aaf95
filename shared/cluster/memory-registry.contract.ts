import type { Clock } from '#shared/base/clock.ts'
import { LEASE_MS, type Member, type Registry } from './member.ts'

/** The registry of a cluster inside one process, for tests and simulations: one for all its members, with a clock of its own. */
export class MemoryRegistry implements Registry {
  readonly #clock: Clock
  readonly #entries = new Map<string, { readonly member: Member; readonly expiryMs: number }>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  heartbeat(self: Member): Promise<readonly Member[]> {
    const nowMs = this.#clock.monotonicMs()
    this.#entries.set(`${self.role}:${self.id}`, { member: { ...self, figures: new Map(self.figures) }, expiryMs: nowMs + LEASE_MS })
    for (const [key, { expiryMs }] of this.#entries) if (expiryMs <= nowMs) this.#entries.delete(key)
    return Promise.resolve([...this.#entries.values()].map(entry => entry.member))
  }

  evict(id: string, instance: string): Promise<void> {
    for (const [key, { member }] of this.#entries) if (member.id === id && member.instance === instance) this.#entries.delete(key)
    return Promise.resolve()
  }

  leave(self: Member): Promise<void> {
    return this.evict(self.id, self.instance)
  }
}
