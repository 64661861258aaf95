import { groupShardOf } from '#shared/cluster/shard.ts'
import type { Message } from '#shared/mqtt/message.ts'
import type { HandOverTarget, OwnerPort } from '#shared/rpc/owner-port.ts'
import type { Engine } from '../engine.ts'
import { setRemainingExpiry } from '../publishing/publication.ts'
import { matchOf } from '../publishing/route.ts'
import { writeHandedOver, writeHandOver } from '../shard/records.ts'
import type { Shard } from '../shard/shard.ts'
import type { ClusterNode } from './cluster-node.ts'
import { HandOver } from './hand-over.ts'
import { takeHandOver } from './hand-over-taking.ts'

/**
 * Hand-overs that one ownership of a shard may number. Each begins above those of the ownership before it, also where state was lost on the
 * way (level memory): others take whatever is not above the last number that they have seen for a repeat. 2^53 is reached after two million epochs.
 */
export const NUMBERS_PER_EPOCH = 2 ** 32

interface Begun {
  readonly shard: Shard
  readonly handOver: HandOver
}

/**
 * Messages that must reach other shards exactly once, whatever fails on the way: of QoS 2 publishers, Wills, and what a group gives to a
 * member. Each is stored in its shard of origin with a number that only grows, and sent until every shard that it concerns has stored it.
 * Invariant: a target shard gets those of one origin in the order of their numbers, since it takes whatever is not above the last for a
 * repeat. So nothing is sent to a shard that is not fresh, and when it becomes fresh all that waits for it goes first, in order.
 * Everything begins at the end of a turn, when no publication is under way: with nothing to store, a group's choice would else begin
 * another one in the middle of its own.
 */
export class HandOvers {
  readonly #engine: Engine
  readonly #node: ClusterNode
  /** Stored, in the order of their numbers. */
  #stored: Begun[] = []
  /** Shards that became fresh in this turn: nothing goes there before what waits for them. */
  readonly #fresh = new Set<number>()

  constructor(engine: Engine, node: ClusterNode) {
    this.#engine = engine
    this.#node = node
  }

  /** Takes charge of a message that owns its bytes: it belongs to the records made in this turn. Answers its number. */
  add(shard: Shard, target: HandOverTarget, message: Message): number {
    const engine = this.#engine
    const sequence = Math.max(shard.nextHandOver, shard.epoch * NUMBERS_PER_EPOCH + 1)
    shard.nextHandOver = sequence + 1
    const handOver = new HandOver(sequence, target, message, false)
    shard.handOvers.set(sequence, handOver)
    engine.hold(message)
    message.moveApart()
    if (engine.journal.isDurable) writeHandOver(engine.journal.writer(shard.number), handOver)
    engine.journal.whenStored(() => {
      handOver.isStored = true
      this.#stored.push({ shard, handOver })
      engine.turn.request()
    })
    return handOver.sequence
  }

  /** The shard has been taken over with hand-overs that may or may not have been taken by some: all are sent (again), before newer ones. */
  resume(shard: Shard): void {
    const taken: Begun[] = []
    for (const handOver of shard.handOvers.values()) if (handOver.isStored) taken.push({ shard, handOver })
    if (taken.length === 0) return
    this.#stored = [...taken, ...this.#stored]
    this.#engine.turn.request()
  }

  /** What waits for `target` goes at the end of the turn, before anything newer goes there. */
  onFresh(target: number): void {
    this.#fresh.add(target)
    this.#engine.turn.request()
  }

