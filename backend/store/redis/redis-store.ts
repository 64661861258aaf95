import { assert } from '#shared/base/assert.ts'
import { systemTimers, type Timers } from '#shared/base/timers.ts'
import type { RedisTls } from '#shared/cluster/redis-connection.ts'
import type { RedisUrl } from '#shared/config/redis-url.ts'
import type { Log } from '#shared/telemetry/log.ts'
import {
  type ClusterStore,
  type DurabilityLevel,
  type ShardEntry,
  type ShardOwner,
  type SnapshotWriter,
  StoreError,
} from '../shard-store.ts'
import { Appender } from './appender.ts'
import type { Connection } from './connection.ts'
import { closedError, isOwnError } from './errors.ts'
import { FORMAT, Keys } from './keys.ts'
import { newerFormat, RedisReading, textsOf, type Visit } from './reading.ts'
import { CLAIM, RELEASE } from './scripts.ts'
import { ShardLog, type PendingCommit } from './shard-log.ts'
import { RedisSnapshotWriter } from './snapshot.ts'
import { Topology } from './topology.ts'
import { Trimmer } from './trimmer.ts'

export interface RedisStoreOptions {
  readonly url: RedisUrl
  readonly tls?: RedisTls
  readonly shardCount: number
  readonly clusterName: string
  readonly level: DurabilityLevel
  /** Copies of the store, the primary's included, that levels `replicated` and `fsynced` wait for. */
  readonly redundancyFactor: number
  /** Who we are: member id and instance, see shared/cluster/member.ts. The instance is another one after each start. */
  readonly owner: { readonly id: string; readonly instance: string }
  readonly log: Log
  readonly timers?: Timers
  /** Take a Redis that may delete keys when its memory is full. Left out: refused. */
  readonly allowsEviction?: boolean
  /** Gives up opening. */
  readonly signal?: AbortSignal
  /** How long `close` waits for commits that Redis has not answered, 5,000 when left out; then they reject. */
  readonly closeTimeoutMs?: number
  /** Called with the new status at each change, also while opening. */
  readonly onStatus?: (status: RedisStoreStatus) => void
}

export interface RedisStoreStatus {
  readonly ready: boolean
  /** Why it waits, for the operator: `connecting to 10.0.0.1:6379 (refused)`, `10.0.0.1:6379: out of memory`. Empty when ready. */
  readonly detail: string
}

const CLOSE_TIMEOUT_MS = 5_000
/** How often `release` looks whether a shard in trouble is well again. */
const RELEASE_POLL_MS = 50
const RESOLVED = Promise.resolve()

/**
 * The store of a cluster, in Redis (standalone, behind Sentinels, or Redis Cluster). docs/adr/0003-redis-log.md says why it is as it is.
 *
 *   millrace:NAME:config            hash: format, shards
 *   millrace:NAME:{m:N}:log         stream: `epoch-0` is a claim, `epoch-position` the entries of one commit for shard N
 *   millrace:NAME:{m:N}:meta        hash: owner (epoch, id, instance, released), valid snapshot (snap, chunks, covered), writing
 *   millrace:NAME:{m:N}:snap:ID     list: chunks of a snapshot
 *
 * Redis refuses an entry whose id is not above the last one of the stream. A claim writes an id of a higher epoch, and so everything that a
 * former owner sends afterwards is refused, without a script on the way of every commit.
 *
 * Redis in trouble never makes a commit fail: it waits, in its order, and is sent again once the log was asked what it holds (appender.ts).
 * Commits that are under way are held in memory; whoever commits limits them.
 *
 * Resolves when Redis was reached and found fit; until then it tries, and `onStatus` and the log say why it waits.
 * @throws {StoreError} failed (wrong password, too old, settings of Redis that do not allow the level), mismatch, newerFormat, closed
 */
export async function openRedisStore(options: RedisStoreOptions): Promise<RedisStore> {
  const store = new RedisStore(options)
  try {
    await store.opened
    return store
  } catch (error) {
    await store.close()
    throw error
  }
}

export class RedisStore implements ClusterStore {
  readonly level: DurabilityLevel
  readonly shardCount: number
  /** Settles when the store was opened, or cannot be. */
  readonly opened: Promise<void>
  onFenced: ((shard: number) => void) | null = null
  onIncomplete: ((shard: number) => void) | null = null
  readonly #options: RedisStoreOptions
  readonly #timers: Timers
  readonly #keys: Keys
  readonly #logs: readonly ShardLog[]
  readonly #topology: Topology
  readonly #appender: Appender
  readonly #trimmer: Trimmer
  #status: RedisStoreStatus = { ready: false, detail: 'connecting to Redis' }
  #refuse: (error: StoreError) => void = () => {}
  #underWay = 0
  #idle: (() => void)[] = []
  #closing: Promise<void> | null = null

