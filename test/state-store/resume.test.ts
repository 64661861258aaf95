import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { connectAsync } from 'mqtt'
import { describe, expect, test } from 'vitest'
import { ErrorText } from '#shared/state-store/errors.ts'
import { notifyTopic } from '#shared/state-store/topics.ts'
import { StateStore } from '../../client/state-store.ts'
import { BrokerProcess } from '../crash/broker-process.ts'
import type { Target } from './replay.contract.ts'
import { type Address, type Answer, StoreClient } from './store-client.contract.ts'
import { ClusterTarget, StandaloneTarget } from './targets.contract.ts'

const TIMEOUT_MS = 120_000
const POLL_MS = 20
const KEY = 'plant/valve'
const WATCHER = 'watcher'
const OK = '+OK\r\n'
const DELETED = '*2\r\n$6\r\nNOTIFY\r\n$6\r\nDELETE\r\n'
const changed = (value: string): string => `*4\r\n$6\r\nNOTIFY\r\n$3\r\nSET\r\n$5\r\nVALUE\r\n$${value.length}\r\n${value}\r\n`

function say(client: StoreClient, ...parts: readonly string[]): Promise<Answer> {
  const payload = `*${parts.length}\r\n${parts.map(part => `$${part.length}\r\n${part}\r\n`).join('')}`
  return client.ask(payload, [['__ts', `${Date.now()}:0:${client.clientId}`]])
}

function keep(client: StoreClient, since: string | null, ms = 60_000): Promise<Answer> {
  return say(client, 'KEYNOTIFY', KEY, 'KEEP', String(ms), ...(since === null ? [] : ['SINCE', since]))
}

/** The next `count` notifications; answers their payloads, and the position behind them. */
async function notified(client: StoreClient, count: number): Promise<{ readonly payloads: readonly string[]; readonly since: string }> {
  const payloads: string[] = []
  let since = ''
  for (let left = count; left > 0; left--) {
    const { topic, payload, ts, previous } = await client.notification()
    expect(topic).toBe(notifyTopic(WATCHER, Buffer.from(KEY)))
    expect(ts! > since, 'versions rise').toBe(true)
    if (since !== '') expect(previous, 'the change before it').toBe(since)
    payloads.push(payload)
    since = ts!
  }
  return { payloads, since }
}

/** Everything a client that goes away and comes back may count on; `at` answers where, the next time somewhere else if there is. */
async function expectResumed(target: Target, at: () => Address): Promise<void> {
  const first = await StoreClient.open(at(), WATCHER)
  const { payload, ts } = await keep(first, null)
  expect(payload).toBe(OK)
  let setter = await StoreClient.open(at(), 'setter')
  await say(setter, 'SET', KEY, 'seen')
  const { payloads, since } = await notified(first, 1)
  expect([payloads, since > ts!]).toEqual([[changed('seen')], true])

  // It takes nothing any more, and nobody knows: what is on its way to it goes with its session.
  first.raw.pause()
  await say(setter, 'SET', KEY, 'on its way')
  first.raw.drop()
  await say(setter, 'SET', KEY, 'away')
  await target.kill(KEY)
  if (target.dropsConnections) setter = await StoreClient.open(at(), 'setter')
  await say(setter, 'SET', KEY, 'passing', 'PX', '1')
  const passed = async (): Promise<boolean> => (await say(setter, 'GET', KEY)).payload === '$-1\r\n'
  while (!(await passed())) await sleep(POLL_MS)
  await say(setter, 'SET', KEY, 'back')

  const second = await StoreClient.open(at(), WATCHER)
  expect((await keep(second, since)).payload).toBe(':5\r\n')
  const missed = await notified(second, 5)
  expect(missed.payloads).toEqual([changed('on its way'), changed('away'), changed('passing'), DELETED, changed('back')])
  await say(setter, 'SET', KEY, 'later')
  expect((await notified(second, 1)).payloads).toEqual([changed('later')])

  // Taken over: the newest connection has the watch.
  const third = await StoreClient.open(at(), WATCHER)
  expect((await keep(third, missed.since)).payload).toBe(':1\r\n')
  expect((await notified(third, 1)).payloads).toEqual([changed('later')])
  await third.expectNothing()
  expect((await say(third, 'KEYNOTIFY', KEY, 'STOP')).payload).toBe(OK)
  expect((await keep(third, missed.since)).payload).toBe(OK)
}