  /** End of a turn. */
  flush(): void {
    if (this.#fresh.size > 0) this.#sendWaiting()
    if (this.#stored.length === 0) return
    const begun = this.#stored
    this.#stored = []
    for (const { shard, handOver } of begun) {
      if (shard.isServing && handOver.pending === null && shard.handOvers.get(handOver.sequence) === handOver) this.#begin(shard, handOver)
    }
  }

  /**
   * CallerPort.handedOver. What was moved waits for the new owner. Who found a member gone has taken the message all the same, and given it
   * back to the group (hand-over-taking.ts).
   */
  onHandedOver(fromShard: number, sequence: number, shards: readonly number[], outcome: 'done' | 'moved'): void {
    const shard = this.#engine.shards[fromShard]
    if (shard === undefined || !shard.isServing || outcome === 'moved') return
    const handOver = shard.handOvers.get(sequence)
    if (handOver === undefined || handOver.pending === null) return
    this.#settle(shard, handOver, shards)
  }

  /** One pass over what is pending, however many shards became fresh together. */
  #sendWaiting(): void {
    const fresh = [...this.#fresh]
    this.#fresh.clear()
    for (const shard of this.#engine.shards) {
      if (!shard.isServing || shard.handOvers.size === 0) continue
      for (const handOver of shard.handOvers.values()) {
        const { pending } = handOver
        if (pending === null) continue
        const targets = fresh.filter(target => pending.has(target))
        if (targets.length > 0) this.#send(shard, handOver, targets)
      }
    }
  }

  #begin(shard: Shard, handOver: HandOver): void {
    const { target, message } = handOver
    handOver.pending = target.is === 'shards' ? this.#concernedBy(message) : new Set([target.shard])
    if (handOver.pending.size === 0) this.#settle(shard, handOver, [])
    else this.#send(shard, handOver, [...handOver.pending])
  }

  /** Shards that have somebody for the message, or may have: those of ours and the fresh ones say so, of the others nobody knows. */
  #concernedBy(message: Message): Set<number> {
    const { shards } = this.#engine
    const { others } = this.#node
    const here = this.#matchingHere(message)
    const there = others.match(message.topic.name)
    const concerned = new Set<number>()
    for (const { number, isServing } of shards) {
      const isConcerned = isServing ? here.has(number) : others.freshOwner(number) === null || there.includes(number)
      if (isConcerned) concerned.add(number)
    }
    if (message.retain) concerned.add(this.#engine.shardFor(message.topic.name).number)
    return concerned
  }

  #matchingHere(message: Message): Set<number> {
    const engine = this.#engine
    const here = new Set<number>()
    for (const { subscriber } of matchOf(engine, message).recipients) here.add(subscriber.shard)
    for (const { name, filter } of this.#node.groups.matching(message)) here.add(groupShardOf(name, filter, engine.shards.length))
    return here
  }

  /** To those of `targets` that can be reached now; the others wait for `onFresh`. */
  #send(shard: Shard, handOver: HandOver, targets: readonly number[]): void {
    const { sequence, target, message } = handOver
    const nowMs = this.#engine.clock.wallMs()
    if (message.expiresAtMs <= nowMs) return this.#expire(shard, handOver)
    const here: number[] = []
    const nobody: number[] = []
    const there = new Map<OwnerPort, number[]>()
    for (const number of targets) {
      if (this.#fresh.has(number)) continue
      if (this.#engine.shards[number]!.isServing) {
        here.push(number)
        continue
      }
      const owner = this.#node.others.freshOwner(number)
      if (owner === null) continue
      if (target.is === 'shards' && !this.#concerns(number, message)) nobody.push(number)
      else {
        const shards = there.get(owner)
        if (shards === undefined) there.set(owner, [number])
        else shards.push(number)
      }
    }
    setRemainingExpiry(message, nowMs)
    for (const [owner, shards] of there) {
      owner.handOver(shard.number, sequence, target.is === 'shards' ? { ...target, shards } : target, message)
    }
    if (nobody.length > 0) this.#settle(shard, handOver, nobody)
    if (here.length > 0) this.#takeHere(shard, handOver, here)
  }

  /** [MQTT-3.3.2-5]: whoever has not had it until now gets it no more. */
  #expire(shard: Shard, handOver: HandOver): void {
    this.#engine.counters.expiredMessages++
    this.#settle(shard, handOver, [...handOver.pending!])
  }

  /** Whether the fresh shard of another backend has anything to do with the message. */
  #concerns(number: number, message: Message): boolean {
    if (message.retain && this.#engine.shardFor(message.topic.name).number === number) return true
    return this.#node.others.match(message.topic.name).includes(number)
  }

  #takeHere(shard: Shard, handOver: HandOver, shards: readonly number[]): void {
    const target = handOver.target.is === 'shards' ? { ...handOver.target, shards } : handOver.target
    takeHandOver(this.#engine, isServing, shard.number, handOver.sequence, target, handOver.message, (taken, outcome) => {
      this.onHandedOver(shard.number, handOver.sequence, taken, outcome)
      // Its new owner may have been fresh before we knew that we are it no more.
      if (outcome === 'moved') for (const number of taken) this.onFresh(number)
    })
  }

  #settle(shard: Shard, handOver: HandOver, shards: readonly number[]): void {
    for (const number of shards) handOver.pending!.delete(number)
    if (handOver.pending!.size > 0 || !shard.handOvers.delete(handOver.sequence)) return
    this.#engine.letGo(handOver.message)
    if (this.#engine.journal.isDurable) writeHandedOver(this.#engine.journal.writer(shard.number), handOver.sequence)
    handOver.taken()
    this.#node.storeTurns.onTaken()
  }
}

function isServing(shard: Shard): boolean {
  return shard.isServing
}
