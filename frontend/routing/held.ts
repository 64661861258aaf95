import { Shards } from '#shared/rpc/shards.ts'
import type { RouterLimits } from './limits.ts'
import type { OwnerLink } from './owner-link.ts'
import type { Plans } from './plan.ts'
import { NO_TICKET, type PendingPublish, type PendingPublishes } from './publishes.ts'
import type { RefusedLate } from './refused-late.ts'
import type { RouterCounters } from './router-counters.ts'
import type { ShardDoor, ShardDoors } from './shard-doors.ts'

interface HeldParts {
  readonly doors: ShardDoors
  readonly pending: PendingPublishes
  readonly plans: Plans
  readonly limits: RouterLimits
  readonly counters: RouterCounters
  readonly refusedLate: RefusedLate
  readonly send: (owner: OwnerLink, publish: PendingPublish, shards: Shards) => void
  readonly finish: (publish: PendingPublish) => void
}

/** Held publishes on their way over one link, for shards that became fresh together. */
interface Flush {
  readonly doors: ShardDoor[]
  /** All publishes before this one have been looked at. */
  next: number
}

/**
 * Sends what is held for shards that have become fresh, in the order of publishing, as much in a turn as the link takes. Until the end is
 * reached the shards stay closed, so that newer publishes queue up behind.
 */
export class HeldPublishes {
  readonly #parts: HeldParts
  readonly #flushes = new Map<OwnerLink, Flush>()
  /** Of the publish that is looked at. */
  readonly #matching: ShardDoor[] = []

  constructor(parts: HeldParts) {
    this.#parts = parts
  }

  /** The shard is not fresh any more: what is not sent by now waits for another time. */
  interrupt(shard: number): void {
    const door = this.#parts.doors.at(shard)
    if (!door.isFlushing) return
    door.isFlushing = false
    for (const [owner, flush] of this.#flushes) {
      const at = flush.doors.indexOf(door)
      if (at === -1) continue
      flush.doors.splice(at, 1)
      door.heldFrom = Math.max(door.heldFrom, flush.next)
      if (flush.doors.length === 0) this.#flushes.delete(owner)
    }
  }

  /** Whether there is more to do in the next turn. */
  run(nowMs: number): boolean {
    const { doors } = this.#parts
    if (this.#flushes.size === 0 && !doors.hasCandidates) return false
    for (const [owner, ready] of doors.takeReady(this.#flushes)) {
      for (const door of ready) door.isFlushing = true
      this.#flushes.set(owner, { doors: ready, next: 0 })
    }
    let hasMore = false
    for (const [owner, flush] of this.#flushes) {
      if (this.#continue(owner, flush, nowMs)) {
        this.#flushes.delete(owner)
        for (const door of flush.doors) doors.open(door)
        hasMore ||= doors.hasCandidates
      } else if (!owner.isCongested) hasMore = true
    }
    return hasMore
  }

  /** True: nothing is held for these shards any more. */
  #continue(owner: OwnerLink, flush: Flush, nowMs: number): boolean {
    const { pending, limits } = this.#parts
    let bytes = 0
    let publish = pending.from(flush.next)
    while (publish !== null && flush.doors.length > 0) {
      if (owner.isCongested || bytes >= limits.flushBytesPerTurn) return false
      const { after } = publish
      flush.next = publish.number + 1
      if (this.#offer(owner, flush, publish, nowMs)) bytes += publish.bytes
      // An acknowledgement may let its client publish more at once, or end others that wait.
      publish = after !== null && after.message !== null ? after : pending.from(flush.next)
    }
    return true
  }

  /** Sends the publish to those of the shards that it is held for and that it concerns. Whether it was sent. */
  #offer(owner: OwnerLink, flush: Flush, publish: PendingPublish, nowMs: number): boolean {
    const { plans, counters, refusedLate, send, finish } = this.#parts
    const message = publish.message!
    const matching = this.#matching
    matching.length = 0
    let isAgain = false
    let waiting = 0
    for (const door of flush.doors) {
      const isOwed = takeOwed(publish, door.shard)
      if (!isOwed && (publish.ticket === NO_TICKET || publish.number < door.heldFrom)) continue
      isAgain ||= isOwed
      waiting++
      if (plans.concerns(message, door.shard)) matching.push(door)
    }
    if (waiting === 0) return false
    publish.missing -= waiting
    const isSent = matching.length > 0 && !refusedLate.hasEnded(publish.connection) && !isExpired(publish, nowMs, counters)
    if (isSent) {
      if (isAgain && publish.ticket !== NO_TICKET) counters.publishesResent++
      if (publish.ticket !== NO_TICKET) publish.missing++
      send(owner, publish, shardsOf(matching))
    }
    if (publish.missing === 0 && publish.message !== null) finish(publish)
    return isSent
  }
}

/** A Message Expiry Interval goes on while the message is held (§3.3.2.3.3). */
function isExpired(publish: PendingPublish, nowMs: number, counters: RouterCounters): boolean {
  if (publish.expiresAtMs === Infinity) return false
  if (publish.expiresAtMs <= nowMs) {
    counters.heldMessagesExpired++
    return true
  }
  publish.message!.expirySeconds = Math.ceil((publish.expiresAtMs - nowMs) / 1_000)
  return false
}

function takeOwed(publish: PendingPublish, shard: number): boolean {
  const { owed } = publish
  if (owed === null) return false
  const at = owed.indexOf(shard)
  if (at === -1) return false
  owed.splice(at, 1)
  return true
}

function shardsOf(doors: readonly ShardDoor[]): Shards {
  if (doors.length === 1) return doors[0]!.alone
  const shards = new Shards()
  for (const door of doors) shards.add(door.shard)
  return shards
}
