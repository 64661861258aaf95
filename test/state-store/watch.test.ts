import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { connectAsync } from 'mqtt'
import { describe, expect, test } from 'vitest'
import { storeShardOf } from '#shared/cluster/shard.ts'
import { notifyTopic } from '#shared/state-store/topics.ts'
import { StateStore } from '../../client/state-store.ts'
import { payloadOf } from '../cast/store-asker.ts'
import { ROOT, startBroker } from '../limits/real-broker.ts'
import type { Target } from './replay.contract.ts'
import { type Answer, StoreClient } from './store-client.contract.ts'
import { ClusterTarget, StandaloneTarget } from './targets.contract.ts'

const TEST_MS = 120_000
const OK = '+OK\r\n'
const SHARDS = 32
/** At the other frontend than everybody else. */
const WATCHER = 'client-id1'

/** One of each shard. */
const KEYS = Array.from({ length: SHARDS }, (_, shard) => {
  for (let i = 0; ; i++) if (storeShardOf(`plant/${i}`, SHARDS) === shard) return `plant/${i}`
})

function say(client: StoreClient, ...parts: readonly string[]): Promise<Answer> {
  return client.ask(payloadOf(...parts).toString('latin1'), [['__ts', `${Date.now()}:0:${client.clientId}`]])
}

function setText(value: string): string {
  return `*4\r\n$6\r\nNOTIFY\r\n$3\r\nSET\r\n$5\r\nVALUE\r\n$${value.length}\r\n${value}\r\n`
}

/** Sets all keys; whoever watches is told of each once, with the versions that the writer got. */
async function expectTold(writer: StoreClient, watcher: StoreClient, value: string): Promise<void> {
  const expected = []
  for (const key of KEYS) {
    const { payload, ts } = await say(writer, 'SET', key, value)
    expect(payload).toBe(OK)
    expected.push({ topic: notifyTopic(watcher.clientId, Buffer.from(key)), payload: setText(value), ts })
  }
  const told = []
  for (const _ of KEYS) told.push(await watcher.notification())
  const byTopic = (a: { topic: string | null }, b: { topic: string | null }): number => (a.topic! < b.topic! ? -1 : 1)
  expect(told.sort(byTopic)).toEqual(expected.sort(byTopic))
  await watcher.expectNothing()
}

/** What `KEYNOTIFY` of all of them would do, with one request. */
async function expectWatched(target: Target, watcher: StoreClient, writer: StoreClient): Promise<void> {
  const ofKeys = await StoreClient.open(target.address('of-keys'), 'of-keys')
  expect((await say(watcher, 'WATCH', 'plant/')).payload).toBe(OK)
  // Watched by itself, and by two prefixes: told once.
  for (const request of [
    ['KEYNOTIFY', KEYS[3]!],
    ['WATCH', 'p'],
    ['WATCH', 'plant/'],
  ])
    expect((await say(watcher, ...request)).payload).toBe(OK)
  await expectTold(writer, watcher, 'v')
  for (const client of [watcher, ofKeys]) expect((await say(client, 'KEYNOTIFY', KEYS[7]!)).payload).toBe(OK)
  expect((await say(writer, 'DEL', KEYS[7]!)).payload).toBe(':1\r\n')
  const [one, other] = [await watcher.notification(), await ofKeys.notification()]
  expect(one).toEqual({ ...other, topic: notifyTopic(watcher.clientId, Buffer.from(KEYS[7]!)) })
  expect((await say(writer, 'SET', 'plan', 'v')).payload).toBe(OK)
  expect(await watcher.notification()).toMatchObject({ topic: notifyTopic(watcher.clientId, Buffer.from('plan')) })
  expect((await say(watcher, 'WATCH', 'p', 'STOP')).payload).toBe(OK)
  expect((await say(writer, 'SET', 'plan', 'w')).payload).toBe(OK)
  await expectTold(writer, watcher, 'w')
}

async function expectStopped(watcher: StoreClient, writer: StoreClient): Promise<void> {
  for (const key of [KEYS[3]!, KEYS[7]!]) expect((await say(watcher, 'KEYNOTIFY', key, 'STOP')).payload).toBe(OK)
  expect((await say(watcher, 'WATCH', 'plant/', 'STOP')).payload).toBe(OK)
  expect((await say(watcher, 'WATCH', 'plant/', 'STOP')).payload).toBe(':0\r\n')
  for (const key of KEYS) expect((await say(writer, 'SET', key, 'unseen')).payload).toBe(OK)
  expect((await say(watcher, 'KEYNOTIFY', KEYS[0]!)).payload).toBe(OK)
  expect((await say(writer, 'DEL', KEYS[0]!)).payload).toBe(':1\r\n')
  expect((await watcher.notification()).topic).toBe(notifyTopic(watcher.clientId, Buffer.from(KEYS[0]!)))
  await watcher.expectNothing()
}

