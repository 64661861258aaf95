import type { Clock } from '#shared/base/clock.ts'
import type { Link } from '#shared/rpc/link.ts'
import type { OwnerPort } from '#shared/rpc/owner-port.ts'
import type { RouteTable } from './route-table.ts'

/**
 * An owner that was not heard of for so long may have been replaced, and new subscribers need not be known here: a SUBACK waits longer
 * (1 s) for callers that do not answer. Heartbeats come every 200 ms.
 */
export const STALE_MS = 500

/** A backend at the other end of an open link. */
export interface Owner {
  readonly link: Link
  readonly calls: OwnerPort
}

/** What the user of the directory does when things change. Called when the directory has changed already. */
export interface DirectoryListener<O extends Owner> {
  /** `owner` answers for `shard` from now on: by another link, or since another epoch, than before. Its routes may be unknown yet. */
  onOwned(shard: number, owner: O): void
  onFresh(shard: number, owner: O): void
  /** No longer fresh. Nobody else may be known to own it yet. */
  onUnfresh(shard: number): void
  /** `owner` does not own it any more, or its link is closed. */
  onLost(shard: number, owner: O): void
}

type Routes = 'unknown' | 'wanted' | 'arriving' | 'known'

/** Each shard as this caller knows it. */
class Entry<O extends Owner> {
  owner: O | null = null
  /** The highest that anybody announced: an owner of a lower one is not listened to, however late it speaks. */
  epoch = -1
  term = 0
  routes: Routes = 'unknown'
  isFresh = false
}

/**
 * Who owns which shard, and whether that is certain enough to send it messages.
 *   owned(epoch above or equal) → routes compared by digest ─same→ known
 *                                      └─different→ wanted ─routes(isWhole)→ arriving ─barrier over 0→ known
 * A shard is fresh while its routes are known, its owner's link is open, and the link was heard within STALE_MS.
 * Invariant: the epoch of a shard only grows. Without it an owner that was replaced and does not know it would take the shard back.
 */
export class Directory<O extends Owner> {
  readonly #clock: Clock
  readonly #table: RouteTable
  readonly #listener: DirectoryListener<O>
  readonly #entries: readonly Entry<O>[]
  readonly #owners = new Set<O>()
  #freshCount = 0
  #version = 0
  #terms = 0

  constructor(parts: { shardCount: number; clock: Clock; routes: RouteTable; listener: DirectoryListener<O> }) {
    this.#clock = parts.clock
    this.#table = parts.routes
    this.#listener = parts.listener
    this.#entries = Array.from({ length: parts.shardCount }, () => new Entry<O>())
  }

  /** Another number after every change of an owner or of freshness. */
  get version(): number {
    return this.#version
  }

  get isAllFresh(): boolean {
    return this.#freshCount === this.#entries.length
  }

  isFresh(shard: number): boolean {
    return this.#entries[shard]!.isFresh
  }

  /** Whom to ask about `shard`, fresh or not; null while nobody with an open link is known to own it. */
  ownerOf(shard: number): O | null {
    return this.#entries[shard]!.owner
  }

  /** The highest known epoch, -1 for none. */
  epochOf(shard: number): number {
    return this.#entries[shard]!.epoch
  }

  /** Grows each time somebody is said to own the shard who did not: who owns it twice, with a break, has two terms. */
  termOf(shard: number): number {
    return this.#entries[shard]!.term
  }

