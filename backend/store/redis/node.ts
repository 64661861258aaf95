import type { Redis } from 'ioredis'
import type { Timers } from '#shared/base/timers.ts'
import { dropRedis, openRedisNode, type RedisConnectionOptions } from '#shared/cluster/redis-connection.ts'
import { redisFault, redisFaultText } from '#shared/cluster/redis-fault.ts'
import { type Address, addressText } from '#shared/config/address.ts'
import type { RedisUrl } from '#shared/config/redis-url.ts'
import { StoreError } from '../shard-store.ts'
import { Connection } from './connection.ts'
import { checkConfig, checkServer, type Requirements } from './server-check.ts'

export interface NodeParts {
  readonly url: RedisUrl
  readonly connecting: RedisConnectionOptions
  readonly required: Requirements
  readonly timers: Timers
  readonly configKey: string
  readonly shardCount: number
}

export interface NodeEvents {
  readonly onReady: (node: Node) => void
  /** Its connections are gone, and with them the answers to what was sent. */
  readonly onDown: (node: Node) => void
  /** `trouble` or `phase` is another. */
  readonly onChange: () => void
  /** The server cannot hold this store: the operator's to repair. */
  readonly onRefused: (error: StoreError) => void
  readonly onWarning: (text: string) => void
  /** Whether the marker of the store is on this node. */
  readonly holdsConfig: (node: Node) => boolean
  /** Perhaps another server is the primary by now. */
  readonly relocate: () => void
}

const RETRY_MS_MIN = 50
/** Connecting costs a server that is well nothing, and each wait is a stall of every client: so a failover is seen soon. */
const RECONNECT_MS_MAX = 250
const RETRY_MS_MAX = 1_000
/** Silence after which we ask whether another server has become the primary. */
const SUSPECT_MS = 1_000
/** From the first packet to the end of the login. */
const CONNECT_TIMEOUT_MS = 5_000
/** Silence after which connections are given up, so that new ones are tried. */
const REPLY_TIMEOUT_MS = 10_000

type TroubleSource = 'connect' | 'log' | 'side' | 'replicas'

/**
 * One primary: two connections to it, as long as it is one. Entries have a connection of their own, so that large answers, or a WAIT for
 * something else, do not stand in their way.
 */
export class Node {
  readonly name: string
  readonly #address: Address
  readonly #parts: NodeParts
  readonly #events: NodeEvents
  readonly #troubles = new Map<TroubleSource, string>()
  #log: Connection | null = null
  #side: Connection | null = null
  #isReady = false
  #isStopped = false
  #isConnecting = false
  #retryMs = RETRY_MS_MIN
  #cancelRetry: (() => void) | null = null
  /** What the client said last, since a command that fails says only that the connection is closed. */
  #lastError: Error | null = null

  constructor(address: Address, parts: NodeParts, events: NodeEvents) {
    this.name = addressText(address)
    this.#address = address
    this.#parts = parts
    this.#events = events
  }

  get isReady(): boolean {
    return this.#isReady
  }

  /** For entries. Only while ready. */
  get log(): Connection {
    return this.#log!
  }

  /** For everything else. Only while ready. */
  get side(): Connection {
    return this.#side!
  }

