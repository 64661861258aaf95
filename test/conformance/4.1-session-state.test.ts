import { describe, expect, test } from 'vitest'
import { external, hasWebSocket, unique, useBroker } from './broker.ts'
import { ack, publish } from './packets.ts'
import { expectNoMessage, lasting, pair, payloads, resume } from './scenes.ts'

const broker = useBroker()

describe('4.1 storing state', () => {
  test.concurrent('[MQTT-4.1.0-1] a session lasts as long as its connection, whatever its Session Expiry Interval', async () => {
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: { properties: { sessionExpiryInterval: 1 } } })
    const { topic: other, subscriber: second } = await pair(broker, { subscriber: { properties: { sessionExpiryInterval: 0 } } })
    await new Promise(resolve => setTimeout(resolve, 2_500))
    await publisher.publish({ topic, payload: 'one', qos: 1 })
    await publisher.publish({ topic: other, payload: 'two', qos: 1 })
    expect([...(await payloads(subscriber, 1)), ...(await payloads(second, 1))]).toEqual(['one', 'two'])
  })

  test.concurrent('[MQTT-4.1.0-2] a session is discarded once its connection is closed and Session Expiry Interval has passed', async () => {
    const options = { clientId: unique('s'), properties: { sessionExpiryInterval: 1 } }
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: options })
    subscriber.drop()
    await subscriber.ended()
    await publisher.publish({ topic, payload: 'lost', qos: 1 })
    await new Promise(resolve => setTimeout(resolve, 2_500))
    const second = await resume(broker, options)
    expect(second.connack.sessionPresent).toBe(false)
    await expectNoMessage(second, publisher)
  })

  test.concurrent('[MQTT-4.1.0-2] Session Expiry Interval begins anew with each connection', async () => {
    const options = { clientId: unique('s'), properties: { sessionExpiryInterval: 2 } }
    const first = await broker.connect(options)
    await first.disconnect()
    await new Promise(resolve => setTimeout(resolve, 1_000))
    const second = await resume(broker, { ...options, properties: { sessionExpiryInterval: 600 } })
    expect(second.connack.sessionPresent).toBe(true)
    second.drop()
    await new Promise(resolve => setTimeout(resolve, 2_000))
    expect((await resume(broker, options)).connack.sessionPresent).toBe(true)
  })
})

describe('4.2 network connections', () => {
  test('[MQTT-4.2.0-1] the broker serves over TCP, and several connections at once see one ordered stream each', async () => {
    const clients = await Promise.all(Array.from({ length: 10 }, () => pair(broker)))
    await Promise.all(
      clients.map(async ({ topic, subscriber, publisher }) => {
        for (let n = 0; n < 50; n++) publisher.send(publish({ topic, payload: `${n}` }))
        expect(await payloads(subscriber, 50)).toEqual(Array.from({ length: 50 }, (_, n) => `${n}`))
      }),
    )
    expect(hasWebSocket || broker.wsPort === 0).toBe(true)
  })
})

describe('4.5 message receipt', () => {
  test('[MQTT-4.5.0-1] a message is added to the session of every client that has a matching subscription, online or not', async () => {
    const sessions = Array.from({ length: 6 }, () => lasting())
    const topic = unique('t')
    const clients = await Promise.all(sessions.map(session => broker.connect(session)))
    for (const [n, client] of clients.entries()) await client.subscribe({ filter: n % 2 ? topic : `${topic}/#`, qos: 1 + (n % 2) })
    for (const client of clients.slice(0, 3)) await client.disconnect()
    const publisher = await broker.connect()
    expect((await publisher.publish({ topic, payload: 'all', qos: 2 }))!.reason).toBe(0)
    const resumed = await Promise.all(sessions.map(session => resume(broker, session)))
    for (const client of resumed) expect(await payloads(client, 1)).toEqual(['all'])
  })

  test.skipIf(external)('§4.5 QoS 0 messages, and subscriptions of QoS 0, do not fill the queue of an offline session', async () => {
    const session = lasting()
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: session, subscription: { qos: 0 } })
    await subscriber.subscribe({ filter: `${topic}/+`, qos: 2 })
    await subscriber.disconnect()
    await publisher.publish({ topic, payload: 'granted 0', qos: 2 })
    await publisher.publish({ topic: `${topic}/x`, payload: 'published 0', qos: 0 })
    await publisher.publish({ topic: `${topic}/x`, payload: 'kept', qos: 1 })
    const second = await resume(broker, session)
    expect(await payloads(second, 1)).toEqual(['kept'])
    await second.expectNothing()
  })

  test('[MQTT-4.5.0-1] a thousand messages wait for an offline session in order', async () => {
    const session = lasting()
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: session, subscription: { qos: 1 } })
    await subscriber.disconnect()
    const expected = Array.from({ length: 1_000 }, (_, n) => `${n}`)
    for (let at = 0; at < 1_000; at += 50) {
      publisher.send(...expected.slice(at, at + 50).map((payload, n) => publish({ topic, payload, qos: 1, packetId: n + 1 })))
      for (let n = 0; n < 50; n++) await publisher.take('puback', n + 1)
    }
    expect(await payloads(await resume(broker, session), 1_000)).toEqual(expected)
  })
})

