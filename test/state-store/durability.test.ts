import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { HybridTime } from '../../client/hybrid-clock.ts'
import { StateStore } from '../../client/state-store.ts'
import { BrokerProcess } from '../crash/broker-process.ts'
import { StoreCluster } from '../linearizability/store-cluster.ts'

const TIMEOUT_MS = 90_000
const KEYS = 300
/** So many answers, and everything is killed; the other requests are under way. */
const ANSWERS = 120

/** Sets all keys at once; answers what was answered, `kill` being called when it is enough. */
async function setUntilKilled(url: string, kill: () => Promise<void>): Promise<Map<string, HybridTime>> {
  const store = await StateStore.connect(url)
  const answered = new Map<string, HybridTime>()
  const killed = Promise.withResolvers<void>()
  const sets = Array.from({ length: KEYS }, async (_, index) => {
    const { version } = await store.set(`key-${index}`, `value ${index}`)
    answered.set(`key-${index}`, version)
    if (answered.size === ANSWERS) kill().then(killed.resolve, killed.reject)
  })
  const all = Promise.allSettled(sets)
  await killed.promise
  await store.close()
  await all
  return answered
}

/** Everything that was answered is there, as it was; what was not may be. */
async function expectAll(url: string, answered: ReadonlyMap<string, HybridTime>): Promise<void> {
  expect(answered.size).toBeGreaterThanOrEqual(ANSWERS)
  await using store = await StateStore.connect(url)
  const check = async ([key, version]: [string, HybridTime]): Promise<void> =>
    expect(await store.get(key)).toMatchObject({ text: key.replace('key-', 'value '), version })
  await Promise.all([...answered].map(check))
  const { version } = await store.set('key-0', 'later')
  expect(version.wallMs).toBeGreaterThanOrEqual(Math.max(...[...answered.values()].map(({ wallMs }) => wallMs)))
}

test('standalone: what was answered outlives kill -9', { timeout: TIMEOUT_MS }, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-durability-'))
  const broker = new BrokerProcess(directory)
  await broker.start()
  try {
    const answered = await setUntilKilled(`mqtt://127.0.0.1:${broker.port}`, async () => void (await broker.kill()))
    await broker.start()
    await expectAll(`mqtt://127.0.0.1:${broker.port}`, answered)
  } finally {
    await broker.kill()
    await rm(directory, { recursive: true, force: true })
  }
})

test('cluster: what was answered outlives kill -9 of every process, Redis included', { timeout: TIMEOUT_MS }, async () => {
  await using cluster = await StoreCluster.start()
  const answered = await setUntilKilled(cluster.urls[0]!, () => cluster.killAll())
  await expectAll(cluster.urls[1]!, answered)
})
