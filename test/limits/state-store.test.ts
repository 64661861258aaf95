import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { StoreAsker } from '../cast/store-asker.ts'
import { resource } from '../specification/configured-broker.ts'
import { type RealBroker, scratchDirectory, startBroker } from './real-broker.ts'

const QUOTA = '-ERR the quota has been exceeded\r\n'
const OK = '+OK\r\n'

async function asker(broker: RealBroker, clientId: string): Promise<StoreAsker> {
  return StoreAsker.of(await broker.connect({ clientId }))
}

describe('quotas: the text is exact; what is there can be overwritten and deleted, and makes room', () => {
  test('keys of a shard', async () => {
    const broker = await startBroker('--shards', '1', '--state-store-keys-per-shard-max', '3')
    const [one, two] = [await asker(broker, 'one'), await asker(broker, 'two')]
    for (const key of ['a', 'b', 'c']) expect(await one.say('SET', key, 'v')).toBe(OK)
    for (const each of [one, two]) {
      expect(await each.say('SET', 'd', 'v')).toBe(QUOTA)
      expect(await each.say('SET', 'd', 'v', 'NX')).toBe(QUOTA)
      expect(await each.say('SET', 'a', 'other')).toBe(OK)
      expect(await each.say('SET', 'a', 'v', 'NX')).toBe(':-1\r\n')
    }
    expect(await two.say('GET', 'd')).toBe('$-1\r\n')
    expect(await two.say('GET', 'a')).toBe('$5\r\nother\r\n')
    expect(await two.say('DEL', 'b')).toBe(':1\r\n')
    expect(await two.say('SET', 'd', 'v')).toBe(OK)
    expect(await one.say('SET', 'b', 'v')).toBe(QUOTA)
    expect(await one.say('VDEL', 'd', 'v')).toBe(':1\r\n')
    expect(await broker.metric('millrace_state_store_keys')).toBe(2)
  })

  test('keys that one client has created', async () => {
    const broker = await startBroker('--shards', '1', '--state-store-keys-per-client-max', '2')
    const [one, two] = [await asker(broker, 'one'), await asker(broker, 'two')]
    for (const key of ['a', 'b']) expect(await one.say('SET', key, 'v')).toBe(OK)
    expect(await one.say('SET', 'c', 'v')).toBe(QUOTA)
    for (const key of ['c', 'd']) expect(await two.say('SET', key, 'v')).toBe(OK)
    expect(await two.say('SET', 'e', 'v')).toBe(QUOTA)
    expect(await one.say('SET', 'c', 'of another one')).toBe(OK)
    expect(await one.say('DEL', 'a')).toBe(':1\r\n')
    expect(await one.say('SET', 'e', 'v')).toBe(OK)
    expect(await one.say('SET', 'a', 'v')).toBe(QUOTA)
    // Its keys stay its own when it comes back.
    await one.client.disconnect()
    expect(await (await asker(broker, 'one')).say('SET', 'a', 'v')).toBe(QUOTA)
  })

  test('bytes of a shard', async () => {
    const broker = await startBroker('--shards', '1', '--state-store-bytes-per-shard-max', '16KiB')
    const one = await asker(broker, 'one')
    const large = Buffer.alloc(6_000, 7)
    for (const key of ['a', 'b']) expect(await one.say('SET', key, large)).toBe(OK)
    expect(await one.say('SET', 'c', large)).toBe(QUOTA)
    expect(await one.say('SET', 'a', Buffer.alloc(12_000))).toBe(QUOTA)
    expect(await one.say('GET', 'a')).toBe(`$6000\r\n${large.toString('latin1')}\r\n`)
    for (const value of [Buffer.alloc(6_000, 8), 'small']) expect(await one.say('SET', 'a', value)).toBe(OK)
    expect(await one.say('SET', 'c', large)).toBe(OK)
    expect(await broker.metric('millrace_state_store_bytes')).toBeLessThanOrEqual(16 * 1024)
    for (const key of ['a', 'b', 'c']) expect(await one.say('DEL', key)).toBe(':1\r\n')
    expect(await broker.metric('millrace_state_store_bytes')).toBe(0)
  })

  test('watches of one connection, and of one key', async () => {
    const broker = await startBroker(
      '--shards',
      '1',
      '--state-store-watches-per-client-max',
      '3',
      '--state-store-watchers-per-key-max',
      '2',
    )
    const [one, two, three] = [await asker(broker, 'one'), await asker(broker, 'two'), await asker(broker, 'three')]
    for (const key of ['a', 'b', 'c']) expect(await one.say('KEYNOTIFY', key)).toBe(OK)
    expect(await one.say('KEYNOTIFY', 'd')).toBe(QUOTA)
    expect(await one.say('KEYNOTIFY', 'a')).toBe(OK)
    expect(await two.say('KEYNOTIFY', 'a')).toBe(OK)
    expect(await three.say('KEYNOTIFY', 'a')).toBe(QUOTA)
    expect(await broker.metric('millrace_state_store_watches')).toBe(4)
    expect(await one.say('KEYNOTIFY', 'a', 'STOP')).toBe(OK)
    expect(await three.say('KEYNOTIFY', 'a')).toBe(OK)
    expect(await one.say('KEYNOTIFY', 'd')).toBe(OK)
    // Prefixes are watches, too; so many connections may have some.
    expect([await one.say('WATCH', 'p'), await two.say('WATCH', 'p'), await two.say('WATCH', 'q')]).toEqual([QUOTA, OK, OK])
    expect([await two.say('WATCH', 'r'), await three.say('WATCH', 'p')]).toEqual([QUOTA, OK])
    expect([await one.say('KEYNOTIFY', 'd', 'STOP'), await one.say('WATCH', 'p')]).toEqual([OK, QUOTA])
    expect([await three.say('WATCH', 'p', 'STOP'), await one.say('WATCH', 'p')]).toEqual([OK, OK])
    expect(await broker.metric('millrace_state_store_watches')).toBe(7)
    one.client.drop()
    await expect.poll(async () => broker.metric('millrace_state_store_watches')).toBe(4)
  })
})