test.concurrent('one process, killed with -9 while the watcher is away, goes on without a gap', { timeout: TIMEOUT_MS }, async () => {
  await using target = await StandaloneTarget.start()
  await expectResumed(target, () => target.address())
})

test.concurrent('a cluster, whose owner of the key is killed with -9 while the watcher is away, goes on at the other frontend', {
  timeout: TIMEOUT_MS,
}, async () => {
  await using target = await ClusterTarget.start()
  let next = 0
  await expectResumed(target, () => target.cluster.frontends[next++ % 2]!.mqtt)
})

/** The client of this repository, which asks by itself. */
async function expectWatched(target: Target, urls: readonly [string, string]): Promise<void> {
  const mqtt = await connectAsync(urls[0], { clientId: WATCHER, protocolVersion: 5, reconnectPeriod: 0 })
  const store = await StateStore.connect(mqtt)
  await using other = await StateStore.connect(urls[1])
  const watch = await store.watch(KEY, { keepMs: 60_000 })
  const next = async (): Promise<unknown> => {
    const event = await watch.next()
    return event?.is === 'set' ? Buffer.from(event.value).toString() : event
  }
  await other.set(KEY, 'seen')
  expect(await next()).toBe('seen')
  const closed = new Promise<void>(resolve => mqtt.once('close', resolve))
  mqtt.stream.destroy()
  await closed
  await other.set(KEY, 'missed')
  if (!target.dropsConnections) await target.kill(KEY)
  await other.delete(KEY)
  mqtt.reconnect()
  const events = [await next(), await next(), await next()]
  // How many there are, it may hear of before or after them.
  expect(events).toContainEqual({ is: 'resumed', missed: 2 })
  expect(events.filter(each => !isDeepStrictEqual(each, { is: 'resumed', missed: 2 }))).toMatchObject(['missed', { is: 'deleted' }])
  await other.set(KEY, 'later')
  expect(await next()).toBe('later')
  await store.close()
  expect(await next()).toBeNull()
  await mqtt.endAsync()
}

test.concurrent('mqtt.js on one process: a watch with keepMs goes on after its connection was lost', { timeout: TIMEOUT_MS }, async () => {
  await using target = await StandaloneTarget.start()
  const url = `mqtt://127.0.0.1:${target.broker.port}`
  await expectWatched(target, [url, url])
})

test.concurrent('mqtt.js on a cluster: the same while the owner of the key dies', { timeout: TIMEOUT_MS }, async () => {
  await using target = await ClusterTarget.start()
  const [one, two] = target.cluster.frontends.map(({ mqtt }) => `mqtt://${mqtt.host}:${mqtt.port}`)
  await expectWatched(target, [one!, two!])
})