describe('keys by their beginning are watched', () => {
  test('in one broker; a connection that is gone, and a process that was killed, leave nothing', { timeout: TEST_MS }, async () => {
    await using target = await StandaloneTarget.start()
    const open = (clientId: string): Promise<StoreClient> => StoreClient.open(target.address(), clientId)
    const [watcher, writer] = [await open(WATCHER), await open('writer')]
    await expectWatched(target, watcher, writer)
    await expectStopped(watcher, writer)
    expect((await say(watcher, 'WATCH', 'plant/')).payload).toBe(OK)
    await target.kill()
    await Promise.all([watcher, writer].map(({ raw }) => raw.ended()))
    const [again, other] = [await open(WATCHER), await open('writer')]
    expect((await say(again, 'WATCH', 'plant/', 'STOP')).payload).toBe(':0\r\n')
    expect((await say(again, 'WATCH', 'plant/')).payload).toBe(OK)
    await expectTold(other, again, 'x')
  })

  test('by the client of this repository, whose connection is lost, and on the command line', { timeout: TEST_MS }, async () => {
    const broker = await startBroker()
    const url = `mqtt://127.0.0.1:${broker.portOf('MQTT')}`
    const mqtt = await connectAsync(url, { protocolVersion: 5, clientId: 'of-a-client', reconnectPeriod: 1 }, false)
    await using store = await StateStore.connect(mqtt)
    await using other = await StateStore.connect(url)
    using watch = await store.watchPrefix('plant/')
    const next = async (): Promise<unknown> => {
      const event = await watch.next()
      return event === null || event.is === 'gap' ? event?.is : [event.is, Buffer.from(event.key).toString()]
    }
    await other.set('plant/a', 'v')
    await other.delete('plant/a')
    expect([await next(), await next()]).toEqual([
      ['set', 'plant/a'],
      ['deleted', 'plant/a'],
    ])
    mqtt.stream.destroy()
    expect(await next()).toBe('gap')
    await other.set('plant/b', 'v')
    expect(await next()).toEqual(['set', 'plant/b'])
    const words = ['state', 'watch', 'plant/', '--prefix', '--count', '2', '--url', url]
    const child = execFile(join(ROOT, 'node_modules/.bin/node'), [join(ROOT, 'bin/main.ts'), ...words])
    let out = ''
    child.stdout!.on('data', (text: string) => (out += text))
    await expect.poll(async () => broker.metric('millrace_state_store_watches'), { timeout: TEST_MS }).toBeGreaterThan(SHARDS)
    await other.set('plant/c', 'one')
    await other.set('plant/c', 'two')
    expect(await once(child, 'close')).toEqual([0, null])
    expect(out.replaceAll(/^\S+ /gmu, '')).toBe('plant/c set one\nplant/c set two\n')
    await mqtt.endAsync(true)
  })

  test('in a cluster, at another frontend than who writes; owners are killed meanwhile', { timeout: TEST_MS }, async () => {
    await using target = await ClusterTarget.start()
    const open = (clientId: string): Promise<StoreClient> => StoreClient.open(target.address(clientId), clientId)
    const [watcher, writer] = [await open(WATCHER), await open('writer')]
    await expectWatched(target, watcher, writer)
    await target.kill(KEYS[5]!)
    await expectTold(writer, watcher, 'x')
    await expectStopped(watcher, writer)
    // While shards have no owner: it is answered when all have it.
    await target.kill(KEYS[9]!)
    expect((await say(watcher, 'WATCH', 'plant/')).payload).toBe(OK)
    expect((await say(watcher, 'KEYNOTIFY', KEYS[0]!, 'STOP')).payload).toMatch(/^(\+OK|:0)\r\n$/)
    await expectTold(writer, watcher, 'y')
    await target.kill(KEYS[2]!)
    expect((await say(watcher, 'WATCH', 'plant/', 'STOP')).payload).toBe(OK)
    for (const key of KEYS) expect((await say(writer, 'SET', key, 'unseen')).payload).toBe(OK)
    await watcher.expectNothing()
  })
})