  /** The shards without an owner, for the readiness probe: `shards 3-7`. */
  waitingFor(): string[] {
    const waiting: string[] = []
    const { length } = this.#entries
    for (let first = 0; first < length; first++) {
      if (this.#entries[first]!.owner !== null) continue
      let last = first
      while (last + 1 < length && this.#entries[last + 1]!.owner === null) last++
      waiting.push(first === last ? `shard ${first}` : `shards ${first}-${last}`)
      first = last
    }
    return waiting
  }

  opened(owner: O): void {
    this.#owners.add(owner)
  }

  /** Whatever it owned has no owner until somebody says so. */
  closed(owner: O): void {
    if (!this.#owners.delete(owner)) return
    this.#entries.forEach((entry, shard) => {
      if (entry.owner === owner) this.#lose(shard, entry)
    })
  }

  /** CallerPort.owned. What is said about shards that do not exist is ignored: the handshake compares their number. */
  owned(owner: O, shard: number, epoch: number, routes: number, digest: number): void {
    const entry = this.#entries[shard]
    if (entry === undefined || !this.#owners.has(owner) || epoch < entry.epoch) return
    if (entry.owner === owner && entry.epoch === epoch) return
    const before = entry.owner
    this.#setFresh(shard, entry, false)
    entry.owner = owner
    entry.epoch = epoch
    entry.term = ++this.#terms
    entry.routes = 'unknown'
    this.#version++
    if (before !== null && before !== owner) this.#listener.onLost(shard, before)
    this.#listener.onOwned(shard, owner)
    const known = this.#table.digest(shard)
    if (known.count === routes && known.value === digest) entry.routes = 'known'
    else {
      entry.routes = 'wanted'
      owner.calls.wantRoutes(shard)
    }
    this.#review(shard, entry, this.#clock.monotonicMs())
  }

  /** CallerPort.lost. Of one that was replaced already: nothing new. */
  lost(owner: O, shard: number): void {
    const entry = this.#entries[shard]
    if (entry?.owner === owner) this.#lose(shard, entry)
  }

  /**
   * CallerPort.routes. A whole list may come in several calls: `barrier` 0 says that more of it follows. Each barrier is answered, also
   * when the shard is somebody else's by now: what is not fresh gets no message that could be missed.
   */
  routes(owner: O, shard: number, barrier: number, isWhole: boolean, added: readonly string[], removed: readonly string[]): void {
    const entry = this.#entries[shard]
    if (entry?.owner === owner) this.#apply(shard, entry, barrier, isWhole, added, removed)
    if (barrier !== 0) owner.calls.routesApplied(barrier)
  }

  /** Several times within STALE_MS: links that have gone silent, or speak again. */
  tick(): void {
    const nowMs = this.#clock.monotonicMs()
    for (let shard = 0; shard < this.#entries.length; shard++) this.#review(shard, this.#entries[shard]!, nowMs)
  }

  #apply(shard: number, entry: Entry<O>, barrier: number, isWhole: boolean, added: readonly string[], removed: readonly string[]): void {
    if (isWhole) {
      this.#table.forget(shard)
      // Also when nobody asked (any more): while a part of the list is missing, messages would miss its subscribers.
      entry.routes = 'arriving'
    }
    for (const filter of removed) this.#table.remove(shard, filter)
    for (const filter of added) this.#table.add(shard, filter)
    if (entry.routes !== 'arriving') return
    if (barrier !== 0) entry.routes = 'known'
    this.#review(shard, entry, this.#clock.monotonicMs())
  }

  #lose(shard: number, entry: Entry<O>): void {
    const owner = entry.owner!
    entry.owner = null
    entry.routes = 'unknown'
    this.#version++
    this.#setFresh(shard, entry, false)
    this.#listener.onLost(shard, owner)
  }

  #review(shard: number, entry: Entry<O>, nowMs: number): void {
    const { owner } = entry
    const isHeard = owner !== null && nowMs - owner.link.heardMs <= STALE_MS
    this.#setFresh(shard, entry, isHeard && entry.routes === 'known')
  }

  #setFresh(shard: number, entry: Entry<O>, isFresh: boolean): void {
    if (entry.isFresh === isFresh) return
    entry.isFresh = isFresh
    this.#version++
    this.#freshCount += isFresh ? 1 : -1
    if (isFresh) this.#listener.onFresh(shard, entry.owner!)
    else this.#listener.onUnfresh(shard)
  }
}
