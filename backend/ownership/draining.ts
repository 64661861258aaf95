import type { Acquisition } from './acquisition.ts'
import type { OwnershipParts } from './ownership-parts.ts'
import type { ShardSlot } from './shard-slot.ts'

/** Shards that are stopped at a time when nobody asks for them. */
const RELEASES_MAX = 8
/** For letting go of what nobody has asked for; then it is dropped. */
const RELEASE_MS = 5_000

/**
 * A backend on its way out.
 *   asked (others take the shards) ─bound over, or nobody there→ releasing (we let them go) ─time over→ dropped      any ─nothing left→ ended
 */
export class Draining {
  /** Resolves when nothing is owned any more. */
  readonly ended: Promise<void>
  readonly #parts: OwnershipParts
  readonly #acquisition: Acquisition
  readonly #slots: readonly ShardSlot[]
  readonly #end: () => void
  #phase: 'asked' | 'releasing' | 'ended' = 'asked'
  /** The registry knows, or cannot be told: whether somebody is there to take over is as clear as it will be. */
  #isTold = false
  #cancelBound: () => void

  constructor(parts: OwnershipParts, acquisition: Acquisition, slots: readonly ShardSlot[], boundMs: number) {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.ended = promise
    this.#end = resolve
    this.#parts = parts
    this.#acquisition = acquisition
    this.#slots = slots
    this.#cancelBound = parts.timers.after(boundMs, () => this.#releaseRest())
    parts.log.info('drain_begun', { shards: this.#held })
    void parts.membership.markLeaving().then(() => {
      this.#isTold = true
      this.round()
    })
  }

  /** Whenever something has changed. */
  round(): void {
    if (this.#phase === 'ended') return
    if (this.#held === 0) return this.end()
    if (this.#phase === 'asked' && this.#isTold && !this.#hasSuccessor) this.#releaseRest()
    if (this.#phase === 'releasing') this.#releaseSome()
  }

  end(): void {
    if (this.#phase === 'ended') return
    this.#phase = 'ended'
    this.#cancelBound()
    this.#end()
  }

  get #held(): number {
    return this.#slots.filter(slot => slot.isHeld).length
  }

  get #hasSuccessor(): boolean {
    return this.#parts.membership.membersOf('backend').some(member => !member.isLeaving)
  }

  #releaseRest(): void {
    const { timers, log } = this.#parts
    if (this.#phase !== 'asked') return
    this.#phase = 'releasing'
    log.info('drain_releases', { shards: this.#held })
    this.#cancelBound()
    this.#cancelBound = timers.after(RELEASE_MS, () => this.#dropRest())
    this.#releaseSome()
  }

  #releaseSome(): void {
    let stopping = this.#slots.filter(slot => slot.phase === 'stopping').length
    for (const slot of this.#slots) {
      if (slot.phase !== 'serving' || stopping >= RELEASES_MAX) continue
      stopping++
      void this.#acquisition.release(slot)
    }
  }

  #dropRest(): void {
    this.#parts.log.warn('drain_dropped', { shards: this.#held })
    for (const slot of this.#slots) if (slot.isHeld) this.#acquisition.cancel(slot)
    this.end()
  }
}
