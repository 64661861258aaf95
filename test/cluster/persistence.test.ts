import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectAsync } from 'mqtt'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { StateStore } from '../../client/state-store.ts'
import type { ClusterProcess } from './cluster-process.ts'
import { startCluster } from './start-cluster.ts'

const BROKER = `apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: Broker
metadata: {name: default}
spec:
  persistence:
    maxSize: 1Gi
    retain: {mode: Custom, retainSettings: {topics: [kept/#]}}
    stateStore: {mode: Custom, stateStoreSettings: {dynamic: {mode: Enabled}}}
`
const TIMEOUT_MS = 90_000

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'millrace-persistence-'))
  await mkdir(join(directory, 'config'))
  await writeFile(join(directory, 'config/broker.yaml'), BROKER)
})
afterEach(() => rm(directory, { recursive: true, force: true }))

function start(): Promise<ClusterProcess> {
  const counts = ['--frontends', '1', '--backends', '2', '--authsvcs', '0', '--shards', '8']
  return startCluster(...counts, '--config', join(directory, 'config'), '--data', join(directory, 'redis'))
}

function urlOf(cluster: ClusterProcess): string {
  const { host, port } = cluster.frontends[0]!.mqtt
  return `mqtt://${host}:${port}`
}

/** Everything that is there. */
async function expectFound(cluster: ClusterProcess, expected: { readonly keys: string[]; readonly retained: string[] }): Promise<void> {
  await using store = await StateStore.connect(urlOf(cluster))
  const keys: string[] = []
  for await (const key of store.scan('')) keys.push(Buffer.from(key).toString())
  expect(keys.sort()).toEqual(expected.keys)
  const client = await connectAsync(urlOf(cluster), { protocolVersion: 5 })
  const retained: string[] = []
  client.on('message', topic => retained.push(topic))
  await client.subscribeAsync('+/#', { qos: 1 })
  await expect.poll(() => retained.toSorted(), { timeout: 20_000 }).toEqual(expected.retained)
  await client.endAsync()
}

/** Messages and keys that were dropped. */
async function dropped(cluster: ClusterProcess): Promise<[number, number]> {
  const sum = async (name: string): Promise<number> => {
    const counts = await Promise.all(cluster.backends.map(({ metrics }) => cluster.metric(metrics, name)))
    return counts.reduce((total, count) => total + count, 0)
  }
  return [await sum('millrace_not_persisted_messages_total'), await sum('millrace_state_store_keys_not_persisted_total')]
}

test('what the policy does not choose outlives a killed backend, and not a stop of all', { timeout: TIMEOUT_MS }, async () => {
  const cluster = await start()
  const client = await connectAsync(urlOf(cluster), { protocolVersion: 5 })
  for (const topic of ['kept/1', 'kept/2', 'other/1', 'other/2']) await client.publishAsync(topic, 'x', { qos: 1, retain: true })
  await client.endAsync()
  await using store = await StateStore.connect(urlOf(cluster))
  for (const name of ['a', 'b', 'c']) {
    await store.set(`asked-${name}`, 'x', { persist: true })
    await store.set(`plain-${name}`, 'x')
  }
  const before = cluster.pidOf('backend', 0)
  cluster.kill('backend', 0)
  await cluster.servesAgain('backend', 0, before)
  await expectFound(cluster, {
    keys: ['asked-a', 'asked-b', 'asked-c', 'plain-a', 'plain-b', 'plain-c'],
    retained: ['kept/1', 'kept/2', 'other/1', 'other/2'],
  })
  expect(await dropped(cluster)).toEqual([0, 0])
  await store.close()
  await cluster.stop()
  const again = await start()
  await expectFound(again, { keys: ['asked-a', 'asked-b', 'asked-c'], retained: ['kept/1', 'kept/2'] })
  expect(await dropped(again)).toEqual([2, 3])
})
