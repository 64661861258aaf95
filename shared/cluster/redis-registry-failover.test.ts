import { afterEach, expect, test } from 'vitest'
import { systemTimers } from '#shared/base/timers.ts'
import { parseRedisUrl } from '#shared/config/redis-url.ts'
import { Refusal } from '#shared/config/setting.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import { type RedisServer, startRedis, startRedisCluster, startSentinel, until } from '#shared/testing/redis-server.ts'
import type { Member } from './member.ts'
import { Membership } from './membership.ts'
import { RedisRegistry } from './redis-registry.ts'
import { member } from './registry.contract.ts'

const KEY = 'millrace:one:{members}'

const ending: (() => Promise<unknown> | void)[] = []
afterEach(async () => {
  for (const end of ending.splice(0).toReversed()) await end()
})

function openRegistry(text: string): RedisRegistry {
  const url = parseRedisUrl(text)
  if (url instanceof Refusal) throw new Error(url.message)
  const registry = new RedisRegistry({ url, clusterName: 'one', log: new RecordingLog() })
  ending.push(() => registry.close())
  return registry
}

interface Trio {
  readonly primary: RedisServer
  readonly replica: RedisServer
  readonly url: string
}

/** @param sentinels all watch the primary; one alone decides */
async function trio(sentinels = 1): Promise<Trio> {
  const primary = await startRedis()
  ending.push(() => primary.dispose())
  const replica = await startRedis({ replicaOf: primary })
  ending.push(() => replica.dispose())
  await primary.replicasInStep(1)
  const watching: RedisServer[] = []
  for (let count = 0; count < sentinels; count++) {
    const sentinel = await startSentinel(primary)
    ending.push(() => sentinel.dispose())
    watching.push(sentinel)
    await until(
      async () => String(await sentinel.command('SENTINEL', 'REPLICAS', 'mymaster')).includes('ip'),
      'the Sentinel knows the replica',
    )
  }
  return { primary, replica, url: `redis+sentinel://${watching.map(({ port }) => `127.0.0.1:${port}`).join(',')}/mymaster` }
}

async function promoted(server: RedisServer): Promise<void> {
  await until(async () => (await server.info('role')) === 'master', 'the replica is promoted')
}

/** Heartbeats, each tried again like Membership does, until one is answered. */
async function answered(registry: RedisRegistry, self: Member): Promise<readonly string[]> {
  let ids: readonly string[] = []
  const heartbeat = async (): Promise<boolean> => {
    ids = (await registry.heartbeat(self)).map(each => each.id).sort()
    return true
  }
  await until(() => heartbeat().catch(() => false), 'a heartbeat is answered')
  return ids
}

async function isRegistered(server: RedisServer, id: string): Promise<boolean> {
  return (await server.command('HEXISTS', KEY, `backend:${id}`)) === 1
}

test('Sentinel: the primary is killed, and the next heartbeat after the failover is at the new one', { timeout: 60_000 }, async () => {
  const { primary, replica, url } = await trio()
  const [a, b] = [openRegistry(url), openRegistry(url)]
  await a.heartbeat(member('a'))
  expect(await answered(b, member('b'))).toEqual(['a', 'b'])
  await primary.replicasInStep(1)
  await primary.kill()
  await expect(a.heartbeat(member('a'))).rejects.toThrow(/./)
  await promoted(replica)
  // Both were living when Redis was last heard, so neither finds itself alone.
  expect(await answered(a, member('a'))).toEqual(['a', 'b'])
  expect(await answered(b, member('b'))).toEqual(['a', 'b'])
  expect(a.fault).toBe('')
})

