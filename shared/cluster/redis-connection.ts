import { Redis, type RedisOptions } from 'ioredis'
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

/** Ends a connection at once. The client's `disconnect` alone gives the server two seconds to close its end, and whoever waits, waits on. */
export function dropRedis(redis: Redis): void {
  redis.disconnect()
  // There is none before the first attempt.
  const stream: { destroy(): unknown } | undefined = redis.stream
  stream?.destroy()
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
