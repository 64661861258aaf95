import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ClusterProcess, Command, isRunning } from '../cluster/cluster-process.ts'
import type { SeededRandom } from '#shared/testing/seeded-random.ts'

const FRONTENDS = 2
const BACKENDS = 3
const POLL_MS = 20

/** A real cluster, for clients of the state store whose shards lose their owners. */
export class StoreCluster implements AsyncDisposable {
  /** Backends killed, each of which had shards that others took over. */
  kills = 0
  readonly #directory: string
  #cluster: ClusterProcess

  private constructor(directory: string, cluster: ClusterProcess) {
    this.#directory = directory
    this.#cluster = cluster
  }

  /** Two frontends, three backends and a Redis with an append-only file, which serve. */
  static async start(): Promise<StoreCluster> {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-store-'))
    return new StoreCluster(directory, await launch(directory))
  }

  /** Of every frontend. */
  get urls(): readonly string[] {
    return this.#cluster.frontends.map(({ mqtt }) => `mqtt://${mqtt.host}:${mqtt.port}`)
  }

  /** kill -9 of any backend; returns when it is back, so that there always is another that can take its shards. */
  async killBackend(random: SeededRandom): Promise<void> {
    const index = random.int(0, BACKENDS - 1)
    const before = this.#cluster.pidOf('backend', index)
    this.#cluster.kill('backend', index)
    this.kills++
    await this.#cluster.servesAgain('backend', index, before)
  }

  /** kill -9 of every process, Redis among them, and a new start on what Redis has on disk. */
  async killAll(): Promise<void> {
    const { pids } = this.#cluster
    for (const pid of pids) kill(pid)
    await this.#cluster.abandon()
    for (const pid of pids) while (await isRunning(pid)) await sleep(POLL_MS)
    this.#cluster = await launch(this.#directory)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { pids } = this.#cluster
    await this.#cluster.abandon()
    for (const pid of pids) while (await isRunning(pid)) await sleep(POLL_MS)
    await rm(this.#directory, { recursive: true, force: true })
  }
}

async function launch(directory: string): Promise<ClusterProcess> {
  const counts = ['--frontends', `${FRONTENDS}`, '--backends', `${BACKENDS}`, '--authsvcs', '0']
  return ClusterProcess.start(new Command(['--log-level', 'info', '--data', join(directory, 'redis'), ...counts], directory))
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended already.
  }
}