test('Sentinel: a primary that hung, was replaced and wakes up as a primary gets no heartbeats', { timeout: 60_000 }, async () => {
  const { primary, replica, url } = await trio(2)
  const [a, b] = [openRegistry(url), openRegistry(url)]
  await a.heartbeat(member('a'))
  await answered(b, member('b'))
  await primary.replicasInStep(1)
  primary.pause()
  await expect(a.heartbeat(member('a'))).rejects.toThrow('no answer')
  await promoted(replica)
  expect(await answered(a, member('a'))).toEqual(['a', 'b'])
  primary.resume()
  await until(async () => (await primary.info('role')) === 'master', 'the former primary takes writes')
  await primary.command('DEL', KEY)
  // B has not spoken since before the failover: its connection to the former primary is still good.
  expect(await answered(b, member('b'))).toEqual(['a', 'b'])
  expect(await isRegistered(primary, 'b')).toBe(false)
  expect(await isRegistered(replica, 'b')).toBe(true)
})

test('a Sentinel that hangs does not stop heartbeats, nor do all of them when there is a connection', { timeout: 60_000 }, async () => {
  const { primary, url } = await trio()
  const hanging = await startSentinel(primary)
  ending.push(() => hanging.dispose())
  const registry = openRegistry(url.replace('/mymaster', `,127.0.0.1:${hanging.port}/mymaster`))
  await registry.heartbeat(member('a'))
  hanging.pause()
  expect(await registry.heartbeat(member('a'))).toHaveLength(1)
  const only = openRegistry(`redis+sentinel://127.0.0.1:${hanging.port}/mymaster`)
  await expect(only.heartbeat(member('b'))).rejects.toThrow(`127.0.0.1:${hanging.port}: no answer`)
  hanging.resume()
  expect(await answered(only, member('b'))).toEqual(['a', 'b'])
  hanging.pause()
  expect(await only.heartbeat(member('b'))).toHaveLength(2)
  hanging.resume()
})

test('Cluster: the primary of the registry is killed, or hangs, and heartbeats go on at its replica', { timeout: 90_000 }, async () => {
  const cluster = await startRedisCluster({ primaries: 3, replicas: 1 })
  ending.push(() => cluster.dispose())
  const registry = openRegistry(cluster.url)
  await registry.heartbeat(member('a'))
  const holders = await Promise.all(cluster.primaries.map(server => server.command('KEYS', KEY)))
  const index = holders.findIndex(keys => (keys as unknown[]).length > 0)
  const [primary, replica] = [cluster.primaries[index]!, cluster.replicas[index]![0]!]
  await primary.replicasInStep(1)
  primary.pause()
  await promoted(replica)
  expect(await answered(registry, member('a'))).toEqual(['a'])
  expect(await answered(registry, member('b'))).toEqual(['a', 'b'])
  primary.resume()
  await until(async () => (await primary.info('role')) === 'slave', 'the former primary follows')
  await replica.replicasInStep(1)
  await replica.kill()
  await promoted(primary)
  expect(await answered(registry, member('b'))).toEqual(['a', 'b'])
})

test('Membership: an instance that was evicted drops its lease at its next heartbeat, and has a new one later', {
  timeout: 30_000,
}, async () => {
  const server = await startRedis()
  ending.push(() => server.dispose())
  const log = new RecordingLog()
  const join = (id: string): Membership => {
    const self = { role: 'backend', id, instance: `${id}-1`, address: `${id}:1` } as const
    const membership = new Membership({ self, registry: openRegistry(server.url), timers: systemTimers, log })
    ending.push(() => membership.leave())
    membership.start()
    return membership
  }
  const [a, b] = [join('a'), join('b')]
  await until(() => a.isAlive && b.isAlive && a.members.length === 2, 'both are members')
  expect(await a.evict('b', 'b-1')).toBe(true)
  expect(a.find('backend', 'b')).toBeUndefined()
  await until(() => !b.isAlive, 'the lease is over')
  expect(b.lapses).toBe(1)
  expect(log.events.filter(event => event === 'evicted')).toHaveLength(1)
  await until(() => b.isAlive, 'there is a new lease')
  await until(() => a.find('backend', 'b') !== undefined, 'the others know')
  expect(log.events).not.toContain('registry_does_not_answer')
})
