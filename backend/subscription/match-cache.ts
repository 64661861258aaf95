import { hash32 } from '#shared/base/hash.ts'
import type { Recipient } from './recipient.ts'
import type { SharedGroup, SharedSubscriber } from './shared-group.ts'

/** Longer Topic Names are matched each time: as keys they would take far more memory than their results. */
const CACHED_TOPIC_CHARACTERS_MAX = 1_024

/** Results whose topics have the same first level share a fate; more buckets only spare needless recomputing. */
const BUCKETS = 256

/** Many results end together by one write to what they all refer to. */
interface Validity {
  isCurrent: boolean
}

const ENDED: Validity = { isCurrent: false }

/**
 * What others may remember of a result for as long as they like: the cache empties it when it lets the result go. Otherwise a list of
 * recipients would live on with each of them, beyond the limits of the cache.
 */
export interface RememberedResult<S extends SharedSubscriber> {
  result: MatchResult<S> | null
}

/** Who gets a message on one topic. Never changes; when it would have to, `isCurrent` turns false for ever. */
export class MatchResult<S extends SharedSubscriber> {
  /** Each subscriber once. */
  readonly recipients: readonly Recipient<S>[]
  /** Of each of these one member gets the message. */
  readonly groups: readonly SharedGroup<S>[]
  /** @internal What it was made of: subscriptions, a group counting as one. */
  readonly subscriptionCount: number
  /** Empty while the cache does not hold this result. */
  readonly remembered: RememberedResult<S> = { result: null }
  /** @internal */
  generation: Validity = ENDED
  /** @internal */
  bucket: Validity = ENDED

  constructor(recipients: readonly Recipient<S>[], groups: readonly SharedGroup<S>[], subscriptionCount: number) {
    this.recipients = recipients
    this.groups = groups
    this.subscriptionCount = subscriptionCount
  }

  /** Whether `match` would still find the same. Whoever keeps a result asks this before each use (and keeps `remembered`). */
  get isCurrent(): boolean {
    return this.generation.isCurrent && this.bucket.isCurrent
  }
}

interface Generation<S extends SharedSubscriber> {
  readonly results: Map<string, MatchResult<S>>
  readonly validity: Validity
  subscriptionCount: number
}

export interface MatchCacheLimits {
  /** Topics whose results are kept; at 0 none is. */
  readonly cachedTopicsMax: number
  /** Matching subscriptions in all kept results together, at most about 100 bytes each. One result with more is kept all the same. */
  readonly cachedSubscriptionsMax: number
}

/**
 * Topic Name → MatchResult, bounded. Two generations of half the limits each: results are added to the young one; when it is full it
 * becomes the old one, and what the old one still held is dropped. A result found in the old one moves to the young one, so what
 * is in use stays. A dropped result is no longer current, because a later change could not find it any more.
 */
export class MatchCache<S extends SharedSubscriber> {
  readonly #topicsMax: number
  readonly #subscriptionsMax: number
  readonly #buckets: (Validity | undefined)[] = Array.from({ length: BUCKETS }, () => undefined)
  #young: Generation<S> = newGeneration()
  #old: Generation<S> = newGeneration()

  constructor(limits: MatchCacheLimits) {
    this.#topicsMax = Math.ceil(limits.cachedTopicsMax / 2)
    this.#subscriptionsMax = Math.ceil(limits.cachedSubscriptionsMax / 2)
  }

  get(topic: string): MatchResult<S> | undefined {
    const young = this.#young.results.get(topic)
    if (young !== undefined) return young.isCurrent ? young : undefined
    const old = this.#old.results.get(topic)
    if (old === undefined || !old.isCurrent) return undefined
    this.#put(topic, old)
    return old
  }

  /** Keeps `result`, which was found after the last change of the index. */
  add(topic: string, result: MatchResult<S>): void {
    if (this.#topicsMax === 0 || topic.length > CACHED_TOPIC_CHARACTERS_MAX) return
    const index = bucketOf(topic)
    result.bucket = this.#buckets[index] ??= { isCurrent: true }
    this.#put(topic, result)
  }

  /** The result of one topic has become wrong. */
  dropTopic(topic: string): void {
    dropFrom(this.#young, topic)
    dropFrom(this.#old, topic)
  }

  /** The results of all topics whose first level is that of `filter` may have become wrong. */
  dropFirstLevel(filter: string): void {
    const index = bucketOf(filter)
    const bucket = this.#buckets[index]
    if (bucket === undefined) return
    bucket.isCurrent = false
    this.#buckets[index] = undefined
  }

  /** Every result may have become wrong. */
  dropAll(): void {
    end(this.#young)
    end(this.#old)
    this.#young = newGeneration()
    this.#old = newGeneration()
  }

  #put(topic: string, result: MatchResult<S>): void {
    if (this.#young.results.size >= this.#topicsMax || this.#young.subscriptionCount >= this.#subscriptionsMax) {
      end(this.#old)
      this.#old = this.#young
      this.#young = newGeneration()
    }
    dropFrom(this.#young, topic)
    this.#young.results.set(topic, result)
    this.#young.subscriptionCount += result.subscriptionCount
    result.generation = this.#young.validity
    result.remembered.result = result
  }
}

function newGeneration<S extends SharedSubscriber>(): Generation<S> {
  return { results: new Map(), validity: { isCurrent: true }, subscriptionCount: 0 }
}

/** One step for each result that was put in since the generation began, so it costs each `add` one. */
function end<S extends SharedSubscriber>(generation: Generation<S>): void {
  generation.validity.isCurrent = false
  for (const result of generation.results.values()) if (result.generation === generation.validity) result.remembered.result = null
}

function dropFrom<S extends SharedSubscriber>(generation: Generation<S>, topic: string): void {
  const result = generation.results.get(topic)
  if (result === undefined) return
  result.generation = ENDED
  result.remembered.result = null
  generation.subscriptionCount -= result.subscriptionCount
  generation.results.delete(topic)
}

function bucketOf(topicOrFilter: string): number {
  const slash = topicOrFilter.indexOf('/')
  return hash32(slash === -1 ? topicOrFilter : topicOrFilter.slice(0, slash)) % BUCKETS
}
