import { afterEach, describe, expect, test } from 'vitest'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createPki } from '#shared/config/pki.ts'
import { freePort } from '#shared/testing/free-ports.ts'
import { type RedisServer, type RedisServerOptions, startRedis, until } from '#shared/testing/redis-server.ts'
import type { StoreError } from '../shard-store.ts'
import { entry, recovered } from '../shard-store.contract.ts'
import { Load, RedisRig } from './redis-rig.contract.ts'
import type { RedisStoreOptions } from './redis-store.ts'

const ending: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const end of ending.splice(0).toReversed()) await end()
})

async function redis(options: RedisServerOptions = {}): Promise<RedisServer> {
  const server = await startRedis(options)
  ending.push(() => server.dispose())
  return server
}

function rigOf(url: string, options: Partial<RedisStoreOptions> = {}): RedisRig {
  const rig = new RedisRig(url, options)
  ending.push(() => rig.dispose())
  return rig
}

const refusal = async (opening: Promise<unknown>): Promise<string> =>
  opening.then(
    () => 'opened',
    (error: StoreError) => `${error.fault}: ${error.message.replace(/127\.0\.0\.1:\d+/g, 'HOST')}`,
  )

describe('opening', () => {
  test('what no waiting repairs is refused at once, without the password', async () => {
    const server = await redis({ password: 'right' })
    expect(await refusal(rigOf(`redis://:wrong-secret@127.0.0.1:${server.port}`).open())).toBe(
      'failed: HOST: wrong password, or none; correct the user and password of the URL',
    )
    expect(await refusal(rigOf(`redis://127.0.0.1:${server.port}`).open())).toMatch(/^failed: HOST: wrong password/)
    expect(await refusal(rigOf(`redis://milla:right@127.0.0.1:${server.port}`).open())).toMatch(/^failed: HOST: wrong password/)
    expect(await refusal(rigOf(server.url).open())).toBe('opened')
  })

  test('another number of shards, or a newer format, is refused with both numbers', async () => {
    const server = await redis()
    const rig = rigOf(server.url, { clusterName: 'one' })
    await rig.open({ shardCount: 3 })
    expect(await refusal(rig.open({ shardCount: 4 }))).toBe(
      'mismatch: HOST: millrace:one:config was created for 3 shards, but 4 are configured; configure 3 again, or use another cluster name',
    )
    await server.command('HSET', 'millrace:one:config', 'format', 2)
    expect(await refusal(rig.open())).toBe(
      'newerFormat: HOST: millrace:one:config has format 2, this version reads up to 1; run the version that wrote it',
    )
  })

  test('a shard in a newer format is not claimed', async () => {
    const server = await redis()
    const store = await rigOf(server.url, { clusterName: 'one' }).open()
    await server.command('HSET', 'millrace:one:{m:0}:meta', 'format', 2)
    expect(await refusal(store.claim(0, 0))).toMatch(/^newerFormat/)
    expect(await refusal(store.recover(0, () => {}))).toMatch(/^newerFormat/)
  })

  test('a Redis that would delete keys is refused, unless that is allowed', async () => {
    const server = await redis({ config: { maxmemory: '100mb', 'maxmemory-policy': 'allkeys-lru' } })
    const rig = rigOf(server.url)
    expect(await refusal(rig.open())).toMatch(/^failed: HOST has maxmemory-policy allkeys-lru: .* set maxmemory-policy noeviction$/)
    expect(await refusal(rig.open({ allowsEviction: true }))).toBe('opened')
    expect(rig.log.lines.filter(line => line.event === 'redis_settings').length).toBe(2)
  })

  test('level fsynced wants appendfsync always', async () => {
    const server = await redis()
    const rig = rigOf(server.url, { level: 'fsynced' })
    expect(await refusal(rig.open())).toMatch(/level fsynced needs appendonly yes$/)
    await server.command('CONFIG', 'SET', 'appendonly', 'yes')
    expect(await refusal(rig.open())).toMatch(/has appendfsync everysec; level fsynced needs appendfsync always, or Redis 7\.2$/)
    await server.command('CONFIG', 'SET', 'appendfsync', 'always')
    expect(await refusal(rig.open())).toBe('opened')
  })

  test('without CONFIG what cannot be seen is said; without a command of ours it is named', async () => {
    const server = await redis({ config: { appendonly: 'yes' } })
    await server.command('ACL', 'SETUSER', 'milla', 'on', '>secret', '~*', '+@all', '-config')
    const rig = rigOf(`redis://milla:secret@127.0.0.1:${server.port}`)
    expect(await refusal(rig.open({ level: 'fsynced' }))).toMatch(/does not let us read its setting appendfsync \(CONFIG is forbidden\)/)
    expect(await refusal(rig.open())).toBe('opened')
    await server.command('ACL', 'SETUSER', 'milla', '-info')
    expect(await refusal(rig.open())).toMatch(/^failed: HOST: no permission: .*'info' command/)
  })

  test('a Redis that is too old is refused', async () => {
    const old = createServer(socket => {
      socket.on('error', () => {})
      socket.on('data', data => {
        const reply = data.includes('hello') ? "-ERR unknown command 'hello'\r\n" : '$23\r\nredis_version:6.2.14\r\n\n\r\n'
        socket.write(data.includes('client') ? '+OK\r\n' : reply)
        if (data.includes('hello') && data.includes('client')) socket.write(reply)
      })
    })
    await new Promise<void>(resolve => old.listen(0, '127.0.0.1', resolve))
    ending.push(async () => old.close())
    const address = old.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    expect(await refusal(rigOf(`redis://127.0.0.1:${port}`).open())).toBe(
      'failed: HOST is Redis 6.2.14; Redis 7.0 or newer, or Valkey, is needed',
    )
  })

  test('a Redis that is not there is waited for, and it is said', async () => {
    const server = await redis()
    await server.kill()
    const details: string[] = []
    const rig = rigOf(server.url)
    const opening = rig.open({ onStatus: ({ detail }) => details.push(detail) })
    await until(() => details.some(detail => detail.includes('refused')), 'the store says why it waits')
    await server.start()
    const store = await opening
    expect(details.find(detail => detail.includes('refused'))).toBe(`connecting to 127.0.0.1:${server.port} (refused)`)
    expect(store.status()).toEqual({ ready: true, detail: '' })
    expect(rig.log.events.at(-1)).toBe('redis_ready')
  })

  test('one that takes the connection and says nothing is left alone, and tried again', { timeout: 30_000 }, async () => {
    const server = await redis()
    let [isSilent, attempts] = [true, 0]
    const taken: Socket[] = []
    // What is not read does not end either: as of a process that is stopped.
    const front = createServer({ pauseOnConnect: true }, socket => {
      attempts++
      taken.push(socket.on('error', () => {}))
      if (!isSilent) socket.pipe(connect(server.port, '127.0.0.1')).pipe(socket)
    })
    await new Promise<void>(resolve => front.listen(0, '127.0.0.1', resolve))
    ending.push(async () => {
      for (const socket of taken) socket.destroy()
      front.close()
    })
    const opening = rigOf(`redis://127.0.0.1:${(front.address() as AddressInfo).port}`).open()
    await until(() => attempts === 1, 'it is connected')
    isSilent = false
    // The first connection stays as it is, silent.
    expect((await opening).status().ready).toBe(true)
    expect(attempts).toBeGreaterThan(1)
  })

  test('opening can be given up', async () => {
    const port = await freePort()
    const controller = new AbortController()
    const opening = rigOf(`redis://127.0.0.1:${port}`).open({ signal: controller.signal })
    controller.abort()
    expect(await refusal(opening)).toMatch(/^closed/)
  })
})

