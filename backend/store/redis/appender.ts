import { assert } from '#shared/base/assert.ts'
import type { ShardEntry } from '../shard-store.ts'
import type { Batch, RedisCommand } from './connection.ts'
import { type Keys, parseLogId } from './keys.ts'
import type { Node } from './node.ts'
import { SYNCHRONISE } from './scripts.ts'
import type { PendingCommit, ShardLog } from './shard-log.ts'
import type { Topology } from './topology.ts'

export interface AppenderParts {
  readonly keys: Keys
  readonly topology: Topology
  readonly owner: { readonly id: string; readonly instance: string }
  /** False at level memory: then nothing is appended, and nothing can be missing. */
  readonly isKept: boolean
  readonly onFenced: (log: ShardLog) => void
  readonly onIncomplete: (log: ShardLog) => void
  readonly onChange: () => void
}

/**
 * Brings the appends of all shards to the nodes that hold their logs. After whatever broke the flow of a shard (a connection lost, a refusal,
 * another node), the log is asked what it holds, behind everything sent before; then the rest is sent again, in order.
 */
export class Appender {
  readonly #parts: AppenderParts
  readonly #logs: readonly ShardLog[]
  /** The node with which each shard is in contact, if any. */
  readonly #nodes: (Node | undefined)[]

  constructor(logs: readonly ShardLog[], parts: AppenderParts) {
    this.#logs = logs
    this.#parts = parts
    this.#nodes = logs.map(() => undefined)
  }

  append(entries: readonly ShardEntry[], commit: PendingCommit): void {
    const byShard = new Map<number, Uint8Array[]>()
    for (const { shard, bytes } of entries) {
      const known = byShard.get(shard)
      if (known === undefined) byShard.set(shard, [bytes])
      else known.push(bytes)
    }
    const changed: ShardLog[] = []
    for (const [shard, bytes] of byShard) {
      const log = this.#logs[shard]
      assert(log !== undefined && log.phase !== 'unowned', `shard ${shard} is not claimed`)
      if (!log.isOwned) continue
      log.add(bytes, commit)
      changed.push(log)
    }
    this.#send(changed)
  }

  /** A shard that was claimed, or mended. */
  begin(log: ShardLog): void {
    const node = this.#parts.topology.nodeOf(this.#parts.keys.log(log.shard))
    if (this.#nodes[log.shard] !== node || node?.isReady !== true) log.loseContact()
    this.onPlaced()
    this.#parts.onChange()
  }

  /** Nodes hold other shards now, or one has become ready. */
  onPlaced(): void {
    const byNode = new Map<Node, ShardLog[]>()
    for (const log of this.#logs) {
      const node = this.#parts.topology.nodeOf(this.#parts.keys.log(log.shard))
      if (this.#nodes[log.shard] !== node) {
        this.#nodes[log.shard] = node
        log.loseContact()
      }
      if (node?.isReady !== true || log.phase !== 'synchronising' || log.askedContact === log.contact) continue
      const logs = byNode.get(node)
      if (logs === undefined) byNode.set(node, [log])
      else logs.push(log)
    }
    for (const [node, logs] of byNode) this.#synchronise(node, logs)
  }

  onDown(node: Node): void {
    for (const log of this.#logs) if (this.#nodes[log.shard] === node) log.loseContact()
  }

  /** Sends what may be sent of these shards, one batch for each node. */
  #send(logs: readonly ShardLog[]): void {
    const batches = new Map<Node, AppendBatch>()
    for (const log of logs) {
      const node = this.#nodes[log.shard]
      if (node?.isReady !== true) continue
      const commands = log.takeUnsent()
      if (commands.length === 0) continue
      let batch = batches.get(node)
      if (batch === undefined) {
        batch = new AppendBatch(
          (refused, error) => this.#onRefused(node, refused, error),
          stored => this.#onStored(node, stored),
        )
        batches.set(node, batch)
      }
      batch.add(log, commands)
    }
    for (const [node, batch] of batches) node.log.send(batch)
  }

  #onStored(node: Node, logs: readonly ShardLog[]): void {
    if (logs.length > 0) node.noteSuccess('log')
    this.#send(logs)
  }

