import { Command, type Redis } from 'ioredis'
import type { Timers } from '#shared/base/timers.ts'
import { dropRedis } from '#shared/cluster/redis-connection.ts'
import { withoutCommand } from '#shared/cluster/redis-fault.ts'
import { isReply } from './errors.ts'

export type Argument = string | number | Buffer
/** Name and arguments. */
export type RedisCommand = readonly [string, ...Argument[]]

/** What must be true of a write before it counts, beside the answer of Redis itself. */
export interface Confirmation {
  /** Replicas that have it. */
  readonly replicas: number
  /** It is on the disk of this server (WAITAOF). */
  readonly isOnDisk: boolean
}

const UNCONFIRMED: Confirmation = { replicas: 0, isOnDisk: false }

/** Commands that are sent together. If the connection ends first, `onLost` is called in place of what was still to come. */
export interface Batch {
  readonly commands: readonly RedisCommand[]
  /** The answer to each command; an Error where Redis refused it. */
  onReplies(replies: readonly unknown[]): void
  /** The writes among them count. */
  onConfirmed(): void
  onLost(): void
}

export interface ConnectionEvents {
  /** It is over; nothing more will be answered. Called once. */
  readonly onClosed: (error: Error) => void
  /** Whether too few replicas confirm; called when it changes. */
  readonly onWaiting: (isWaiting: boolean) => void
}

/** Two, so that the server has the next one while the answer to the former travels; more would only be smaller ones. */
const CONFIRMED_ROUNDS_MAX = 2
/** WAIT gives up after this, so that other commands of the connection get their turn, and is made again. */
const WAIT_MS = 250

/**
 * One connection to one server, from the moment it is open until it ends. Where writes must be confirmed, batches gather while rounds are
 * under way and share one WAIT. A WAIT that was satisfied confirms every write before it on the connection; one that was not is repeated as
 * long as it takes. Bytes held are those of the batches that were not answered: callers limit them.
 */
export class Connection {
  readonly #redis: Redis
  readonly #timers: Timers
  #wait: RedisCommand | null = null
  #confirmation: Confirmation = UNCONFIRMED
  readonly #events: ConnectionEvents
  /** When each group of commands without an answer was sent, oldest first. */
  readonly #sentAtMs: number[] = []
  #waiting: Batch[] = []
  /** Answered but not confirmed. */
  #answered: Batch[] = []
  readonly #underWay = new Set<readonly Batch[]>()
  #rounds = 0
  #isWaiting = false
  #isClosed = false

  constructor(redis: Redis, timers: Timers, events: ConnectionEvents) {
    this.#redis = redis
    this.#timers = timers
    this.#events = events
    redis.once('close', () => this.close(new Error('Connection is closed.')))
  }

