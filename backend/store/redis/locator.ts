import type { Redis } from 'ioredis'
import { openRedisNode, openSentinelNode, type RedisConnectionOptions } from '#shared/cluster/redis-connection.ts'
import { redisFaultText } from '#shared/cluster/redis-fault.ts'
import { type Address, addressText } from '#shared/config/address.ts'
import type { RedisUrl } from '#shared/config/redis-url.ts'
import { slotOf } from './keys.ts'

/** Which server is the primary of which keys, as far as those know who were asked. */
export interface Placement {
  /** `host:port` of the primary of a key; undefined while its slot has none. */
  nodeOf(key: string): string | undefined
  readonly addresses: ReadonlyMap<string, Address>
}

/** Finds the primaries. */
export interface Locator {
  /** @throws {Error} why nobody could say; its message is for the operator. The cause is the last error of the client. */
  locate(): Promise<Placement>
}

/** One that does not answer in so long is passed over this time. */
const ASK_TIMEOUT_MS = 1_000

export function openLocator(url: RedisUrl, options: RedisConnectionOptions): Locator {
  if (url.kind === 'sentinel') return new SentinelLocator(url, options)
  if (url.kind === 'cluster') return new ClusterLocator(url, options)
  const placement = singlePlacement(url.addresses[0]!)
  return { locate: () => Promise.resolve(placement) }
}

function singlePlacement(address: Address): Placement {
  const name = addressText(address)
  return { nodeOf: () => name, addresses: new Map([[name, address]]) }
}

/** Runs `ask` on a connection that lives as long as it. */
async function asking<T>(redis: Redis, ask: (redis: Redis) => Promise<T>): Promise<T> {
  try {
    await redis.connect()
    return await ask(redis)
  } finally {
    redis.disconnect()
  }
}

/** Asks all at once. @returns the answers in no order; at least one, otherwise it throws what the last one failed with */
async function askAll<T>(addresses: readonly Address[], ask: (address: Address) => Promise<T>): Promise<T[]> {
  const answers: T[] = []
  let failure: { readonly error: unknown; readonly address: Address } | null = null
  await Promise.all(
    addresses.map(async address => {
      try {
        answers.push(await ask(address))
      } catch (error) {
        failure = { error, address }
      }
    }),
  )
  const failed = failure as { readonly error: unknown; readonly address: Address } | null
  if (answers.length === 0 && failed !== null) throw new Error(redisFaultText(failed.error, failed.address), { cause: failed.error })
  return answers
}

/** Remembers the error behind `Connection is closed`, which is all that a failed `connect` says. */
function askingOptions(options: RedisConnectionOptions, onError: (error: Error) => void): RedisConnectionOptions {
  return { ...options, connectTimeoutMs: ASK_TIMEOUT_MS, commandTimeoutMs: ASK_TIMEOUT_MS, onError }
}

async function ask<T>(
  open: (options: RedisConnectionOptions) => Redis,
  options: RedisConnectionOptions,
  run: (redis: Redis) => Promise<T>,
) {
  let cause: Error | null = null
  try {
    return await asking(open(askingOptions(options, error => (cause = error))), run)
  } catch (error) {
    throw cause ?? error
  }
}

/**
 * Asks every Sentinel and believes the one that knows of the latest failover: a Sentinel that was cut off, like the primary beside it, still
 * names the former one.
 */
class SentinelLocator implements Locator {
  readonly #url: RedisUrl
  readonly #options: RedisConnectionOptions

  constructor(url: RedisUrl, options: RedisConnectionOptions) {
    this.#url = url
    this.#options = options
  }

  async locate(): Promise<Placement> {
    const { addresses, masterName } = this.#url
    const answers = await askAll(addresses, address =>
      ask(
        options => openSentinelNode(address, this.#url, options),
        this.#options,
        async redis => fieldsOf(await redis.call('SENTINEL', 'MASTER', masterName)),
      ),
    )
    const epoch = (fields: ReadonlyMap<string, string>): number => Number(fields.get('config-epoch') ?? -1)
    const latest = answers.reduce((one, other) => (epoch(other) > epoch(one) ? other : one))
    return singlePlacement({ host: latest.get('ip') ?? '', port: Number(latest.get('port')) })
  }
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
  readonly #options: RedisConnectionOptions
  #known = new Map<string, Address>()

  constructor(url: RedisUrl, options: RedisConnectionOptions) {
    this.#url = url
    this.#options = options
  }

  async locate(): Promise<Placement> {
    const asked = new Map(this.#url.addresses.map(address => [addressText(address), address]))
    for (const [name, address] of this.#known) if (asked.size < KNOWN_NODES_MAX) asked.set(name, address)
    const views = await askAll([...asked.values()], address =>
      ask(
        options => openRedisNode(address, this.#url, options),
        this.#options,
        redis => viewOf(redis, address),
      ),
    )
    const latest = views.reduce((one, other) => (rank(other) > rank(one) ? other : one))
    const owners = new Map<number, string>()
    for (const { first, last, node } of latest.ranges) for (let slot = first; slot <= last; slot++) owners.set(slot, node)
    this.#known = new Map(latest.addresses)
    return { nodeOf: key => owners.get(slotOf(key)), addresses: latest.addresses }
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