  /** Why it does not serve, or not everything; null when it does. */
  get trouble(): string | null {
    for (const text of this.#troubles.values()) return text
    return this.#isReady ? null : `connecting to ${this.name}`
  }

  start(): void {
    if (this.#isStopped || this.#isReady || this.#isConnecting) return
    this.#isConnecting = true
    void this.#connect().then(
      () => this.#onConnected(),
      (error: unknown) => this.#onFailed(error),
    )
  }

  stop(): void {
    this.#isStopped = true
    this.#cancelRetry?.()
    this.#drop(new Error('stopped'))
    // Nobody looks after one that hangs while it is looked at.
    this.#closeConnections()
  }

  /** Notes what was refused. @returns milliseconds after which to try again */
  noteRefusal(error: unknown, source: 'log' | 'side'): number {
    const fault = redisFault(error)
    this.#setTrouble(source, redisFaultText(error, this.#address))
    if (fault === 'moved') this.#events.relocate()
    if (fault === 'readOnly') this.#drop(error instanceof Error ? error : new Error('read-only'))
    return this.#nextRetryMs()
  }

  noteSuccess(source: 'log' | 'side'): void {
    this.#retryMs = RETRY_MS_MIN
    this.#setTrouble(source, null)
  }

  /** Called each second. */
  check(): void {
    if (!this.#isReady) {
      // A server that hangs while it is looked at.
      for (const connection of [this.#log, this.#side]) {
        if (connection !== null && connection.silentMs > REPLY_TIMEOUT_MS) connection.close(new Error('timed out'))
      }
      return
    }
    const silentMs = Math.max(this.log.silentMs, this.side.silentMs)
    if (silentMs > REPLY_TIMEOUT_MS) return this.#drop(new Error('timed out'))
    if (silentMs > SUSPECT_MS) this.#setTrouble('connect', `${this.name}: no answer`)
    if (silentMs <= SUSPECT_MS) this.#setTrouble('connect', null)
    if (silentMs > SUSPECT_MS || this.#troubles.has('replicas')) this.#events.relocate()
    // So that a connection which died unnoticed is found before it is needed.
    for (const connection of [this.log, this.side]) if (connection.silentMs === 0) connection.call('ping').catch(() => {})
  }

  async #connect(): Promise<void> {
    this.#lastError = null
    const side = await this.#open()
    this.#side = side
    const facts = await checkServer(side, this.name, this.#parts.required)
    if (!facts.isPrimary) throw new Error('READONLY it is a replica')
    const log = await this.#open()
    this.#log = log
    for (const connection of [side, log]) connection.confirmWith(facts.confirmation)
    for (const warning of facts.warnings) this.#events.onWarning(warning)
    if (this.#events.holdsConfig(this)) await checkConfig(side, this.name, this.#parts.configKey, this.#parts.shardCount)
    if (log.isClosed || side.isClosed) throw this.#lastError ?? new Error('Connection is closed.')
  }

  async #open(): Promise<Connection> {
    const { url, connecting, timers } = this.#parts
    const redis: Redis = openRedisNode(this.#address, url, { ...connecting, onError: error => (this.#lastError = error) })
    const cancel = timers.after(CONNECT_TIMEOUT_MS, () => dropRedis(redis))
    await redis.connect().finally(cancel)
    const connection = new Connection(redis, timers, {
      onClosed: error => {
        if (this.#isReady && (connection === this.#log || connection === this.#side)) this.#drop(this.#lastError ?? error)
      },
      onWaiting: isWaiting => this.#setTrouble('replicas', isWaiting ? `${this.name}: waiting for a replica` : null),
    })
    return connection
  }

  #onConnected(): void {
    this.#isConnecting = false
    if (this.#isStopped) return this.#closeConnections()
    this.#isReady = true
    this.#retryMs = RETRY_MS_MIN
    this.#troubles.clear()
    this.#events.onChange()
    this.#events.onReady(this)
  }

  #onFailed(error: unknown): void {
    this.#isConnecting = false
    this.#closeConnections()
    if (this.#isStopped) return
    const cause = error instanceof StoreError || redisFault(error) !== 'unreachable' ? error : (this.#lastError ?? error)
    const fault = redisFault(cause)
    if (cause instanceof StoreError) this.#setTrouble('connect', cause.message)
    else if (fault === 'unreachable')
      this.#setTrouble('connect', `connecting to ${redisFaultText(cause, this.#address).replace(/: (.*)$/, ' ($1)')}`)
    else this.#setTrouble('connect', redisFaultText(cause, this.#address))
    const refusal = refusalOf(cause, this.name)
    if (refusal !== null) this.#events.onRefused(refusal)
    this.#retry()
  }

  #drop(reason: Error): void {
    if (!this.#isReady) return
    this.#isReady = false
    this.#closeConnections()
    this.#setTrouble('replicas', null)
    if (!this.#isStopped) this.#setTrouble('connect', `connecting to ${redisFaultText(reason, this.#address).replace(/: (.*)$/, ' ($1)')}`)
    this.#events.onDown(this)
    if (!this.#isStopped) this.#retry()
  }

  #closeConnections(): void {
    for (const connection of [this.#log, this.#side]) connection?.close(new Error('Connection is closed.'))
    this.#log = null
    this.#side = null
  }

  #retry(): void {
    this.#cancelRetry?.()
    this.#cancelRetry = this.#parts.timers.after(Math.min(this.#nextRetryMs(), RECONNECT_MS_MAX), () => {
      this.#events.relocate()
      this.start()
    })
  }

  #nextRetryMs(): number {
    const ms = this.#retryMs
    this.#retryMs = Math.min(RETRY_MS_MAX, ms * 2)
    return ms
  }

  #setTrouble(source: TroubleSource, text: string | null): void {
    if ((this.#troubles.get(source) ?? null) === text) return
    if (text === null) this.#troubles.delete(source)
    else this.#troubles.set(source, text)
    this.#events.onChange()
  }
}

/** What no waiting repairs, as an error for whoever opens the store. */
function refusalOf(error: unknown, where: string): StoreError | null {
  if (error instanceof StoreError) return error
  const fault = redisFault(error)
  if (fault === 'wrongPassword')
    return new StoreError('failed', `${where}: wrong password, or none; correct the user and password of the URL`, { cause: error })
  if (fault === 'noPermission') {
    const text = error instanceof Error ? error.message.replace(/^NOPERM /, '') : ''
    return new StoreError('failed', `${where}: no permission: ${text.slice(0, 160)}`, { cause: error })
  }
  return null
}