  #onRefused(node: Node, log: ShardLog, error: Error): void {
    log.loseContact()
    this.#askLater(node, error)
  }

  #askLater(node: Node, error: Error): void {
    // An id that is not above the last: sent twice, or somebody else has claimed the shard. The log knows.
    if (/equal or smaller than/.test(error.message)) return queueMicrotask(() => this.onPlaced())
    const retryMs = node.noteRefusal(error, 'log')
    void this.#parts.topology.pause(retryMs).then(() => {
      this.onPlaced()
      // Nothing is left that could show that the trouble is over.
      if (!this.#logs.some(log => this.#nodes[log.shard] === node && log.isOwned && log.phase !== 'live')) node.noteSuccess('log')
    })
  }

  #synchronise(node: Node, logs: readonly ShardLog[]): void {
    const { keys, owner } = this.#parts
    const contacts = logs.map(log => (log.askedContact = log.contact))
    const isCurrent = (index: number): boolean => logs[index]!.contact === contacts[index] && logs[index]!.isOwned
    let answers: readonly unknown[] = []
    node.log.send({
      commands: logs.map(log => {
        const command = ['eval', SYNCHRONISE, 2, keys.log(log.shard), keys.meta(log.shard)] as const
        return [...command, log.epoch, owner.id, owner.instance, log.stored]
      }),
      onReplies: replies => {
        answers = replies
        const refusal = replies.find(reply => reply instanceof Error)
        if (refusal === undefined) return
        for (const [index, reply] of replies.entries()) if (reply instanceof Error && isCurrent(index)) logs[index]!.loseContact()
        this.#askLater(node, refusal)
      },
      onConfirmed: () => {
        const asked = logs.filter((_, index) => isCurrent(index) && !(answers[index] instanceof Error))
        for (const log of asked) this.#onSynchronised(log, answers[logs.indexOf(log)])
        if (asked.every(log => log.pending === 0)) node.noteSuccess('log')
        this.#send(asked)
        this.#parts.onChange()
      },
      onLost: () => {},
    })
  }

  #onSynchronised(log: ShardLog, answer: unknown): void {
    const [ownership, lastId, positions] = answer as readonly [Buffer, Buffer, readonly number[]]
    if (String(ownership) === 'fenced') return this.#parts.onFenced(log)
    const last = parseLogId(String(lastId))
    const lastPosition = last.epoch === log.epoch ? last.position : 0
    const isLost = String(ownership) === 'restored' || lastPosition < log.stored
    if (!isLost || !this.#parts.isKept) return log.onSynchronised(lastPosition, positions)
    log.onLoss()
    this.#parts.onIncomplete(log)
  }
}

/** Appends of one moment for one node. */
class AppendBatch implements Batch {
  readonly commands: RedisCommand[] = []
  readonly #logs: ShardLog[] = []
  readonly #contacts: number[] = []
  readonly #positions: number[] = []
  /** Number of commands of each shard. */
  readonly #counts: number[] = []
  readonly #onRefused: (log: ShardLog, error: Error) => void
  readonly #onStored: (logs: readonly ShardLog[]) => void

  constructor(onRefused: (log: ShardLog, error: Error) => void, onStored: (logs: readonly ShardLog[]) => void) {
    this.#onRefused = onRefused
    this.#onStored = onStored
  }

  add(log: ShardLog, commands: readonly RedisCommand[]): void {
    this.#logs.push(log)
    this.#contacts.push(log.contact)
    this.#positions.push(log.sentPosition)
    this.#counts.push(commands.length)
    for (const command of commands) this.commands.push(command)
  }

  onReplies(replies: readonly unknown[]): void {
    let at = 0
    for (const [index, log] of this.#logs.entries()) {
      const end = at + this.#counts[index]!
      for (; at < end; at++) {
        const reply = replies[at]
        // Once: the refusal ends this contact.
        if (reply instanceof Error && log.contact === this.#contacts[index]) this.#onRefused(log, reply)
      }
    }
  }

  onConfirmed(): void {
    const stored: ShardLog[] = []
    for (const [index, log] of this.#logs.entries()) {
      if (log.contact !== this.#contacts[index]) continue
      log.onStored(this.#positions[index]!)
      stored.push(log)
    }
    this.#onStored(stored)
  }

  onLost(): void {
    // The node says that it is down, and every shard on it asks its log.
  }
}
