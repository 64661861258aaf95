import type { Engine } from '../engine.ts'
import { momentOf } from '../statestore/moment.ts'
import { record } from '../shard/store-upkeep.ts'

/** A frontend that nobody has heard of for so long does not come back under its name: longer than a lapse of its registration in Redis. */
const GONE_AFTER_MS = 60_000
const CHECK_MS = 1_000

/** Watches and answers that the state store keeps for frontends, until they are gone for good. */
export class StoreFrontends {
  readonly #engine: Engine
  readonly #known: () => Iterable<string>
  /** Since when nobody has heard of it. */
  readonly #missing = new Map<string, number>()
  #checkedMs = 0

  /** @param known keys of processes that are registered or linked */
  constructor(engine: Engine, known: () => Iterable<string>) {
    this.#engine = engine
    this.#known = known
  }

  /** A few times a second. */
  tick(): void {
    const nowMs = this.#engine.clock.monotonicMs()
    if (nowMs - this.#checkedMs < CHECK_MS) return
    this.#checkedMs = nowMs
    const known = new Set(this.#known())
    const seen = new Set<string>()
    for (const shard of this.#engine.shards) {
      if (shard.store === null || !shard.isServing) continue
      for (const frontend of shard.store.frontends().keys()) {
        seen.add(frontend)
        if (known.has(frontend)) this.#missing.delete(frontend)
        else if (!this.#missing.has(frontend)) this.#missing.set(frontend, nowMs)
        else if (nowMs - this.#missing.get(frontend)! >= GONE_AFTER_MS)
          record(this.#engine, shard, shard.store.forgetFrontend(frontend, momentOf(this.#engine.clock)))
      }
    }
    for (const frontend of this.#missing.keys()) if (!seen.has(frontend)) this.#missing.delete(frontend)
  }
}
