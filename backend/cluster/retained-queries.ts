import type { Message } from '#shared/mqtt/message.ts'
import type { CallerPort } from '#shared/rpc/caller-port.ts'
import type { Shards } from '#shared/rpc/shards.ts'
import type { Engine } from '../engine.ts'
import { setRemainingExpiry } from '../publishing/publication.ts'
import type { RetainedCursor } from '../queue/retained-index.ts'
import type { Shard } from '../shard/shard.ts'

/** Reads of one caller that are open; one more is answered as if nothing matched. */
const QUERIES_PER_CALLER_MAX = 100_000
const MESSAGES_PER_ANSWER = 64
const BYTES_PER_ANSWER = 64 * 1024
/** Levels of the index looked at for one answer, which is empty when none of them had a message. */
const STEPS_PER_ANSWER = 1_024

interface Query {
  readonly cursor: RetainedCursor<Message>
  readonly shards: ReadonlySet<number>
}

/** What other backends read of our Retained Messages, for Subscriptions of their sessions. */
export class RetainedQueries {
  readonly #engine: Engine
  readonly #calls: CallerPort
  readonly #open = new Map<number, Query>()

  constructor(engine: Engine, calls: CallerPort) {
    this.#engine = engine
    this.#calls = calls
  }

  /** OwnerPort.openRetained. */
  open(query: number, filter: string, shards: Shards): void {
    if (this.#open.size >= QUERIES_PER_CALLER_MAX) return this.#calls.retained(query, [], true)
    this.#open.set(query, { cursor: this.#engine.retained.cursor(filter), shards: new Set(shards.numbers.subarray(0, shards.count)) })
    this.more(query)
  }

  more(number: number): void {
    const query = this.#open.get(number)
    if (query === undefined) return
    const { cursor, shards } = query
    const messages: Message[] = []
    const nowMs = this.#engine.clock.wallMs()
    const budget = { steps: STEPS_PER_ANSWER }
    let bytes = 0
    while (!cursor.done && budget.steps > 0 && messages.length < MESSAGES_PER_ANSWER && bytes < BYTES_PER_ANSWER) {
      const message = cursor.next(budget)
      if (message === undefined || message.expiresAtMs <= nowMs) continue
      const shard = this.#engine.shardFor(message.topic.name)
      if (!isWhole(shard) || !shards.has(shard.number)) continue
      setRemainingExpiry(message, nowMs)
      messages.push(message)
      bytes += message.storedBytes
    }
    if (cursor.done) this.#open.delete(number)
    this.#calls.retained(number, messages, cursor.done)
  }

  close(query: number): void {
    this.#open.delete(query)
  }

  closeAll(): void {
    this.#open.clear()
  }
}

/** A shard that is being let go still has everything, and its reader is told only afterwards that it must go on elsewhere. */
function isWhole({ phase }: Shard): boolean {
  return phase === 'serving' || phase === 'leaving'
}
