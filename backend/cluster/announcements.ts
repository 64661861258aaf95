import type { Clock } from '#shared/base/clock.ts'
import { RouteDigest } from '#shared/cluster/route-digest.ts'
import type { CallerPort } from '#shared/rpc/caller-port.ts'

/**
 * SUBACK waits for a caller until it says that it knows the route; for one that is not heard of, or has no link, so long. That is longer than
 * callers trust what they know without hearing of us (STALE_MS): it takes nothing for fresh by then.
 */
export const BARRIER_WAIT_MAX_MS = 1_000

/** Of a whole list, so that no frame holds up the others of its link. */
const FILTERS_PER_CALL = 4_096

/** A caller as far as routes are concerned. */
export interface RouteFollower {
  /** Which instance of which process it is. */
  readonly key: string
  readonly calls: CallerPort
  /** It has every route that was announced up to this barrier. */
  applied: number
  /** Monotonic milliseconds when it was last heard. */
  readonly heardMs: number
}

interface Wait {
  /** Infinity until what it waits for has been announced. */
  barrier: number
  readonly sinceMs: number
  readonly run: () => void
}

/** The Topic Filters that a shard has subscribers for, with their number. */
class ShardRoutes {
  readonly counts = new Map<string, number>()
  readonly digest = new RouteDigest()
  /** Since the last announcement: true came, false went. Only of a shard that serves. */
  readonly changes = new Map<string, boolean>()
}

/**
 * Tells callers which Topic Filters each of our shards has subscribers for, in batches at the end of each turn, and lets SUBACK wait until
 * they know: whoever was told so misses no message from then on, whichever frontend it comes through.
 */
export class RouteAnnouncements {
  readonly #shards: readonly ShardRoutes[]
  readonly #clock: Clock
  readonly #followers: () => Iterable<RouteFollower>
  readonly #registered: () => Iterable<string>
  readonly #serving: (shard: number) => boolean
  readonly #changed = new Set<number>()
  /** Of the last announcement. */
  #barrier = 1
  #waits: Wait[] = []
  /** Callers whose link has closed a moment ago, and when. */
  readonly #closed = new Map<string, number>()

  /** @param registered keys of the processes that may have publishes for us, linked or not */
  constructor(parts: {
    shardCount: number
    clock: Clock
    followers: () => Iterable<RouteFollower>
    registered: () => Iterable<string>
    serving: (shard: number) => boolean
  }) {
    this.#shards = Array.from({ length: parts.shardCount }, () => new ShardRoutes())
    this.#clock = parts.clock
    this.#followers = parts.followers
    this.#registered = parts.registered
    this.#serving = parts.serving
  }

  /** The last announcement, which a new link need not wait for: it is told everything when it opens. */
  get barrier(): number {
    return this.#barrier
  }

  add(shard: number, filter: string): void {
    const { counts, digest } = this.#shards[shard]!
    const count = counts.get(filter) ?? 0
    counts.set(filter, count + 1)
    if (count > 0) return
    digest.add(filter)
    this.#note(shard, filter, true)
  }

  remove(shard: number, filter: string): void {
    const { counts, digest } = this.#shards[shard]!
    const count = counts.get(filter)
    if (count === undefined) return
    if (count > 1) return void counts.set(filter, count - 1)
    counts.delete(filter)
    digest.remove(filter)
    this.#note(shard, filter, false)
  }

  /** The shard is not ours any more. */
  clear(shard: number): void {
    const { counts, digest, changes } = this.#shards[shard]!
    counts.clear()
    digest.clear()
    changes.clear()
  }

  /** To one caller: that the shard is here. */
  announceOwned(calls: CallerPort, shard: number, epoch: number): void {
    const { digest } = this.#shards[shard]!
    // What is not announced yet is in the digest, and would be told a second time.
    if (this.#changed.has(shard)) this.flush()
    calls.owned(shard, epoch, digest.count, digest.value)
  }

  /** Answer to `wantRoutes`. */
  announceAll(calls: CallerPort, shard: number): void {
    if (this.#changed.has(shard)) this.flush()
    const filters = [...this.#shards[shard]!.counts.keys()]
    let at = 0
    // Barrier 0: more follows.
    for (; at + FILTERS_PER_CALL < filters.length; at += FILTERS_PER_CALL) {
      calls.routes(shard, 0, at === 0, filters.slice(at, at + FILTERS_PER_CALL), [])
    }
    calls.routes(shard, this.#barrier, at === 0, filters.slice(at), [])
  }

  /** End of a turn. */
  flush(): void {
    if (this.#changed.size === 0) return
    for (const shard of this.#changed) {
      const { changes } = this.#shards[shard]!
      if (changes.size === 0) continue
      this.#barrier++
      const added: string[] = []
      const removed: string[] = []
      for (const [filter, isThere] of changes) (isThere ? added : removed).push(filter)
      changes.clear()
      for (const follower of this.#followers()) follower.calls.routes(shard, this.#barrier, false, added, removed)
    }
    this.#changed.clear()
    for (const wait of this.#waits) if (wait.barrier === Infinity) wait.barrier = this.#barrier
  }

  /** Runs `run` once every caller that may have publishes for us knows the routes made so far; at once when they do. */
  whenApplied(run: () => void): void {
    const sinceMs = this.#clock.monotonicMs()
    const wait = { barrier: this.#changed.size > 0 ? Infinity : this.#barrier, sinceMs, run }
    if (this.#isOver(wait, sinceMs)) return run()
    this.#waits.push(wait)
  }

  /** The link of this caller is closed; it may not have noticed yet. */
  onClosed(key: string): void {
    this.#closed.set(key, this.#clock.monotonicMs())
  }

  onApplied(follower: RouteFollower, barrier: number): void {
    if (barrier <= follower.applied) return
    follower.applied = barrier
    this.check()
  }

  /** Callers have come, gone or answered, or time has passed. */
  check(): void {
    const nowMs = this.#clock.monotonicMs()
    for (const [key, atMs] of this.#closed) if (nowMs - atMs > BARRIER_WAIT_MAX_MS) this.#closed.delete(key)
    if (this.#waits.length === 0) return
    const due = this.#waits.filter(wait => this.#isOver(wait, nowMs))
    if (due.length === 0) return
    this.#waits = this.#waits.filter(wait => !due.includes(wait))
    for (const { run } of due) run()
  }

  #isOver({ barrier, sinceMs }: Wait, nowMs: number): boolean {
    if (barrier > this.#barrier) return false
    const unlinked = new Set(this.#registered())
    for (const { key, applied, heardMs } of this.#followers()) {
      if (applied < barrier && nowMs - heardMs < BARRIER_WAIT_MAX_MS) return false
      unlinked.delete(key)
    }
    for (const key of unlinked) {
      if (nowMs - Math.max(sinceMs, this.#closed.get(key) ?? 0) < BARRIER_WAIT_MAX_MS) return false
    }
    return true
  }

  #note(shard: number, filter: string, isThere: boolean): void {
    if (!this.#serving(shard)) return
    const { changes } = this.#shards[shard]!
    if (changes.get(filter) === !isThere) changes.delete(filter)
    else changes.set(filter, isThere)
    this.#changed.add(shard)
  }
}
