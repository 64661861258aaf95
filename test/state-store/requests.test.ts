import { describe, expect, test } from 'vitest'
import { REQUEST_TOPIC } from '#shared/state-store/topics.ts'
import { unique, useBroker } from '../conformance/broker.ts'
import type { Ack } from '../conformance/decode.ts'
import * as packets from '../conformance/packets.ts'
import type { Properties } from '../conformance/properties.ts'
import { StoreClient } from './store-client.contract.ts'

const PACKET_BYTES_MAX = 70_000
const STORE = 'clients/statestore/v1/FA9AE35F-2F64-47CD-9BFF-08E2B32A0FE8'
const CORRELATION = Buffer.from('0123456789abcdef')
const broker = useBroker('--packet-bytes-max', String(PACKET_BYTES_MAX))

const open = (clientId = unique('s')): Promise<StoreClient> => StoreClient.open(broker, clientId)
const blob = (text: string): string => `$${text.length}\r\n${text}\r\n`
const get = (key: string): string => `*2\r\n${blob('GET')}${blob(key)}`
const set = (key: string, value: string): string => `*3\r\n${blob('SET')}${blob(key)}${blob(value)}`
const watch = (key: string): string => `*2\r\n${blob('KEYNOTIFY')}${blob(key)}`
const NOW: [string, string][] = [['__ts', '1696374425000:0:Client1']]

/** The properties of a SET that is as it should be. */
function complete({ responseTopic }: StoreClient): Properties {
  return { responseTopic, correlationData: CORRELATION, userProperty: NOW }
}

/** Another client finds no such key, and this one has got nothing. */
async function expectNotExecuted(key: string, client: StoreClient | null): Promise<void> {
  const other = await open()
  expect(await other.ask(get(key))).toEqual({ payload: '$-1\r\n', ts: null })
  await client?.expectNothing()
}

describe('a request that is none', () => {
  test('QoS 0 is not executed', async () => {
    const [client, key] = [await open(), unique('k')]
    await client.raw.publish({ topic: REQUEST_TOPIC, qos: 0, payload: set(key, 'v'), properties: complete(client) })
    await expectNotExecuted(key, client)
  })

  test.each([
    ['responseTopic', 'Response Topic'],
    ['correlationData', 'Correlation Data'],
  ] as const)('without %s: PUBACK 0x83 that names it, nothing executed', async (left, name) => {
    const [client, key] = [await open(), unique('k')]
    const { [left]: _, ...properties } = complete(client)
    const ack = (await client.raw.publish({ topic: REQUEST_TOPIC, qos: 1, payload: set(key, 'v'), properties })) as Ack
    expect(ack.reason).toBe(0x83)
    expect(ack.properties.reasonString).toContain(name)
    await expectNotExecuted(key, client)
  })

  test.each([REQUEST_TOPIC, STORE, `${STORE}/x`, `${STORE}x`, '$SYS/answers'])(
    'Response Topic %s: DISCONNECT 0x90, nothing executed, no response',
    async responseTopic => {
      const [client, key] = [await open(), unique('k')]
      client.raw.send(
        packets.publish({ topic: REQUEST_TOPIC, qos: 1, payload: set(key, 'v'), properties: { ...complete(client), responseTopic } }),
      )
      await client.raw.expectDisconnect(0x90)
      expect(client.raw.received.filter(({ type }) => type === 'publish' || type === 'puback')).toEqual([])
      await expectNotExecuted(key, null)
    },
  )

  test.each(['', 'answers/#', 'answers/+'])('Response Topic %j: a protocol error of MQTT itself', async responseTopic => {
    const [client, key] = [await open(), unique('k')]
    client.raw.send(
      packets.publish({ topic: REQUEST_TOPIC, qos: 1, payload: set(key, 'v'), properties: { ...complete(client), responseTopic } }),
    )
    await client.raw.expectDisconnect(0x82)
    await expectNotExecuted(key, null)
  })

  test.each([4, 3] as const)('MQTT version %i: an ordinary PUBACK, nothing executed, nobody sees it', async version => {
    const [client, key] = [await broker.connect({ version }), unique('k')]
    await client.subscribe({ filter: '#', qos: 1 })
    expect((await client.publish({ topic: REQUEST_TOPIC, qos: 1, payload: set(key, 'v') }))!.reason).toBe(0)
    await client.expectNothing()
    await expectNotExecuted(key, null)
  })

  test('a Will to the request topic is refused with the connection', async () => {
    const key = unique('k')
    const client = await broker.open()
    client.sendConnect({ clientId: unique('s'), will: { topic: REQUEST_TOPIC, payload: set(key, 'v'), qos: 1 } })
    await client.expectRefused(0x87)
    await expectNotExecuted(key, null)
  })
})

