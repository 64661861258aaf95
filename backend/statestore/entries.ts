import { type TimerHandle, TimerWheel } from '#shared/base/timer-wheel.ts'
import { type HybridClock, type StoreClock, storeClock } from '#shared/state-store/hybrid-clock.ts'
import { keepBytes, SHORT_MAX, type StoredBytes } from '#shared/state-store/stored-bytes.ts'
import type { EntrySet } from './changes.ts'
import type { Moment } from './moment.ts'
import { OrderedKeys } from './ordered-keys.ts'

/** Heap of an entry beside the bytes of its key and its value, about, as key-store.bench.ts measures it; more with these. */
const ENTRY_BYTES = 180
const DEADLINE_BYTES = 120
const TOKEN_BYTES = 80
const LONG_VALUE_BYTES = 160
const TICK_MS = 1

/** How many entries there are that one client created. */
interface Owner {
  readonly clientId: string
  keys: number
}

/** One key. Its value is replaced, never written into: changes and answers refer to it. */
export class Entry {
  readonly key: string
  readonly owner: Owner | null
  value: StoredBytes
  wall: number
  counter: number
  token: HybridClock | null
  isPersistent: boolean
  /** What it counts in `Entries.bytes`. */
  bytes = 0
  /** Most entries never expire. */
  expiry: { readonly deadlineMs: number; readonly timer: TimerHandle } | null = null

  constructor(key: string, owner: Owner | null, set: Omit<EntrySet, 'is' | 'key' | 'owner'>) {
    this.key = key
    this.owner = owner
    this.value = keepBytes(set.value)
    this.wall = set.version.wall
    this.counter = set.version.counter
    this.token = set.token
    this.isPersistent = set.isPersistent
  }

  get version(): StoreClock {
    return storeClock(this.wall, this.counter)
  }

  /** From its deadline on it is absent, whether or not somebody has removed it. */
  hasExpired(monotonicMs: number): boolean {
    return this.expiry !== null && monotonicMs >= this.expiry.deadlineMs
  }

  /** As a record: the deadline in the wall time of now, wherever that was set since. */
  asChange(now: Moment): EntrySet {
    const { key, value, version, token, isPersistent, expiry } = this
    const deadlineWallMs = expiry === null ? Infinity : now.wallMs + (expiry.deadlineMs - now.monotonicMs)
    return { is: 'set', key, value, version, token, deadlineWallMs, isPersistent, owner: this.owner?.clientId ?? null }
  }
}

/** What an entry counts in `Entries.bytes`. */
export function entryBytes(key: string, value: StoredBytes, token: HybridClock | null, hasDeadline: boolean): number {
  return (
    ENTRY_BYTES +
    key.length +
    value.length +
    (value.length > SHORT_MAX ? LONG_VALUE_BYTES : 0) +
    (token === null ? 0 : TOKEN_BYTES + token.node.length) +
    (hasDeadline ? DEADLINE_BYTES : 0)
  )
}

/** The entries of one shard by key, how many and how large they are, and when they end. */
export class Entries {
  readonly #byKey = new Map<string, Entry>()
  readonly #ordered = new OrderedKeys()
  readonly #owners = new Map<string, Owner>()
  readonly #deadlines: TimerWheel<Entry>
  bytes = 0

  constructor(monotonicMs: number) {
    // What is past its deadline when it is read back would otherwise be due one tick after that, and take room until then.
    this.#deadlines = new TimerWheel(TICK_MS, monotonicMs - 2 * TICK_MS)
  }

  get size(): number {
    return this.#byKey.size
  }

  get(key: string): Entry | undefined {
    return this.#byKey.get(key)
  }

  /** In the order in which their keys came. */
  values(): Iterable<Entry> {
    return this.#byKey.values()
  }

  /** In the order of their bytes, from the first on that is not before `from`. Valid until an entry comes or goes. */
  *from(from: string): Iterable<Entry> {
    for (const key of this.#ordered.from(from)) yield this.#byKey.get(key)!
  }

  keysOf(clientId: string): number {
    return this.#owners.get(clientId)?.keys ?? 0
  }

  /**
   * Creates or replaces. The owner of an entry that is there already stays.
   * @param before the one that is there
   */
  put(set: EntrySet, now: Moment, before = this.#byKey.get(set.key)): Entry {
    const entry = before ?? this.#create(set)
    if (before !== undefined) {
      this.bytes -= before.bytes
      this.#forgetDeadline(before)
      before.value = keepBytes(set.value)
      before.wall = set.version.wall
      before.counter = set.version.counter
      before.token = set.token
      before.isPersistent = set.isPersistent
    }
    if (set.deadlineWallMs !== Infinity) {
      const deadlineMs = now.monotonicMs + (set.deadlineWallMs - now.wallMs)
      entry.expiry = { deadlineMs, timer: this.#deadlines.schedule(entry, deadlineMs) }
    }
    entry.bytes = entryBytes(entry.key, entry.value, entry.token, entry.expiry !== null)
    this.bytes += entry.bytes
    return entry
  }

  delete(entry: Entry): void {
    this.#byKey.delete(entry.key)
    this.#ordered.delete(entry.key)
    this.bytes -= entry.bytes
    this.#forgetDeadline(entry)
    const { owner } = entry
    if (owner !== null && --owner.keys === 0) this.#owners.delete(owner.clientId)
  }

  /** `onDue` with each entry whose deadline has come, at most `max`. */
  due(monotonicMs: number, onDue: (entry: Entry) => void, max: number): void {
    this.#deadlines.advance(monotonicMs, onDue, max)
  }

  #create(set: EntrySet): Entry {
    const entry = new Entry(set.key, this.#ownerOf(set.owner), set)
    this.#byKey.set(set.key, entry)
    this.#ordered.add(set.key)
    return entry
  }

  #ownerOf(clientId: string | null): Owner | null {
    if (clientId === null) return null
    let owner = this.#owners.get(clientId)
    if (owner === undefined) this.#owners.set(clientId, (owner = { clientId, keys: 0 }))
    owner.keys++
    return owner
  }

  #forgetDeadline(entry: Entry): void {
    if (entry.expiry === null) return
    this.#deadlines.cancel(entry.expiry.timer)
    entry.expiry = null
  }
}
