import { MatchCache, MatchResult } from './match-cache.ts'
import { mergedRecipient, type PackedOptions, packOptions, type Recipient, recipientOf, type SubscriptionOptions } from './recipient.ts'
import { SharedGroup, type SharedSubscriber } from './shared-group.ts'
import { Targets } from './targets.ts'
import { WildcardTrie } from '#shared/mqtt/wildcard-trie.ts'

/** Matching subscriptions kept per topic that may be kept, unless the owner says otherwise: about 1.5 KiB. */
const CACHED_SUBSCRIPTIONS_PER_TOPIC = 16

export interface SubscriptionIndexLimits {
  /** Topics whose result is remembered. The least recently used half of them goes when there are more. */
  readonly cachedTopicsMax: number
  /** Matching subscriptions in all of them together, at most about 100 bytes each; by default 16 per topic. Reaching it has the same effect. */
  readonly cachedSubscriptionsMax?: number
}

/**
 * Who subscribed to what (§3.8, §4.7, §4.8). Topic Filters come validated and without `$share/…`; each subscriber keeps
 * the list of its own, because here there is no way from a subscriber to its filters.
 *
 * Filters without wildcard stand in one Map, those with one in a trie, and results are remembered per topic. A change of a filter
 * without wildcard ends the result of that one topic, another that of the topics with the same first level, and
 * a filter that starts with a wildcard ends all.
 */
export class SubscriptionIndex<S extends SharedSubscriber> {
  readonly #exact = new Map<string, Targets<S>>()
  readonly #wildcard = new WildcardTrie<Targets<S>>()
  /** By ShareName and filter; a ShareName holds no slash [MQTT-4.8.2-1], so the two can be told apart. */
  readonly #groups = new Map<string, SharedGroup<S>>()
  readonly #cache: MatchCache<S>
  #subscriptionCount = 0
  #sharedSubscriptionCount = 0

  constructor(limits: SubscriptionIndexLimits) {
    const { cachedTopicsMax, cachedSubscriptionsMax = cachedTopicsMax * CACHED_SUBSCRIPTIONS_PER_TOPIC } = limits
    this.#cache = new MatchCache({ cachedTopicsMax, cachedSubscriptionsMax })
  }

  /** Pairs of subscriber and filter, shared ones not included. */
  get subscriptionCount(): number {
    return this.#subscriptionCount
  }

  /** Members of all groups together. */
  get sharedSubscriptionCount(): number {
    return this.#sharedSubscriptionCount
  }

  /** What the index holds for its filters, to see that nothing stays behind: 0 without subscriptions. */
  get nodeCount(): number {
    return this.#exact.size + this.#wildcard.nodeCount + this.#groups.size
  }

  /** A subscription to a filter that the subscriber has already replaces it [MQTT-3.8.4-3]. */
  subscribe(subscriber: S, filter: string, options: SubscriptionOptions): 'new' | 'replaced' {
    const outcome = this.#targetsFor(filter).set(subscriber, packOptions(options))
    if (outcome !== 'unchanged') this.#changed(filter)
    if (outcome === 'new') this.#subscriptionCount++
    return outcome === 'new' ? 'new' : 'replaced'
  }

  /** False when there was no such subscription. */
  unsubscribe(subscriber: S, filter: string): boolean {
    const targets = this.#targetsOf(filter)
    if (targets === undefined || !targets.delete(subscriber)) return false
    this.#subscriptionCount--
    this.#changed(filter)
    this.#forgetEmpty(filter, targets)
    return true
  }

  /** Makes the subscriber a member of the group `group` of `filter`; the group starts with its first member (§4.8.2). */
  subscribeShared(subscriber: S, group: string, filter: string, options: SubscriptionOptions): 'new' | 'replaced' {
    const key = groupKey(group, filter)
    let shared = this.#groups.get(key)
    if (shared === undefined) {
      shared = new SharedGroup<S>(group, filter, isWildcardFilter(filter))
      this.#groups.set(key, shared)
      this.#targetsFor(filter).addGroup(shared)
      this.#changed(filter)
    }
    const outcome = shared.add(subscriber, packOptions(options))
    if (outcome === 'new') this.#sharedSubscriptionCount++
    return outcome
  }

