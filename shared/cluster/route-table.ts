import { hash32 } from '#shared/base/hash.ts'
import { RouteDigest } from './route-digest.ts'
import { WildcardTrie } from '#shared/mqtt/wildcard-trie.ts'

const SLASH = 0x2f
const PLUS = 0x2b
const HASH = 0x23

/** Results of Topic Names whose hashes end alike lose their validity together when one of them is subscribed to; a power of two. */
const EXACT_BUCKETS = 4_096
/** The same for filters with wildcards, by the hash of the first level; a power of two. */
const LEVEL_BUCKETS = 256
/** Lists of shards that are kept to be shared; when there are more, all are forgotten and those in use live on with who uses them. */
const SHARED_LISTS_MAX = 4_096

/** The shards that have a route for something. Never changes; shared by all topics with the same shards as far as possible. */
export class RouteTargets {
  /** Ascending, each once. */
  readonly shards: readonly number[]
  /** What the user of the table derived from this list; it says itself whether it is still right. */
  remembered: unknown = undefined

  constructor(shards: readonly number[]) {
    this.shards = shards
  }

  has(shard: number): boolean {
    return this.shards.includes(shard)
  }
}

interface Validity {
  isCurrent: boolean
}

/** The targets of one Topic Name for as long as `isCurrent`: what is worth keeping in `Topic.resolved`. */
export class ResolvedRoute {
  readonly targets: RouteTargets
  readonly #exact: Validity
  readonly #level: Validity

  constructor(targets: RouteTargets, exact: Validity, level: Validity) {
    this.targets = targets
    this.#exact = exact
    this.#level = level
  }

  /** Whether `match` would still find the same; once false, for ever. */
  get isCurrent(): boolean {
    return this.#exact.isCurrent && this.#level.isCurrent
  }
}

/**
 * Topic Filter → shards that have subscribers (or groups) for it. Filters without wildcards in a flat map, the others in a trie. A filter
 * of one shard costs no object of its own.
 * What was resolved loses its validity by hash bucket, so that clients which subscribe to topics of their own do not make all others be matched anew.
 */
export class RouteTable {
  readonly #exact = new Map<string, RouteTargets>()
  readonly #trie = new WildcardTrie<RouteTargets>()
  #wildcards = 0
  readonly #filters: Set<string>[]
  readonly #digests: RouteDigest[]
  readonly #ofOne: RouteTargets[]
  readonly #ofNone = new RouteTargets([])
  readonly #shared = new Map<string, RouteTargets>()
  readonly #exactBuckets: Validity[]
  readonly #levelBuckets: Validity[]
  #version = 0
  /** Of the match that is running. */
  readonly #found: RouteTargets[] = []
  readonly #isMarked: Uint8Array

  constructor(shardCount: number) {
    const shards = Array.from({ length: shardCount }, (_, shard) => shard)
    this.#filters = shards.map(() => new Set())
    this.#digests = shards.map(() => new RouteDigest())
    this.#ofOne = shards.map(shard => new RouteTargets([shard]))
    this.#isMarked = new Uint8Array(shardCount)
    this.#exactBuckets = Array.from({ length: EXACT_BUCKETS }, () => ({ isCurrent: true }))
    this.#levelBuckets = Array.from({ length: LEVEL_BUCKETS }, () => ({ isCurrent: true }))
  }

  /** Another number after every change. */
  get version(): number {
    return this.#version
  }

  /** Number and digest of the filters of `shard`; read only. */
  digest(shard: number): Readonly<Pick<RouteDigest, 'count' | 'value'>> {
    return this.#digests[shard]!
  }

  /** `shard` has a subscriber for `filter` (valid, without `$share/…`). Again changes nothing. */
  add(shard: number, filter: string): void {
    const filters = this.#filters[shard]!
    if (filters.has(filter)) return
    filters.add(filter)
    this.#digests[shard]!.add(filter)
    const isWildcard = hasWildcard(filter)
    const before = isWildcard ? this.#trie.get(filter) : this.#exact.get(filter)
    const after = before === undefined ? this.#ofOne[shard]! : this.#share([...before.shards, shard].sort(ascending))
    if (!isWildcard) this.#exact.set(filter, after)
    else {
      this.#trie.set(filter, after)
      if (before === undefined) this.#wildcards++
    }
    this.#changed(filter, isWildcard)
  }

