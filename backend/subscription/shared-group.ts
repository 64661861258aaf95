import { hash32, mix32 } from '#shared/base/hash.ts'
import { type PackedOptions, type Recipient, recipientOf } from './recipient.ts'

/** What members are told apart by when a partition is hashed. It must survive failover, or every partition would move. */
export interface SharedSubscriber {
  readonly clientId: string
}

/**
 * The Shared Subscription of one ShareName and one Topic Filter: its members, and who gets the next message (§4.8.2).
 * Lives as long as it has a member; results that name it stay good while members come and go.
 */
export class SharedGroup<S extends SharedSubscriber> {
  readonly name: string
  readonly filter: string
  readonly isWildcard: boolean
  readonly #members: Recipient<S>[] = []
  /** Of the members' Client Identifiers, signed so that they stay small integers. */
  readonly #hashes: number[] = []
  readonly #packed: PackedOptions[] = []
  readonly #indexOf = new Map<S, number>()
  #turn = 0

  constructor(name: string, filter: string, isWildcard: boolean) {
    this.name = name
    this.filter = filter
    this.isWildcard = isWildcard
  }

  /** In no particular order. */
  get members(): readonly Recipient<S>[] {
    return this.#members
  }

  /** The member that `subscriber` is, with the options of its subscription. */
  member(subscriber: S): Recipient<S> | undefined {
    const index = this.#indexOf.get(subscriber)
    return index === undefined ? undefined : this.#members[index]
  }

  /**
   * Who gets a message on `topic`: a member of which the first of `preferences` is true, or else the second and so on; `null` when
   * there is none. Members are asked only while they are candidates.
   *
   * With `partition` (the message's `$partition`), or for a filter with wildcards with the topic in its place, by rendezvous hashing:
   * the same key goes to the same member while it can, and when one of n members joins or leaves, 1/n of the keys move.
   * That reads one number per member. Otherwise in turns, which reads as many members as are passed over. A group costs thus at most
   * what its members' subscriptions would cost if they were not shared.
   */
  pick(topic: string, partition: string | undefined, ...preferences: readonly ((subscriber: S) => boolean)[]): Recipient<S> | null {
    const isHashed = partition !== undefined || this.isWildcard
    const key = isHashed ? hash32(partition ?? topic) : 0
    for (const isPreferred of preferences) {
      const member = isHashed ? this.#highestWeight(key, isPreferred) : this.#nextInTurn(isPreferred)
      if (member !== null) return member
    }
    return null
  }

  /** @internal The index alone adds and removes, because it counts them. */
  add(subscriber: S, packed: PackedOptions): 'new' | 'replaced' {
    const known = this.#indexOf.get(subscriber)
    if (known !== undefined) {
      if (this.#packed[known] !== packed) this.#members[known] = recipientOf(subscriber, packed)
      this.#packed[known] = packed
      return 'replaced'
    }
    this.#indexOf.set(subscriber, this.#members.length)
    this.#members.push(recipientOf(subscriber, packed))
    this.#hashes.push(hash32(subscriber.clientId) | 0)
    this.#packed.push(packed)
    return 'new'
  }

  /** @internal The last member takes the place of the one that goes. */
  remove(subscriber: S): boolean {
    const index = this.#indexOf.get(subscriber)
    if (index === undefined) return false
    this.#indexOf.delete(subscriber)
    const member = this.#members.pop()!
    const hash = this.#hashes.pop()!
    const packed = this.#packed.pop()!
    if (index === this.#members.length) return true
    this.#members[index] = member
    this.#hashes[index] = hash
    this.#packed[index] = packed
    this.#indexOf.set(member.subscriber, index)
    return true
  }

  #nextInTurn(isCandidate: (subscriber: S) => boolean): Recipient<S> | null {
    const count = this.#members.length
    for (let passed = 0; passed < count; passed++) {
      if (this.#turn >= count) this.#turn = 0
      const member = this.#members[this.#turn++]!
      if (isCandidate(member.subscriber)) return member
    }
    return null
  }

  #highestWeight(key: number, isCandidate: (subscriber: S) => boolean): Recipient<S> | null {
    let highest: Recipient<S> | null = null
    let highestWeight = Number.NEGATIVE_INFINITY
    for (let index = 0; index < this.#members.length; index++) {
      const weight = mix32(this.#hashes[index]! ^ key)
      if (weight <= highestWeight) continue
      const member = this.#members[index]!
      if (!isCandidate(member.subscriber)) continue
      highest = member
      highestWeight = weight
    }
    return highest
  }
}
