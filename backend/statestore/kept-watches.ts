import { type TimerHandle, TimerWheel } from '#shared/base/timer-wheel.ts'
import type { KeepCommand } from '#shared/state-store/command.ts'
import { compareClocks, type StoreClock } from '#shared/state-store/hybrid-clock.ts'
import type { StoredBytes } from '#shared/state-store/stored-bytes.ts'
import type { PastChange, WatchKept } from './changes.ts'
import type { Moment } from './moment.ts'
import type { WatcherId } from './store-request.ts'
import type { WatcherLimits } from './watchers.ts'

export interface KeptLimits extends WatcherLimits {
  /** A watch is kept without a connection for no longer; who asks for more gets this. */
  readonly keepMsMax: number
  /** Changes remembered of one key, the newest. */
  readonly pastPerKeyMax: number
  /** Of all keys. A key whose change has no room forgets its own oldest ones: what one key does costs no other what it has. */
  readonly pastBytesMax: number
}

/** Heap of one watch beside its key, about, and of one remembered change beside its value. */
const KEPT_BYTES = 350
const PAST_BYTES = 120
const TICK_MS = 1
/** Connections of one watch; one more, and the oldest is forgotten. */
const CONNECTIONS_MAX = 8

/** A client's watch of one key, which outlives its connection. */
interface Kept {
  readonly key: string
  readonly clientId: string
  /**
   * Its connections, the newest last: one that is gone may ask later than the next one, of which nobody here knows. Only the one that the
   * session has gets anything.
   */
  readonly watchers: WatcherId[]
  /** The one that asked last, whether or not it is still there. */
  last: WatcherId
  keepMs: number
  /** All changes after that one are owed to it. */
  since: StoreClock
  /** What the last answer said where it begins. */
  begun: StoreClock
  /** Its connection is gone: when the watch ends. */
  away: { readonly deadlineMs: number; readonly timer: TimerHandle } | null
}

/** A key that somebody watches so: its changes are remembered once, however many clients they are for. */
interface KeptKey {
  readonly key: string
  readonly byClient: Map<string, Kept>
  /** In their order. */
  past: PastChange[]
  /** Of what came after that one nothing is missing in `past`. */
  floor: StoreClock
}

/** `missed`: what the client has not seen, to be told before anything newer; null: that is not known, the watch begins now. */
interface Keeping {
  readonly change: WatchKept
  readonly missed: readonly PastChange[] | null
}

/**
 * Watches that outlive their connections, each of one key by one Client Identifier (docs/state-store.md, KEEP). What a client has seen it says
 * itself, by the version of the last change: neither a session that has ended, nor a connection whose end nobody has noticed, nor a message
 * that was on its way can then hide a change, and nobody has to acknowledge one.
 * Changes are applied as they are recorded, so that any owner of the shard remembers the same.
 */
export class KeptWatches {
  readonly #limits: KeptLimits
  readonly #byKey = new Map<string, KeptKey>()
  /** Of each client, how many. */
  readonly #clients = new Map<string, number>()
  /** By frontend and connection: those that are connected. */
  readonly #frontends = new Map<string, Map<number, Set<Kept>>>()
  readonly #deadlines: TimerWheel<Kept>
  size = 0
  /** Of them, those without connection. */
  away = 0
  /** Of the watches themselves. */
  bytes = 0
  /** Of the changes remembered for them. */
  pastBytes = 0

  constructor(limits: KeptLimits, monotonicMs: number) {
    this.#limits = limits
    this.#deadlines = new TimerWheel(TICK_MS, monotonicMs - 2 * TICK_MS)
  }

  /** Whether changes of the key are to be remembered, and to have a version of their own. */
  has(key: string): boolean {
    return this.size > 0 && this.#byKey.has(key)
  }

