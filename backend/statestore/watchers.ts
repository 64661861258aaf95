import type { WatcherId } from './store-request.ts'
import { WatchedPrefixes } from './watched-prefixes.ts'

export interface WatcherLimits {
  /** Keys that one connection watches in one shard. */
  readonly keysPerConnectionMax: number
  /** Connections that watch one key, and those that watch any prefix: so many notifications of each kind a change makes. */
  readonly watchersPerKeyMax: number
  /** All registrations of the shard, their keys counted each time. */
  readonly watchedBytesMax: number
}

/** Heap of one registration beside its key, and of a connection that has any: 327 with a key of 17 bytes, 610 as the only one (Node 24). */
const REGISTRATION_BYTES = 300
const CONNECTION_BYTES = 300

/** Prefixes that one connection watches: each that is a beginning of a key costs a look at the connection when that changes. */
const PREFIXES_PER_CONNECTION_MAX = 64

/** Stands before the prefix of a registration of all keys that begin so. No key has it: their characters are bytes. */
const UNDER = '\u0100'

/** As the key of a registration of all keys that begin so. */
export function keysUnder(prefix: string): string {
  return UNDER + prefix
}

/** Null: it is the registration of one key. */
export function prefixOf(key: string): string | null {
  return key.startsWith(UNDER) ? key.slice(UNDER.length) : null
}

/** One connection and what it watches. */
interface Watching {
  readonly id: WatcherId
  /** Those of `keysUnder` among them. */
  readonly keys: Set<string>
  prefixes: number
}

/**
 * Who is to be told of changes, by key or prefix and by connection. A client that came back on another connection watches nothing before it asks
 * again, even while nobody has told us that the former one is gone.
 */
export class Watchers {
  readonly #limits: WatcherLimits
  readonly #byKey = new Map<string, Set<Watching>>()
  readonly #frontends = new Map<string, Map<number, Watching>>()
  readonly #byPrefix = new WatchedPrefixes<Watching>()
  /** Connections that watch a prefix. */
  #withPrefixes = 0
  /** Registrations: a connection and a key or prefix each. */
  size = 0
  bytes = 0

  constructor(limits: WatcherLimits) {
    this.#limits = limits
  }

  has(key: string, id: WatcherId): boolean {
    return this.#watching(id)?.keys.has(key) === true
  }

  /** `known`: it watches the key already. `full`: a limit is reached, nothing was registered. */
  add(key: string, id: WatcherId): 'added' | 'known' | 'full' {
    if (this.has(key, id)) return 'known'
    if (this.#isFull(key, this.#watching(id))) return 'full'
    this.put(key, id)
    return 'added'
  }

  /** `add` without limits: what was within them when it was recorded. */
  put(key: string, id: WatcherId): void {
    const watching = this.#watching(id) ?? this.#begin(id)
    if (watching.keys.has(key)) return
    watching.keys.add(key)
    const prefix = prefixOf(key)
    if (prefix === null) this.#addTo(key, watching)
    else {
      this.#byPrefix.add(prefix, watching)
      if (watching.prefixes++ === 0) this.#withPrefixes++
    }
    this.size++
    this.bytes += REGISTRATION_BYTES + key.length
  }

  #addTo(key: string, watching: Watching): void {
    const watchers = this.#byKey.get(key)
    if (watchers === undefined) this.#byKey.set(key, new Set([watching]))
    else watchers.add(watching)
  }

  /** False: it did not watch the key. */
  remove(key: string, id: WatcherId): boolean {
    const watching = this.#watching(id)
    if (watching?.keys.has(key) !== true) return false
    this.#remove(key, watching)
    if (watching.keys.size === 0) this.#end(watching)
    return true
  }

  /** False: it watched nothing. */
  forget(frontend: string, connection: number): boolean {
    const watching = this.#frontends.get(frontend)?.get(connection)
    if (watching === undefined) return false
    for (const key of watching.keys) this.#remove(key, watching)
    this.#end(watching)
    return true
  }

