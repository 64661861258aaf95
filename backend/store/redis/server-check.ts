import { redisFault } from '#shared/cluster/redis-fault.ts'
import { isAtLeast, redisInfo, redisIsTooOld } from '#shared/cluster/redis-version.ts'
import { type DurabilityLevel, StoreError } from '../shard-store.ts'
import type { Confirmation, Connection } from './connection.ts'
import { FORMAT } from './keys.ts'
import { CONFIGURE } from './scripts.ts'

export interface Requirements {
  readonly level: DurabilityLevel
  /** Copies, the primary's included, that `replicated` and `fsynced` ask for. */
  readonly redundancyFactor: number
  /** Accept a server that may throw away keys when its memory is full. */
  readonly allowsEviction: boolean
}

/** What a server is, as far as it matters here. */
export interface ServerFacts {
  readonly isPrimary: boolean
  readonly confirmation: Confirmation
  /** For the log: what is worse than the operator may think, though allowed. */
  readonly warnings: readonly string[]
}

const WAITAOF_VERSION_MIN = [7, 2] as const

/**
 * Looks whether a server may hold the store at the level asked for.
 * @throws {StoreError} failed: too old, or its settings do not allow the level. Other errors are the connection's.
 */
export async function checkServer(connection: Connection, where: string, required: Requirements): Promise<ServerFacts> {
  const info = redisInfo(String(await connection.call('info')))
  checkVersion(info, where)
  const isPrimary = info.get('role') === 'master'
  const warnings: string[] = []
  checkEviction(info, where, required, warnings)
  const confirmation = await confirmationOf(connection, info, where, required, isPrimary)
  const keepsNothing = info.get('aof_enabled') === '0' && !(await hasSnapshots(connection))
  if (keepsNothing && required.level !== 'memory') {
    warnings.push(`${where} writes neither an append-only file nor snapshots: what it holds is lost when it restarts; set appendonly yes`)
  }
  return { isPrimary, confirmation, warnings }
}

function checkVersion(info: ReadonlyMap<string, string>, where: string): void {
  const refusal = redisIsTooOld(info, where)
  if (refusal !== null) throw new StoreError('failed', refusal)
}

function checkEviction(info: ReadonlyMap<string, string>, where: string, required: Requirements, warnings: string[]): void {
  const policy = info.get('maxmemory_policy') ?? 'noeviction'
  if (policy === 'noeviction') return
  const what = `${where} has maxmemory-policy ${policy}: with full memory it would delete sessions and messages`
  if (!required.allowsEviction) throw new StoreError('failed', `${what}; set maxmemory-policy noeviction`)
  warnings.push(`${what}, which is allowed by the settings`)
}

async function confirmationOf(
  connection: Connection,
  info: ReadonlyMap<string, string>,
  where: string,
  required: Requirements,
  isPrimary: boolean,
): Promise<Confirmation> {
  const isCopied = required.level === 'replicated' || required.level === 'fsynced'
  const replicas = isCopied ? required.redundancyFactor - 1 : 0
  if (required.level !== 'fsynced' || !isPrimary) return { replicas, isOnDisk: false }
  if (info.get('aof_enabled') !== '1')
    throw new StoreError('failed', `${where} has no append-only file; level fsynced needs appendonly yes`)
  const policy = await setting(connection, 'appendfsync')
  // Then the answer to a write comes after it is on the disk, without being asked.
  if (policy === 'always') return { replicas, isOnDisk: false }
  if (isAtLeast(info.get('redis_version') ?? '', WAITAOF_VERSION_MIN)) return { replicas, isOnDisk: true }
  const found = policy === null ? 'does not let us read its setting appendfsync (CONFIG is forbidden)' : `has appendfsync ${policy}`
  throw new StoreError('failed', `${where} ${found}; level fsynced needs appendfsync always, or Redis 7.2`)
}

async function hasSnapshots(connection: Connection): Promise<boolean> {
  const save = await setting(connection, 'save')
  // Where CONFIG is forbidden somebody else is in charge of persistence.
  return save === null || save !== ''
}

/** Null where CONFIG is forbidden. */
async function setting(connection: Connection, name: string): Promise<string | null> {
  try {
    const reply = await connection.call('config', 'get', name)
    return Array.isArray(reply) && reply.length >= 2 ? String(reply[1]) : null
  } catch (error) {
    if (redisFault(error) === 'noPermission' || /unknown command/i.test(String(error))) return null
    throw error
  }
}

/**
 * Creates the marker of the store, or compares it.
 * @throws {StoreError} mismatch, newerFormat
 */
export async function checkConfig(connection: Connection, where: string, key: string, shardCount: number): Promise<void> {
  const reply = await connection.write(['eval', CONFIGURE, 1, key, FORMAT, shardCount])
  const [format, shards] = Array.isArray(reply) ? reply.map(Number) : [NaN, NaN]
  if (format! > FORMAT) {
    throw new StoreError(
      'newerFormat',
      `${where}: ${key} has format ${format}, this version reads up to ${FORMAT}; run the version that wrote it`,
    )
  }
  if (shards === shardCount) return
  throw new StoreError(
    'mismatch',
    `${where}: ${key} was created for ${shards} shards, but ${shardCount} are configured; configure ${shards} again, or use another cluster name`,
  )
}