describe('while it runs', () => {
  test('kill -9 of Redis in the middle of commits: they wait, and all are there, once and in order', { timeout: 60_000 }, async () => {
    const server = await redis({ config: { appendonly: 'yes', appendfsync: 'always' } })
    const rig = rigOf(server.url, { level: 'fsynced' })
    const load = new Load(await rig.openOwner())
    for (let round = 0; round < 4; round++) {
      await load.more(100)
      await server.kill()
      await server.start()
    }
    await load.more(100)
    await load.stop()
    await load.check(await rig.open())
    expect(rig.log.events).not.toContain('redis_entries_lost')
    expect(rig.log.events).not.toContain('redis_shard_fenced')
  })

  test('entries that Redis lost are reported; the commits wait for the snapshot', async () => {
    const server = await redis()
    const rig = rigOf(server.url)
    const store = await rig.openOwner()
    await store.commit([entry(0, 'one'), entry(1, 'one')])
    const incomplete: number[] = []
    const reported = new Promise<void>(resolve => {
      store.onIncomplete = shard => {
        if (incomplete.push(shard) === 3) resolve()
      }
    })
    await server.kill()
    await server.start()
    let isStored = false
    const waiting = store.commit([entry(0, 'two')]).then(() => (isStored = true))
    await reported
    expect(incomplete.toSorted()).toEqual([0, 1, 2])
    expect(store.status().detail).toBe('waiting for snapshots of 3 shards that lost entries')
    // The state of the owner, as it is now: 'two' is part of it, though it was not answered.
    const snapshot = store.beginSnapshot(0)
    const later = store.commit([entry(0, 'three')])
    await snapshot.write(Buffer.from('one two'))
    expect(isStored).toBe(false)
    await snapshot.finish()
    await Promise.all([waiting, later])
    for (const shard of [1, 2]) await store.beginSnapshot(shard).finish()
    await store.commit([entry(0, 'four')])
    expect(await recovered(await rig.open(), 0)).toEqual(['snapshot:one two', 'log:three', 'log:four'])
    expect(await store.ownerOf(0)).toMatchObject({ epoch: 1, id: 'a' })
    await until(() => store.status().ready, 'the store is ready')
  })

  test('full memory: commits wait until there is more, and none is left out', { timeout: 60_000 }, async () => {
    const server = await redis()
    const rig = rigOf(server.url)
    const store = await rig.openOwner()
    const load = new Load(store)
    await load.more(50)
    for (let round = 0; round < 3; round++) {
      await server.command('CONFIG', 'SET', 'maxmemory', '1mb')
      await until(() => store.status().detail.endsWith('out of memory'), 'the store says that memory is full')
      await server.command('CONFIG', 'SET', 'maxmemory', '0')
      await load.more(50)
    }
    // Ownership still moves while memory is full.
    await load.stop()
    await load.check(await rig.open())
    await server.command('CONFIG', 'SET', 'maxmemory', '1mb')
    await store.release(0)
    expect(await store.claim(0, 1)).toBe(2)
    await expect(store.beginSnapshot(1).write(Buffer.alloc(1000))).rejects.toMatchObject({ fault: 'full' })
    const texts = rig.log.lines.filter(line => line.event === 'redis_waiting').map(line => String(line.fields['detail']))
    expect(new Set(texts.filter(text => !text.startsWith('connecting')))).toEqual(new Set([`127.0.0.1:${server.port}: out of memory`]))
  })

  test('a refusal in the middle of what is under way leaves no entry out, and readers see no gap', { timeout: 60_000 }, async () => {
    const server = await redis()
    const rig = rigOf(server.url)
    const store = await rig.openOwner({ shardCount: 1 })
    const load = new Load(store, 64)
    // Memory is full and free again many times, between any two commands.
    for (let round = 0; round < 20; round++) {
      await server.command('CONFIG', 'SET', 'maxmemory', '1mb')
      await server.command('CONFIG', 'SET', 'maxmemory', '0')
      await load.more(1)
    }
    await load.stop()
    await load.check(await rig.open({ shardCount: 1 }))
  })

  test('what got into the log ahead of what was refused is passed over, and sent again in its order', async () => {
    const server = await redis()
    const rig = rigOf(server.url, { clusterName: 'one' })
    const store = await rig.openOwner()
    await store.commit([entry(0, 'one')])
    // As if 1-2 had been refused, and 1-3 behind it taken.
    await server.command('XADD', 'millrace:one:{m:0}:log', '1-3', 'e', 'out of order')
    await Promise.all([store.commit([entry(0, 'two')]), store.commit([entry(0, 'three')])])
    await store.commit([entry(0, 'four')])
    expect(await recovered(await rig.open(), 0)).toEqual(['log:one', 'log:two', 'log:three', 'log:four'])
  })

  test('Redis becomes a replica and a primary again', { timeout: 60_000 }, async () => {
    const server = await redis()
    const rig = rigOf(server.url)
    const store = await rig.openOwner()
    const load = new Load(store)
    await load.more(50)
    await server.command('REPLICAOF', '127.0.0.1', await freePort())
    await until(() => store.status().detail.endsWith('read-only'), 'the store says that Redis is read-only')
    await server.command('REPLICAOF', 'NO', 'ONE')
    await load.more(50)
    await load.stop()
    await load.check(await rig.open())
  })

  test('Redis hangs, and comes to itself', { timeout: 60_000 }, async () => {
    const server = await redis()
    const rig = rigOf(server.url)
    const store = await rig.openOwner()
    const load = new Load(store)
    await load.more(50)
    server.pause()
    await until(() => store.status().detail.endsWith('no answer'), 'the store says that Redis does not answer')
    server.resume()
    await load.more(50)
    await load.stop()
    await until(() => store.status().ready, 'the store is ready')
    await load.check(await rig.open())
  })

  test('a shard whose entries were lost is not let go before its owner has written them again', async () => {
    const server = await redis()
    const rig = rigOf(server.url, { shardCount: 1 })
    const store = await rig.openOwner()
    await store.commit([entry(0, 'one')])
    let mended: Promise<void> | undefined
    store.onIncomplete = () => {
      const snapshot = store.beginSnapshot(0)
      mended = snapshot.write(Buffer.from('one')).then(() => snapshot.finish())
    }
    // Lost without the connection being lost.
    await server.command('FLUSHALL')
    await store.release(0)
    await mended
    const next = await rig.open({ owner: { id: 'b', instance: 'b1' } })
    expect(await next.ownerOf(0)).toMatchObject({ isReleased: true })
    expect(await next.claim(0, 1)).toBe(2)
    expect(await recovered(next, 0)).toEqual(['snapshot:one'])
  })

  test('entries that were lost of a shard that is not in memory any more keep nobody waiting', async () => {
    const server = await redis()
    const rig = rigOf(server.url, { shardCount: 2 })
    const store = await rig.openOwner()
    await store.commit([entry(0, 'one'), entry(1, 'one')])
    const incomplete = new Set<number>()
    store.onIncomplete = shard => incomplete.add(shard)
    await server.kill()
    await server.start()
    const waiting = store.commit([entry(0, 'two'), entry(1, 'two')])
    await until(() => incomplete.size === 2, 'both are reported')
    store.forsake(0)
    const snapshot = store.beginSnapshot(1)
    await snapshot.write(Buffer.from('one two'))
    await snapshot.finish()
    await waiting
    expect(store.status()).toEqual({ ready: true, detail: '' })
    // Nothing is answered for it until it is ours again.
    expect(await store.claim(0, 1)).toBe(2)
    await store.commit([entry(0, 'three'), entry(1, 'three')])
    store.forsake(1)
    const reader = await rig.open()
    expect(await recovered(reader, 0)).toEqual(['log:three'])
    expect(await recovered(reader, 1)).toEqual(['snapshot:one two', 'log:three'])
  })

  test('of many large entries only a few are in memory at a time', async () => {
    const server = await redis()
    const rig = rigOf(server.url, { shardCount: 1 })
    const store = await rig.openOwner()
    for (let count = 0; count < 300; count++) void store.commit([entry(0, `small ${count}`)])
    await Promise.all(Array.from({ length: 60 }, () => store.commit([{ shard: 0, bytes: Buffer.alloc(1_000_000) }])))
    let visited = 0
    await (await rig.open()).recover(0, () => visited++)
    expect(visited).toBe(360)
    // One page was asked for before it was known that they are large; then one after the other.
    expect(Number(/calls=(\d+)/.exec(await server.info('cmdstat_xrange'))?.[1])).toBeGreaterThan(30)
  })

  test('level replicated: nothing is answered without a replica, and all when one is back', { timeout: 60_000 }, async () => {
    const server = await redis()
    const replica = await redis({ replicaOf: server })
    await server.replicasInStep(1)
    const rig = rigOf(server.url, { level: 'replicated', redundancyFactor: 2 })
    const store = await rig.openOwner()
    const load = new Load(store)
    await load.more(100)
    replica.pause()
    await until(() => store.status().detail.endsWith('waiting for a replica'), 'the store waits for a replica')
    const { size } = load.stored
    expect(await store.ownerOf(0)).toMatchObject({ epoch: 1 })
    expect(load.stored.size).toBe(size)
    replica.resume()
    await load.more(100)
    await load.stop()
    await until(() => store.status().ready, 'the store is ready')
    await load.check(await rig.open())
  })

  test('level memory: commits write nothing; shards move with their snapshot, and are empty after a crash', async () => {
    const server = await redis()
    const rig = rigOf(server.url, { level: 'memory' })
    const [a, b] = [await rig.open(), await rig.open({ owner: { id: 'b', instance: 'b1' } })]
    await a.claim(0, 0)
    await a.commit([entry(0, 'forgotten')])
    expect(await recovered(a, 0)).toEqual([])
    const snapshot = a.beginSnapshot(0)
    await snapshot.write(Buffer.from('state'))
    await snapshot.finish()
    await a.release(0)
    await b.claim(0, 1)
    expect(await recovered(b, 0)).toEqual(['snapshot:state'])
    // b was killed: what is stored is older than what was lost.
    await a.claim(0, 2)
    expect(await recovered(a, 0)).toEqual([])
  })

  test('close gives up on commits that Redis does not answer', async () => {
    const server = await redis()
    const store = await rigOf(server.url).openOwner()
    await server.kill()
    const commits = [store.commit([entry(0, 'a'), entry(1, 'a')]), store.commit([entry(1, 'b')])]
    await store.close()
    expect(await Promise.allSettled(commits)).toMatchObject([
      { status: 'rejected', reason: { fault: 'closed' } },
      { status: 'rejected', reason: { fault: 'closed' } },
    ])
  })

  test('the log shrinks after a snapshot, and nothing of former snapshots stays', async () => {
    const server = await redis()
    const rig = rigOf(server.url, { shardCount: 1, clusterName: 'one' })
    const store = await rig.openOwner()
    for (let round = 0; round < 3; round++) {
      await Promise.all(Array.from({ length: 2000 }, (_, index) => store.commit([entry(0, `entry ${index}`)])))
      const snapshot = store.beginSnapshot(0)
      await snapshot.write(Buffer.from('chunk'))
      await snapshot.finish()
    }
    await store.beginSnapshot(0).write(Buffer.from('unfinished'))
    const length = async (): Promise<number> => Number(await server.command('XLEN', 'millrace:one:{m:0}:log'))
    await until(async () => (await length()) <= 200, 'the log is trimmed')
    expect(((await server.command('KEYS', '*snap*')) as string[]).length).toBe(2)
    await rig.openOwner()
    expect(await server.command('KEYS', '*snap*')).toEqual(['millrace:one:{m:0}:snap:1-3'])
  })
})

test('TLS, with a certificate that is checked', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-redis-tls-'))
  ending.push(() => rm(directory, { recursive: true }))
  const { ca: caFile, serverCert, serverKey } = await createPki(directory)
  const port = await freePort()
  await redis({
    config: {
      'tls-port': String(port),
      'tls-cert-file': serverCert,
      'tls-key-file': serverKey,
      'tls-ca-cert-file': caFile,
      'tls-auth-clients': 'no',
    },
  })
  const rig = rigOf(`rediss://127.0.0.1:${port}`)
  const controller = new AbortController()
  const distrustful = rig.open({ signal: controller.signal })
  await until(() => rig.log.lines.some(line => String(line.fields['detail']).includes('TLS failed')), 'the certificate is refused')
  controller.abort()
  expect(await refusal(distrustful)).toMatch(/^closed/)
  const store = await rig.openOwner({ tls: { ca: await readFile(caFile) } })
  await store.commit([entry(0, 'a')])
  expect(await recovered(store, 0)).toEqual(['log:a'])
})
