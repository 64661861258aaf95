import type { Message } from '#shared/mqtt/message.ts'
import type { OwnerPort } from '#shared/rpc/owner-port.ts'
import { Shards } from '#shared/rpc/shards.ts'
import type { Engine } from '../engine.ts'
import { expiresAtMs } from '../publishing/publication.ts'
import type { RetainedCursor } from '../queue/retained-index.ts'
import type { Session } from '../session/session.ts'
import type { ClusterNode } from './cluster-node.ts'

/** Topics of which one read remembers that newer messages have come; of others the session may get an old one after a new one. */
const OVERTAKEN_MAX = 4_096

interface Query {
  readonly owner: OwnerPort
  /** Those that it still answers for. */
  readonly shards: Set<number>
}

/** Shards of ours that are being read. */
interface Local {
  readonly cursor: RetainedCursor<Message>
  /** With the epoch in which the reading began: it is whole only if they are ours in the same at its end. */
  readonly epochs: ReadonlyMap<number, number>
}

/**
 * Retained Messages that match one Topic Filter, of our shards and of other backends', batch after batch as the session takes them. A shard
 * that changes hands meanwhile is read anew from whoever has it then, and the session may get some of its messages twice.
 */
export class RetainedRead {
  readonly #node: ClusterNode
  readonly #engine: Engine
  readonly #session: Session
  readonly #filter: string
  readonly #newestSequence: number
  /** Shards that are still to be read. */
  readonly #waiting: Set<number>
  readonly #queries = new Map<number, Query>()
  #local: Local | null = null
  /** Came from others and are still to be sent; they count as held. */
  #messages: Message[] = []
  /** Of a query that has more: asked when the batch is used up. */
  readonly #unasked = new Set<number>()
  /** Topics whose newer message the session has had already. */
  readonly #overtaken = new Set<string>()

  /** @param newestSequence see `startReplay` */
  constructor(engine: Engine, node: ClusterNode, session: Session, filter: string, newestSequence: number) {
    this.#engine = engine
    this.#newestSequence = newestSequence
    this.#node = node
    this.#session = session
    this.#filter = filter
    this.#waiting = new Set(shardsFor(engine, filter))
    node.retainedReads.add(this)
    this.ask()
  }

  get isDone(): boolean {
    return this.#messages.length === 0 && this.#local === null && this.#queries.size === 0 && this.#waiting.size === 0
  }

  /** Nothing can be had before others answer. */
  get mustWait(): boolean {
    return this.#messages.length === 0 && this.#local === null && !this.isDone
  }

  /** The next message; undefined when `budget` is used up, or others must answer first, or it is done. */
  next(budget: { steps: number }): Message | undefined {
    if (this.#local !== null) return this.#nextHere(this.#local, budget)
    const message = this.#messages.shift()
    if (message === undefined) return undefined
    budget.steps--
    this.#engine.letGo(message)
    this.#askMore()
    return this.#overtaken.has(message.topic.name) ? undefined : message
  }

  /** The session gets a message now that its topic retains from now on: what others have read before of that topic is old. */
  overtake(topicName: string): void {
    if (this.#overtaken.size < OVERTAKEN_MAX) this.#overtaken.add(topicName)
  }

  /** The shard can be read: with all others of its owner that can by the end of the turn. */
  onFresh(shard: number): void {
    if (this.#waiting.has(shard)) this.#node.askSoon(this)
  }

  /** What was read of it may not be all. */
  onLost(shard: number): void {
    for (const [number, { owner, shards }] of this.#queries) {
      if (!shards.delete(shard)) continue
      this.#waiting.add(shard)
      this.#node.askSoon(this)
      if (shards.size > 0) continue
      owner.closeRetained(number)
      this.#forget(number)
    }
  }

  onMessages(number: number, messages: readonly Message[], isDone: boolean): void {
    if (!this.#queries.has(number)) return
    for (const message of messages) {
      const kept = message.keepApart()
      kept.expiresAtMs = expiresAtMs(this.#engine, message)
      this.#engine.hold(kept)
      this.#messages.push(kept)
    }
    if (isDone) this.#forget(number)
    else this.#unasked.add(number)
    this.#askMore()
    this.#engine.resumeReplays(this.#session)
  }

  close(): void {
    this.#node.retainedReads.delete(this)
    for (const [number, { owner }] of this.#queries) {
      owner.closeRetained(number)
      this.#forget(number)
    }
    for (const message of this.#messages) this.#engine.letGo(message)
    this.#messages = []
    this.#local = null
    this.#waiting.clear()
  }

  /** Begins to read what waits and can be read now. */
  ask(): void {
    const epochs = new Map<number, number>()
    const byOwner = new Map<OwnerPort, Set<number>>()
    for (const shard of this.#waiting) {
      const { isServing, epoch } = this.#engine.shards[shard]!
      if (isServing) {
        epochs.set(shard, epoch)
        continue
      }
      const owner = this.#node.others.freshOwner(shard)
      if (owner === null) continue
      const shards = byOwner.get(owner)
      if (shards === undefined) byOwner.set(owner, new Set([shard]))
      else shards.add(shard)
    }
    if (epochs.size > 0 && this.#local === null) this.#readHere(epochs)
    for (const [owner, shards] of byOwner) this.#openAt(owner, shards)
  }

  /** The next batch of each, once those before it are used up. */
  #askMore(): void {
    if (this.#messages.length > 0) return
    for (const number of this.#unasked) this.#queries.get(number)!.owner.moreRetained(number)
    this.#unasked.clear()
  }

  #readHere(epochs: ReadonlyMap<number, number>): void {
    for (const shard of epochs.keys()) this.#waiting.delete(shard)
    this.#local = { cursor: this.#engine.retained.cursor(this.#filter), epochs }
    this.#engine.resumeReplays(this.#session)
  }

  #openAt(owner: OwnerPort, shards: Set<number>): void {
    const number = this.#node.newRead(this)
    this.#queries.set(number, { owner, shards })
    const list = new Shards()
    for (const shard of shards) {
      list.add(shard)
      this.#waiting.delete(shard)
    }
    owner.openRetained(number, this.#filter, list)
  }

  #nextHere({ cursor, epochs }: Local, budget: { steps: number }): Message | undefined {
    const message = cursor.next(budget)
    if (cursor.done) this.#endHere(epochs)
    if (message === undefined) return undefined
    const { number, isServing, retainedSince } = this.#engine.shardFor(message.topic.name)
    // One of a shard that is not ours yet is its owner's to give.
    if (!isServing || !epochs.has(number)) return undefined
    // What was retained later reached the Subscription as it came.
    return message.retainedSequence > Math.max(this.#newestSequence, retainedSince) ? undefined : message
  }

  #endHere(epochs: ReadonlyMap<number, number>): void {
    this.#local = null
    for (const [number, epoch] of epochs) {
      const shard = this.#engine.shards[number]!
      if (!shard.isServing || shard.epoch !== epoch) this.#waiting.add(number)
    }
    // Some may have come to us while this was going on.
    if (this.#waiting.size > 0) this.#node.askSoon(this)
  }

  #forget(number: number): void {
    this.#queries.delete(number)
    this.#unasked.delete(number)
    this.#node.forgetRead(number)
  }
}

/** Shards that may hold Retained Messages for the filter: one without a wildcard names the topic, and so the shard. */
function shardsFor(engine: Engine, filter: string): number[] {
  const isExact = !filter.includes('+') && !filter.includes('#')
  return isExact ? [engine.shardFor(filter).number] : engine.shards.map(({ number }) => number)
}
