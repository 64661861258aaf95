import { Cluster, Redis, type RedisOptions } from 'ioredis'
import type { Address } from '#shared/config/address.ts'
import type { RedisUrl } from '#shared/config/redis-url.ts'
import { withoutCommand } from './redis-fault.ts'

export interface RedisTls {
  /** PEM; without it the certificates that Node trusts. */
  readonly ca?: Buffer
  /** What we show, where Redis asks for it (tls-auth-clients). */
  readonly cert?: Buffer
  readonly key?: Buffer
}

export interface RedisConnectionOptions {
  readonly tls?: RedisTls
  /** Shown by CLIENT LIST; no spaces. */
  readonly connectionName?: string
  /** From the first packet to the end of the TLS handshake, 2,000 when left out. */
  readonly connectTimeoutMs?: number
  /** A command without an answer for so long fails, though it may still be carried out. Without it commands wait for ever. */
  readonly commandTimeoutMs?: number
  /** Each attempt that failed and each connection that broke. For the operator: see redis-fault.ts. */
  readonly onError: (error: Error) => void
}

const CONNECT_TIMEOUT_MS = 2_000
const RETRY_MS_MAX = 1_000
const RETRY_MS_STEP = 100

/**
 * A client that reconnects by itself, for calls that may fail and be made again by their caller: while there is no connection every command
 * fails at once, a command whose connection broke fails, and none is ever sent a second time behind the caller's back (except redirected by
 * a cluster, which has not carried it out then). With Sentinels it follows a failover that they announce.
 */
export function openRedis(url: RedisUrl, options: RedisConnectionOptions): Redis | Cluster {
  const common: RedisOptions = {
    ...nodeOptions(url, options),
    maxRetriesPerRequest: 0,
    retryStrategy: times => Math.min(times * RETRY_MS_STEP, RETRY_MS_MAX),
  }
  const redis =
    url.kind === 'cluster' ? openCluster(url, common) : url.kind === 'sentinel' ? openSentinel(url, common) : openOne(url, common)
  // Without a listener the client writes to the console.
  const onError = (error: Error): void => options.onError(withoutCommand(error))
  redis.on('error', onError)
  if (redis instanceof Cluster) redis.on('node error', onError)
  return redis
}

/**
 * One connection to one server, which is given up when it breaks: no queue, no reconnecting, no ready check. Connect it with `connect()`;
 * then `close` says that it is over. For whoever keeps the order of commands in their own hands.
 */
export function openRedisNode(address: Address, url: RedisUrl, options: RedisConnectionOptions): Redis {
  const redis = new Redis({
    ...nodeOptions(url, options),
    ...address,
    db: url.database,
    lazyConnect: true,
    enableReadyCheck: false,
    retryStrategy: null,
  })
  redis.on('error', (error: Error) => options.onError(withoutCommand(error)))
  return redis
}

/** The same to a Sentinel, which has a login of its own. */
export function openSentinelNode(address: Address, url: RedisUrl, options: RedisConnectionOptions): Redis {
  return openRedisNode(address, { ...url, username: url.sentinelUsername, password: url.sentinelPassword, database: 0 }, options)
}

function nodeOptions(url: RedisUrl, options: RedisConnectionOptions): RedisOptions {
  return {
    ...(url.username !== '' && { username: url.username }),
    ...(url.password !== '' && { password: url.password }),
    ...(url.isTls && { tls: { ...options.tls } }),
    ...(options.connectionName !== undefined && { connectionName: options.connectionName }),
    ...(options.commandTimeoutMs !== undefined && { commandTimeout: options.commandTimeoutMs }),
    connectTimeout: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    disableClientInfo: true,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    enableOfflineQueue: false,
  }
}

function openOne(url: RedisUrl, common: RedisOptions): Redis {
  return new Redis({ ...common, ...url.addresses[0]!, db: url.database })
}

function openSentinel(url: RedisUrl, common: RedisOptions): Redis {
  const { tls, ...rest } = common
  return new Redis({
    ...rest,
    sentinels: url.addresses.map(({ host, port }) => ({ host, port })),
    name: url.masterName,
    db: url.database,
    failoverDetector: true,
    ...(url.sentinelUsername !== '' && { sentinelUsername: url.sentinelUsername }),
    ...(url.sentinelPassword !== '' && { sentinelPassword: url.sentinelPassword }),
    ...(tls !== undefined && { tls, sentinelTLS: tls, enableTLSForSentinelMode: true }),
    sentinelRetryStrategy: times => Math.min(times * RETRY_MS_STEP, RETRY_MS_MAX),
    sentinelReconnectStrategy: () => RETRY_MS_MAX,
  })
}

function openCluster(url: RedisUrl, common: RedisOptions): Cluster {
  const { retryStrategy: _retryStrategy, enableOfflineQueue: _enableOfflineQueue, ...redisOptions } = common
  return new Cluster(
    url.addresses.map(({ host, port }) => ({ host, port })),
    {
      enableOfflineQueue: false,
      redisOptions,
      // With TLS the certificate is checked against the name, so names stay names.
      ...(url.isTls && { dnsLookup: (name, callback) => callback(null, name) }),
      clusterRetryStrategy: times => Math.min(times * RETRY_MS_STEP, RETRY_MS_MAX),
      slotsRefreshInterval: 5_000,
    },
  )
}
