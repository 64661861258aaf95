import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { RedisTrio } from '../chaos/redis-trio.ts'
import { ClusterProcess, Command, isRunning } from '../cluster/cluster-process.ts'
import type { SeededRandom } from '#shared/testing/seeded-random.ts'

const FRONTENDS = 2
const BACKENDS = 3
const POLL_MS = 20
/** A Redis that was the primary stays away, or believes that it still is the primary, for up to so long. */
const REDIS_ABSENT_MS_MAX = 500

const FAILOVER_TIMEOUT_MS = 1_000

/** What can be killed. */
export const KILLABLE = ['backends', 'frontends', 'redis'] as const
export type Killable = (typeof KILLABLE)[number]

/** Where the state is: on the disk of one Redis, or in the memory of two, which a Sentinel lets change places. */
export type RedisKind = 'alone' | 'trio'

/** A real cluster, for clients of the state store whose shards lose their owners. */
export class StoreCluster implements AsyncDisposable {
  /** What was killed. */
  readonly kills: Record<Killable, number> = { backends: 0, frontends: 0, redis: 0 }
  readonly #directory: string
  readonly #redis: RedisTrio | null
  #cluster: ClusterProcess
  /** What was killed last is back. */
  #isBack: Promise<unknown> = Promise.resolve()

  private constructor(directory: string, redis: RedisTrio | null, cluster: ClusterProcess) {
    this.#directory = directory
    this.#redis = redis
    this.#cluster = cluster
  }

  /** Two frontends, three backends and a Redis, which serve. With one Redis the level is `stored`, with two `replicated`. */
  static async start(redisKind: RedisKind = 'alone'): Promise<StoreCluster> {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-store-'))
    const redis = redisKind === 'trio' ? await RedisTrio.start(FAILOVER_TIMEOUT_MS) : null
    return new StoreCluster(directory, redis, await launch(directory, redis))
  }

  /** Of every frontend. */
  get urls(): readonly string[] {
    return this.#cluster.frontends.map(({ mqtt }) => `mqtt://${mqtt.host}:${mqtt.port}`)
  }

  /**
   * kill -9 of any process of that kind, or a failover of Redis: its primary is killed, or stopped until the other one has its place. Resolves
   * when that is done; before it, what was killed earlier must be back, so that there always is another that can take over.
   */
  async kill(what: Killable, random: SeededRandom): Promise<void> {
    await this.#isBack
    this.kills[what]++
    if (what === 'redis') await this.#loseRedis(random)
    else if (what === 'backends') this.#killOne('backend', random.int(0, BACKENDS - 1))
    else this.#killOne('frontend', random.int(0, FRONTENDS - 1))
    // Whoever kills next, or asks, is told when it does not come back.
    this.#isBack.catch(() => undefined)
  }

  async #loseRedis(random: SeededRandom): Promise<void> {
    const redis = this.#redis
    if (redis === null) throw new Error('one Redis cannot fail over')
    const absentMs = random.int(0, REDIS_ABSENT_MS_MAX)
    const { promise, resolve } = Promise.withResolvers<void>()
    const failover =
      random.int(0, 1) === 0
        ? redis.killPrimary(absentMs, resolve)
        : redis.stopPrimary(absentMs, resolve, random.int(0, REDIS_ABSENT_MS_MAX))
    this.#isBack = failover.then(() => redis.inStep())
    await Promise.race([promise, this.#isBack])
  }

  #killOne(role: 'backend' | 'frontend', index: number): void {
    const before = this.#cluster.pidOf(role, index)
    this.#cluster.kill(role, index)
    this.#isBack = this.#cluster.servesAgain(role, index, before)
  }

  /** What was killed last serves again. @throws it does not */
  async isBack(): Promise<void> {
    await this.#isBack
  }

  /** kill -9 of every process, its own Redis among them, and a new start on what Redis has on disk. */
  async killAll(): Promise<void> {
    await this.#end()
    this.#cluster = await launch(this.#directory, this.#redis)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end()
    await this.#redis?.close()
    await rm(this.#directory, { recursive: true, force: true })
  }

  async #end(): Promise<void> {
    const { pids } = this.#cluster
    for (const pid of pids) kill(pid)
    await this.#cluster.abandon()
    for (const pid of pids) while (await isRunning(pid)) await sleep(POLL_MS)
  }
}

async function launch(directory: string, redis: RedisTrio | null): Promise<ClusterProcess> {
  const counts = ['--frontends', `${FRONTENDS}`, '--backends', `${BACKENDS}`, '--authsvcs', '0']
  const state =
    redis === null
      ? ['--data', join(directory, 'redis')]
      : ['--redis', redis.url, '--persistence', 'replicated', '--redundancy-factor', '2']
  return ClusterProcess.start(new Command(['--log-level', 'info', ...state, ...counts], directory))
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended already.
  }
}
