import { readFileSync } from 'node:fs'
import { type EventEmitter, once } from 'node:events'
import { connectAsync, type IClientOptions, type IPublishPacket, type MqttClient } from 'mqtt'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { createPki } from '#shared/config/pki.ts'
import { type RealBroker, startBrokerForFile } from '../limits/real-broker.ts'

const TRANSPORTS = [
  ['mqtt', 'MQTT'],
  ['mqtts', 'MQTT over TLS'],
  ['ws', 'MQTT over WebSocket'],
  ['wss', 'MQTT over WebSocket over TLS'],
] as const
/** Default of --receive-maximum; mqtt.js does not count for itself. */
const RECEIVE_MAXIMUM = 100
const KINDS = TRANSPORTS.flatMap(([scheme, name]) => ([4, 5] as const).map(version => ({ scheme, name, version })))

interface Message {
  readonly topic: string
  readonly payload: string
  readonly packet: IPublishPacket
}

/** A client of mqtt.js, and the messages that came. */
class Peer {
  readonly client: MqttClient
  readonly #messages: Message[] = []

  constructor(client: MqttClient) {
    this.client = client
    client.on('message', (topic, payload, packet) => this.#messages.push({ topic, payload: payload.toString(), packet }))
  }

  async next(): Promise<Message> {
    while (this.#messages.length === 0) await once(this.client as unknown as EventEmitter, 'message')
    return this.#messages.shift()!
  }

  get waiting(): number {
    return this.#messages.length
  }
}

const peers: Peer[] = []
afterEach(async () => {
  await Promise.all(peers.splice(0).map(({ client }) => client.endAsync(true)))
})

async function connectTo(broker: RealBroker, kind: (typeof KINDS)[number], ca: Buffer | null, options: IClientOptions = {}): Promise<Peer> {
  const url = `${kind.scheme}://127.0.0.1:${broker.portOf(kind.name)}`
  const tls = ca === null ? {} : { ca }
  const peer = new Peer(await connectAsync(url, { protocolVersion: kind.version, reconnectPeriod: 50, ...tls, ...options }, false))
  peers.push(peer)
  return peer
}

describe.each(KINDS)('mqtt.js over $scheme, version $version', kind => {
  const { version } = kind
  let broker: RealBroker
  let ca: Buffer

  beforeAll(async () => {
    ;({ broker, ca } = await sharedBroker())
  })

  const connect = (options: IClientOptions = {}): Promise<Peer> => connectTo(broker, kind, ca, options)
  const topicOf = (name: string): string => `${kind.scheme}${version}/${name}`

  test('messages at every QoS, with payloads of every length', async () => {
    const [publisher, subscriber] = [await connect(), await connect()]
    await subscriber.client.subscribeAsync(topicOf('q/#'), { qos: 2 })
    for (const qos of [0, 1, 2] as const) {
      for (const bytes of [0, 1, 127, 128, 20_000, 200_000]) {
        const payload = String(qos).repeat(bytes)
        await publisher.client.publishAsync(topicOf(`q/${qos}`), payload, { qos })
        const { topic, payload: got, packet } = await subscriber.next()
        expect([topic, got === payload, packet.qos, packet.retain]).toEqual([topicOf(`q/${qos}`), true, qos, false])
      }
    }
    await subscriber.client.unsubscribeAsync(topicOf('q/#'))
    await publisher.client.publishAsync(topicOf('q/1'), 'unheard', { qos: 1 })
    expect(subscriber.waiting).toBe(0)
  })

  test('retained messages and a Will', async () => {
    const options = { will: { topic: topicOf('r/will'), payload: Buffer.from('gone'), qos: 1 as const, retain: true } }
    const dying = await connect({ ...options, reconnectPeriod: 0 })
    await dying.client.publishAsync(topicOf('r/state'), 'on', { qos: 1, retain: true })
    const subscriber = await connect()
    await subscriber.client.subscribeAsync(topicOf('r/#'), { qos: 1 })
    expect(await subscriber.next()).toMatchObject({ payload: 'on', packet: { retain: true } })
    dying.client.stream.destroy()
    expect(await subscriber.next()).toMatchObject({ payload: 'gone', packet: { retain: false } })
    await subscriber.client.publishAsync(topicOf('r/state'), '', { qos: 1, retain: true })
    await subscriber.client.publishAsync(topicOf('r/will'), '', { qos: 1, retain: true })
  })

  test('a session comes back after the connection broke, with what it missed', async () => {
    const kept = {
      clientId: `kept-${kind.scheme}-${version}`,
      clean: false,
      ...(version === 5 ? { properties: { sessionExpiryInterval: 600 } } : {}),
    }
    const [publisher, subscriber] = [await connect(), await connect(kept)]
    await subscriber.client.subscribeAsync(topicOf('s'), { qos: 2 })
    await subscriber.client.endAsync()
    for (const qos of [1, 2] as const) await publisher.client.publishAsync(topicOf('s'), `missed ${qos}`, { qos })
    subscriber.client.reconnect()
    expect([(await subscriber.next()).payload, (await subscriber.next()).payload]).toEqual(['missed 1', 'missed 2'])
    const isConnected = once(subscriber.client as unknown as EventEmitter, 'connect')
    subscriber.client.stream.destroy()
    await isConnected
    await publisher.client.publishAsync(topicOf('s'), 'again', { qos: 1 })
    expect((await subscriber.next()).payload).toBe('again')
  })
})

describe('mqtt.js, version 5', () => {
  const kind = KINDS.find(({ scheme, version }) => scheme === 'mqtt' && version === 5)!

  test('properties, Subscription Identifiers, aliases both ways, a shared group', async () => {
    const { broker, ca } = await sharedBroker()
    const connect = (options: IClientOptions): Promise<Peer> => connectTo(broker, kind, ca, options)
    const publisher = await connect({ autoAssignTopicAlias: true })
    const subscriber = await connect({ properties: { topicAliasMaximum: 3 } })
    await subscriber.client.subscribeAsync('p/+', { qos: 1, properties: { subscriptionIdentifier: 77 } })
    const properties = {
      contentType: 'text/plain',
      responseTopic: 'answers',
      correlationData: Buffer.from('c1'),
      messageExpiryInterval: 100,
      payloadFormatIndicator: true,
      userProperties: { a: ['1', '2'], b: '3' },
    }
    for (let round = 0; round < 3; round++) {
      for (const topic of ['p/1', 'p/2', 'p/3', 'p/4', 'p/5']) {
        await publisher.client.publishAsync(topic, `${round}`, { qos: 1, properties: { ...properties } })
        const got = await subscriber.next()
        expect([got.topic, got.payload]).toEqual([topic, String(round)])
        expect(got.packet.properties).toMatchObject({ ...properties, subscriptionIdentifier: 77 })
      }
    }
    const group = await Promise.all([connect({}), connect({})])
    for (const { client } of group) await client.subscribeAsync('$share/g/work', { qos: 1 })
    for (let i = 0; i < 10; i++) await publisher.client.publishAsync('work', String(i), { qos: 1 })
    await expect.poll(() => group[0]!.waiting + group[1]!.waiting).toBe(10)
    expect(Math.min(group[0]!.waiting, group[1]!.waiting)).toBeGreaterThan(0)
  })

  test('1,000 messages of each QoS, as many at once as Receive Maximum allows, arrive in order', async () => {
    const { broker, ca } = await sharedBroker()
    const [publisher, subscriber] = [await connectTo(broker, kind, ca), await connectTo(broker, kind, ca)]
    await subscriber.client.subscribeAsync('many/+', { qos: 2 })
    for (const qos of [0, 1, 2] as const) {
      for (let first = 0; first < 1_000; first += RECEIVE_MAXIMUM) {
        const batch = Array.from({ length: RECEIVE_MAXIMUM }, (_, i) =>
          publisher.client.publishAsync(`many/${qos}`, String(first + i), { qos }),
        )
        await Promise.all(batch)
      }
      for (let i = 0; i < 1_000; i++) expect((await subscriber.next()).payload).toBe(String(i))
    }
  })
})

let shared: Promise<{ broker: RealBroker; ca: Buffer }> | null = null

/** One broker with all four transports for the file. */
function sharedBroker(): Promise<{ broker: RealBroker; ca: Buffer }> {
  shared ??= startShared()
  return shared
}

async function startShared(): Promise<{ broker: RealBroker; ca: Buffer }> {
  let ca = Buffer.alloc(0)
  const broker = await startBrokerForFile(async directory => {
    const pki = await createPki(directory)
    ca = readFileSync(pki.ca)
    return ['--tls-cert', pki.serverCert, '--tls-key', pki.serverKey, '--mqtts', '127.0.0.1:0', '--wss', '127.0.0.1:0']
  })
  return { broker, ca }
}
