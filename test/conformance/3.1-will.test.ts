import { describe, expect, test } from 'vitest'
import { unique, useBroker } from './broker.ts'
import { field, hex, u16, u8 } from './bytes.ts'
import { connect } from './packets.ts'
import { expectConnectRefused, expectNoMessage, pair, resume } from './scenes.ts'

const broker = useBroker()

describe('3.1.2.5 Will Flag', () => {
  test('[MQTT-3.1.2-7] the Will is stored and published when the connection breaks', async () => {
    const { topic, subscriber } = await pair(broker)
    const client = await broker.connect({ will: { topic, payload: 'gone', qos: 1 } })
    await subscriber.expectNothing()
    client.drop()
    const message = await subscriber.receive()
    expect([message.payload.toString(), message.qos, message.retain, message.dup]).toEqual(['gone', 1, false, false])
  })

  test('[MQTT-3.1.2-8] the Will is published after a protocol error and after DISCONNECT 0x04', async () => {
    const { topic, subscriber } = await pair(broker)
    const faulty = await broker.connect({ will: { topic, payload: 'error', qos: 1 } })
    faulty.send(hex('00 00'))
    expect((await subscriber.receive()).payload.toString()).toBe('error')
    const leaving = await broker.connect({ will: { topic, payload: 'with will', qos: 1 } })
    await leaving.disconnect(0x04)
    expect((await subscriber.receive()).payload.toString()).toBe('with will')
  })

  test('[MQTT-3.1.2-8] every reason of DISCONNECT but 0x00 publishes the Will', async () => {
    const { topic, subscriber } = await pair(broker)
    for (const reason of [0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x95, 0x96, 0x97, 0x98, 0x99]) {
      const client = await broker.connect({ will: { topic, payload: `${reason}`, qos: 1 } })
      await client.disconnect(reason)
      expect((await subscriber.receive()).payload.toString()).toBe(`${reason}`)
    }
  })

  test('[MQTT-3.1.2-9] a Will Flag without Will fields is a Malformed Packet', async () => {
    await expectConnectRefused(broker, connect({ flags: 0x06, payload: field(unique('c')) }), 0x81)
    await expectConnectRefused(broker, connect({ flags: 0x06, payload: Buffer.concat([field(unique('c')), u8(0)]) }), 0x81)
    await expectConnectRefused(broker, connect({ flags: 0x06, payload: Buffer.concat([field(unique('c')), u8(0), field('topic')]) }), 0x81)
  })

  test('[MQTT-3.1.2-10] [MQTT-3.14.4-3] DISCONNECT 0x00 removes the Will', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    for (const reason of [undefined, 0]) {
      const client = await broker.connect({ will: { topic, payload: 'never', qos: 1 } })
      await client.disconnect(reason)
    }
    await expectNoMessage(subscriber, publisher)
  })

  test('[MQTT-3.1.2-10] a Will is published once and then forgotten', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    const options = { clientId: unique('s'), properties: { sessionExpiryInterval: 600 } }
    const client = await broker.connect({ ...options, will: { topic, payload: 'once', qos: 1 } })
    client.drop()
    expect((await subscriber.receive()).payload.toString()).toBe('once')
    const again = await resume(broker, options)
    again.drop()
    await again.ended()
    await expectNoMessage(subscriber, publisher)
  })

  test('[MQTT-3.1.2-11] [MQTT-3.1.2-13] Will QoS or Will Retain without Will Flag is refused', async () => {
    for (const flags of [0x0a, 0x12, 0x22]) await expectConnectRefused(broker, connect({ flags, payload: field(unique('c')) }), 0x81, 0x82)
  })

  test('[MQTT-3.1.2-12] Will QoS is 0, 1 or 2; 3 is a Malformed Packet', async () => {
    const { topic, subscriber } = await pair(broker)
    for (const qos of [0, 1, 2]) {
      const client = await broker.connect({ will: { topic, payload: `qos ${qos}`, qos } })
      client.drop()
      const message = await subscriber.receive()
      expect([message.payload.toString(), message.qos]).toEqual([`qos ${qos}`, qos])
    }
    await expectConnectRefused(broker, connect({ clientId: unique('c'), will: { topic, qos: 3 } }), 0x81)
  })

  test('[MQTT-3.1.2-14] a Will without Will Retain is not retained', async () => {
    const { topic, subscriber } = await pair(broker)
    const client = await broker.connect({ will: { topic, payload: 'live', qos: 1 } })
    client.drop()
    expect((await subscriber.receive()).retain).toBe(false)
    const late = await broker.connect()
    await late.subscribe({ filter: topic, qos: 1 })
    await late.expectNothing()
  })

  test('[MQTT-3.1.2-15] a Will with Will Retain is retained', async () => {
    const { topic, subscriber } = await pair(broker)
    const client = await broker.connect({ will: { topic, payload: 'kept', qos: 1, retain: true } })
    client.drop()
    expect((await subscriber.receive()).retain).toBe(false)
    const late = await broker.connect()
    await late.subscribe({ filter: topic, qos: 1 })
    const message = await late.receive()
    expect([message.payload.toString(), message.retain]).toEqual(['kept', true])
  })

  test('[MQTT-3.1.2-15] a retained Will without payload removes the Retained Message', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    await publisher.publish({ topic, payload: 'old', qos: 1, retain: true })
    await subscriber.receive()
    const client = await broker.connect({ will: { topic, qos: 1, retain: true } })
    client.drop()
    await subscriber.receive()
    const late = await broker.connect()
    await late.subscribe({ filter: topic, qos: 1 })
    await late.expectNothing()
  })

  test('§3.1.3.3 a Will Topic with wildcards is refused', async () => {
    for (const topic of ['a/+', '#', '']) {
      const client = await broker.open()
      client.send(connect({ clientId: unique('c'), will: { topic } }))
      await client.expectRefused(0x81, 0x82, 0x90)
    }
  })
})

