import { describe, expect, test } from 'vitest'
import { external, unique, useBroker } from './broker.ts'
import { ack, publish } from './packets.ts'
import { expectFatal, lasting, pair, payloads, resume } from './scenes.ts'

const broker = useBroker()

describe('3.3.4 actions', () => {
  test('[MQTT-3.3.4-1] QoS 0 gets no answer, QoS 1 PUBACK, QoS 2 PUBREC', async () => {
    const client = await broker.connect()
    client.send(publish({ topic: unique('t'), qos: 0 }), publish({ topic: unique('t'), qos: 1, packetId: 5 }))
    expect((await client.expect('puback')).packetId).toBe(5)
    client.send(publish({ topic: unique('t'), qos: 2, packetId: 6 }))
    expect((await client.expect('pubrec')).packetId).toBe(6)
    await client.expectNothing()
  })

  test('[MQTT-3.3.4-2] [MQTT-3.3.4-4] overlapping subscriptions deliver with their highest QoS and all their Subscription Identifiers', async () => {
    const client = await broker.connect()
    const topic = unique('t')
    await client.subscribe({ filter: `${topic}/+`, qos: 2 }, { subscriptionIdentifier: 300 })
    await client.subscribe({ filter: `${topic}/#`, qos: 1 }, { subscriptionIdentifier: 7 })
    await client.subscribe({ filter: `${topic}/a`, qos: 0 })
    await client.publish({ topic: `${topic}/a`, payload: 'x', qos: 2 })
    const copies = [await client.receive()]
    await client.expectNothing()
    expect(copies.map(copy => copy.qos)).toEqual([2])
    expect(new Set(copies.flatMap(copy => copy.properties.subscriptionIdentifier ?? []))).toEqual(new Set([7, 300]))
  })

  test('[MQTT-3.3.4-3] a Subscription Identifier comes with every message of its subscription, live, queued and retained', async () => {
    const session = lasting()
    const topic = unique('t')
    const publisher = await broker.connect()
    await publisher.publish({ topic, payload: 'retained', qos: 1, retain: true })
    const first = await broker.connect(session)
    await first.subscribe({ filter: topic, qos: 2 }, { subscriptionIdentifier: 42 })
    await publisher.publish({ topic, payload: 'live', qos: 0 })
    for (const expected of ['retained', 'live']) {
      const message = await first.receive()
      expect([message.payload.toString(), message.properties.subscriptionIdentifier]).toEqual([expected, [42]])
    }
    await first.disconnect()
    await publisher.publish({ topic, payload: 'queued', qos: 2 })
    const second = await resume(broker, session)
    expect((await second.receive()).properties.subscriptionIdentifier).toEqual([42])
    await second.subscribe({ filter: topic, qos: 1, retainHandling: 2 })
    await publisher.publish({ topic, payload: 'without', qos: 1 })
    expect((await second.receive()).properties.subscriptionIdentifier).toBeUndefined()
  })

  test('[MQTT-3.3.4-5] one identifier used for two overlapping subscriptions is named once per subscription or copy', async () => {
    const client = await broker.connect()
    const topic = unique('t')
    await client.subscribe(
      [
        { filter: `${topic}/+`, qos: 1 },
        { filter: `${topic}/#`, qos: 1 },
      ],
      { subscriptionIdentifier: 9 },
    )
    await client.publish({ topic: `${topic}/a`, qos: 1 })
    const message = await client.receive()
    expect(new Set(message.properties.subscriptionIdentifier)).toEqual(new Set([9]))
    await client.expectNothing()
  })

  test('[MQTT-3.3.4-6] a Subscription Identifier from a client is a Protocol Error', async () => {
    await expectFatal(broker, publish({ topic: 'a', properties: { subscriptionIdentifier: 1 } }), 0x82)
    await expectFatal(broker, publish({ topic: 'a', qos: 1, properties: { subscriptionIdentifier: 1 } }), 0x82)
  })

  test.skipIf(external)('[MQTT-3.3.4-7] more than the announced Receive Maximum in flight ends with 0x93', async () => {
    const client = await broker.connect()
    const maximum = client.connack.properties.receiveMaximum!
    for (let packetId = 1; packetId <= maximum + 1; packetId++) client.send(publish({ topic: unique('t'), qos: 2, packetId }))
    for (let n = 0; n < maximum; n++) await client.take('pubrec')
    await client.expectDisconnect(0x93)
  })

  test.skipIf(external)('[MQTT-3.3.4-7] exactly the announced Receive Maximum is allowed, again and again', async () => {
    const client = await broker.connect()
    const maximum = client.connack.properties.receiveMaximum!
    for (let round = 0; round < 2; round++) {
      for (let packetId = 1; packetId <= maximum; packetId++) client.send(publish({ topic: unique('t'), qos: 2, packetId }))
      for (let packetId = 1; packetId <= maximum; packetId++) await client.take('pubrec', packetId)
      for (let packetId = 1; packetId <= maximum; packetId++) client.send(ack('pubrel', packetId))
      for (let packetId = 1; packetId <= maximum; packetId++) await client.take('pubcomp', packetId)
    }
    for (let packetId = 1; packetId <= maximum; packetId++) client.send(publish({ topic: unique('t'), qos: 1, packetId }))
    for (let packetId = 1; packetId <= maximum; packetId++) await client.take('puback', packetId)
  })

  test('[MQTT-3.3.4-9] [MQTT-4.9.0-2] no more than the Receive Maximum of the client is in flight to it', async () => {
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: { properties: { receiveMaximum: 2 } } })
    for (let n = 0; n < 6; n++) await publisher.publish({ topic, payload: `${n}`, qos: 1 + (n % 2) })
    const held = [await subscriber.take('publish'), await subscriber.take('publish')]
    await subscriber.expectNothing()
    for (let n = 2; n < 6; n++) {
      await subscriber.acknowledge(held.shift()!)
      held.push(await subscriber.take('publish'))
      await subscriber.expectNothing()
      expect(held.at(-1)!.payload.toString()).toBe(`${n}`)
    }
  })

  test('[MQTT-3.3.4-10] [MQTT-4.9.0-3] other packets flow while the quota is used up', async () => {
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: { properties: { receiveMaximum: 1 } } })
    await publisher.publish({ topic, payload: 'first', qos: 2 })
    await publisher.publish({ topic, payload: 'second', qos: 1 })
    const first = await subscriber.take('publish')
    await subscriber.ping()
    await subscriber.subscribe({ filter: unique('t'), qos: 1 })
    expect((await subscriber.publish({ topic: unique('t'), qos: 2 }))!.reason).toBeLessThan(0x80)
    await subscriber.unsubscribe(unique('t'))
    await subscriber.acknowledge(first)
    expect((await subscriber.receive()).payload.toString()).toBe('second')
  })

  test('§3.3.4 a QoS 0 message is not counted against Receive Maximum', async () => {
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: { properties: { receiveMaximum: 1 } } })
    await publisher.publish({ topic, payload: 'held', qos: 1 })
    await subscriber.take('publish')
    for (let n = 0; n < 5; n++) await publisher.publish({ topic, payload: `${n}`, qos: 0 })
    expect(await payloads(subscriber, 5)).toEqual(['0', '1', '2', '3', '4'])
  })

  test('§3.3.4 payloads of any content and size arrive unaltered', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    for (const size of [0, 1, 255, 65_535, 65_536, 200_000]) {
      const payload = Buffer.alloc(size, 'ab\0\xff')
      for (const qos of [0, 1, 2]) {
        await publisher.publish({ topic, payload, qos })
        expect((await subscriber.receive()).payload.equals(payload)).toBe(true)
      }
    }
  })
})