  /** What batches sent from now on wait for; before, for the answers alone. */
  confirmWith(confirmation: Confirmation): void {
    this.#confirmation = confirmation
    this.#wait = waitCommand(confirmation)
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Milliseconds since the oldest command without an answer was sent; 0 when there is none. */
  get silentMs(): number {
    const [oldest] = this.#sentAtMs
    return oldest === undefined ? 0 : this.#timers.nowMs() - oldest
  }

  /** Sends writes that count when they are confirmed. Batches take effect, and are answered, in the order sent. */
  send(batch: Batch): void {
    if (this.#isClosed) return batch.onLost()
    this.#waiting.push(batch)
    if (this.#wait === null || this.#rounds < CONFIRMED_ROUNDS_MAX) this.#startRound()
  }

  /** One command; rejects with what Redis answered, or with an error that leaves open what became of it. */
  async call(...command: RedisCommand): Promise<unknown> {
    const [reply] = await this.callAll([command])
    if (reply instanceof Error) throw reply
    return reply
  }

  /** Commands sent together; Errors among the answers. Rejects when the connection ended. */
  callAll(commands: readonly RedisCommand[]): Promise<unknown[]> {
    if (this.#isClosed) return Promise.reject(new Error('Connection is closed.'))
    return new Promise((resolve, reject) => {
      this.#write(commands, replies => {
        if (replies === null) reject(new Error('Connection is closed.'))
        else resolve(replies)
      })
    })
  }

  /** A write that counts when it is confirmed; resolves with its answer. */
  write(command: RedisCommand): Promise<unknown> {
    return new Promise((resolve, reject) => {
      let reply: unknown
      this.send({
        commands: [command],
        onReplies: ([first]) => {
          reply = first
          // Nothing was written: nothing to wait for.
          if (reply instanceof Error) reject(reply)
        },
        onConfirmed: () => resolve(reply),
        onLost: () => reject(new Error('Connection is closed.')),
      })
    })
  }

  /** Ends it at once. What has no answer is lost: its outcome is unknown. */
  close(reason: Error): void {
    if (this.#isClosed) return
    this.#isClosed = true
    // Calls under way reject now: whoever made them tries another server.
    dropRedis(this.#redis)
    const lost = [...this.#answered, ...[...this.#underWay].flat(), ...this.#waiting]
    this.#answered = []
    this.#waiting = []
    this.#underWay.clear()
    this.#sentAtMs.length = 0
    for (const batch of lost) batch.onLost()
    this.#events.onClosed(reason)
  }

  #startRound(): void {
    const batches = this.#waiting
    this.#waiting = []
    const commands = batches.length === 1 ? [...batches[0]!.commands] : batches.flatMap(batch => batch.commands)
    if (this.#wait !== null) commands.push(this.#wait)
    this.#rounds++
    this.#underWay.add(batches)
    this.#write(commands, replies => {
      this.#rounds--
      if (replies === null) this.close(new Error('Connection is closed.'))
      else if (!this.#isClosed) this.#onRound(batches, replies)
    })
  }

  #onRound(batches: readonly Batch[], replies: readonly unknown[]): void {
    this.#underWay.delete(batches)
    this.#answered.push(...batches)
    let at = 0
    for (const batch of batches) batch.onReplies(replies.slice(at, (at += batch.commands.length)))
    if (this.#isClosed) return
    const confirmed = this.#wait === null || this.#isSatisfied(replies[at])
    if (confirmed instanceof Error) return this.close(confirmed)
    if (confirmed) this.#confirm()
    if (this.#isClosed || this.#wait === null) return
    if (this.#waiting.length > 0 || (this.#answered.length > 0 && this.#rounds === 0)) this.#startRound()
  }

  #confirm(): void {
    const confirmed = this.#answered
    this.#answered = []
    this.#setWaiting(false)
    for (const batch of confirmed) batch.onConfirmed()
  }

  /** An Error when the server has stopped being one that can confirm: it has become a replica. */
  #isSatisfied(reply: unknown): boolean | Error {
    if (reply instanceof Error) return reply
    const [onDisk, replicas] = Array.isArray(reply) ? reply.map(Number) : [0, Number(reply)]
    const isEnough = replicas! >= this.#confirmation.replicas && (!this.#confirmation.isOnDisk || onDisk! >= 1)
    if (!isEnough) this.#setWaiting(true)
    return isEnough
  }

  #setWaiting(isWaiting: boolean): void {
    if (this.#isWaiting === isWaiting) return
    this.#isWaiting = isWaiting
    this.#events.onWaiting(isWaiting)
  }

  /** `onReplies` gets null when the connection ended before the last answer. */
  #write(commands: readonly RedisCommand[], onReplies: (replies: unknown[] | null) => void): void {
    const replies: unknown[] = Array.from({ length: commands.length })
    let missing = commands.length
    let isLost = false
    this.#sentAtMs.push(this.#timers.nowMs())
    const { stream } = this.#redis
    // Corked, the commands leave with one system call and without being copied together first.
    stream.cork()
    for (const [index, [name, ...args]] of commands.entries()) {
      const command = new Command(name, args, { replyEncoding: null }, (error, reply) => {
        if (error && !isReply(error)) isLost = true
        replies[index] = error ? withoutCommand(error) : reply
        if (--missing > 0) return
        this.#sentAtMs.shift()
        onReplies(isLost ? null : replies)
      })
      void this.#redis.sendCommand(command)
    }
    stream.uncork()
  }
}

function waitCommand({ replicas, isOnDisk }: Confirmation): RedisCommand | null {
  if (isOnDisk) return ['waitaof', 1, replicas, WAIT_MS]
  return replicas > 0 ? ['wait', replicas, WAIT_MS] : null
}