  /** Use `openRedisStore`. */
  constructor(options: RedisStoreOptions) {
    const { level, shardCount, owner } = options
    this.level = level
    this.shardCount = shardCount
    this.#options = options
    this.#timers = options.timers ?? systemTimers
    this.#keys = new Keys(options.clusterName)
    this.#logs = Array.from({ length: shardCount }, (_, shard) => new ShardLog(shard, this.#keys.log(shard)))
    this.#topology = this.#openTopology()
    this.#appender = new Appender(this.#logs, {
      keys: this.#keys,
      topology: this.#topology,
      owner,
      isKept: level !== 'memory',
      onFenced: log => this.#onFenced(log),
      onIncomplete: log => {
        options.log.warn('redis_entries_lost', { shard: log.shard, epoch: log.epoch })
        this.onIncomplete?.(log.shard)
      },
      onChange: () => this.#updateStatus(),
    })
    this.#trimmer = new Trimmer(this.#keys, this.#onSide)
    this.opened = this.#open()
  }

  /** Whether everything works, and if not why. */
  status(): RedisStoreStatus {
    return this.#status
  }

  async ownerOf(shard: number): Promise<ShardOwner | null> {
    const meta = this.#keys.meta(this.#log(shard).shard)
    const reply = await this.#onSide(shard, side => side.call('hmget', meta, 'epoch', 'id', 'instance', 'released', 'format'))
    const [epoch, id = '', instance = '', released, format] = textsOf(reply)
    if (Number(format ?? FORMAT) > FORMAT) throw newerFormat(meta, format!)
    return epoch === undefined ? null : { epoch: Number(epoch), id, instance, isReleased: released === '1' }
  }

  async claim(shard: number, after: number): Promise<number | null> {
    const log = this.#log(shard)
    // Ours before, and given up without a word to Redis: the lease was over.
    if (log.isOwned) log.end('fenced')
    const { id, instance } = this.#options.owner
    const meta = this.#keys.meta(shard)
    const dropsUnreleased = this.level === 'memory' ? '1' : '0'
    const command = ['eval', CLAIM, 2, this.#keys.log(shard), meta, after, id, instance] as const
    const reply = String(
      await this.#onSide(shard, side => side.write([...command, dropsUnreleased, this.#keys.snapshotPrefix(shard), FORMAT])),
    )
    if (reply.startsWith('newer ')) throw newerFormat(meta, reply.slice(6))
    const epoch = Number(reply)
    if (epoch === 0) return null
    log.begin(epoch)
    this.#appender.begin(log)
    return epoch
  }

  async release(shard: number): Promise<void> {
    const log = this.#log(shard)
    if (!log.isOwned) return
    assert(log.pending === 0, `shard ${shard} is released before its last commit was answered`)
    const { id, instance } = this.#options.owner
    const { epoch } = log
    while (log.isOwned && log.epoch === epoch) {
      if (this.#closing !== null) throw closedError()
      // Entries that a failover lost are in our memory still: they come first.
      if (log.phase !== 'live') {
        await this.#topology.pause(RELEASE_POLL_MS)
        continue
      }
      const command = ['eval', RELEASE, 2, this.#keys.log(shard), this.#keys.meta(shard), epoch, id, instance, log.stored] as const
      const answer = String(await this.#onSide(shard, side => side.write(command)))
      if (answer !== 'lost' || this.level === 'memory') return log.end('unowned')
      log.loseContact()
      this.#appender.onPlaced()
    }
  }

  read(shard: number): RedisReading {
    const log = this.#log(shard)
    return new RedisReading(shard, this.#keys, this.#onSide, reading => {
      // What was written before us lies in the log as well, until our first snapshot covers it.
      if (log.isOwned && log.snapshots === 0) log.foreignBytes = reading.bytesBefore(log.epoch)
    })
  }

  async recover(shard: number, visit: Visit): Promise<void> {
    if (await this.read(shard).readOn(visit)) return
    throw new StoreError('failed', `shard ${shard} got a new snapshot while it was read; read it again`)
  }

  commit(entries: readonly ShardEntry[]): Promise<void> {
    if (this.#closing !== null) return Promise.reject(closedError())
    if (this.level === 'memory' || entries.length === 0) return RESOLVED
    return new Promise((resolve, reject) => {
      const end = (): void => {
        if (--this.#underWay === 0) for (const wake of this.#idle.splice(0)) wake()
      }
      const commit: PendingCommit = {
        missing: 1,
        resolve: () => {
          end()
          resolve()
        },
        reject: error => {
          // Called once for each shard of it.
          if (commit.missing === Infinity) return
          commit.missing = Infinity
          end()
          reject(error)
        },
      }
      this.#underWay++
      this.#appender.append(entries, commit)
      if (--commit.missing === 0) commit.resolve()
    })
  }

  beginSnapshot(shard: number): SnapshotWriter {
    if (this.#closing !== null) throw closedError()
    const log = this.#log(shard)
    assert(log.isOwned || log.phase === 'fenced', `shard ${shard} is not claimed`)
    assert(!log.isSnapshotUnderWay, `one snapshot at a time of shard ${shard}`)
    return new RedisSnapshotWriter({
      log,
      keys: this.#keys,
      owner: this.#options.owner,
      onSide: this.#onSide,
      onFenced: () => this.#onFenced(log),
      onFinished: (_, epoch, position) => this.#trimmer.covered(shard, epoch, position),
      onMended: () => {
        this.#options.log.info('redis_entries_mended', { shard, epoch: log.epoch })
        this.#appender.begin(log)
      },
    })
  }

  forsake(shard: number): void {
    const log = this.#log(shard)
    if (log.phase !== 'incomplete') return
    this.#options.log.warn('redis_entries_given_up', { shard, epoch: log.epoch })
    log.end('fenced')
    this.#updateStatus()
  }

  logBytes(shard: number): number {
    const { foreignBytes, ownBytes, coveredBytes } = this.#log(shard)
    return foreignBytes + ownBytes - coveredBytes
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  async #close(): Promise<void> {
    if (this.#underWay > 0) {
      await new Promise<void>(resolve => {
        const cancel = this.#timers.after(this.#options.closeTimeoutMs ?? CLOSE_TIMEOUT_MS, resolve)
        this.#idle.push(() => {
          cancel()
          resolve()
        })
      })
    }
    const trimmed = this.#trimmer.close()
    this.#topology.close()
    await trimmed
    for (const log of this.#logs) log.abort(closedError())
    this.#refuse(closedError())
  }

  #openTopology(): Topology {
    const { url, tls, level, redundancyFactor, allowsEviction = false, clusterName, shardCount, log } = this.#options
    const connecting = { ...(tls !== undefined && { tls }), connectionName: `millrace-store`, onError: () => {} }
    const required = { level, redundancyFactor, allowsEviction }
    const parts = { url, connecting, required, timers: this.#timers, configKey: new Keys(clusterName).config, shardCount }
    const warned = new Set<string>()
    return new Topology(this.#neededKeys(), parts, {
      onReady: () => this.#appender.onPlaced(),
      onDown: node => this.#appender.onDown(node),
      onPlaced: () => this.#appender.onPlaced(),
      onChange: () => this.#updateStatus(),
      onRefused: error => this.#refuse(error),
      onWarning: text => {
        if (!warned.has(text)) log.warn('redis_settings', { warning: text })
        warned.add(text)
      },
    })
  }

  #neededKeys(): readonly string[] {
    return [this.#keys.config, ...this.#logs.map(log => this.#keys.log(log.shard))]
  }

  async #open(): Promise<void> {
    const { signal } = this.#options
    const refused = new Promise<never>((_, reject) => {
      this.#refuse = reject
    })
    refused.catch(() => {})
    const onAbort = (): void => this.#refuse(closedError())
    signal?.addEventListener('abort', onAbort)
    if (signal?.aborted === true) onAbort()
    try {
      const ready = this.#neededKeys().map(key => this.#topology.readyNodeOf(key))
      await Promise.race([Promise.all(ready), refused])
    } finally {
      signal?.removeEventListener('abort', onAbort)
      this.#refuse = () => {}
    }
  }

  /** Runs `run` on a connection to the primary of the shard, again whenever Redis was in the way, until the store is closed. */
  readonly #onSide = async <T>(shard: number, run: (side: Connection) => Promise<T>): Promise<T> => {
    const key = this.#keys.log(shard)
    for (;;) {
      const node = await this.#topology.readyNodeOf(key)
      try {
        const answer = await run(node.side)
        node.noteSuccess('side')
        return answer
      } catch (error) {
        if (isOwnError(error)) throw error
        await this.#topology.pause(node.noteRefusal(error, 'side'))
      }
    }
  }

  #onFenced(log: ShardLog): void {
    if (!log.isOwned) return
    this.#options.log.warn('redis_shard_fenced', { shard: log.shard, epoch: log.epoch })
    log.end('fenced')
    // Before whoever waits for the commits learns that they are over, which is in a later microtask.
    this.onFenced?.(log.shard)
  }

  #updateStatus(): void {
    const waiting = this.#logs.filter(log => log.phase === 'incomplete').length
    const detail = this.#topology.trouble ?? (waiting > 0 ? `waiting for snapshots of ${waiting} shards that lost entries` : '')
    if (detail === this.#status.detail && this.#status.ready === (detail === '')) return
    this.#status = { ready: detail === '', detail }
    if (detail === '') this.#options.log.info('redis_ready')
    else this.#options.log.warn('redis_waiting', { detail })
    this.#options.onStatus?.(this.#status)
  }

  #log(shard: number): ShardLog {
    const log = this.#logs[shard]
    assert(log, `shard ${shard} of ${this.shardCount}`)
    return log
  }
}
