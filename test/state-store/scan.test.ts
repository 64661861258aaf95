import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { StateStore } from '../../client/state-store.ts'
import { CLIENTS_TIMEOUT_MS } from '../clients/broker-under-test.ts'
import { startCluster } from '../cluster/start-cluster.ts'
import { ROOT, startBroker } from '../limits/real-broker.ts'

const KEYS = Array.from({ length: 300 }, (_, index) => `plant/${String(index).padStart(3, '0')}`)

async function fill(store: StateStore): Promise<void> {
  await Promise.all([...KEYS, 'plan', 'plant', 'plant0', 'q'].map(key => store.set(key, 'v')))
}

async function keysUnder(store: StateStore, prefix: string, pageMax: number): Promise<readonly string[]> {
  const found: string[] = []
  for await (const key of store.scan(prefix, { pageMax })) found.push(Buffer.from(key).toString())
  return found.sort()
}

describe('keys by their beginning', () => {
  test('of one broker, and on the command line', { timeout: CLIENTS_TIMEOUT_MS }, async () => {
    const broker = await startBroker()
    const url = `mqtt://127.0.0.1:${broker.portOf('MQTT')}`
    await using store = await StateStore.connect(url)
    await fill(store)
    for (const pageMax of [1, 3, 1_000]) expect(await keysUnder(store, 'plant/', pageMax)).toEqual(KEYS)
    expect(await keysUnder(store, '', 100)).toHaveLength(KEYS.length + 4)
    const child = execFile(join(ROOT, 'node_modules/.bin/node'), [join(ROOT, 'bin/main.ts'), 'state', 'ls', 'plant/', '--url', url])
    let out = ''
    child.stdout!.on('data', (text: string) => (out += text))
    expect(await once(child, 'close')).toEqual([0, null])
    expect(out.trim().split('\n').sort()).toEqual(KEYS)
  })

  test('of a cluster: from each owner through each frontend, one that died meanwhile included', {
    timeout: CLIENTS_TIMEOUT_MS,
  }, async () => {
    const cluster = await startCluster('--frontends', '2', '--backends', '3', '--authsvcs', '0')
    const stores = await Promise.all(cluster.frontends.map(({ mqtt }) => StateStore.connect(`mqtt://${mqtt.host}:${mqtt.port}`)))
    await fill(stores[0]!)
    for (const store of stores) expect(await keysUnder(store, 'plant/', 2)).toEqual(KEYS)
    const found: string[] = []
    for await (const key of stores[1]!.scan('plant/', { pageMax: 2, timeoutMs: CLIENTS_TIMEOUT_MS })) {
      if (found.push(Buffer.from(key).toString()) === 40) cluster.kill('backend', 1)
    }
    expect(found.sort()).toEqual(KEYS)
    await Promise.all(stores.map(store => store.close()))
  })
})
