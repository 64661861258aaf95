import type { Redis } from 'ioredis'
import { thrownText } from '#shared/base/thrown.ts'
import type { Timers } from '#shared/base/timers.ts'
import type { Address } from '#shared/config/address.ts'
import type { RedisUrl } from '#shared/config/redis-url.ts'
import { dropRedis, openRedisNode, type RedisConnectionOptions, type RedisTls } from './redis-connection.ts'
import { redisFault, redisFaultText } from './redis-fault.ts'
import { type Locator, openLocator } from './redis-locator.ts'
import { redisInfo, redisIsTooOld } from './redis-version.ts'

export interface RedisPrimaryOptions {
  readonly url: RedisUrl
  readonly tls?: RedisTls
  /** Shown by CLIENT LIST; no spaces. */
  readonly connectionName: string
  /** The server that holds it is the one to talk to. */
  readonly key: string
  readonly timers: Timers
}

/** Each of connecting and being answered fails after so long; so does finding out who is the primary. */
const STEP_TIMEOUT_MS = 1_000

interface Opened {
  readonly name: string
  readonly address: Address
  readonly redis: Redis
  readonly ready: Promise<void>
  cause: Error | null
}

/**
 * One connection to the primary of one key, for calls that may fail and be made again by their caller. Before each call it asks who the
 * primary is: so it is at a new one as soon as Sentinels or the cluster name it, and says nothing to one that was replaced, though that still
 * takes writes. While nobody can be asked it goes on with the primary that it has: losing the Sentinels is no reason to stop.
 */
export class RedisPrimary {
  readonly #options: RedisPrimaryOptions
  readonly #locator: Locator
  #opened: Opened | null = null
  #isClosed = false
  #fault = ''

  constructor(options: RedisPrimaryOptions) {
    this.#options = options
    this.#locator = openLocator(
      options.url,
      this.#connecting(() => undefined),
      options.timers,
    )
  }

  /** Why the last call failed, for the operator: `10.0.0.1:6379: wrong password`. Empty when it was answered. */
  get fault(): string {
    return this.#fault
  }

  /** @throws {Error} its message is for the operator; whether the command was carried out is unknown, unless the cause is an answer */
  async call(name: string, ...args: readonly (string | number)[]): Promise<unknown> {
    let opened: Opened | null = null
    try {
      opened = await this.#locate()
      await opened.ready
      const reply = await opened.redis.call(name, ...args)
      this.#fault = ''
      return reply
    } catch (error) {
      throw this.#failed(error, opened)
    }
  }

  close(): void {
    this.#isClosed = true
    this.#locator.close()
    this.#drop()
  }

  /** The connection to whoever is the primary now, perhaps not open yet. */
  async #locate(): Promise<Opened> {
    try {
      const placement = await this.#locator.locate()
      const name = placement.nodeOf(this.#options.key)
      const address = name === undefined ? undefined : placement.addresses.get(name)
      if (name === undefined || address === undefined) throw new Error('Redis Cluster: the slot of the registry has no primary')
      return this.#opened?.name === name ? this.#opened : this.#open(name, address)
    } catch (error) {
      if (this.#opened === null) throw error
      return this.#opened
    }
  }

  #open(name: string, address: Address): Opened {
    if (this.#isClosed) throw new Error('closed')
    this.#drop()
    const redis = openRedisNode(
      address,
      this.#options.url,
      this.#connecting(error => (opened.cause = error)),
    )
    const opened: Opened = { name, address, redis, ready: this.#ready(redis, name), cause: null }
    // Whoever waits for it hears of it; at this moment that may be nobody.
    opened.ready.catch(() => undefined)
    redis.once('close', () => this.#forget(opened))
    this.#opened = opened
    return opened
  }

  async #ready(redis: Redis, name: string): Promise<void> {
    // The client's own limit ends when the connection is there, and the login may hang.
    const cancel = this.#options.timers.after(STEP_TIMEOUT_MS, () => dropRedis(redis))
    await redis.connect().finally(cancel)
    const info = await redis.info('server').catch((error: unknown) => {
      if (redisFault(error) === 'noPermission') return null
      throw error
    })
    const refusal = info === null ? null : redisIsTooOld(redisInfo(info), name)
    if (refusal !== null) throw new Error(refusal)
  }

  #failed(error: unknown, opened: Opened | null): Error {
    if (opened === null) {
      // The locator has put it in words already.
      this.#fault = thrownText(error)
      return error instanceof Error ? error : new Error(this.#fault)
    }
    const isAnswer = error instanceof Error && error.name === 'ReplyError'
    const cause = isAnswer ? error : (opened.cause ?? error)
    const fault = redisFault(cause)
    const text = fault === 'unknown' && !isAnswer && cause instanceof Error ? cause.message : redisFaultText(cause, opened.address)
    // Silence, or a server that is no primary: the next call finds another, or connects anew.
    if (!isAnswer || fault === 'readOnly' || fault === 'moved' || fault === 'wrongPassword') {
      this.#forget(opened)
      dropRedis(opened.redis)
    }
    this.#fault = text
    return new Error(text, { cause })
  }

  #drop(): void {
    if (this.#opened !== null) dropRedis(this.#opened.redis)
  }

  #forget(opened: Opened): void {
    if (this.#opened === opened) this.#opened = null
  }

  #connecting(onError: (error: Error) => void): RedisConnectionOptions {
    const { tls, connectionName } = this.#options
    return {
      ...(tls !== undefined && { tls }),
      connectionName,
      connectTimeoutMs: STEP_TIMEOUT_MS,
      commandTimeoutMs: STEP_TIMEOUT_MS,
      onError,
    }
  }
}
