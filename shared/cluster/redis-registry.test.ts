import { type AddressInfo, createServer, type Socket } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { parseRedisUrl, type RedisUrl } from '#shared/config/redis-url.ts'
import { Refusal } from '#shared/config/setting.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import { type RedisServer, startRedis, until } from '#shared/testing/redis-server.ts'
import { encodeMember } from './member-codec.ts'
import { LEASE_MS, type Member } from './member.ts'
import { RedisRegistry } from './redis-registry.ts'
import { describeRegistry, member } from './registry.contract.ts'

const KEY = 'millrace:one:{members}'

let server: RedisServer
const open: RedisRegistry[] = []
beforeAll(async () => {
  server = await startRedis()
})
afterAll(async () => await server.dispose())
beforeEach(async () => {
  for (const registry of open.splice(0)) registry.close()
  await server.command('FLUSHALL')
})

function urlOf(text: string): RedisUrl {
  const url = parseRedisUrl(text)
  if (url instanceof Refusal) throw new Error('not a URL')
  return url
}

function openRegistry(clusterName: string, log = new RecordingLog()): RedisRegistry {
  const registry = new RedisRegistry({ url: urlOf(server.url), clusterName, log })
  open.push(registry)
  return registry
}

/** Heartbeats until one is answered. */
async function connected(registry: RedisRegistry, self: Member): Promise<readonly Member[]> {
  let members: readonly Member[] = []
  await until(async () => {
    members = await registry.heartbeat(self)
    return true
  }, 'the registry answers')
  return members
}

/** Moves what is stored into the past, which is the same as waiting. */
async function age(ms: number): Promise<void> {
  for (const key of (await server.command('KEYS', '*')) as string[]) {
    const entries = (await server.command('HGETALL', key)) as string[]
    for (let at = 0; at < entries.length; at += 2) {
      const [expiry, ...rest] = entries[at + 1]!.split(' ')
      await server.command('HSET', key, entries[at]!, [Number(expiry) - ms, ...rest].join(' '))
    }
  }
}

describeRegistry('Redis', () =>
  Promise.resolve({
    open: name => {
      const registry = openRegistry(name)
      let isConnected = false
      return {
        heartbeat: async self => {
          const members = await (isConnected ? registry.heartbeat(self) : connected(registry, self))
          isConnected = true
          return members
        },
        evict: (id, instance) => registry.evict(id, instance),
        leave: self => registry.leave(self),
      }
    },
    pass: age,
    dispose: () => Promise.resolve(),
  }),
)

describe('what else is in Redis', () => {
  test.each([
    ['no form of ours', 'backend:x', 'garbage'],
    ['an empty one', 'backend:x', ''],
    ['not JSON', 'backend:x', '9999999999999 1 x {'],
    ['JSON of something else', 'backend:x', '9999999999999 1 x 7'],
    ['a member under the name of another', 'backend:x', `9999999999999 3 y-1 ${encodeMember(member('y'))}`],
    ['a length beyond its end', 'backend:x', `9999999999999 99999999999999999999 x ${encodeMember(member('x'))}`],
    ['a very long one', 'backend:x', `9999999999999 3 x-1 ${encodeMember(member('x', { address: 'a'.repeat(100_000) }))}`],
    ['an unknown role', 'other:x', '9999999999999 1 x {"role":"other","id":"x","instance":"x","address":"","isLeaving":false}'],
  ])('%s is passed over and logged once', async (_what, field, value) => {
    const log = new RecordingLog()
    const registry = openRegistry('one', log)
    await server.command('HSET', KEY, field, value)
    expect(await connected(registry, member('a'))).toEqual([member('a')])
    expect(await registry.heartbeat(member('a'))).toEqual([member('a')])
    expect(log.events).toEqual(['registry_entry_ignored'])
    await registry.evict('x', 'x')
  })

  test('a clock that was set back does not keep the dead alive', async () => {
    const registry = openRegistry('one')
    await connected(registry, member('a'))
    await registry.heartbeat(member('b'))
    await age(-3_600_000)
    expect(await registry.heartbeat(member('b'))).toHaveLength(2)
    await age(LEASE_MS / 2 + 100)
    expect(await registry.heartbeat(member('b'))).toHaveLength(2)
    await age(LEASE_MS / 2 + 100)
    expect(await registry.heartbeat(member('b'))).toEqual([member('b')])
  })

  test('a key of another type is an error, not a crash', async () => {
    const registry = openRegistry('one')
    await connected(registry, member('a'))
    await server.command('DEL', KEY)
    await server.command('SET', KEY, 'text')
    await expect(registry.heartbeat(member('a'))).rejects.toThrow('WRONGTYPE')
  })

  test('a cluster that is gone leaves nothing behind for long', async () => {
    await connected(openRegistry('one'), member('a'))
    expect(Number(await server.command('PTTL', KEY))).toBeGreaterThan(0)
  })
})

