import { createServer } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { type RedisServer, startRedis, startSentinel, until } from '#shared/testing/redis-server.ts'
import { entry } from '../shard-store.contract.ts'
import { Load, RedisRig } from './redis-rig.contract.ts'
import type { RedisStoreOptions } from './redis-store.ts'

const ending: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const end of ending.splice(0).toReversed()) await end()
})

interface Pair {
  readonly primary: RedisServer
  readonly replica: RedisServer
}

async function pair(): Promise<Pair> {
  const primary = await startRedis()
  ending.push(() => primary.dispose())
  const replica = await startRedis({ replicaOf: primary })
  ending.push(() => replica.dispose())
  await primary.replicasInStep(1)
  return { primary, replica }
}

async function rigBehindSentinel({ primary }: Pair, options: Partial<RedisStoreOptions> = {}): Promise<RedisRig> {
  const sentinel = await startSentinel(primary)
  ending.push(() => sentinel.dispose())
  await until(
    async () => String(await sentinel.command('SENTINEL', 'REPLICAS', 'mymaster')).includes('ip'),
    'the Sentinel knows the replica',
  )
  const url = `redis+sentinel://127.0.0.1:${sentinel.port}/mymaster`
  const rig = new RedisRig(url, { level: 'replicated', redundancyFactor: 2, ...options })
  ending.push(() => rig.dispose())
  return rig
}

test('the primary is killed: what was answered is on the new one, the rest goes on there', { timeout: 60_000 }, async () => {
  const servers = await pair()
  const rig = await rigBehindSentinel(servers)
  const store = await rig.openOwner()
  const load = new Load(store)
  await load.more(200)
  await servers.primary.kill()
  await until(async () => (await servers.replica.info('role')) === 'master', 'the replica is promoted')
  // One copy is not two.
  await until(() => store.status().detail === `127.0.0.1:${servers.replica.port}: waiting for a replica`, 'the store waits for a replica')
  await servers.primary.start()
  // The Sentinel would say so too, after ten seconds.
  await servers.primary.command('REPLICAOF', '127.0.0.1', servers.replica.port)
  await load.more(200)
  await load.stop()
  await load.check(await rig.open())
  expect(rig.log.events).not.toContain('redis_entries_lost')
})

test('the primary hangs, is replaced, and wakes up', { timeout: 60_000 }, async () => {
  const servers = await pair()
  const rig = await rigBehindSentinel(servers)
  const load = new Load(await rig.openOwner())
  await load.more(200)
  servers.primary.pause()
  await until(async () => (await servers.replica.info('role')) === 'master', 'the replica is promoted')
  servers.primary.resume()
  await until(async () => (await servers.primary.command('REPLICAOF', '127.0.0.1', servers.replica.port)) === 'OK', 'it is awake')
  await load.more(200)
  await load.stop()
  await load.check(await rig.open())
  expect(rig.log.events).not.toContain('redis_entries_lost')
})

test('what the primary holds while it hangs is asked of the new one, a snapshot under way too', { timeout: 60_000 }, async () => {
  const servers = await pair()
  const rig = await rigBehindSentinel(servers, { level: 'stored', redundancyFactor: 1 })
  const store = await rig.openOwner()
  await store.commit([entry(0, 'one'), entry(1, 'one')])
  const unfinished = store.beginSnapshot(1)
  await unfinished.write(Buffer.from('never whole'))
  await servers.primary.replicasInStep(1)
  servers.primary.pause()
  const snapshot = store.beginSnapshot(0)
  const finished = snapshot.write(Buffer.from('one')).then(() => snapshot.finish())
  // The former primary never wakes up.
  expect(await Promise.all([store.ownerOf(0), unfinished.abandon(), finished])).toMatchObject([{ epoch: 1 }, undefined, undefined])
  const found: string[] = []
  await store.recover(0, (kind, bytes) => found.push(`${kind}:${Buffer.from(bytes).toString()}`))
  expect(found).toEqual(['snapshot:one'])
})

/** Says that the primary is at `port`, to whoever asks. */
async function fakeSentinel(port: () => number): Promise<number> {
  const server = createServer(socket => {
    socket.on('error', () => {})
    socket.on('data', data => {
      const text = data.toString().toLowerCase()
      if (text.includes('hello')) socket.write("-ERR unknown command 'hello'\r\n")
      if (text.includes('setname')) socket.write('+OK\r\n')
      if (!text.includes('mymaster')) return
      const fields = ['ip', '127.0.0.1', 'port', String(port()), 'config-epoch', '1']
      socket.write(`*${fields.length}\r\n${fields.map(field => `$${field.length}\r\n${field}\r\n`).join('')}`)
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  ending.push(async () => server.close())
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

test('a primary that was cut off takes writes, but none is answered; the new primary is found', { timeout: 60_000 }, async () => {
  const { primary, replica } = await pair()
  let current = primary
  const sentinelPort = await fakeSentinel(() => current.port)
  const rig = new RedisRig(`redis+sentinel://127.0.0.1:${sentinelPort}/mymaster`, { level: 'replicated', redundancyFactor: 2 })
  ending.push(() => rig.dispose())
  const store = await rig.openOwner()
  const load = new Load(store)
  await load.more(200)
  await replica.command('REPLICAOF', 'NO', 'ONE')
  await until(() => store.status().detail === `127.0.0.1:${primary.port}: waiting for a replica`, 'the former primary confirms nothing')
  const { size } = load.stored
  current = replica
  await until(() => store.status().detail === `127.0.0.1:${replica.port}: waiting for a replica`, 'the store is at the new primary')
  expect(load.stored.size).toBe(size)
  await primary.command('REPLICAOF', '127.0.0.1', replica.port)
  await load.more(200)
  await load.stop()
  await load.check(await rig.open())
})