  /** False: none of its connections watched anything. */
  forgetFrontend(frontend: string): boolean {
    const connections = this.#frontends.get(frontend)
    if (connections === undefined) return false
    for (const connection of connections.keys()) this.forget(frontend, connection)
    return true
  }

  forgetAll(): boolean {
    const hadAny = this.size > 0
    for (const frontend of this.#frontends.keys()) this.forgetFrontend(frontend)
    return hadAny
  }

  frontends(): Iterable<string> {
    return this.#frontends.keys()
  }

  connectionsOf(frontend: string): readonly number[] {
    return [...(this.#frontends.get(frontend)?.keys() ?? [])]
  }

  /** Each connection once, whether it watches the key, or one or several prefixes of it. */
  of(key: string): readonly WatcherId[] {
    const own = this.#byKey.get(key)
    const watchers = this.#withPrefixes === 0 ? own : this.#byPrefix.joined(key, own)
    return watchers === undefined ? NOBODY : Array.from(watchers, ({ id }) => id)
  }

  /** All registrations; what changes while somebody takes his time over them may be among them or not. */
  *all(): Iterable<{ readonly key: string; readonly watcher: WatcherId }> {
    const connections = [...this.#frontends.values()].flatMap(each => [...each.values()])
    for (const { id, keys } of connections) {
      // Keys that come meanwhile stand behind all others.
      let left = keys.size
      for (const key of keys) {
        if (left-- === 0) break
        yield { key, watcher: id }
      }
    }
  }

  #isFull(key: string, watching: Watching | undefined): boolean {
    const { keysPerConnectionMax, watchersPerKeyMax, watchedBytesMax } = this.#limits
    if ((watching?.keys.size ?? 0) >= keysPerConnectionMax) return true
    const isOver = prefixOf(key) === null ? (this.#byKey.get(key)?.size ?? 0) >= watchersPerKeyMax : this.#isFullOfPrefixes(watching)
    const more = REGISTRATION_BYTES + key.length + (watching === undefined ? CONNECTION_BYTES : 0)
    return isOver || this.bytes + more > watchedBytesMax
  }

  #isFullOfPrefixes(watching: Watching | undefined): boolean {
    const prefixes = watching?.prefixes ?? 0
    return prefixes === 0 ? this.#withPrefixes >= this.#limits.watchersPerKeyMax : prefixes >= PREFIXES_PER_CONNECTION_MAX
  }

  #watching({ frontend, connection }: WatcherId): Watching | undefined {
    return this.#frontends.get(frontend)?.get(connection)
  }

  #begin(id: WatcherId): Watching {
    const watching: Watching = { id, keys: new Set(), prefixes: 0 }
    let connections = this.#frontends.get(id.frontend)
    if (connections === undefined) this.#frontends.set(id.frontend, (connections = new Map()))
    connections.set(id.connection, watching)
    this.bytes += CONNECTION_BYTES
    return watching
  }

  #remove(key: string, watching: Watching): void {
    watching.keys.delete(key)
    const prefix = prefixOf(key)
    if (prefix === null) this.#removeFrom(key, watching)
    else {
      this.#byPrefix.remove(prefix, watching)
      if (--watching.prefixes === 0) this.#withPrefixes--
    }
    this.size--
    this.bytes -= REGISTRATION_BYTES + key.length
  }

  #removeFrom(key: string, watching: Watching): void {
    const watchers = this.#byKey.get(key)!
    watchers.delete(watching)
    if (watchers.size === 0) this.#byKey.delete(key)
  }

  #end({ id }: Watching): void {
    const connections = this.#frontends.get(id.frontend)!
    connections.delete(id.connection)
    this.bytes -= CONNECTION_BYTES
    if (connections.size === 0) this.#frontends.delete(id.frontend)
  }
}

const NOBODY: readonly WatcherId[] = []