test('a value that just fits Maximum Packet Size is kept whole; one byte more ends the connection with 0x95', async () => {
  const [client, key] = [await open(), unique('k')]
  expect(client.raw.connack.properties.maximumPacketSize).toBe(PACKET_BYTES_MAX)
  // As many digits as the length of the value will have.
  const empty = client.packet(set(key, 'v'.repeat(60_000)), NOW).bytes.length - 60_000
  const value = 'v'.repeat(PACKET_BYTES_MAX - empty)
  const fitting = client.packet(set(key, value), NOW)
  expect(fitting.bytes.length).toBe(PACKET_BYTES_MAX)
  client.send(fitting)
  expect((await client.answer(fitting)).payload).toBe('+OK\r\n')
  expect((await client.ask(get(key))).payload).toBe(blob(value))
  client.send(client.packet(set(key, `${value}v`), NOW))
  await client.raw.expectDisconnect(0x95)
  const other = await open()
  expect((await other.ask(get(key))).payload).toBe(blob(value))
})

describe('responses', () => {
  test('arrive while the client has not acknowledged what it got', async () => {
    const [client, other, topic] = [await open(), await broker.connect(), unique('work')]
    await client.raw.subscribe({ filter: topic, qos: 1 })
    for (const payload of ['one', 'two', 'three']) await other.publish({ topic, qos: 1, payload })
    const held = [await client.raw.take('publish'), await client.raw.take('publish'), await client.raw.take('publish')]
    expect((await client.ask(get(unique('k')))).payload).toBe('$-1\r\n')
    for (const each of held) await client.raw.acknowledge(each)
    await client.expectNothing()
  })

  test('of two requests that are under way at once have the Correlation Data of each', async () => {
    const client = await open()
    const [a, b] = [client.packet(get(unique('k'))), client.packet(watch(unique('k')))]
    client.send(a, b)
    expect([(await client.answer(a)).payload, (await client.answer(b)).payload]).toEqual(['$-1\r\n', '+OK\r\n'])
    await client.expectNothing()
  })

  test('reach a subscription with No Local, and those of others that match', async () => {
    const [client, other] = [await open(), await broker.connect()]
    const { clientId, responseTopic } = client
    await other.subscribe({ filter: `clients/${clientId}/#`, qos: 0, noLocal: true })
    expect((await client.ask(get(unique('k')))).payload).toBe('$-1\r\n')
    const seen = await other.receive()
    expect([other.topicOf(seen), seen.qos, seen.payload.toString()]).toEqual([responseTopic, 0, '$-1\r\n'])
  })
})

describe('requests and notifications are seen by nobody else', () => {
  test('not by who subscribed to their topics, nor twice by who watches', async () => {
    const [watcher, writer, spy, key] = [await open(), await open(), await broker.connect(), unique('k')]
    await spy.subscribe([
      { filter: REQUEST_TOPIC, qos: 1 },
      { filter: `${STORE}/#`, qos: 1 },
    ])
    const own = `${STORE}/${Buffer.from(watcher.clientId).toString('hex').toUpperCase()}/command/notify/+`
    expect((await watcher.raw.subscribe({ filter: own, qos: 1 })).reasons).toEqual([1])
    expect((await watcher.ask(watch(key))).payload).toBe('+OK\r\n')
    expect((await writer.ask(set(key, 'a'), NOW)).payload).toBe('+OK\r\n')
    expect((await writer.ask(set(key, 'b'), NOW)).payload).toBe('+OK\r\n')
    const told = [await watcher.notification(), await watcher.notification()].map(({ payload }) => payload)
    expect(told).toEqual(['a', 'b'].map(value => `*4\r\n${blob('NOTIFY')}${blob('SET')}${blob('VALUE')}${blob(value)}`))
    await watcher.expectNothing()
    await spy.expectNothing()
  })
})
