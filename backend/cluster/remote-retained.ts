import type { Message } from '#shared/mqtt/message.ts'
import { isOwnTopic } from '#shared/mqtt/topic.ts'
import type { OwnerPort } from '#shared/rpc/owner-port.ts'
import { Shards } from '#shared/rpc/shards.ts'
import type { Engine } from '../engine.ts'
import { expiresAtMs } from '../publishing/publication.ts'
import type { Session } from '../session/session.ts'
import type { ClusterNode } from './cluster-node.ts'

/**
 * Retained Messages of other backends that match one Topic Filter, batch after batch as the session takes them. When a shard changes hands
 * meanwhile it is read anew, and the session may get some of them twice.
 */
export class RemoteRetained {
  readonly #node: ClusterNode
  readonly #engine: Engine
  readonly #session: Session
  readonly #filter: string
  /** Shards that are still to be asked for. */
  readonly #waiting: Set<number>
  readonly #queries = new Map<number, { readonly owner: OwnerPort; readonly shards: readonly number[] }>()
  #messages: Message[] = []
  /** Of a query that has more: asked when the batch is used up. */
  readonly #unasked = new Set<number>()

  constructor(engine: Engine, node: ClusterNode, session: Session, filter: string) {
    this.#engine = engine
    this.#node = node
    this.#session = session
    this.#filter = filter
    this.#waiting = new Set(shardsFor(engine, filter))
    node.retainedReads.add(this)
    this.#ask()
  }

  get isDone(): boolean {
    return this.#messages.length === 0 && this.#queries.size === 0 && this.#waiting.size === 0
  }

  /** The next message; undefined while others must answer first, or when it is done. */
  next(): Message | undefined {
    const message = this.#messages.shift()
    if (message !== undefined) return message
    for (const query of this.#unasked) this.#queries.get(query)?.owner.moreRetained(query)
    this.#unasked.clear()
    return undefined
  }

  onFresh(shard: number): void {
    if (this.#waiting.has(shard)) this.#ask()
  }

  onLost(shard: number): void {
    for (const [query, { shards }] of this.#queries) {
      if (!shards.includes(shard)) continue
      this.#queries.delete(query)
      this.#unasked.delete(query)
      this.#node.forgetRead(query)
      for (const number of shards) this.#waiting.add(number)
    }
    this.#ask()
  }

  onMessages(query: number, messages: readonly Message[], isDone: boolean): void {
    if (!this.#queries.has(query)) return
    for (const message of messages) {
      const kept = message.keepApart()
      kept.expiresAtMs = expiresAtMs(this.#engine, message)
      this.#messages.push(kept)
    }
    if (isDone) {
      this.#queries.delete(query)
      this.#node.forgetRead(query)
    } else this.#unasked.add(query)
    this.#engine.resumeReplays(this.#session)
  }

  close(): void {
    this.#node.retainedReads.delete(this)
    for (const [query, { owner }] of this.#queries) {
      owner.closeRetained(query)
      this.#node.forgetRead(query)
    }
    this.#queries.clear()
    this.#waiting.clear()
    this.#messages = []
  }

  #ask(): void {
    const byOwner = new Map<OwnerPort, number[]>()
    for (const shard of this.#waiting) {
      // One that has become ours is read with the local ones of a replay that begins then; this one missed it by a move.
      const owner = this.#node.others.freshOwner(shard)
      if (owner === null) continue
      byOwner.set(owner, [...(byOwner.get(owner) ?? []), shard])
    }
    for (const [owner, shards] of byOwner) {
      const query = this.#node.newRead(this)
      this.#queries.set(query, { owner, shards })
      const list = new Shards()
      for (const shard of shards) {
        list.add(shard)
        this.#waiting.delete(shard)
      }
      owner.openRetained(query, this.#filter, list)
    }
  }
}

/** Other backends' shards that may hold Retained Messages for the filter: one without a wildcard names the topic, and so the shard. */
function shardsFor(engine: Engine, filter: string): number[] {
  if (isOwnTopic(filter)) return []
  const isExact = !filter.includes('+') && !filter.includes('#')
  const candidates = isExact ? [engine.shardFor(filter)] : engine.shards
  return candidates.filter(({ isServing }) => !isServing).map(({ number }) => number)
}
