import { readFileSync } from 'node:fs'
import { type EventEmitter, once } from 'node:events'
import { connectAsync, type IClientOptions, type IPublishPacket, type MqttClient } from 'mqtt'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type BrokerUnderTest, CLIENTS_TIMEOUT_MS } from './broker-under-test.ts'

const SCHEMES = ['mqtt', 'mqtts', 'ws', 'wss'] as const
/** Default of --receive-maximum; mqtt.js does not count for itself. */
const RECEIVE_MAXIMUM = 100
const KINDS = SCHEMES.flatMap(scheme => ([4, 5] as const).map(version => ({ scheme, version })))
type Kind = (typeof KINDS)[number]
type Connect = (options?: IClientOptions) => Promise<Peer>

interface Message {
  readonly topic: string
  readonly payload: string
  readonly packet: IPublishPacket
}

/** A client of mqtt.js, and the messages that came. */
class Peer {
  readonly client: MqttClient
  /** Came, and not taken with `next` yet. */
  readonly waiting: Message[] = []

  constructor(client: MqttClient) {
    this.client = client
    client.on('message', (topic, payload, packet) => this.waiting.push({ topic, payload: payload.toString(), packet }))
  }

  async next(): Promise<Message> {
    while (this.waiting.length === 0) await this.more()
    return this.waiting.shift()!
  }

  /** Resolves when another message has come. */
  async more(): Promise<void> {
    await once(this.client as unknown as EventEmitter, 'message')
  }
}

/** What mqtt.js sees of every broker, over every transport; registers the tests. `open` is called once. */
export function describeMqttJs(broker: string, open: () => Promise<BrokerUnderTest>): void {
  describe(`mqtt.js with ${broker}`, { timeout: CLIENTS_TIMEOUT_MS }, () => {
    let subject: BrokerUnderTest
    let ca: Buffer
    beforeAll(async () => {
      subject = await open()
      ca = readFileSync(subject.pki.ca)
    }, CLIENTS_TIMEOUT_MS)

    const peers: Peer[] = []
    afterEach(async () => {
      await Promise.all(peers.splice(0).map(({ client }) => client.endAsync(true)))
    })

    async function connectTo({ scheme, version }: Kind, options: IClientOptions = {}): Promise<Peer> {
      const url = `${scheme}://127.0.0.1:${subject.ports[scheme]}`
      const peer = new Peer(await connectAsync(url, { protocolVersion: version, reconnectPeriod: 50, ca, ...options }, false))
      peers.push(peer)
      return peer
    }

    describe.each(KINDS)('over $scheme, version $version', kind => describeKind(kind, options => connectTo(kind, options)))
    describe('version 5', () => describeVersion5(options => connectTo({ scheme: 'mqtt', version: 5 }, options)))
  })
}

function describeKind(kind: Kind, connect: Connect): void {
  const topicOf = (name: string): string => `${kind.scheme}${kind.version}/${name}`

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
    await subscriber.client.subscribeAsync(topicOf('end'), { qos: 1 })
    await publisher.client.publishAsync(topicOf('end'), '', { qos: 1 })
    expect((await subscriber.next()).topic).toBe(topicOf('end'))
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
      clientId: `kept-${kind.scheme}-${kind.version}`,
      clean: false,
      ...(kind.version === 5 ? { properties: { sessionExpiryInterval: 600 } } : {}),
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
}

function describeVersion5(connect: Connect): void {
  test('properties, Subscription Identifiers, aliases both ways, a shared group', async () => {
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
    const group = await Promise.all([connect(), connect()])
    for (const { client } of group) await client.subscribeAsync('$share/g/work', { qos: 1 })
    for (let i = 0; i < 10; i++) await publisher.client.publishAsync('work', String(i), { qos: 1 })
    const received = (): readonly string[] => group.flatMap(({ waiting }) => waiting.map(({ payload }) => payload))
    while (received().length < 10) await Promise.race(group.map(member => member.more()))
    expect(received().toSorted()).toEqual(Array.from({ length: 10 }, (_, i) => String(i)))
    for (const { waiting } of group) expect(waiting).not.toEqual([])
  })

  test('1,000 messages of each QoS, as many at once as Receive Maximum allows, arrive in order', async () => {
    const [publisher, subscriber] = [await connect(), await connect()]
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
}