describe('Redis out of reach', () => {
  test('the first heartbeat waits for the connection', async () => {
    const registry = openRegistry('one')
    expect(await registry.heartbeat(member('a'))).toEqual([member('a')])
    expect(registry.fault).toBe('')
  })

  test('heartbeats are rejected, and answered again when it is back', async () => {
    const registry = openRegistry('one')
    await registry.heartbeat(member('a'))
    await server.kill()
    await expect(registry.heartbeat(member('a'))).rejects.toThrow(/./)
    await expect(registry.heartbeat(member('a'))).rejects.toThrow(`127.0.0.1:${server.port}: refused`)
    expect(registry.fault).toBe(`127.0.0.1:${server.port}: refused`)
    await server.start()
    expect(await registry.heartbeat(member('a'))).toEqual([member('a')])
    expect(registry.fault).toBe('')
  })

  test('a Redis that takes commands and does not answer is out of reach too', async () => {
    const registry = openRegistry('one')
    await registry.heartbeat(member('a'))
    server.pause()
    try {
      await expect(registry.heartbeat(member('a'))).rejects.toThrow('no answer')
      await expect(registry.heartbeat(member('a'))).rejects.toThrow('no answer')
    } finally {
      server.resume()
    }
    expect(await registry.heartbeat(member('a'))).toEqual([member('a')])
  })

  test('who was living when Redis was last heard has one more lease when it is back', async () => {
    const registry = openRegistry('one')
    for (const id of ['gone', 'a', 'b', 'c']) await registry.heartbeat(member(id))
    await age(LEASE_MS / 2 + 100)
    for (const id of ['a', 'b', 'c']) await registry.heartbeat(member(id))
    await age(LEASE_MS / 2 + 100)
    for (const id of ['a', 'b']) await registry.heartbeat(member(id))
    await age(60_000)
    expect((await registry.heartbeat(member('a'))).map(each => each.id).sort()).toEqual(['a', 'b', 'c'])
    await age(LEASE_MS / 2 + 100)
    expect(await registry.heartbeat(member('a'))).toHaveLength(3)
    await age(LEASE_MS / 2 + 100)
    expect(await registry.heartbeat(member('a'))).toEqual([member('a')])
  })

  test('what Redis has against us can be read by an operator', async () => {
    const withPassword = await startRedis({ password: 'right' })
    try {
      const registry = new RedisRegistry({
        url: urlOf(withPassword.url.replace('right', 'wrong')),
        clusterName: 'one',
        log: new RecordingLog(),
      })
      open.push(registry)
      await expect(registry.heartbeat(member('a'))).rejects.toThrow('wrong password')
      expect(registry.fault).toBe(`127.0.0.1:${withPassword.port}: wrong password`)
    } finally {
      await withPassword.dispose()
    }
  })

  test('nor can one that takes connections and says nothing hold up a heartbeat', async () => {
    const taken: Socket[] = []
    // What is not read does not end either: as of a process that is stopped.
    const silent = createServer({ pauseOnConnect: true }, socket => taken.push(socket.on('error', () => {})))
    await new Promise<void>(resolve => silent.listen(0, '127.0.0.1', resolve))
    const { port } = silent.address() as AddressInfo
    for (const [url, what] of [
      [`redis://127.0.0.1:${port}`, 'as Redis'],
      [`redis+sentinel://127.0.0.1:${port}/mymaster`, 'as Sentinel'],
    ] as const) {
      const registry = new RedisRegistry({ url: urlOf(url), clusterName: 'one', log: new RecordingLog() })
      open.push(registry)
      for (const _ of [1, 2]) await expect(registry.heartbeat(member('a')), what).rejects.toThrow(`127.0.0.1:${port}: no answer`)
    }
    for (const socket of taken) socket.destroy()
    silent.close()
  })

  test('a Redis that is too old is refused in words', async () => {
    const old = createServer(socket => {
      socket.on('error', () => {})
      socket.on('data', data => {
        const text = data.toString().toLowerCase()
        if (text.includes('hello')) socket.write("-ERR unknown command 'hello'\r\n")
        if (text.includes('setname')) socket.write('+OK\r\n')
        if (text.includes('\r\ninfo\r\n')) socket.write('$20\r\nredis_version:6.2.14\r\n')
      })
    })
    await new Promise<void>(resolve => old.listen(0, '127.0.0.1', resolve))
    const { port } = old.address() as AddressInfo
    try {
      const registry = new RedisRegistry({ url: urlOf(`redis://127.0.0.1:${port}`), clusterName: 'one', log: new RecordingLog() })
      open.push(registry)
      const text = `127.0.0.1:${port} is Redis 6.2.14; Redis 7.0 or newer, or Valkey, is needed`
      await expect(registry.heartbeat(member('a'))).rejects.toThrow(text)
      expect(registry.fault).toBe(text)
    } finally {
      for (const registry of open.splice(0)) registry.close()
      old.close()
    }
  })
})

describe('the run of the backends', () => {
  test('is what was proposed first, for all that ask within the lease', async () => {
    const [a, b] = [openRegistry('one'), openRegistry('one')]
    await connected(a, member('a'))
    expect(await a.joinRun('')).toBeNull()
    expect(await a.joinRun('first')).toBe('first')
    expect([await b.joinRun('second'), await b.joinRun('')]).toEqual(['first', 'first'])
    expect(await openRegistry('two').joinRun('')).toBeNull()
    const left = Number(await server.command('PTTL', `${KEY}:run`))
    expect(left).toBeGreaterThan(0)
    expect(left).toBeLessThanOrEqual(LEASE_MS)
  })

  test('ends with the last backend that leaves', async () => {
    const registry = openRegistry('one')
    await connected(registry, member('a'))
    await registry.heartbeat(member('b'))
    await registry.heartbeat(member('f', { role: 'frontend' }))
    await registry.joinRun('first')
    await registry.leave(member('a'))
    await registry.endRun()
    expect(await registry.joinRun('')).toBe('first')
    await registry.leave(member('b'))
    await registry.endRun()
    expect(await registry.joinRun('')).toBeNull()
  })
})
