import { describe, expect, test } from 'vitest'
import { unique, useBroker } from './broker.ts'
import { field, frame, hex, u16, u8 } from './bytes.ts'
import { ack, unsubscribe } from './packets.ts'
import { expectFatal, expectNoMessage, pair, payloads } from './scenes.ts'

const broker = useBroker()

describe('3.10 UNSUBSCRIBE', () => {
  test('[MQTT-3.10.1-1] UNSUBSCRIBE with other flags than 0010 is a Malformed Packet', async () => {
    for (const firstByte of [0xa0, 0xa1, 0xa3, 0xa6, 0xaa]) await expectFatal(broker, frame(firstByte, u16(1), u8(0), field('a')), 0x81)
  })

  test('[MQTT-3.10.3-1] an ill-formed Topic Filter is a Malformed Packet', async () => {
    await expectFatal(broker, unsubscribe(1, ['fine', hex('c0 af')]), 0x81)
  })

  test('[MQTT-3.10.3-2] UNSUBSCRIBE without Topic Filter is a Protocol Error', async () => {
    await expectFatal(broker, unsubscribe(1, []), 0x82)
  })

  test('[MQTT-3.10.4-1] filters are compared character by character, wildcards not expanded', async () => {
    const { topic, subscriber, publisher } = await pair(broker, { subscription: { qos: 1 } })
    await subscriber.subscribe({ filter: `${topic}/+`, qos: 1 })
    expect((await subscriber.unsubscribe(`${topic}/#`, '#', `${topic}/a`, `${topic}/`, topic.toUpperCase())).reasons).toEqual([
      0x11, 0x11, 0x11, 0x11, 0x11,
    ])
    await publisher.publish({ topic, payload: 'still', qos: 1 })
    await publisher.publish({ topic: `${topic}/a`, payload: 'here', qos: 1 })
    expect(await payloads(subscriber, 2)).toEqual(['still', 'here'])
    expect((await subscriber.unsubscribe(`${topic}/+`, topic)).reasons).toEqual([0, 0])
    await publisher.publish({ topic, payload: 'gone', qos: 1 })
    await publisher.publish({ topic: `${topic}/a`, payload: 'gone', qos: 1 })
    await expectNoMessage(subscriber, publisher)
  })

  test('[MQTT-3.10.4-1] a Shared Subscription is removed by its whole filter only', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    await subscriber.unsubscribe(topic)
    await subscriber.subscribe([
      { filter: `$share/g1/${topic}`, qos: 1 },
      { filter: `$share/g2/${topic}`, qos: 1 },
    ])
    expect((await subscriber.unsubscribe(topic, `$share/g3/${topic}`, `$share/g2/${topic}`)).reasons).toEqual([0x11, 0x11, 0])
    await publisher.publish({ topic, payload: 'g1', qos: 1 })
    expect(await payloads(subscriber, 1)).toEqual(['g1'])
    await expectNoMessage(subscriber, publisher)
  })

  test('[MQTT-3.10.4-2] after UNSUBACK no new message is added', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    for (let round = 0; round < 10; round++) {
      await subscriber.unsubscribe(topic)
      for (const qos of [0, 1, 2]) await publisher.publish({ topic, payload: 'late', qos })
      await expectNoMessage(subscriber, publisher)
      await subscriber.subscribe({ filter: topic, qos: 2 })
    }
  })

  test('[MQTT-3.10.4-3] a delivery that had begun is completed', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    await publisher.publish({ topic, payload: 'one', qos: 1 })
    await publisher.publish({ topic, payload: 'two', qos: 2 })
    const [one, two] = [await subscriber.take('publish'), await subscriber.take('publish')]
    await subscriber.unsubscribe(topic)
    subscriber.send(ack('puback', one.packetId), ack('pubrec', two.packetId))
    expect((await subscriber.expect('pubrel')).reason).toBe(0)
    subscriber.send(ack('pubcomp', two.packetId))
    await subscriber.expectNothing()
  })

  test('[MQTT-3.10.4-4] [MQTT-3.10.4-5] UNSUBSCRIBE is answered by UNSUBACK with its Packet Identifier, even when nothing was deleted', async () => {
    const client = await broker.connect()
    client.send(unsubscribe(4_321, [unique('never')]))
    const unsuback = await client.expect('unsuback')
    expect([unsuback.packetId, unsuback.reasons]).toEqual([4_321, [0x11]])
  })

  test('[MQTT-3.10.4-6] many Topic Filters in one UNSUBSCRIBE act like many UNSUBSCRIBEs with one UNSUBACK', async () => {
    const client = await broker.connect()
    const topics = Array.from({ length: 20 }, () => unique('t'))
    await client.subscribe(topics.map(filter => ({ filter, qos: 1 })))
    expect((await client.unsubscribe(...topics.slice(0, 19), topics[0]!)).reasons).toEqual([...Array<number>(19).fill(0), 0x11])
    for (const topic of topics) await client.publish({ topic, payload: topic, qos: 1 })
    expect(await payloads(client, 1)).toEqual([topics[19]])
    await client.expectNothing()
  })
})

describe('3.11 UNSUBACK', () => {
  test('[MQTT-3.11.2-1] [MQTT-3.11.2-2] UNSUBACK stays within Maximum Packet Size and comes all the same', async () => {
    const usual = await broker.connect()
    const client = await broker.connect({ properties: { maximumPacketSize: usual.connack.bytes + 5 } })
    expect((await client.unsubscribe('a', 'b', 'c')).reasons).toEqual([0x11, 0x11, 0x11])
  })

  test('[MQTT-3.11.3-1] [MQTT-3.11.3-2] Reason Codes stand in the order of the Topic Filters and are of their table', async () => {
    const client = await broker.connect()
    const [known, unknown] = [unique('t'), unique('t')]
    await client.subscribe([{ filter: known }, { filter: `${known}/#` }])
    expect((await client.unsubscribe(unknown, known, `${unknown}/#`, `${known}/#`)).reasons).toEqual([0x11, 0, 0x11, 0])
  })
})