  /** Whom to tell at once. */
  connected(key: string): readonly WatcherId[] {
    const watchers: WatcherId[] = []
    for (const kept of this.#byKey.get(key)?.byClient.values() ?? []) watchers.push(...kept.watchers)
    return watchers
  }

  /** Null: a limit is reached, nothing was done. @param clock of the store: a watch that begins now is owed what comes after it */
  keep({ key, keepMs, since }: KeepCommand, watcher: WatcherId, clock: StoreClock, now: Moment): Keeping | null {
    const keptKey = this.#byKey.get(key)
    const known = keptKey?.byClient.get(watcher.clientId)
    if (known === undefined && this.#isFull(key, keptKey, watcher.clientId)) return null
    const alive = known === undefined || hasEnded(known, now) ? null : known
    const missed = alive === null || since === null ? null : missedOf(keptKey!, alive, since)
    const begun = missed === null ? clock : since!
    const change: WatchKept = {
      is: 'kept',
      key,
      watcher,
      keepMs: Math.min(keepMs, this.#limits.keepMsMax),
      // Another connection of the client may know of less.
      since: missed === null && alive !== null ? alive.since : begun,
      begun,
      deadlineWallMs: Infinity,
    }
    this.put(change, now)
    return { change, missed }
  }

  /** `keep` without limits: what was within them when it was recorded. */
  put({ key, watcher, keepMs, since, begun, deadlineWallMs }: WatchKept, now: Moment): void {
    let keptKey = this.#byKey.get(key)
    if (keptKey === undefined) this.#byKey.set(key, (keptKey = { key, byClient: new Map(), past: [], floor: since }))
    let kept = keptKey.byClient.get(watcher.clientId)
    if (kept === undefined) kept = this.#begin(keptKey, watcher, since)
    this.#comeBack(kept)
    kept.last = watcher
    kept.keepMs = keepMs
    kept.since = since
    kept.begun = begun
    if (deadlineWallMs === Infinity) this.#bind(kept, watcher)
    else {
      this.#unbindAll(kept)
      this.#sendAway(kept, deadlineWallMs, now)
    }
    // Nobody else could ask for what came before.
    if (keptKey.byClient.size === 1) while (isUpTo(keptKey.past[0], since)) this.#forgetOldest(keptKey)
  }

  /** False: the client kept no watch of the key. */
  remove(key: string, clientId: string): boolean {
    const kept = this.#byKey.get(key)?.byClient.get(clientId)
    if (kept === undefined) return false
    this.#remove(kept)
    return true
  }

  /**
   * One connection of the client watches it so no more: with the last of them, and without any, the watch ends. Of a connection that never asked
   * nothing is known, not even whether it is older than those that have.
   */
  release(key: string, watcher: WatcherId): 'ended' | 'released' | null {
    const kept = this.#byKey.get(key)?.byClient.get(watcher.clientId)
    if (kept === undefined) return null
    const isIts = kept.watchers.some(each => isSame(each, watcher))
    if (!isIts && kept.away === null) return null
    if (kept.watchers.length > 1) {
      this.#unbind(kept, watcher)
      return 'released'
    }
    this.#remove(kept)
    return 'ended'
  }

  /**
   * `release` as it was recorded, when there were others. One that has none any more has asked again since, in a snapshot that is newer than the record:
   * to end the watch would forget what is owed to it.
   */
  released(key: string, watcher: WatcherId): void {
    const kept = this.#byKey.get(key)?.byClient.get(watcher.clientId)
    if (kept !== undefined && kept.watchers.length > 1) this.#unbind(kept, watcher)
  }

  /** All of the key. Answers whose they were. */
  removeAll(key: string): readonly string[] {
    const clients = [...(this.#byKey.get(key)?.byClient.keys() ?? [])]
    for (const clientId of clients) this.remove(key, clientId)
    return clients
  }

  keys(): Iterable<string> {
    return [...this.#byKey.keys()]
  }

  /** A connection is gone since `wallMs`: what it watched is kept for as long as was asked. False: it watched nothing. */
  leave(frontend: string, connection: number, wallMs: number, now: Moment): boolean {
    const left = this.#frontends.get(frontend)?.get(connection)
    if (left === undefined) return false
    for (const kept of left) {
      this.#unbind(kept, { frontend, connection })
      if (kept.watchers.length === 0) this.#sendAway(kept, wallMs + kept.keepMs, now)
    }
    return true
  }

  frontends(): Iterable<string> {
    return [...this.#frontends.keys()]
  }

  connectionsOf(frontend: string): readonly number[] {
    return [...(this.#frontends.get(frontend)?.keys() ?? [])]
  }

  /**
   * A change of a key, in the order of versions; what it has already, or nobody watches, is left out.
   * @param value null: deleted
   * @returns the change of the key before it
   */
  remember(key: string, version: StoreClock, value: StoredBytes | null): StoreClock | null {
    const keptKey = this.size === 0 ? undefined : this.#byKey.get(key)
    if (keptKey === undefined) return null
    const previous = keptKey.past.at(-1)?.version ?? keptKey.floor
    if (compareClocks(version, previous) <= 0) return null
    const { pastPerKeyMax, pastBytesMax } = this.#limits
    const { past } = keptKey
    past.push({ is: 'past', key, version, value })
    this.pastBytes += pastBytes(value)
    while (past.length > pastPerKeyMax || (this.pastBytes > pastBytesMax && past.length > 0)) this.#forgetOldest(keptKey)
    return previous
  }

  /** Ends at most `max` watches whose time without connection is over. */
  due(now: Moment, onEnded: (key: string, clientId: string) => void, max: number): void {
    this.#deadlines.advance(
      now.monotonicMs,
      kept => {
        this.#remove(kept)
        onEnded(kept.key, kept.clientId)
      },
      max,
    )
  }

  /** Whoever takes the next one may let time pass; what is of one key was there together. */
  *snapshot(now: () => Moment): Iterable<WatchKept | PastChange> {
    // Those that come meanwhile are recorded besides.
    const keptKeys = [...this.#byKey.values()]
    for (const keptKey of keptKeys) yield* ofKey(keptKey, now())
  }

  #isFull(key: string, keptKey: KeptKey | undefined, clientId: string): boolean {
    const { keysPerConnectionMax, watchersPerKeyMax, watchedBytesMax } = this.#limits
    if ((this.#clients.get(clientId) ?? 0) >= keysPerConnectionMax) return true
    if ((keptKey?.byClient.size ?? 0) >= watchersPerKeyMax) return true
    return this.bytes + KEPT_BYTES + key.length > watchedBytesMax
  }

  #begin(keptKey: KeptKey, watcher: WatcherId, since: StoreClock): Kept {
    const { key } = keptKey
    const { clientId } = watcher
    const kept: Kept = { key, clientId, watchers: [], last: watcher, keepMs: 0, since, begun: since, away: null }
    keptKey.byClient.set(clientId, kept)
    this.#clients.set(clientId, (this.#clients.get(clientId) ?? 0) + 1)
    this.size++
    this.bytes += KEPT_BYTES + key.length
    return kept
  }

  #remove(kept: Kept): void {
    const { key, clientId } = kept
    this.#comeBack(kept)
    this.#unbindAll(kept)
    this.size--
    this.bytes -= KEPT_BYTES + key.length
    const left = this.#clients.get(clientId)! - 1
    if (left === 0) this.#clients.delete(clientId)
    else this.#clients.set(clientId, left)
    const keptKey = this.#byKey.get(key)!
    keptKey.byClient.delete(clientId)
    if (keptKey.byClient.size > 0) return
    while (keptKey.past.length > 0) this.#forgetOldest(keptKey)
    this.#byKey.delete(key)
  }

  #forgetOldest(keptKey: KeptKey): void {
    const { version, value } = keptKey.past.shift()!
    keptKey.floor = version
    this.pastBytes -= pastBytes(value)
  }

  #bind(kept: Kept, watcher: WatcherId): void {
    if (kept.watchers.some(each => isSame(each, watcher))) return
    const { frontend, connection } = watcher
    let connections = this.#frontends.get(frontend)
    if (connections === undefined) this.#frontends.set(frontend, (connections = new Map()))
    const bound = connections.get(connection)
    if (bound === undefined) connections.set(connection, new Set([kept]))
    else bound.add(kept)
    kept.watchers.push(watcher)
    if (kept.watchers.length > CONNECTIONS_MAX) this.#unbind(kept, kept.watchers[0]!)
  }

  #sendAway(kept: Kept, deadlineWallMs: number, now: Moment): void {
    const deadlineMs = now.monotonicMs + (deadlineWallMs - now.wallMs)
    kept.away = { deadlineMs, timer: this.#deadlines.schedule(kept, deadlineMs) }
    this.away++
  }

  #comeBack(kept: Kept): void {
    if (kept.away === null) return
    this.#deadlines.cancel(kept.away.timer)
    kept.away = null
    this.away--
  }

  #unbind(kept: Kept, watcher: Omit<WatcherId, 'clientId'>): void {
    const { frontend, connection } = watcher
    const at = kept.watchers.findIndex(each => isSame(each, watcher))
    if (at === -1) return
    kept.watchers.splice(at, 1)
    const connections = this.#frontends.get(frontend)!
    const bound = connections.get(connection)!
    bound.delete(kept)
    if (bound.size > 0) return
    connections.delete(connection)
    if (connections.size === 0) this.#frontends.delete(frontend)
  }

  #unbindAll(kept: Kept): void {
    for (const watcher of kept.watchers.slice()) this.#unbind(kept, watcher)
  }
}

function isSame(a: Omit<WatcherId, 'clientId'>, b: Omit<WatcherId, 'clientId'>): boolean {
  return a.connection === b.connection && a.frontend === b.frontend
}

/** Its time without connection is over, whether or not somebody has removed it. */
function hasEnded({ away }: Kept, now: Moment): boolean {
  return away !== null && now.monotonicMs >= away.deadlineMs
}

/**
 * What came after `since`. Null when that is not known for certain: something was forgotten; or the version is none that this watch was ever
 * told, as after a failover that lost changes, and what the client believes never was.
 */
function missedOf({ past, floor }: KeptKey, kept: Kept, since: StoreClock): readonly PastChange[] | null {
  if (compareClocks(since, kept.since) < 0 || compareClocks(since, floor) < 0) return null
  const isBeginning = [kept.since, kept.begun, floor].some(each => compareClocks(since, each) === 0)
  if (!isBeginning && !past.some(({ version }) => compareClocks(version, since) === 0)) return null
  return past.filter(change => !isUpTo(change, since))
}

function isUpTo(change: PastChange | undefined, since: StoreClock): boolean {
  return change !== undefined && compareClocks(change.version, since) <= 0
}

/** The first watch makes the key, so the one that has waited for longest comes first; none is owed what was forgotten. */
function ofKey({ byClient, past, floor }: KeptKey, now: Moment): (WatchKept | PastChange)[] {
  const watches = Array.from(byClient.values()).flatMap(({ key, watchers, last, keepMs, since: from, begun, away }): WatchKept[] => {
    const since = compareClocks(from, floor) < 0 ? floor : from
    const deadlineWallMs = away === null ? Infinity : now.wallMs + (away.deadlineMs - now.monotonicMs)
    return (away === null ? watchers : [last]).map(watcher => ({ is: 'kept', key, watcher, keepMs, since, begun, deadlineWallMs }))
  })
  watches.sort((a, b) => compareClocks(a.since, b.since))
  return [...watches, ...past]
}

function pastBytes(value: StoredBytes | null): number {
  return PAST_BYTES + (value?.length ?? 0)
}