describe('4.6 message ordering', () => {
  test('[MQTT-4.6.0-5] [MQTT-4.6.0-6] messages of one client to one topic arrive in order, for each QoS', async () => {
    for (const qos of [0, 1, 2]) {
      const { topic, subscriber, publisher } = await pair(broker, { subscription: { qos } })
      const expected = Array.from({ length: 90 }, (_, n) => `${n}`)
      publisher.send(...expected.map((payload, n) => publish({ topic, payload, qos, packetId: n + 1 })))
      for (let packetId = 1; qos === 2 && packetId <= 90; packetId++)
        publisher.send(ack('pubrel', (await publisher.take('pubrec')).packetId))
      expect(await payloads(subscriber, 90)).toEqual(expected)
    }
  })

  test('[MQTT-4.6.0-5] order holds through wildcards, overlapping subscriptions and a small Receive Maximum', async () => {
    const { topic, subscriber, publisher } = await pair(broker, {
      subscriber: { properties: { receiveMaximum: 3 } },
      subscription: { qos: 1 },
    })
    await subscriber.subscribe([
      { filter: `${topic}/#`, qos: 1 },
      { filter: `+/+/${topic}`, qos: 2 },
    ])
    const expected = Array.from({ length: 90 }, (_, n) => `${n}`)
    publisher.send(...expected.map((payload, n) => publish({ topic, payload, qos: 1, packetId: n + 1 })))
    expect(await payloads(subscriber, 90)).toEqual(expected)
  })

  test('[MQTT-4.6.0-6] a topic is ordered for many subscribers and publishers at once', async () => {
    const topic = unique('t')
    const subscribers = await Promise.all(Array.from({ length: 5 }, () => broker.connect()))
    await Promise.all(subscribers.map(each => each.subscribe({ filter: topic, qos: 1 })))
    const publishers = await Promise.all(Array.from({ length: 4 }, () => broker.connect()))
    for (const [who, publisher] of publishers.entries()) {
      publisher.send(...Array.from({ length: 40 }, (_, n) => publish({ topic, payload: `${who}:${n}`, qos: 1, packetId: n + 1 })))
    }
    for (const subscriber of subscribers) {
      const got = await payloads(subscriber, 160)
      for (const who of publishers.keys()) {
        expect(got.filter(each => each.startsWith(`${who}:`))).toEqual(Array.from({ length: 40 }, (_, n) => `${who}:${n}`))
      }
    }
  })

  test('§4.6 PUBACK and PUBREC leave in the order in which the PUBLISH packets came', async () => {
    const { topic, publisher } = await pair(broker)
    const ids = Array.from({ length: 90 }, (_, n) => 90 - n)
    publisher.send(...ids.map(packetId => publish({ topic: packetId % 3 ? topic : unique('nobody'), qos: 1, packetId })))
    for (const packetId of ids) expect((await publisher.expect('puback')).packetId).toBe(packetId)
    publisher.send(...ids.map(packetId => publish({ topic: packetId % 3 ? topic : unique('nobody'), qos: 2, packetId })))
    for (const packetId of ids) expect((await publisher.expect('pubrec')).packetId).toBe(packetId)
  })
})