describe('3.1.3.2 Will Properties', () => {
  test('[MQTT-3.1.3-10] User Properties of a Will keep their order; all its other properties pass unaltered', async () => {
    const { topic, subscriber } = await pair(broker)
    const properties = {
      payloadFormatIndicator: 1,
      contentType: 'text/plain',
      responseTopic: 'answers/here',
      correlationData: Buffer.from([0, 1, 255]),
      userProperty: [
        ['b', '1'],
        ['a', '2'],
        ['b', '3'],
        ['a', '2'],
      ] as [string, string][],
    }
    const client = await broker.connect({ will: { topic, payload: 'will', qos: 1, properties } })
    client.drop()
    expect((await subscriber.receive()).properties).toEqual(properties)
  })

  test.concurrent('[MQTT-3.1.2-8] a delayed Will comes when Will Delay Interval has passed, not before', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    const client = await broker.connect({
      properties: { sessionExpiryInterval: 600 },
      will: { topic, payload: 'delayed', qos: 1, properties: { willDelayInterval: 2 } },
    })
    client.drop()
    await client.ended()
    await publisher.publish({ topic, payload: 'earlier', qos: 1 })
    expect((await subscriber.receive()).payload.toString()).toBe('earlier')
    const message = await subscriber.receive()
    expect(message.payload.toString()).toBe('delayed')
    expect(message.properties.willDelayInterval).toBeUndefined()
  })

  test.concurrent('[MQTT-3.1.2-8] a delayed Will comes at the latest when the session ends', async () => {
    const { topic, subscriber } = await pair(broker)
    const expiring = await broker.connect({
      properties: { sessionExpiryInterval: 1 },
      will: { topic, payload: 'expired', qos: 1, properties: { willDelayInterval: 3_600 } },
    })
    expiring.drop()
    expect((await subscriber.receive()).payload.toString()).toBe('expired')
    const ending = await broker.connect({ will: { topic, payload: 'ended', qos: 1, properties: { willDelayInterval: 3_600 } } })
    ending.drop()
    expect((await subscriber.receive()).payload.toString()).toBe('ended')
  })

  test.concurrent('[MQTT-3.1.2-8] a takeover with Clean Start 1 ends the session and so publishes its delayed Will', async () => {
    const { topic, subscriber } = await pair(broker)
    const options = { clientId: unique('s'), properties: { sessionExpiryInterval: 600 } }
    const client = await broker.connect({ ...options, will: { topic, payload: 'ended', qos: 1, properties: { willDelayInterval: 3_600 } } })
    await broker.connect({ ...options, cleanStart: true })
    await client.expectDisconnect(0x8e)
    expect((await subscriber.receive()).payload.toString()).toBe('ended')
  })

  test('[MQTT-3.1.3-9] a takeover that resumes the session sends no delayed Will', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    const options = { clientId: unique('s'), properties: { sessionExpiryInterval: 600 } }
    const client = await broker.connect({ ...options, will: { topic, payload: 'never', qos: 1, properties: { willDelayInterval: 60 } } })
    await resume(broker, options)
    await client.expectDisconnect(0x8e)
    await expectNoMessage(subscriber, publisher)
  })

  test('[MQTT-3.1.2-8] DISCONNECT 0x04 that ends the session publishes a delayed Will at once', async () => {
    const { topic, subscriber } = await pair(broker)
    const properties = { sessionExpiryInterval: 600 }
    const client = await broker.connect({ properties, will: { topic, payload: 'now', qos: 1, properties: { willDelayInterval: 3_600 } } })
    await client.disconnect(0x04, { sessionExpiryInterval: 0 })
    expect((await subscriber.receive()).payload.toString()).toBe('now')
  })

  test('[MQTT-3.1.2-8] the Will of a new connection replaces the one before', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    const options = { clientId: unique('s'), properties: { sessionExpiryInterval: 600 } }
    const client = await broker.connect({ ...options, will: { topic, payload: 'old', qos: 1, properties: { willDelayInterval: 60 } } })
    client.drop()
    await client.ended()
    const second = await broker.connect({ ...options, cleanStart: false, will: { topic, payload: 'new', qos: 1 } })
    second.drop()
    expect((await subscriber.receive()).payload.toString()).toBe('new')
    await expectNoMessage(subscriber, publisher)
  })

  test.concurrent('[MQTT-3.1.3-9] a delayed Will is not sent when the session is resumed in time', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    const options = { clientId: unique('s'), properties: { sessionExpiryInterval: 600 } }
    const client = await broker.connect({ ...options, will: { topic, payload: 'never', qos: 1, properties: { willDelayInterval: 1 } } })
    client.drop()
    await client.ended()
    await resume(broker, options)
    await new Promise(resolve => setTimeout(resolve, 2_000))
    await expectNoMessage(subscriber, publisher)
  })

  test.concurrent('§3.1.3.2.4 Message Expiry Interval of a Will counts from its publication', async () => {
    const { topic, subscriber } = await pair(broker)
    const client = await broker.connect({ will: { topic, payload: 'will', qos: 1, properties: { messageExpiryInterval: 300 } } })
    client.drop()
    const left = (await subscriber.receive()).properties.messageExpiryInterval
    expect(left).toBeGreaterThan(290)
    expect(left).toBeLessThanOrEqual(300)
  })

  test('§3.1.3.2 a property twice or of another packet among the Will Properties is refused', async () => {
    for (const bytes of ['18 00000001 18 00000001', '01 00 01 00']) {
      await expectConnectRefused(broker, connect({ clientId: unique('c'), will: { topic: 'a', properties: hex(bytes) } }), 0x82)
    }
    await expectConnectRefused(
      broker,
      connect({ clientId: unique('c'), will: { topic: 'a', properties: Buffer.concat([u8(0x23), u16(1)]) } }),
      0x81,
      0x82,
    )
  })
})
