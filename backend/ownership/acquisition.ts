import { thrownText } from '#shared/base/thrown.ts'
import type { ShardOwner } from '../store/shard-store.ts'
import type { OwnershipCounters, OwnershipParts } from './ownership-parts.ts'
import { Attempt, type Former, type Phase, type ShardSlot } from './shard-slot.ts'

/** The owner stops and flushes meanwhile; what it does later is found in the store. */
const REQUEST_TIMEOUT_MS = 10_000
/** Requests that a preparation is kept for, a second apart; then another shard has its turn. */
const REQUESTS_MAX = 3
const REQUEST_AGAIN_MS = 1_000

/** How single shards are looked up, claimed, moved here and let go. Which and when is ShardOwnership's to say. */
export class Acquisition {
  readonly #parts: OwnershipParts
  readonly #counters: OwnershipCounters
  readonly #onEnded: () => void

  /** @param onEnded something has ended: a slot has another phase, and there is room for the next */
  constructor(parts: OwnershipParts, counters: OwnershipCounters, onEnded: () => void) {
    this.#parts = parts
    this.#counters = counters
    this.#onEnded = onEnded
  }

  /** away → looking → unowned or elsewhere. */
  look(slot: ShardSlot): void {
    this.#run(slot, 'looking', async attempt => {
      const found = await this.#lookUp(slot, attempt)
      if (attempt.isCancelled) return
      if (found === 'unknown') slot.rest(this.#parts.timers.nowMs())
      else slot.phase = found === 'elsewhere' ? 'elsewhere' : 'unowned'
    })
  }

  /** unowned → claiming → taking → serving. */
  claim(slot: ShardSlot): void {
    slot.isMove = false
    this.#run(slot, 'claiming', attempt => this.#claim(slot, attempt))
  }

  /** elsewhere → moving → claiming → taking → serving. */
  move(slot: ShardSlot): void {
    slot.isMove = true
    this.#run(slot, 'moving', attempt => this.#move(slot, attempt))
  }

  /** serving → stopping → away. True when it was let go in order. */
  release(slot: ShardSlot): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>()
    slot.releasing = promise
    this.#run(slot, 'stopping', async attempt => {
      const isReleased = await this.#release(slot, attempt).catch((error: unknown) => this.#onReleaseFailed(slot, attempt, error))
      slot.releasing = null
      resolve(isReleased)
    })
    return promise
  }

  /** Gives up whatever is done with the shard, without the store. What is under way goes through `ending` before anything else begins. */
  cancel(slot: ShardSlot): void {
    const { host } = this.#parts
    const { phase } = slot
    slot.attempt?.cancel()
    slot.phase = slot.attempt === null ? 'away' : 'ending'
    if (phase === 'taking' || phase === 'serving' || phase === 'stopping') host.drop(slot.shard)
    else this.#abandon(slot)
  }

  #run(slot: ShardSlot, phase: Phase, job: (attempt: Attempt) => Promise<void>): void {
    const attempt = new Attempt()
    slot.attempt = attempt
    slot.phase = phase
    void job(attempt)
      .catch((error: unknown) => {
        if (attempt.isCancelled) return
        this.#abandon(slot)
        this.#onFailed(slot, error)
      })
      .then(() => {
        // The next may have begun already, when the slot was waiting or away before this turn was over.
        if (slot.attempt !== attempt) return
        slot.attempt = null
        slot.isMove = false
        if (slot.phase !== 'unowned' && slot.phase !== 'elsewhere' && slot.phase !== 'serving') slot.phase = 'away'
        this.#onEnded()
      })
  }

  /** Who owns it, by the store and by members that are heard of after the store was asked. Sets what the slot knows of the owner. */
  async #lookUp(slot: ShardSlot, attempt: Attempt): Promise<'elsewhere' | 'unowned' | 'unknown'> {
    const { store, membership } = this.#parts
    const owner = await store.ownerOf(slot.shard)
    if (attempt.isCancelled) return 'unknown'
    slot.seenEpoch = owner?.epoch ?? 0
    if (owner === null || owner.isReleased || this.#isSelf(owner)) return unowned(slot, 'nobody')
    // A list from before could lack an owner that has only just joined.
    if (!this.isLiving(owner.id, owner.instance) && !(await membership.refresh())) return 'unknown'
    if (!this.isLiving(owner.id, owner.instance)) return unowned(slot, 'dead')
    slot.ownerId = owner.id
    slot.ownerInstance = owner.instance
    return 'elsewhere'
  }

  isLiving(id: string, instance: string): boolean {
    return this.#parts.membership.find('backend', id)?.instance === instance
  }

  #isSelf(owner: ShardOwner): boolean {
    const { self } = this.#parts.membership
    return owner.id === self.id && owner.instance === self.instance
  }

  async #move(slot: ShardSlot, attempt: Attempt): Promise<void> {
    slot.isPrepared = true
    await this.#parts.host.prepare(slot.shard)
    for (let request = 0; request < REQUESTS_MAX && !attempt.isCancelled; request++) {
      if (request > 0) await this.#wait(attempt, REQUEST_AGAIN_MS)
      if (attempt.isCancelled) return
      const isReleased = await this.#request(slot, attempt)
      if (attempt.isCancelled) return
      if (isReleased) slot.former = 'living'
      else if ((await this.#lookUp(slot, attempt)) !== 'unowned') continue
      if (!attempt.isCancelled) return await this.#claim(slot, attempt)
    }
    if (attempt.isCancelled) return
    this.#abandon(slot)
    slot.rest(this.#parts.timers.nowMs())
  }

  async #request(slot: ShardSlot, attempt: Attempt): Promise<boolean> {
    if (!this.isLiving(slot.ownerId, slot.ownerInstance)) return false
    const answer = this.#parts.peers.requestShard(slot.ownerId, slot.shard).catch(() => false)
    const isReleased = await Promise.race([answer, this.#wait(attempt, REQUEST_TIMEOUT_MS)])
    attempt.wake()
    return isReleased
  }

  /** Until woken, or so long. */
  async #wait(attempt: Attempt, ms: number): Promise<false> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const cancel = this.#parts.timers.after(ms, resolve)
    await Promise.race([promise, attempt.woken()])
    cancel()
    return false
  }

  async #claim(slot: ShardSlot, attempt: Attempt): Promise<void> {
    const { store, host, membership, log } = this.#parts
    slot.phase = 'claiming'
    const epoch = await store.claim(slot.shard, slot.seenEpoch)
    // Claimed, and not served: the next look finds ourselves as the owner, and claims again.
    if (attempt.isCancelled || !membership.checkLease()) return
    if (epoch === null) return this.#abandon(slot)
    slot.epoch = epoch
    slot.phase = 'taking'
    slot.isPrepared = false
    try {
      await host.take(slot.shard, epoch)
    } catch (error) {
      if (attempt.isCancelled) return
      slot.phase = 'ending'
      host.drop(slot.shard)
      this.#onFailed(slot, error)
      await store.release(slot.shard).catch(() => undefined)
      return
    }
    if (attempt.isCancelled) return
    slot.phase = 'serving'
    slot.succeed()
    this.#count(slot.former)
    log.debug('shard_owned', { shard: slot.shard, epoch, former: slot.former })
  }

  async #release(slot: ShardSlot, attempt: Attempt): Promise<boolean> {
    const { store, host, log } = this.#parts
    await host.stop(slot.shard)
    if (attempt.isCancelled) return false
    // Not needed for the claim of another: it says to third ones that nobody serves the shard.
    await store
      .release(slot.shard)
      .catch((error: unknown) => log.warn('shard_release_failed', { shard: slot.shard, reason: textOf(error) }))
    if (attempt.isCancelled) return false
    host.released(slot.shard)
    slot.phase = 'away'
    this.#counters.released++
    log.debug('shard_released', { shard: slot.shard, epoch: slot.epoch })
    return true
  }

  /** Its journal may not be complete: callers repeat what is unanswered, to the next owner. */
  #onReleaseFailed(slot: ShardSlot, attempt: Attempt, error: unknown): boolean {
    if (attempt.isCancelled) return false
    this.#parts.log.error('shard_stop_failed', { shard: slot.shard, reason: textOf(error) })
    this.#counters.failures++
    this.cancel(slot)
    this.#parts.closeLinks('failed')
    return false
  }

  #onFailed(slot: ShardSlot, error: unknown): void {
    this.#counters.failures++
    const isNew = slot.fail(textOf(error), this.#parts.timers.nowMs())
    if (isNew) this.#parts.log.error('shard_not_taken', { shard: slot.shard, reason: textOf(error) })
  }

  #abandon(slot: ShardSlot): void {
    if (!slot.isPrepared) return
    slot.isPrepared = false
    this.#parts.host.abandon(slot.shard)
  }

  #count(former: Former): void {
    if (former === 'living') this.#counters.moves++
    else if (former === 'dead') this.#counters.failovers++
    else this.#counters.claims++
  }
}

function unowned(slot: ShardSlot, former: Former): 'unowned' {
  slot.former = former
  return 'unowned'
}

function textOf(error: unknown): string {
  return thrownText(error)
}
