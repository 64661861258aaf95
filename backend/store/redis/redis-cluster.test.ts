import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { slotOf } from '#shared/cluster/redis-slot.ts'
import { type RedisClusterServers, startRedisCluster, until } from '#shared/testing/redis-server.ts'
import { describeClusterStore } from '../cluster-store.contract.ts'
import { Load, RedisRig } from './redis-rig.contract.ts'
import type { RedisStoreOptions } from './redis-store.ts'

let cluster: RedisClusterServers
const rigs: RedisRig[] = []
beforeAll(async () => {
  cluster = await startRedisCluster({ primaries: 3, replicas: 1 })
})
afterAll(() => cluster.dispose())
afterEach(async () => {
  for (const rig of rigs.splice(0)) await rig.dispose()
})

function rigOf(options: Partial<RedisStoreOptions> = {}): RedisRig {
  const rig = new RedisRig(cluster.url, { shardCount: 12, ...options })
  rigs.push(rig)
  return rig
}

test('slots are those of Redis', async () => {
  for (const key of ['millrace:a:config', 'millrace:a:{m:0}:log', 'millrace:a:{m:1023}:meta', '{}x', 'x{y', '{a}{b}']) {
    expect(slotOf(key)).toBe(Number(await cluster.primaries[0]!.command('CLUSTER', 'KEYSLOT', key)))
  }
})

describeClusterStore('redis cluster', () => {
  const rig = new RedisRig(cluster.url)
  return { open: owner => rig.open({ owner }), dispose: () => rig.dispose() }
})

test('a slot moves to another primary while its shard commits', { timeout: 60_000 }, async () => {
  const rig = rigOf()
  const load = new Load(await rig.openOwner())
  await load.more(100)
  const slot = slotOf('{m:0}')
  const ids = await Promise.all(cluster.primaries.map(async server => String(await server.command('CLUSTER', 'MYID'))))
  const view = (await cluster.primaries[0]!.command('CLUSTER', 'SLOTS')) as [number, number, [string, number, string]][]
  const from = ids.indexOf(view.find(([first, last]) => first <= slot && slot <= last)![2][2])
  const to = (from + 1) % ids.length
  const [source, target] = [cluster.primaries[from]!, cluster.primaries[to]!]
  await target.command('CLUSTER', 'SETSLOT', slot, 'IMPORTING', ids[from]!)
  await source.command('CLUSTER', 'SETSLOT', slot, 'MIGRATING', ids[to]!)
  await load.more(20)
  for (;;) {
    const keys = (await source.command('CLUSTER', 'GETKEYSINSLOT', slot, 10)) as string[]
    if (keys.length === 0) break
    for (const key of keys) await source.command('MIGRATE', '127.0.0.1', target.port, key, 0, 1000)
  }
  for (const server of [target, source]) await server.command('CLUSTER', 'SETSLOT', slot, 'NODE', ids[to]!)
  await load.more(100)
  await load.stop()
  await load.check(await rig.open())
})

test('a primary is killed and replaced: its shards go on at the new one', { timeout: 60_000 }, async () => {
  const rig = rigOf({ level: 'replicated', redundancyFactor: 2 })
  const store = await rig.openOwner()
  const load = new Load(store)
  await load.more(100)
  const [primary, replica] = [cluster.primaries[0]!, cluster.replicas[0]![0]!]
  await primary.kill()
  await until(async () => (await replica.info('role')) === 'master', 'the replica is promoted', 20_000)
  await until(() => store.status().detail === `127.0.0.1:${replica.port}: waiting for a replica`, 'the store waits for a replica')
  await primary.start()
  await load.more(100)
  await load.stop()
  await load.check(await rig.open())
  expect(rig.log.events).not.toContain('redis_entries_lost')
})