describe('limits', () => {
  async function withBroker(flags: readonly string[], run: (broker: BrokerProcess) => Promise<void>): Promise<void> {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-resume-'))
    const broker = new BrokerProcess(directory, flags)
    await broker.start()
    try {
      await run(broker)
    } finally {
      await broker.kill()
      await rm(directory, { recursive: true, force: true })
    }
  }

  async function until(broker: BrokerProcess, metric: string, value: number): Promise<void> {
    while ((await broker.metric(metric)) !== value) await sleep(POLL_MS)
  }

  test('its time is cut to the longest, and over a gap', { timeout: TIMEOUT_MS }, async () => {
    await withBroker(['--state-store-keep-seconds-max', '1'], async broker => {
      const client = await StoreClient.open(broker, WATCHER)
      const { ts } = await keep(client, null, Number.MAX_SAFE_INTEGER)
      client.raw.drop()
      await until(broker, 'millrace_state_store_watches', 0)
      expect((await keep(await StoreClient.open(broker, WATCHER), ts)).payload).toBe(OK)
      await until(broker, 'millrace_state_store_watch_gaps_total', 1)
    })
  })

  test('more changes than are remembered: a gap; one that has seen the last of those that are forgotten has none', {
    timeout: TIMEOUT_MS,
  }, async () => {
    await withBroker(['--state-store-kept-changes-per-key-max', '2'], async broker => {
      let client = await StoreClient.open(broker, WATCHER)
      const setter = await StoreClient.open(broker, 'setter')
      const { ts } = await keep(client, null)
      client.raw.drop()
      await until(broker, 'millrace_state_store_watches_away', 1)
      const versions: string[] = []
      for (const value of ['1', '2', '3']) versions.push((await say(setter, 'SET', KEY, value)).ts!)
      client = await StoreClient.open(broker, WATCHER)
      expect((await keep(client, versions[0]!)).payload).toBe(':2\r\n')
      expect((await notified(client, 2)).payloads).toEqual([changed('2'), changed('3')])
      expect((await keep(client, ts)).payload).toBe(OK)
      expect(await broker.metric('millrace_state_store_watches_resumed_total')).toBe(1)
    })
  })

  test('a client that is too slow sees by the version before the next change that it has missed some, and gets them', {
    timeout: TIMEOUT_MS,
  }, async () => {
    await withBroker(['--queue-messages-max', '1', '--queue-strategy', 'DropOldest'], async broker => {
      const setter = await StoreClient.open(broker, 'setter')
      const client = await StoreClient.open(broker, WATCHER, { receiveMaximum: 1 })
      const { ts } = await keep(client, null)
      for (const value of ['1', '2', '3', '4']) await say(setter, 'SET', KEY, value)
      const [first, second] = [await client.notification(), await client.notification()]
      expect([first.payload, first.previous]).toEqual([changed('1'), ts])
      expect(second.payload).toBe(changed('4'))
      expect(second.previous! > first.ts!).toBe(true)
      const asked = keep(client, first.ts)
      expect((await asked).payload).toBe(':3\r\n')
    })
  })

  test('one byte too many: the same; and another client with its own watch of the key is another matter', {
    timeout: TIMEOUT_MS,
  }, async () => {
    await withBroker(['--state-store-kept-bytes-per-shard-max', '300'], async broker => {
      const [client, other] = [await StoreClient.open(broker, WATCHER), await StoreClient.open(broker, 'other')]
      const { ts } = await keep(client, null)
      const { version, since } = { version: await say(client, 'SET', KEY, 'x'.repeat(181)), since: await keep(other, ts) }
      expect(since.payload, 'it watched nothing').toBe(OK)
      expect((await notified(client, 1)).since).toBe(version.ts)
      expect((await keep(client, ts)).payload).toBe(OK)
      expect((await keep(other, since.ts)).payload).toBe(':0\r\n')
      await say(client, 'SET', KEY, 'x'.repeat(180))
      expect(await broker.metric('millrace_state_store_kept_bytes')).toBe(300)
    })
  })

  test('what is no such request is told so, and watches nothing', { timeout: TIMEOUT_MS }, async () => {
    const hostile: readonly (readonly [readonly string[], string])[] = [
      [['KEEP', '0'], ErrorText.Syntax],
      [['KEEP', 'x'], ErrorText.Syntax],
      [['KEEP', '9007199254740992'], ErrorText.Syntax],
      [['KEEP'], ErrorText.Syntax],
      [['KEEP', '1', 'KEEP', '1'], ErrorText.Syntax],
      [['KEEP', '1', 'STOP'], ErrorText.ArgumentCount],
      [['STOP', 'KEEP', '1'], ErrorText.ArgumentCount],
      [['KEEP', '1', 'SINCE'], ErrorText.ArgumentCount],
      [['KEEP', '1', 'SINCE', 'x'.repeat(10_000)], ErrorText.Syntax],
      [['KEEP', '1', 'SINCE', '1:1:Client1'], ErrorText.Syntax],
    ]
    await withBroker([], async broker => {
      const client = await StoreClient.open(broker, WATCHER)
      for (const [rest, text] of hostile) {
        expect(await say(client, 'KEYNOTIFY', KEY, ...rest), rest.join(' ').slice(0, 50)).toEqual({ payload: `-ERR ${text}\r\n`, ts: null })
      }
      expect(await broker.metric('millrace_state_store_watches')).toBe(0)
    })
  })
})
