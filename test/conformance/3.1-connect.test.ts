import { describe, expect, test } from 'vitest'
import { external, unique, useBroker } from './broker.ts'
import { frame, hex, u16, u8 } from './bytes.ts'
import * as packets from './packets.ts'
import { connect, publish } from './packets.ts'
import { expectConnectRefused, lasting, pair, resume } from './scenes.ts'

const broker = useBroker()

/** No answer, or CONNACK that says so: 0x84 of MQTT 5, 1 of MQTT 3.1.1. */
const NOTHING_OR_UNSUPPORTED = /^$|^20[0-9a-f]{2}0084|^20020001$/

describe('3.1.0 CONNECT comes first, once', () => {
  test('[MQTT-3.1.0-1] any other first packet closes the connection without an answer', async () => {
    const id = u16(1)
    const others = [
      packets.PINGREQ,
      publish({ topic: 'a' }),
      packets.subscribe(1, [{ filter: 'a' }]),
      packets.unsubscribe(1, ['a']),
      packets.disconnect(0),
      packets.ack('puback', 1),
      packets.ack('pubrel', 1),
      packets.auth(0x18, { authenticationMethod: 'x' }),
      frame(0x20, u8(0), u8(0)),
      frame(0x00, id),
    ]
    for (const bytes of others) {
      const client = await broker.open()
      client.send(bytes)
      await client.expectClosed()
    }
  })

  test('[MQTT-3.1.0-2] a second CONNECT closes the connection with 0x82', async () => {
    const clientId = unique('c')
    const client = await broker.connect({ clientId })
    client.send(connect({ clientId }))
    await client.expectDisconnect(0x82)
  })
})

