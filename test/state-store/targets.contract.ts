import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { storeShardOf } from '#shared/cluster/shard.ts'
import { Keys } from '../../backend/store/redis/keys.ts'
import { ClusterProcess, Command } from '../cluster/cluster-process.ts'
import { BrokerProcess } from '../crash/broker-process.ts'
import type { Target } from './replay.contract.ts'
import type { Address } from './store-client.contract.ts'

const SHARDS = 32
const CLUSTER_NAME = 'vectors'
const POLL_MS = 20
const PATIENCE_MS = 60_000

/** `millrace start` on a data directory. */
export class StandaloneTarget implements Target {
  readonly dropsConnections = true
  readonly broker: BrokerProcess
  readonly #directory: string

  private constructor(directory: string) {
    this.#directory = directory
    this.broker = new BrokerProcess(directory)
  }

  static async start(): Promise<StandaloneTarget> {
    const target = new StandaloneTarget(await mkdtemp(join(tmpdir(), 'millrace-vectors-')))
    await target.broker.start()
    return target
  }

  address(): Address {
    return this.broker
  }

  async kill(): Promise<void> {
    await this.broker.kill()
    await this.broker.start()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.broker.kill()
    await rm(this.#directory, { recursive: true, force: true })
  }
}

/** `millrace cluster` with 2 frontends and 3 backends, which it starts again when they are killed. */
export class ClusterTarget implements Target {
  readonly dropsConnections = false
  readonly cluster: ClusterProcess
  readonly #command: Command
  readonly #directory: string
  readonly #redis: Redis
  readonly #keys = new Keys(CLUSTER_NAME)
  /** Owners by instance, which no other process ever has. */
  readonly #killed = new Set<string>()
  #last: { readonly index: number; readonly pid: number } | null = null

  private constructor(cluster: ClusterProcess, command: Command, directory: string) {
    this.cluster = cluster
    this.#command = command
    this.#directory = directory
    const { host, port } = cluster.redis[0]!
    this.#redis = new Redis({ host, port })
  }

  static async start(): Promise<ClusterTarget> {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-vectors-'))
    const counts = ['--frontends', '2', '--backends', '3', '--authsvcs', '0', '--shards', String(SHARDS)]
    const command = new Command([...counts, '--cluster-name', CLUSTER_NAME, '--log-level', 'info'], directory)
    return new ClusterTarget(await ClusterProcess.start(command), command, directory)
  }

  /** Who asks and who watches are at different frontends. */
  address(clientId: string): Address {
    return this.cluster.frontends[clientId === 'client-id1' ? 1 : 0]!.mqtt
  }

  /** Only one of the backends is away at a time. */
  async kill(shardKey: string): Promise<void> {
    if (this.#last !== null) await this.cluster.servesAgain('backend', this.#last.index, this.#last.pid)
    const { id, instance } = await this.#ownerOf(storeShardOf(shardKey, SHARDS))
    this.#killed.add(instance)
    const index = Number(id.slice('backend-'.length))
    this.#last = { index, pid: this.cluster.pidOf('backend', index) }
    this.cluster.kill('backend', index)
  }

  /** As Redis has it; one that lives. */
  async #ownerOf(shard: number): Promise<{ readonly id: string; readonly instance: string }> {
    const deadlineMs = performance.now() + PATIENCE_MS
    for (;;) {
      const [id, instance] = await this.#redis.hmget(this.#keys.meta(shard), 'id', 'instance')
      if (id && instance && !this.#killed.has(instance)) return { id, instance }
      if (performance.now() > deadlineMs) throw new Error(`nobody takes shard ${shard}: ${this.cluster.err.slice(-2_000)}`)
      await sleep(POLL_MS)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#redis.disconnect()
    this.#command.signal('SIGTERM')
    await this.#command.ended
    await rm(this.#directory, { recursive: true, force: true })
  }
}
