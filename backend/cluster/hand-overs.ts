import type { Message } from '#shared/mqtt/message.ts'
import type { HandOverTarget } from '#shared/rpc/owner-port.ts'
import type { Engine } from '../engine.ts'
import { setRemainingExpiry } from '../publishing/publication.ts'
import { writeHandedOver, writeHandOver } from '../shard/records.ts'
import type { Shard } from '../shard/shard.ts'
import type { ClusterNode } from './cluster-node.ts'
import { HandOver } from './hand-over.ts'
import { takeHandOver } from './hand-over-taking.ts'

/**
 * Messages that must reach other shards exactly once, whatever fails on the way: of QoS 2 publishers, Wills, and what a group gives to a
 * member. Each is stored in its shard of origin with a number that only grows, and sent until every shard that it concerns has stored it.
 * Invariant: a target shard gets those of one origin in the order of their numbers, since it takes whatever is not above the last for a
 * repeat. So nothing is sent to a shard that is not fresh, and when it becomes fresh all that waits for it goes first, in order.
 */
export class HandOvers {
  readonly #engine: Engine
  readonly #node: ClusterNode

  constructor(engine: Engine, node: ClusterNode) {
    this.#engine = engine
    this.#node = node
  }

  /** Takes charge of a message that owns its bytes: it belongs to the records made in this turn. */
  add(shard: Shard, target: HandOverTarget, message: Message): void {
    const engine = this.#engine
    const handOver = new HandOver(shard.nextHandOver++, target, message)
    shard.handOvers.set(handOver.sequence, handOver)
    engine.hold(message)
    message.moveApart()
    if (engine.journal.isDurable) writeHandOver(engine.journal.writer(shard.number), handOver)
    engine.journal.whenStored(() => {
      if (shard.isServing && shard.handOvers.get(handOver.sequence) === handOver) this.#begin(shard, handOver)
    })
  }

  /** The shard has been taken over with hand-overs that may or may not have been taken by some: all are sent (again). */
  resume(shard: Shard): void {
    for (const handOver of shard.handOvers.values()) this.#begin(shard, handOver)
  }

  /** What waits for `target`, in order; before anything newer goes there. */
  onFresh(target: number): void {
    for (const shard of this.#engine.shards) {
      if (!shard.isServing || shard.handOvers.size === 0) continue
      const waiting = [...shard.handOvers.values()].filter(({ pending }) => pending?.has(target) === true)
      for (const handOver of waiting) this.#send(shard, handOver, [target])
    }
  }

  /** CallerPort.handedOver. What was moved waits for the new owner. */
  onHandedOver(fromShard: number, sequence: number, shards: readonly number[], outcome: 'done' | 'moved' | 'gone'): void {
    const shard = this.#engine.shards[fromShard]
    if (shard === undefined || !shard.isServing || outcome === 'moved') return
    const handOver = shard.handOvers.get(sequence)
    if (handOver === undefined || handOver.pending === null) return
    if (outcome === 'gone' && handOver.target.is === 'member') this.#node.groups.giveToAnother(shard, handOver.target, handOver.message)
    this.#settle(shard, handOver, shards)
  }

  #begin(shard: Shard, handOver: HandOver): void {
    const { target, message } = handOver
    if (target.is === 'member') {
      handOver.pending = new Set([target.shard])
      return this.#send(shard, handOver, [target.shard])
    }
    const known = new Set(this.#node.others.match(message.topic.name))
    if (message.retain) known.add(this.#engine.shardFor(message.topic.name).number)
    const { shards } = this.#engine
    const concerned = shards.filter(
      ({ number, isServing }) => isServing || known.has(number) || this.#node.others.freshOwner(number) === null,
    )
    handOver.pending = new Set(concerned.map(({ number }) => number))
    this.#send(shard, handOver, [...handOver.pending])
  }

  /** To those of `targets` that can be reached now; the others wait for `onFresh`. */
  #send(shard: Shard, handOver: HandOver, targets: readonly number[]): void {
    const { sequence, target, message } = handOver
    const here: number[] = []
    const nobody: number[] = []
    const there = new Map<NonNullable<ReturnType<ClusterNode['others']['freshOwner']>>, number[]>()
    const known = this.#node.others.match(message.topic.name)
    for (const number of targets) {
      if (this.#engine.shards[number]!.isServing) {
        here.push(number)
        continue
      }
      const owner = this.#node.others.freshOwner(number)
      if (owner === null) continue
      if (target.is === 'shards' && !this.#concerns(number, known, message)) nobody.push(number)
      else there.set(owner, [...(there.get(owner) ?? []), number])
    }
    setRemainingExpiry(message, this.#engine.clock.wallMs())
    for (const [owner, shards] of there) {
      owner.handOver(shard.number, sequence, target.is === 'shards' ? { ...target, shards } : target, message)
    }
    if (nobody.length > 0) this.#settle(shard, handOver, nobody)
    if (here.length > 0) this.#takeHere(shard, handOver, here)
  }

  #concerns(number: number, known: readonly number[], message: Message): boolean {
    return known.includes(number) || (message.retain && this.#engine.shardFor(message.topic.name).number === number)
  }

  #takeHere(shard: Shard, handOver: HandOver, shards: readonly number[]): void {
    const target = handOver.target.is === 'shards' ? { ...handOver.target, shards } : handOver.target
    takeHandOver(this.#engine, shard.number, handOver.sequence, target, handOver.message, (taken, outcome) =>
      this.onHandedOver(shard.number, handOver.sequence, taken, outcome),
    )
  }

  #settle(shard: Shard, handOver: HandOver, shards: readonly number[]): void {
    for (const number of shards) handOver.pending!.delete(number)
    if (handOver.pending!.size > 0 || !shard.handOvers.delete(handOver.sequence)) return
    this.#engine.letGo(handOver.message)
    if (this.#engine.journal.isDurable) writeHandedOver(this.#engine.journal.writer(shard.number), handOver.sequence)
  }
}
