import type { WatcherId } from './store-request.ts'

export interface WatcherLimits {
  /** Keys that one connection watches in one shard. */
  readonly keysPerConnectionMax: number
  /** Connections that watch one key: so many notifications each change of it makes. */
  readonly watchersPerKeyMax: number
  /** All registrations of the shard, their keys counted each time. */
  readonly watchedBytesMax: number
}

/** Heap of one registration beside its key, about. */
const REGISTRATION_BYTES = 250

/** One connection and what it watches. */
interface Watching {
  readonly id: WatcherId
  readonly keys: Set<string>
}

/**
 * Who is to be told of changes, by key and by connection. A client that came back on another connection watches nothing before it asks
 * again, even while nobody has told us that the former one is gone.
 */
export class Watchers {
  readonly #limits: WatcherLimits
  readonly #byKey = new Map<string, Set<Watching>>()
  readonly #frontends = new Map<string, Map<number, Watching>>()
  /** Registrations: a connection and a key each. */
  size = 0
  bytes = 0

  constructor(limits: WatcherLimits) {
    this.#limits = limits
  }

  /** `known`: it watches the key already. `full`: a limit is reached, nothing was registered. */
  add(key: string, id: WatcherId): 'added' | 'known' | 'full' {
    const watching = this.#watching(id)
    if (watching?.keys.has(key) === true) return 'known'
    if (this.#isFull(key, watching)) return 'full'
    this.put(key, id)
    return 'added'
  }

  /** `add` without limits: what was within them when it was recorded. */
  put(key: string, id: WatcherId): void {
    const watching = this.#watching(id) ?? this.#begin(id)
    if (watching.keys.has(key)) return
    watching.keys.add(key)
    const watchers = this.#byKey.get(key)
    if (watchers === undefined) this.#byKey.set(key, new Set([watching]))
    else watchers.add(watching)
    this.size++
    this.bytes += REGISTRATION_BYTES + key.length
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

  of(key: string): readonly WatcherId[] {
    const watchers = this.#byKey.get(key)
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
    if ((this.#byKey.get(key)?.size ?? 0) >= watchersPerKeyMax) return true
    return this.bytes + REGISTRATION_BYTES + key.length > watchedBytesMax
  }

  #watching({ frontend, connection }: WatcherId): Watching | undefined {
    return this.#frontends.get(frontend)?.get(connection)
  }

  #begin(id: WatcherId): Watching {
    const watching: Watching = { id, keys: new Set() }
    let connections = this.#frontends.get(id.frontend)
    if (connections === undefined) this.#frontends.set(id.frontend, (connections = new Map()))
    connections.set(id.connection, watching)
    return watching
  }

  #remove(key: string, watching: Watching): void {
    watching.keys.delete(key)
    const watchers = this.#byKey.get(key)!
    watchers.delete(watching)
    if (watchers.size === 0) this.#byKey.delete(key)
    this.size--
    this.bytes -= REGISTRATION_BYTES + key.length
  }

  #end({ id }: Watching): void {
    const connections = this.#frontends.get(id.frontend)!
    connections.delete(id.connection)
    if (connections.size === 0) this.#frontends.delete(id.frontend)
  }
}

const NOBODY: readonly WatcherId[] = []
