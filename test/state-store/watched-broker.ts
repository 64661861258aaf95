import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ClusterProcess, Command, isRunning } from '../cluster/cluster-process.ts'
import { BrokerProcess } from '../crash/broker-process.ts'
import type { Address } from './store-client.contract.ts'

/** A broker whose state store very many watch. */
export interface WatchedBroker extends AsyncDisposable {
  /** Where the client of this number connects. */
  address(number: number): Address
  /** Sum over the processes that have the state. */
  metric(name: string): Promise<number>
}

const POLL_MS = 20

/** `millrace start`, its store in memory. One shard: its limits are those of the whole store. */
export async function startProcess(flags: readonly string[]): Promise<WatchedBroker> {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-watchers-'))
  const broker = new BrokerProcess(directory, ['--store', 'memory', '--shards', '1', ...flags])
  await broker.start()
  return {
    address: () => broker,
    metric: name => broker.metric(name),
    [Symbol.asyncDispose]: async () => {
      await broker.kill()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/** `millrace cluster` with two frontends, two backends and a Redis; the shards of clients and of keys are spread over both. */
export async function startCluster(flags: readonly string[]): Promise<WatchedBroker> {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-watchers-'))
  const counts = ['--frontends', '2', '--backends', '2', '--authsvcs', '0']
  const cluster = await ClusterProcess.start(new Command(['--log-level', 'warn', ...counts, ...flags], directory))
  const { frontends, backends } = cluster
  return {
    address: number => frontends[number % frontends.length]!.mqtt,
    metric: async name => {
      const values = await Promise.all(backends.map(({ metrics }) => cluster.metric(metrics, name)))
      return values.reduce((sum, value) => sum + value, 0)
    },
    [Symbol.asyncDispose]: async () => {
      const { pids } = cluster
      await cluster.abandon()
      for (const pid of pids) while (await isRunning(pid)) await sleep(POLL_MS)
      await rm(directory, { recursive: true, force: true })
    },
  }
}
