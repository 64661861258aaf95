import { describe, expect, test } from 'vitest'
import { external, unique, useBroker } from './broker.ts'
import { field, frame, hex, u16, u8 } from './bytes.ts'
import { publish, subscribe } from './packets.ts'
import { expectFatal, expectNoMessage, pair, payloads } from './scenes.ts'

const broker = useBroker()

describe('3.8 SUBSCRIBE', () => {
  test('[MQTT-3.8.1-1] SUBSCRIBE with other flags than 0010 is a Malformed Packet', async () => {
    for (const firstByte of [0x80, 0x81, 0x83, 0x86, 0x8a])
      await expectFatal(broker, frame(firstByte, u16(1), u8(0), field('a'), u8(0)), 0x81)
  })

  test('[MQTT-3.8.3-1] an ill-formed Topic Filter is a Malformed Packet', async () => {
    await expectFatal(broker, subscribe(1, [{ filter: 'fine' }, { filter: hex('61 ed a0 80') }]), 0x81)
  })

  test('[MQTT-3.8.3-2] SUBSCRIBE without Topic Filter is a Protocol Error', async () => {
    await expectFatal(broker, subscribe(1, []), 0x82)
  })

  test('[MQTT-3.8.3-3] No Local keeps the messages of a client from coming back to it, and only those', async () => {
    const { topic, subscriber, publisher } = await pair(broker, { subscription: { noLocal: true } })
    await subscriber.publish({ topic, payload: 'own', qos: 1 })
    await publisher.publish({ topic, payload: 'foreign', qos: 1 })
    expect(await payloads(subscriber, 1)).toEqual(['foreign'])
    await expectNoMessage(subscriber, publisher)
  })

  test('[MQTT-3.8.3-3] No Local of one of two overlapping subscriptions does not silence the other', async () => {
    const client = await broker.connect()
    const topic = unique('t')
    await client.subscribe({ filter: topic, qos: 1, noLocal: true }, { subscriptionIdentifier: 1 })
    await client.subscribe({ filter: `${topic}/#`, qos: 1 }, { subscriptionIdentifier: 2 })
    await client.publish({ topic, payload: 'own', qos: 1 })
    const message = await client.receive()
    expect(message.properties.subscriptionIdentifier).toEqual([2])
    await client.expectNothing()
  })

  test('[MQTT-3.8.3-4] No Local on a Shared Subscription is a Protocol Error', async () => {
    await expectFatal(broker, subscribe(1, [{ filter: '$share/group/a', noLocal: true }]), 0x82)
  })

  test('[MQTT-3.8.3-5] reserved bits of the Subscription Options are a Malformed Packet', async () => {
    for (const options of [0x40, 0x80, 0xc1]) await expectFatal(broker, subscribe(1, [{ filter: 'a', options }]), 0x81)
  })

  test('§3.8.3.1 Maximum QoS 3 and Retain Handling 3 are Protocol Errors', async () => {
    await expectFatal(broker, subscribe(1, [{ filter: 'a', options: 0x03 }]), 0x82, 0x81)
    await expectFatal(broker, subscribe(1, [{ filter: 'a', options: 0x30 }]), 0x82, 0x81)
  })

  test('§3.8.2.1.2 Subscription Identifier 0 is a Protocol Error', async () => {
    await expectFatal(broker, subscribe(1, [{ filter: 'a' }], 5, { subscriptionIdentifier: 0 }), 0x82)
  })

  test('§3.8.2.1.2 a Subscription Identifier of more than four bytes is a Malformed Packet', async () => {
    await expectFatal(broker, subscribe(1, [{ filter: 'a' }], 5, hex('0b 80 80 80 80 01')), 0x81)
  })

  test('[MQTT-3.8.4-1] [MQTT-3.8.4-2] SUBSCRIBE is answered by SUBACK with its Packet Identifier', async () => {
    const client = await broker.connect()
    client.send(subscribe(1_234, [{ filter: unique('t') }]))
    expect((await client.expect('suback')).packetId).toBe(1_234)
  })

  test('[MQTT-3.8.4-3] an identical Topic Filter replaces the subscription: its QoS, options and identifier', async () => {
    const { topic, subscriber, publisher } = await pair(broker, { subscription: { qos: 0 } })
    await subscriber.subscribe({ filter: topic, qos: 2, retainAsPublished: true }, { subscriptionIdentifier: 5 })
    await publisher.publish({ topic, qos: 2, payload: 'x', retain: true })
    const message = await subscriber.receive()
    expect([message.qos, message.retain, message.properties.subscriptionIdentifier]).toEqual([2, true, [5]])
    await subscriber.subscribe({ filter: topic, qos: 0, noLocal: true, retainHandling: 2 })
    await subscriber.publish({ topic, qos: 1 })
    await publisher.publish({ topic, payload: 'foreign', qos: 1, retain: true })
    const replaced = await subscriber.receive()
    expect([replaced.payload.toString(), replaced.qos, replaced.retain, replaced.properties]).toEqual(['foreign', 0, false, {}])
    await subscriber.expectNothing()
  })

  test('[MQTT-3.8.4-4] replacing a subscription sends Retained Messages again and loses no message', async () => {
    const { topic, subscriber, publisher } = await pair(broker, { subscription: { qos: 1 } })
    for (let n = 0; n < 60; n++) {
      publisher.send(publish({ topic, payload: `${n}`, qos: 1, packetId: n + 1 }))
      if (n % 20 === 10) await subscriber.subscribe({ filter: topic, qos: 1, retainHandling: 2 })
    }
    expect(await payloads(subscriber, 60)).toEqual(Array.from({ length: 60 }, (_, n) => `${n}`))
    await publisher.publish({ topic, payload: 'retained', qos: 1, retain: true })
    await subscriber.receive()
    await subscriber.subscribe({ filter: topic, qos: 1, retainHandling: 0 })
    expect((await subscriber.receive()).retain).toBe(true)
  })

  test('[MQTT-3.8.4-5] [MQTT-3.8.4-6] many Topic Filters in one SUBSCRIBE act like many SUBSCRIBEs with one SUBACK', async () => {
    const client = await broker.connect()
    const topics = Array.from({ length: 50 }, () => unique('t'))
    const suback = await client.subscribe(topics.map((filter, n) => ({ filter, qos: n % 3 })))
    expect(suback.reasons).toEqual(topics.map((_, n) => n % 3))
    for (const [n, topic] of topics.entries()) {
      await client.publish({ topic, qos: 2 })
      expect((await client.receive()).qos).toBe(n % 3)
    }
  })

  test('[MQTT-3.8.4-5] the same Topic Filter twice in one SUBSCRIBE leaves the second', async () => {
    const client = await broker.connect()
    const topic = unique('t')
    expect(
      (
        await client.subscribe([
          { filter: topic, qos: 2 },
          { filter: topic, qos: 0 },
        ])
      ).reasons,
    ).toEqual([2, 0])
    await client.publish({ topic, qos: 2 })
    expect((await client.receive()).qos).toBe(0)
    await client.expectNothing()
  })

  test('[MQTT-3.8.4-7] the Reason Code is the granted QoS, or says that the filter failed while others succeed', async () => {
    const client = await broker.connect()
    const topic = unique('t')
    expect((await client.subscribe([0, 1, 2].map(qos => ({ filter: topic, qos })))).reasons).toEqual([0, 1, 2])
  })

  test.skipIf(external)('[MQTT-3.8.4-7] an invalid Topic Filter gets 0x8F beside valid ones', async () => {
    const client = await broker.connect()
    const topic = unique('t')
    const suback = await client.subscribe([
      { filter: topic, qos: 1 },
      { filter: `${topic}/#/x`, qos: 1 },
      { filter: `${topic}/y`, qos: 2 },
    ])
    expect(suback.reasons).toEqual([1, 0x8f, 2])
    await client.publish({ topic, payload: 'works', qos: 1 })
    expect(await payloads(client, 1)).toEqual(['works'])
  })

  test('[MQTT-3.8.4-8] a message comes with the lower of its QoS and the granted one', async () => {
    const publisher = await broker.connect()
    for (const granted of [0, 1, 2]) {
      const subscriber = await broker.connect()
      const topic = unique('t')
      await subscriber.subscribe({ filter: topic, qos: granted })
      for (const published of [0, 1, 2]) {
        await publisher.publish({ topic, qos: published })
        expect((await subscriber.receive()).qos).toBe(Math.min(granted, published))
      }
    }
  })

  test('[MQTT-3.8.4-8] a Retained Message comes with the lower of its QoS and the granted one', async () => {
    const publisher = await broker.connect()
    for (const published of [0, 1, 2]) {
      const topic = unique('t')
      await publisher.publish({ topic, qos: published, payload: 'x', retain: true })
      for (const granted of [0, 1, 2]) {
        await publisher.subscribe({ filter: topic, qos: granted })
        expect((await publisher.receive()).qos).toBe(Math.min(granted, published))
      }
      await publisher.unsubscribe(topic)
    }
  })

  test('§3.8.4 after SUBACK no message is missed', async () => {
    const publisher = await broker.connect()
    for (let n = 0; n < 20; n++) {
      const subscriber = await broker.connect()
      const topic = unique('t')
      await subscriber.subscribe({ filter: n % 2 ? topic : `${topic}/#` })
      publisher.send(publish({ topic, payload: `${n}` }))
      expect(await payloads(subscriber, 1)).toEqual([`${n}`])
      await subscriber.disconnect()
    }
  })
})

