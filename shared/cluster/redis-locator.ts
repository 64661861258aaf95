import type { Redis } from 'ioredis'
import type { Timers } from '#shared/base/timers.ts'
import { type Address, addressText } from '#shared/config/address.ts'
import type { RedisUrl } from '#shared/config/redis-url.ts'
import { dropRedis, openRedisNode, openSentinelNode, type RedisConnectionOptions } from './redis-connection.ts'
import { redisFaultText } from './redis-fault.ts'
import { slotOf } from './redis-slot.ts'

/** Which server is the primary of which keys, as far as those know who were asked. */
export interface Placement {
  /** `host:port` of the primary of a key; undefined while its slot has none. */
  nodeOf(key: string): string | undefined
  readonly addresses: ReadonlyMap<string, Address>
}

/** Finds the primaries. Keeps connections to those it asks, until `close`. */
export interface Locator {
  /** @throws {Error} why nobody could say; its message is for the operator. The cause is the last error of the client. */
  locate(): Promise<Placement>
  close(): void
}

/** One that does not answer in so long is passed over this time. */
const ASK_TIMEOUT_MS = 1_000
/** When one has answered, the others have so long: one that hangs must not hold up every heartbeat. */
const OTHERS_MS = 250

export function openLocator(url: RedisUrl, options: RedisConnectionOptions, timers: Timers): Locator {
  if (url.kind === 'sentinel') return new SentinelLocator(url, options, timers)
  if (url.kind === 'cluster') return new ClusterLocator(url, options, timers)
  const placement = singlePlacement(url.addresses[0]!)
  return { locate: () => Promise.resolve(placement), close: () => undefined }
}

function singlePlacement(address: Address): Placement {
  const name = addressText(address)
  return { nodeOf: () => name, addresses: new Map([[name, address]]) }
}

interface Asked {
  readonly redis: Redis
  readonly opened: Promise<void>
  /** What the client said last, since a command that fails says only that the connection is closed. */
  cause: Error | null
}

/** Those who are asked, each over a connection that is kept as long as it answers. */
class Informants<T> {
  readonly #open: (address: Address, onError: (error: Error) => void) => Redis
  readonly #ask: (redis: Redis, address: Address) => Promise<T>
  readonly #timers: Timers
  readonly #asked = new Map<string, Asked>()

  constructor(
    timers: Timers,
    open: (address: Address, onError: (error: Error) => void) => Redis,
    ask: (redis: Redis, address: Address) => Promise<T>,
  ) {
    this.#timers = timers
    this.#open = open
    this.#ask = ask
  }

  /**
   * Asks all at once. @returns the answers in no order: those that come within OTHERS_MS of the first
   * @throws {Error} what the last one failed with, when none answers within ASK_TIMEOUT_MS
   */
  askAll(addresses: readonly Address[]): Promise<T[]> {
    const names = new Set(addresses.map(addressText))
    for (const [name, { redis }] of this.#asked) if (!names.has(name)) dropRedis(redis)
    return new Promise((resolve, reject) => {
      const answers: T[] = []
      let missing = addresses.length
      let cancel: (() => void) | null = null
      const end = (): void => {
        cancel?.()
        resolve([...answers])
      }
      const onEach = (failure: Error | null): void => {
        missing--
        if (missing > 0 && answers.length > 0) cancel ??= this.#timers.after(OTHERS_MS, end)
        if (missing > 0) return
        if (answers.length > 0) end()
        else reject(failure ?? new Error('nobody to ask'))
      }
      for (const address of addresses) {
        this.#askOne(address).then(
          answer => {
            answers.push(answer)
            onEach(null)
          },
          (error: unknown) => onEach(new Error(redisFaultText(error, address), { cause: error })),
        )
      }
    })
  }

  close(): void {
    for (const { redis } of this.#asked.values()) dropRedis(redis)
    this.#asked.clear()
  }

  async #askOne(address: Address): Promise<T> {
    const name = addressText(address)
    const asked = this.#asked.get(name) ?? this.#connect(name, address)
    const drop = (): void => {
      if (this.#asked.get(name) === asked) this.#asked.delete(name)
      dropRedis(asked.redis)
    }
    const cancel = this.#timers.after(ASK_TIMEOUT_MS, drop)
    try {
      await asked.opened
      return await this.#ask(asked.redis, address)
    } catch (error) {
      drop()
      throw asked.cause ?? error
    } finally {
      cancel()
    }
  }

  #connect(name: string, address: Address): Asked {
    const redis = this.#open(address, error => (asked.cause = error))
    const asked: Asked = { redis, opened: redis.connect(), cause: null }
    this.#asked.set(name, asked)
    redis.once('close', () => {
      if (this.#asked.get(name) === asked) this.#asked.delete(name)
    })
    return asked
  }
}

/**
 * Asks every Sentinel and believes the one that knows of the latest failover: a Sentinel that was cut off, like the primary beside it, still
 * names the former one.
 */
class SentinelLocator implements Locator {
  readonly #url: RedisUrl
  readonly #sentinels: Informants<ReadonlyMap<string, string>>