  /** `shard` has none any more. */
  remove(shard: number, filter: string): void {
    if (!this.#filters[shard]!.delete(filter)) return
    this.#digests[shard]!.remove(filter)
    this.#drop(shard, filter)
  }

  /** Forgets all filters of `shard`. */
  forget(shard: number): void {
    const filters = this.#filters[shard]!
    if (filters.size === 0) return
    this.#filters[shard] = new Set()
    this.#digests[shard]!.clear()
    for (const filter of filters) this.#drop(shard, filter)
  }

  /** The shards with a filter that matches the Topic Name `topic`. Some microseconds: keep `resolve` of what comes again. */
  match(topic: string): RouteTargets {
    const exact = this.#exact.get(topic)
    if (this.#wildcards === 0) return exact ?? this.#ofNone
    const found = this.#found
    this.#trie.collect(topic, found)
    if (found.length === 0) return exact ?? this.#ofNone
    const targets = found.length === 1 && exact === undefined ? found[0]! : this.#union(exact, found)
    found.length = 0
    return targets
  }

  matches(topic: string, shard: number): boolean {
    return this.match(topic).has(shard)
  }

  /** `match`, with what tells how long it holds. */
  resolve(topic: string): ResolvedRoute {
    return new ResolvedRoute(this.match(topic), this.#exactBuckets[exactBucket(topic)]!, this.#levelBuckets[levelBucket(topic)]!)
  }

  #drop(shard: number, filter: string): void {
    const isWildcard = hasWildcard(filter)
    const before = (isWildcard ? this.#trie.get(filter) : this.#exact.get(filter))!
    const rest = before.shards.filter(other => other !== shard)
    if (rest.length > 0) {
      const after = this.#share(rest)
      if (isWildcard) this.#trie.set(filter, after)
      else this.#exact.set(filter, after)
    } else if (isWildcard) {
      this.#trie.delete(filter)
      this.#wildcards--
    } else this.#exact.delete(filter)
    this.#changed(filter, isWildcard)
  }

  #union(exact: RouteTargets | undefined, found: readonly RouteTargets[]): RouteTargets {
    const shards: number[] = []
    this.#mark(exact ?? this.#ofNone, shards)
    for (const targets of found) this.#mark(targets, shards)
    for (const shard of shards) this.#isMarked[shard] = 0
    return this.#share(shards.sort(ascending))
  }

  #mark(targets: RouteTargets, shards: number[]): void {
    for (const shard of targets.shards) {
      if (this.#isMarked[shard] === 1) continue
      this.#isMarked[shard] = 1
      shards.push(shard)
    }
  }

  #share(shards: readonly number[]): RouteTargets {
    if (shards.length === 1) return this.#ofOne[shards[0]!]!
    const key = shards.join()
    let targets = this.#shared.get(key)
    if (targets === undefined) {
      if (this.#shared.size >= SHARED_LISTS_MAX) this.#shared.clear()
      targets = new RouteTargets(shards)
      this.#shared.set(key, targets)
    }
    return targets
  }

  #changed(filter: string, isWildcard: boolean): void {
    this.#version++
    if (!isWildcard) return expire(this.#exactBuckets, exactBucket(filter))
    const first = filter.charCodeAt(0)
    if (first !== PLUS && first !== HASH) return expire(this.#levelBuckets, levelBucket(filter))
    for (let bucket = 0; bucket < LEVEL_BUCKETS; bucket++) expire(this.#levelBuckets, bucket)
  }
}

function expire(buckets: Validity[], bucket: number): void {
  buckets[bucket]!.isCurrent = false
  buckets[bucket] = { isCurrent: true }
}

function exactBucket(topic: string): number {
  return hash32(topic) & (EXACT_BUCKETS - 1)
}

function levelBucket(topic: string): number {
  const slash = topic.indexOf('/')
  return hash32(slash === -1 ? topic : topic.slice(0, slash)) & (LEVEL_BUCKETS - 1)
}

function hasWildcard(filter: string): boolean {
  for (let at = filter.length - 1; at >= 0; at--) {
    const code = filter.charCodeAt(at)
    if (code !== PLUS && code !== HASH) continue
    // Between other characters they cannot stand in a valid filter.
    if (at === 0 || filter.charCodeAt(at - 1) === SLASH) return true
  }
  return false
}

function ascending(a: number, b: number): number {
  return a - b
}