describe('3.9 SUBACK', () => {
  test('[MQTT-3.9.2-1] [MQTT-3.9.2-2] SUBACK stays within Maximum Packet Size and comes all the same', async () => {
    const usual = await broker.connect()
    const client = await broker.connect({ properties: { maximumPacketSize: usual.connack.bytes + 5 } })
    const filters = [{ filter: '$share/g/a' }, { filter: 'b', qos: 2 }, { filter: '/', qos: 1 }]
    expect((await client.subscribe(filters)).reasons).toEqual([0, 2, 1])
    if (!external) expect((await client.subscribe({ filter: 'a/#/b' })).reasons).toEqual([0x8f])
  })

  test('[MQTT-3.9.3-1] Reason Codes stand in the order of the Topic Filters', async () => {
    const client = await broker.connect()
    const qos = [2, 0, 1, 1, 0, 2, 2]
    expect((await client.subscribe(qos.map(each => ({ filter: unique('t'), qos: each })))).reasons).toEqual(qos)
  })

  test('[MQTT-3.9.3-2] every Reason Code is one of the Subscribe Reason Codes', async () => {
    const client = await broker.connect()
    const suback = await client.subscribe([{ filter: '#' }, { filter: '$share/g/x/+', qos: 2 }, { filter: '$SYS/#', qos: 1 }])
    expect(suback.reasons).toHaveLength(3)
    for (const reason of suback.reasons) expect([0, 1, 2, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2]).toContain(reason)
  })
})