test('metrics count attempts, errors included, and say what there is', async () => {
  const broker = await startBroker()
  const one = await asker(broker, 'one')
  const watcher = await asker(broker, 'watcher')
  expect(await watcher.say('KEYNOTIFY', 'k')).toBe(OK)
  expect(await watcher.say('KEYNOTIFY', 'other', 'STOP')).toBe(':0\r\n')
  expect(await one.say('SET', 'k', 'v')).toBe(OK)
  await watcher.client.receive()
  expect(await one.say('SET', 'k', 'v', 'NX')).toBe(':-1\r\n')
  expect(await one.say('SET', 'k', 'w')).toBe(OK)
  await watcher.client.receive()
  expect((await one.ask(Buffer.from('*3\r\n$3\r\nSET\r\n$1\r\nm\r\n$1\r\nv\r\n'), { ts: null })).text).toBe('-ERR missing timestamp\r\n')
  for (const key of ['k', 'none']) await one.say('GET', key)
  expect(await one.say('VDEL', 'k', 'not so')).toBe(':-1\r\n')
  expect(await one.say('DEL', 'none')).toBe(':0\r\n')
  expect(await one.say('SET', 'short', 'v', 'PX', '1')).toBe(OK)
  expect(await one.say('NOTHING', 'k')).toBe('-ERR unknown command\r\n')
  await expect.poll(async () => broker.metric('millrace_state_store_expirations_total')).toBe(1)
  const metrics = Object.fromEntries(
    await Promise.all(
      ['insertions', 'modifications', 'deletions', 'retrievals', 'keynotify_requests', 'notifications_sent'].map(
        async name => [name, await broker.metric(`aio_broker_state_store_${name}`)] as const,
      ),
    ),
  )
  expect(metrics).toEqual({
    insertions: 3,
    modifications: 2,
    deletions: 2,
    retrievals: 2,
    keynotify_requests: 2,
    notifications_sent: 2,
  })
  expect(await broker.metric('millrace_state_store_keys')).toBe(1)
  expect(await broker.metric('millrace_state_store_watches')).toBe(1)
  expect(
    (
      await broker
        .connect()
        .then(async client => client.publish({ topic: 'statestore/v1/FA9AE35F-2F64-47CD-9BFF-08E2B32A0FE8/command/invoke', qos: 1 }))
    )?.reason,
  ).toBe(0x83)
  expect(await broker.metric('millrace_state_store_requests_dropped_total')).toBe(1)
})

test('the persistence policy of the Broker resource decides at a restart which keys are there, and versions go on', async () => {
  const data = await scratchDirectory()
  const config = await scratchDirectory()
  const start = async (stateStore: object): Promise<RealBroker> => {
    const spec = { persistence: { maxSize: '100M', stateStore } }
    await writeFile(join(config, 'broker.yaml'), JSON.stringify(resource('Broker', 'default', spec)))
    return startBroker('--store', 'lmdb', '--data', data, '--config', config, '--mqtt', '127.0.0.1:0', '--log-level', 'info')
  }
  const keys = ['plan/1', 'plan/{x}', 'asked', 'bin\xff', 'rest']
  const left = async (broker: RealBroker): Promise<string[]> => {
    const one = await asker(broker, 'one')
    const found = []
    for (const key of keys) if ((await one.say('GET', Buffer.from(key, 'latin1'))) !== '$-1\r\n') found.push(key)
    return found
  }
  const first = await start({ mode: 'All' })
  const one = await asker(first, 'one')
  let version: string | undefined
  for (const key of keys) {
    const payload = Buffer.concat([
      Buffer.from(`*3\r\n$3\r\nSET\r\n$${key.length}\r\n`),
      Buffer.from(key, 'latin1'),
      Buffer.from('\r\n$1\r\nv\r\n'),
    ])
    const more = key === 'asked' ? ([['aio-persistence', 'true']] as const) : []
    version = (await one.ask(payload, { more })).version
  }
  await first.kill()
  const resources = [
    { keyType: 'Pattern', keys: ['plan/[0-9]'] },
    { keyType: 'String', keys: ['plan/{x}'] },
    { keyType: 'Binary', keys: [Buffer.from('bin\xff', 'latin1').toString('base64')] },
  ]
  const second = await start({ mode: 'Custom', stateStoreSettings: { stateStoreResources: resources } })
  expect(await left(second)).toEqual(['plan/1', 'plan/{x}', 'asked', 'bin\xff'])
  expect(await second.metric('millrace_state_store_keys_not_persisted_total')).toBe(1)
  expect(second.err).toContain('"event":"keys_not_persisted"')
  await second.terminate()
  const third = await start({ mode: 'Custom', stateStoreSettings: { stateStoreResources: resources, dynamic: { mode: 'Disabled' } } })
  expect(await left(third)).toEqual(['plan/1', 'plan/{x}', 'bin\xff'])
  await third.kill()
  const fourth = await start({ mode: 'None' })
  expect(await left(fourth)).toEqual([])
  const again = await (await asker(fourth, 'one')).ask(Buffer.from('*3\r\n$3\r\nSET\r\n$4\r\nrest\r\n$1\r\nv\r\n'), { ts: '1:0:x' })
  expect(again.version! > version!).toBe(true)
}, 30_000)