  constructor(url: RedisUrl, options: RedisConnectionOptions, timers: Timers) {
    this.#url = url
    this.#sentinels = new Informants(
      timers,
      (address, onError) => openSentinelNode(address, url, askingOptions(options, onError)),
      async redis => fieldsOf(await redis.call('SENTINEL', 'MASTER', url.masterName)),
    )
  }

  async locate(): Promise<Placement> {
    const answers = await this.#sentinels.askAll(this.#url.addresses)
    const epoch = (fields: ReadonlyMap<string, string>): number => Number(fields.get('config-epoch') ?? -1)
    const latest = answers.reduce((one, other) => (epoch(other) > epoch(one) ? other : one))
    return singlePlacement({ host: latest.get('ip') ?? '', port: Number(latest.get('port')) })
  }

  close(): void {
    this.#sentinels.close()
  }
}

function askingOptions(options: RedisConnectionOptions, onError: (error: Error) => void): RedisConnectionOptions {
  return { ...options, connectTimeoutMs: ASK_TIMEOUT_MS, commandTimeoutMs: ASK_TIMEOUT_MS, onError }
}

function fieldsOf(reply: unknown): ReadonlyMap<string, string> {
  if (!Array.isArray(reply)) return new Map(Object.entries(Object(reply)).map(([name, value]) => [name, String(value)]))
  const fields = new Map<string, string>()
  for (let at = 0; at + 1 < reply.length; at += 2) fields.set(String(reply[at]), String(reply[at + 1]))
  return fields
}

interface ClusterView {
  readonly epoch: number
  readonly isWhole: boolean
  readonly ranges: readonly { readonly first: number; readonly last: number; readonly node: string }[]
  readonly addresses: ReadonlyMap<string, Address>
}

/** Nodes learnt that are asked beside those of the URL, which may all have been replaced since. */
const KNOWN_NODES_MAX = 64

/** Asks the nodes of the cluster that it knows and believes the one with the latest epoch, so not one that was cut off. */
class ClusterLocator implements Locator {
  readonly #url: RedisUrl
  readonly #nodes: Informants<ClusterView>
  #known = new Map<string, Address>()

  constructor(url: RedisUrl, options: RedisConnectionOptions, timers: Timers) {
    this.#url = url
    this.#nodes = new Informants(timers, (address, onError) => openRedisNode(address, url, askingOptions(options, onError)), viewOf)
  }

  async locate(): Promise<Placement> {
    const asked = new Map(this.#url.addresses.map(address => [addressText(address), address]))
    for (const [name, address] of this.#known) if (asked.size < KNOWN_NODES_MAX) asked.set(name, address)
    const views = await this.#nodes.askAll([...asked.values()])
    const latest = views.reduce((one, other) => (rank(other) > rank(one) ? other : one))
    const owners = new Map<number, string>()
    for (const { first, last, node } of latest.ranges) for (let slot = first; slot <= last; slot++) owners.set(slot, node)
    this.#known = new Map(latest.addresses)
    return { nodeOf: key => owners.get(slotOf(key)), addresses: latest.addresses }
  }

  close(): void {
    this.#nodes.close()
  }
}

/** A node that thinks the cluster down comes after all others: it may be the one that was cut off. */
function rank(view: ClusterView): number {
  return view.epoch + (view.isWhole ? 2 ** 40 : 0)
}

async function viewOf(redis: Redis, asked: Address): Promise<ClusterView> {
  const info = String(await redis.call('CLUSTER', 'INFO'))
  const slots = await redis.call('CLUSTER', 'SLOTS')
  const addresses = new Map<string, Address>()
  const ranges: { first: number; last: number; node: string }[] = []
  for (const range of Array.isArray(slots) ? (slots as unknown[][]) : []) {
    const [first, last, primary] = range as [number, number, [string | null, number]]
    // A node that does not know its own name gives none: it is where we asked.
    const address = { host: primary[0] === null || primary[0] === '' ? asked.host : String(primary[0]), port: Number(primary[1]) }
    const node = addressText(address)
    addresses.set(node, address)
    ranges.push({ first: Number(first), last: Number(last), node })
  }
  const epoch = Number(/^cluster_current_epoch:(\d+)/m.exec(info)?.[1] ?? 0)
  return { epoch, isWhole: info.includes('cluster_state:ok'), ranges, addresses }
}