describe('3.1.2 variable header', () => {
  test('[MQTT-3.1.2-1] another protocol name closes the connection', async () => {
    for (const protocolName of ['MQTU', 'mqtt', 'MQTT5', 'MQIsdp', '']) {
      const client = await broker.open()
      client.send(connect({ protocolName, clientId: unique('c') }))
      expect(await client.endedWith()).toMatch(NOTHING_OR_UNSUPPORTED)
    }
  })

  test('[MQTT-3.1.2-2] an unknown protocol version is answered with 0x84, then the connection is closed', async () => {
    for (const protocolLevel of [6, 255]) await expectConnectRefused(broker, connect({ protocolLevel, clientId: unique('c') }), 0x84)
    for (const protocolLevel of [0, 1, 2]) {
      const client = await broker.open()
      client.send(connect({ protocolLevel, clientId: unique('c') }))
      expect(await client.endedWith()).toMatch(NOTHING_OR_UNSUPPORTED)
    }
  })

  test('[MQTT-3.1.2-3] a reserved flag of 1 is a Malformed Packet', async () => {
    await expectConnectRefused(broker, connect({ clientId: unique('c'), flags: 0x03 }), 0x81)
  })

  test('[MQTT-3.1.2-4] Clean Start 1 discards the session', async () => {
    const session = lasting()
    const topic = unique('t')
    const first = await broker.connect(session)
    await first.subscribe({ filter: topic, qos: 1 })
    first.drop()
    const second = await broker.connect({ ...session, cleanStart: true })
    expect(second.connack.sessionPresent).toBe(false)
    await second.publish({ topic, qos: 1 })
    await second.expectNothing()
  })

  test('[MQTT-3.1.2-5] Clean Start 0 resumes the session: subscriptions and queued messages', async () => {
    const session = lasting()
    const topic = unique('t')
    const first = await broker.connect(session)
    await first.subscribe([
      { filter: topic, qos: 2 },
      { filter: `${topic}/+`, qos: 1 },
    ])
    await first.disconnect()
    const publisher = await broker.connect()
    await publisher.publish({ topic, payload: 'one', qos: 1 })
    await publisher.publish({ topic, payload: 'two', qos: 2 })
    const second = await resume(broker, session)
    expect(second.connack.sessionPresent).toBe(true)
    expect((await second.receive()).payload.toString()).toBe('one')
    expect((await second.receive()).payload.toString()).toBe('two')
    await publisher.publish({ topic: `${topic}/x`, payload: 'three', qos: 1 })
    expect((await second.receive()).payload.toString()).toBe('three')
  })

  test('[MQTT-3.1.2-5] a resumed session keeps the options of its subscriptions', async () => {
    const session = lasting()
    const topic = unique('t')
    const first = await broker.connect(session)
    await first.subscribe({ filter: topic, qos: 1, noLocal: true, retainAsPublished: true }, { subscriptionIdentifier: 3 })
    await first.disconnect()
    const second = await resume(broker, session)
    const publisher = await broker.connect()
    await second.publish({ topic, payload: 'own', qos: 1 })
    await publisher.publish({ topic, payload: 'foreign', qos: 2, retain: true })
    const message = await second.receive()
    expect([message.payload.toString(), message.qos, message.retain]).toEqual(['foreign', 1, true])
    expect(message.properties.subscriptionIdentifier).toEqual([3])
    await second.expectNothing()
    await second.subscribe({ filter: topic, qos: 1, retainHandling: 1 })
    await second.expectNothing()
  })

  test('[MQTT-3.1.2-6] Clean Start 0 without a session creates one', async () => {
    const session = lasting()
    const client = await resume(broker, session)
    expect(client.connack.sessionPresent).toBe(false)
    await client.disconnect()
    expect((await resume(broker, session)).connack.sessionPresent).toBe(true)
  })

  test('[MQTT-3.1.2-23] the session outlives its connection when Session Expiry Interval is above 0', async () => {
    for (const sessionExpiryInterval of [60, 0xffffffff]) {
      const options = { clientId: unique('s'), properties: { sessionExpiryInterval } }
      const topic = unique('t')
      const client = await broker.connect(options)
      await client.subscribe({ filter: topic, qos: 1 })
      client.drop()
      const publisher = await broker.connect()
      await publisher.publish({ topic, payload: 'kept', qos: 1 })
      const again = await resume(broker, options)
      expect(again.connack.sessionPresent).toBe(true)
      expect((await again.receive()).payload.toString()).toBe('kept')
    }
  })

  test('§3.1.2.11.2 without Session Expiry Interval the session ends with its connection', async () => {
    for (const properties of [{}, { sessionExpiryInterval: 0 }]) {
      const clientId = unique('s')
      const client = await broker.connect({ clientId, properties })
      await client.disconnect()
      expect((await broker.connect({ clientId, cleanStart: false })).connack.sessionPresent).toBe(false)
    }
  })

  test('[MQTT-3.1.2-24] [MQTT-3.1.2-25] a message above Maximum Packet Size is left out, as if it had been delivered', async () => {
    const { topic, subscriber, publisher } = await pair(broker, {
      subscriber: { properties: { maximumPacketSize: 100, receiveMaximum: 1 } },
    })
    for (const qos of [0, 1, 2]) {
      await publisher.publish({ topic, payload: Buffer.alloc(100), qos })
      await publisher.publish({ topic, payload: `small ${qos}`, qos })
      expect((await subscriber.receive()).payload.toString()).toBe(`small ${qos}`)
    }
    await subscriber.expectNothing()
  })

  test('[MQTT-3.1.2-24] Maximum Packet Size counts the whole packet: exactly the limit arrives, one byte more does not', async () => {
    const { topic, subscriber, publisher } = await pair(broker, {
      subscriber: { properties: { maximumPacketSize: 120 } },
      subscription: { qos: 1 },
    })
    const room = 120 - (2 + 2 + topic.length + 2 + 1)
    await publisher.publish({ topic, payload: Buffer.alloc(room + 1, 'x'), qos: 1 })
    await publisher.publish({ topic, payload: Buffer.alloc(room, 'y'), qos: 1 })
    const message = await subscriber.receive()
    expect(message.bytes).toBe(120)
    expect(message.payload.toString()).toBe('y'.repeat(room))
  })

  test('[MQTT-3.1.2-24] a Maximum Packet Size that not even CONNACK fits into is never exceeded', async () => {
    const client = await broker.open()
    client.sendConnect({ clientId: unique('c'), properties: { maximumPacketSize: 4 } })
    await client.expectClosed()
  })

  test('[MQTT-3.1.2-25] a message that was left out defines no alias', async () => {
    const { topic, subscriber, publisher } = await pair(broker, {
      subscriber: { properties: { maximumPacketSize: 100, topicAliasMaximum: 5 } },
    })
    for (const qos of [0, 1, 2]) await publisher.publish({ topic, payload: Buffer.alloc(100), qos })
    await publisher.publish({ topic, payload: 'small', qos: 1 })
    const message = await subscriber.receive()
    expect([subscriber.topicOf(message), message.topic, message.payload.toString()]).toEqual([topic, topic, 'small'])
  })

  test('[MQTT-3.1.2-26] aliases towards a client stay within its Topic Alias Maximum', async () => {
    const { topic, publisher } = await pair(broker)
    const subscriber = await broker.connect({ properties: { topicAliasMaximum: 3 } })
    await subscriber.subscribe({ filter: `${topic}/#` })
    for (const n of [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]) await publisher.publish({ topic: `${topic}/${n}`, payload: `${n}` })
    for (const n of [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]) {
      const message = await subscriber.receive()
      expect(message.properties.topicAlias ?? 1).toBeLessThanOrEqual(3)
      expect(subscriber.topicOf(message)).toBe(`${topic}/${n}`)
    }
  })

  test('[MQTT-3.1.2-27] a client without Topic Alias Maximum gets no alias', async () => {
    for (const properties of [{}, { topicAliasMaximum: 0 }]) {
      const { topic, subscriber, publisher } = await pair(broker, { subscriber: { properties } })
      for (let n = 0; n < 3; n++) {
        await publisher.publish({ topic, qos: 1 })
        const message = await subscriber.receive()
        expect(message.topic).toBe(topic)
        expect(message.properties.topicAlias).toBeUndefined()
      }
    }
  })

  test('[MQTT-3.1.2-28] Response Information is not given to a client that does not ask', async () => {
    for (const properties of [{}, { requestResponseInformation: 0 }]) {
      expect((await broker.connect({ properties })).connack.properties.responseInformation).toBeUndefined()
    }
  })

  test.skipIf(external)('§3.1.2.11.6 Response Information is given to a client that asks', async () => {
    const client = await broker.connect({ properties: { requestResponseInformation: 1 } })
    expect(client.connack.properties.responseInformation).toMatch(/^[^+#]+$/)
  })

  test('[MQTT-3.1.2-29] with Request Problem Information 0 only PUBLISH, CONNACK and DISCONNECT may carry a Reason String or User Property', async () => {
    const client = await broker.connect({ properties: { requestProblemInformation: 0 } })
    await client.publish({ topic: unique('nobody'), qos: 1 })
    await client.publish({ topic: unique('nobody'), qos: 2 })
    client.send(packets.ack('pubrel', 999), packets.ack('pubrec', 998))
    expect((await client.take('pubcomp', 999)).reason).toBe(0x92)
    expect((await client.take('pubrel', 998)).reason).toBe(0x92)
    await client.unsubscribe('never/subscribed')
    const topic = unique('t')
    await client.subscribe({ filter: topic, qos: 1 })
    await client.publish({ topic, qos: 1, properties: { userProperty: [['still', 'there']] } })
    expect((await client.receive()).properties.userProperty).toEqual([['still', 'there']])
    await client.subscribe([{ filter: '$share//x' }]).catch(() => client.ended())
  })

  test('§3.1.2.11 a CONNECT property with a forbidden value is a Protocol Error', async () => {
    const forbidden = ['21 0000', '27 00000000', '17 02', '19 02', '16 0001 61']
    for (const bytes of forbidden)
      await expectConnectRefused(broker, connect({ clientId: unique('c'), properties: hex(bytes) }), 0x82, 0x81)
  })
})

describe('3.1.2 keep alive', () => {
  test.concurrent('[MQTT-3.1.2-22] a client that is silent for one and a half times Keep Alive is cut off and its Will published', async () => {
    const { topic, subscriber } = await pair(broker)
    const client = await broker.connect({ keepAlive: 1, will: { topic, payload: 'silent', qos: 1 } })
    expect((await subscriber.receive()).payload.toString()).toBe('silent')
    await client.expectGivenUp()
  })

  test.concurrent('[MQTT-3.1.2-22] any packet counts as a sign of life', async () => {
    const client = await broker.connect({ keepAlive: 1 })
    const signs = [packets.PINGREQ, publish({ topic: unique('t') }), packets.ack('pubrel', 9), packets.PINGREQ]
    for (const bytes of signs) {
      await new Promise(resolve => setTimeout(resolve, 800))
      client.send(bytes)
    }
    await client.ping()
  })

  test.concurrent('[MQTT-3.2.2-22] without Server Keep Alive the value of the client counts', async () => {
    const client = await broker.connect({ keepAlive: 2 })
    expect(client.connack.properties.serverKeepAlive ?? 2).toBe(2)
    await client.expectGivenUp()
  })

  test.skipIf(external)('§3.2.2.3.14 Server Keep Alive 60 is announced to clients that ask for 0 or for more', async () => {
    for (const keepAlive of [0, 61, 120, 65_535]) expect((await broker.connect({ keepAlive })).connack.properties.serverKeepAlive).toBe(60)
    for (const keepAlive of [1, 30, 60])
      expect((await broker.connect({ keepAlive })).connack.properties.serverKeepAlive ?? keepAlive).toBe(keepAlive)
  })
})
