import { describe, expect, test } from 'vitest'
import { StateStore } from '../../client/state-store.ts'
import { CLIENTS_TIMEOUT_MS } from '../clients/broker-under-test.ts'
import { startCluster } from '../cluster/start-cluster.ts'
import { startBroker } from '../limits/real-broker.ts'

/** More than one request may have. */
const KEYS = Array.from({ length: 300 }, (_, index) => `plant/${index}`)
const EXPECTED = KEYS.map((key, index) => (index % 7 === 3 ? null : `of ${key}`))

async function fill(store: StateStore): Promise<void> {
  await Promise.all(KEYS.filter((_, index) => EXPECTED[index] !== null).map(key => store.set(key, `of ${key}`)))
}

async function valuesOf(store: StateStore, keys: readonly string[] = KEYS): Promise<readonly (string | null)[]> {
  const values = await store.mget(keys, { timeoutMs: CLIENTS_TIMEOUT_MS })
  return values.map(value => (value === null ? null : Buffer.from(value).toString()))
}

describe('values of several keys', () => {
  test('of one broker', { timeout: CLIENTS_TIMEOUT_MS }, async () => {
    const broker = await startBroker()
    await using store = await StateStore.connect(`mqtt://127.0.0.1:${broker.portOf('MQTT')}`)
    await fill(store)
    expect(await valuesOf(store)).toEqual(EXPECTED)
    expect(await valuesOf(store, [])).toEqual([])
    expect(await valuesOf(store, ['plant/1', 'plant/1'])).toEqual(['of plant/1', 'of plant/1'])
  })

  test('of a cluster: through each frontend, while a backend dies and after it', { timeout: CLIENTS_TIMEOUT_MS }, async () => {
    const cluster = await startCluster('--frontends', '2', '--backends', '3', '--authsvcs', '0')
    const stores = await Promise.all(cluster.frontends.map(({ mqtt }) => StateStore.connect(`mqtt://${mqtt.host}:${mqtt.port}`)))
    await fill(stores[0]!)
    for (const store of stores) expect(await valuesOf(store)).toEqual(EXPECTED)
    const asked = [...stores, ...stores].map(store => valuesOf(store))
    cluster.kill('backend', 1)
    for (const values of await Promise.all(asked)) expect(values).toEqual(EXPECTED)
    // What a client has set before it asks is there, whoever answers.
    for (const store of stores) {
      await store.set('plant/0', 'new')
      expect((await valuesOf(store))[0]).toBe('new')
      await store.set('plant/0', 'of plant/0')
    }
    await Promise.all(stores.map(store => store.close()))
  })
})