  /** False when it was no member. The group ends with its last member. */
  unsubscribeShared(subscriber: S, group: string, filter: string): boolean {
    const key = groupKey(group, filter)
    const shared = this.#groups.get(key)
    if (shared === undefined || !shared.remove(subscriber)) return false
    this.#sharedSubscriptionCount--
    if (shared.members.length > 0) return true
    this.#groups.delete(key)
    const targets = this.#targetsOf(filter)!
    targets.deleteGroup(shared)
    this.#changed(filter)
    this.#forgetEmpty(filter, targets)
    return true
  }

  /** The group of that ShareName and filter, while it has members. */
  sharedGroup(group: string, filter: string): SharedGroup<S> | undefined {
    return this.#groups.get(groupKey(group, filter))
  }

  /** Who gets a message on `topic`. Linear in the recipients when it is not remembered; see `WildcardTrie` for the bound. */
  match(topic: string): MatchResult<S> {
    const known = this.#cache.get(topic)
    if (known !== undefined) return known
    const found: Targets<S>[] = []
    const exact = this.#exact.get(topic)
    if (exact !== undefined) found.push(exact)
    this.#wildcard.collect(topic, found)
    const groups = groupsOf(found)
    const subscriptionCount = found.reduce((sum, targets) => sum + targets.subscriberCount, groups.length)
    const result = new MatchResult(recipientsOf(found), groups, subscriptionCount)
    this.#cache.add(topic, result)
    return result
  }

  #targetsOf(filter: string): Targets<S> | undefined {
    return isWildcardFilter(filter) ? this.#wildcard.get(filter) : this.#exact.get(filter)
  }

  #targetsFor(filter: string): Targets<S> {
    if (isWildcardFilter(filter)) return this.#wildcard.getOrInsert(filter, () => new Targets<S>())
    let targets = this.#exact.get(filter)
    if (targets === undefined) {
      targets = new Targets<S>()
      this.#exact.set(filter, targets)
    }
    return targets
  }

  #forgetEmpty(filter: string, targets: Targets<S>): void {
    if (!targets.isEmpty) return
    if (isWildcardFilter(filter)) this.#wildcard.delete(filter)
    else this.#exact.delete(filter)
  }

  #changed(filter: string): void {
    if (!isWildcardFilter(filter)) this.#cache.dropTopic(filter)
    else if (filter.startsWith('+') || filter.startsWith('#')) this.#cache.dropAll()
    else this.#cache.dropFirstLevel(filter)
  }
}

const NOBODY: readonly never[] = []

function recipientsOf<S extends SharedSubscriber>(found: readonly Targets<S>[]): readonly Recipient<S>[] {
  const recipients: Recipient<S>[] = []
  if (found.length <= 1) {
    found[0]?.forEach((subscriber, packed) => recipients.push(recipientOf(subscriber, packed)))
    return recipients
  }
  const options = new Map<S, PackedOptions | PackedOptions[]>()
  for (const targets of found) {
    targets.forEach((subscriber, packed) => {
      const others = options.get(subscriber)
      if (others === undefined) options.set(subscriber, packed)
      else if (typeof others === 'number') options.set(subscriber, [others, packed])
      else others.push(packed)
    })
  }
  for (const [subscriber, packed] of options) {
    recipients.push(typeof packed === 'number' ? recipientOf(subscriber, packed) : mergedRecipient(subscriber, packed))
  }
  return recipients
}

function groupsOf<S extends SharedSubscriber>(found: readonly Targets<S>[]): readonly SharedGroup<S>[] {
  let groups: SharedGroup<S>[] | null = null
  for (const targets of found) {
    if (targets.groups === null) continue
    groups ??= []
    for (const group of targets.groups) groups.push(group)
  }
  return groups ?? NOBODY
}

function isWildcardFilter(filter: string): boolean {
  return filter.includes('+') || filter.includes('#')
}

function groupKey(group: string, filter: string): string {
  return `${group}/${filter}`
}
