import { describe, expect, test } from 'vitest'
import { unique, useBroker } from './broker.ts'
import { field, frame, hex, u16, u32, u8 } from './bytes.ts'
import { ack, connect, publish, subscribe, unsubscribe } from './packets.ts'
import { expectConnectRefused, expectFatal, pair } from './scenes.ts'

const broker = useBroker()

describe('2.1 fixed header', () => {
  test('[MQTT-2.1.3-1] reserved flag bits with another value are a Malformed Packet', async () => {
    const id = u16(1)
    const wrong = [
      frame(0x41, id),
      frame(0x48, id),
      frame(0x52, id),
      frame(0x60, id),
      frame(0x63, id),
      frame(0x72, id),
      frame(0x80, id, u8(0), field('a'), u8(0)),
      frame(0x8a, id, u8(0), field('a'), u8(0)),
      frame(0xa0, id, u8(0), field('a')),
      frame(0xa3, id, u8(0), field('a')),
      frame(0xc1),
      frame(0xc8),
      frame(0xe1),
      frame(0xe2, u8(0)),
      frame(0xf1, u8(0x18), u8(0)),
    ]
    await Promise.all(wrong.map(bytes => expectFatal(broker, bytes, 0x81)))
  })

  test('[MQTT-2.1.3-1] the broker sets reserved flag bits as listed in every packet type that it sends', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    for (const qos of [0, 1, 2]) await publisher.publish({ topic, qos })
    for (const qos of [0, 1, 2]) expect((await subscriber.receive()).qos).toBe(qos)
    await subscriber.unsubscribe(topic)
    await subscriber.ping()
    const types = new Set([...subscriber.received, ...publisher.received].map(packet => packet.type))
    expect([...types].sort()).toEqual(['connack', 'pingresp', 'puback', 'pubcomp', 'publish', 'pubrec', 'pubrel', 'suback', 'unsuback'])
  })

  test('§2.1.2 packet type 0 and packet types that only a server sends are refused', async () => {
    await expectFatal(broker, hex('00 00'), 0x81, 0x82)
    await expectFatal(broker, hex('20 03 00 00 00'), 0x81, 0x82)
    await expectFatal(broker, hex('90 04 00 01 00 00'), 0x81, 0x82)
    await expectFatal(broker, hex('b0 04 00 01 00 00'), 0x81, 0x82)
    await expectFatal(broker, hex('d0 00'), 0x81, 0x82)
  })

  test('§2.1.4 a packet that is shorter or longer than its fields is a Malformed Packet', async () => {
    await expectFatal(broker, hex('40 01 00'), 0x81)
    await expectFatal(broker, hex('62 00'), 0x81)
    await expectFatal(broker, hex('c0 01 00'), 0x81)
    await expectFatal(broker, frame(0x30, hex('00 05 61')), 0x81)
    await expectFatal(broker, frame(0x32, field('a')), 0x81)
    await expectFatal(broker, frame(0x82, u16(1), u8(0), field('a')), 0x81)
    await expectFatal(broker, frame(0x82, u16(1), u8(0), hex('00 09 61'), u8(0)), 0x81)
    await expectFatal(broker, frame(0xa2, u16(1), u8(0), hex('00 09 61')), 0x81)
    await expectFatal(broker, frame(0xe0, u8(0), u8(0), u8(0)), 0x81)
  })

  test('§2.1.4 packets are understood however TCP cuts them', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    const bytes = publish({ topic, payload: 'one byte at a time', qos: 1, packetId: 9 })
    for (const byte of bytes) {
      publisher.send(u8(byte))
      await new Promise(setImmediate)
    }
    await publisher.take('puback', 9)
    expect((await subscriber.receive()).payload.toString()).toBe('one byte at a time')
    publisher.send(
      ...[1, 2, 3].map(packetId => publish({ topic, payload: `${packetId}`, qos: 1, packetId })),
      publish({ topic, payload: '4' }),
    )
    for (const expected of ['1', '2', '3', '4']) expect((await subscriber.receive()).payload.toString()).toBe(expected)
  })
})

describe('2.2.1 Packet Identifier', () => {
  test('[MQTT-2.2.1-2] a QoS 0 PUBLISH has no Packet Identifier, in and out', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    publisher.send(frame(0x30, field(topic), u8(0), Buffer.from([0x12, 0x34])))
    expect((await subscriber.receive()).payload).toEqual(Buffer.from([0x12, 0x34]))
  })

  test('[MQTT-2.2.1-3] Packet Identifier 0 from a client is refused', async () => {
    await expectFatal(broker, publish({ topic: 'a', qos: 1, packetId: 0 }), 0x81, 0x82)
    await expectFatal(broker, publish({ topic: 'a', qos: 2, packetId: 0 }), 0x81, 0x82)
    await expectFatal(broker, subscribe(0, [{ filter: 'a' }]), 0x81, 0x82)
    await expectFatal(broker, unsubscribe(0, ['a']), 0x81, 0x82)
  })

  test('[MQTT-2.2.1-4] each PUBLISH in flight to a client has a non-zero Packet Identifier of its own', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    for (let n = 0; n < 20; n++) await publisher.publish({ topic, qos: 1 + (n % 2) })
    const inFlight = new Set<number>()
    for (let n = 0; n < 20; n++) inFlight.add((await subscriber.take('publish')).packetId)
    expect(inFlight.size).toBe(20)
    expect(inFlight.has(0)).toBe(false)
  })

  test('[MQTT-2.2.1-4] a Packet Identifier that waits for PUBCOMP is not given to another message', async () => {
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: { properties: { receiveMaximum: 3 } } })
    await publisher.publish({ topic, qos: 2 })
    const held = await subscriber.take('publish')
    subscriber.send(ack('pubrec', held.packetId))
    await subscriber.take('pubrel', held.packetId)
    for (let n = 0; n < 200; n++) await publisher.publish({ topic, qos: 1 })
    for (let n = 0; n < 200; n++) expect((await subscriber.receive()).packetId).not.toBe(held.packetId)
  })

  test('[MQTT-2.2.1-5] every acknowledgement carries the Packet Identifier of its PUBLISH', async () => {
    const client = await broker.connect()
    for (const packetId of [1, 255, 256, 65_535]) {
      client.send(publish({ topic: unique('t'), qos: 1, packetId }))
      expect((await client.expect('puback')).packetId).toBe(packetId)
      client.send(publish({ topic: unique('t'), qos: 2, packetId }))
      expect((await client.expect('pubrec')).packetId).toBe(packetId)
      client.send(ack('pubrel', packetId))
      expect((await client.expect('pubcomp')).packetId).toBe(packetId)
    }
  })

  test('[MQTT-2.2.1-6] SUBACK and UNSUBACK carry the Packet Identifier of their request', async () => {
    const client = await broker.connect()
    for (const packetId of [1, 255, 256, 65_535]) {
      client.send(subscribe(packetId, [{ filter: 'a' }]), unsubscribe(packetId - 1 || 2, ['a']))
      expect((await client.expect('suback')).packetId).toBe(packetId)
      expect((await client.expect('unsuback')).packetId).toBe(packetId - 1 || 2)
    }
  })
})

describe('2.2.2 properties', () => {
  test('[MQTT-2.2.2-1] a packet without properties says so with a Property Length of zero', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    await publisher.publish({ topic, payload: '12345', qos: 1 })
    const message = await subscriber.receive()
    expect(message.bytes).toBe(2 + 2 + topic.length + 2 + 1 + 5)
    expect(message.properties).toEqual({})
    expect(message.payload.toString()).toBe('12345')
  })

  test('[MQTT-2.2.2-1] a PUBLISH, SUBSCRIBE or CONNECT that ends before its Property Length is a Malformed Packet', async () => {
    await expectFatal(broker, frame(0x30, field('a')), 0x81)
    await expectFatal(broker, frame(0x82, u16(1)), 0x81, 0x82)
    await expectConnectRefused(broker, frame(0x10, field('MQTT'), hex('05 02 00 00')), 0x81)
  })

  test('§2.2.2.2 an unknown property is a Malformed Packet', async () => {
    await expectFatal(broker, publish({ topic: 'a', properties: hex('7f 00') }), 0x81)
    await expectFatal(broker, publish({ topic: 'a', properties: hex('80 01 00') }), 0x81)
    await expectFatal(broker, subscribe(1, [{ filter: 'a' }], 5, hex('00')), 0x81)
    await expectConnectRefused(broker, connect({ clientId: unique('c'), properties: hex('7e 00') }), 0x81)
  })

  test('§2.2.2.2 a property that belongs to another packet is a Malformed Packet', async () => {
    await expectFatal(broker, publish({ topic: 'a', properties: Buffer.concat([u8(0x11), u32(1)]) }), 0x81, 0x82)
    await expectFatal(broker, subscribe(1, [{ filter: 'a' }], 5, hex('23 0001')), 0x81, 0x82)
    await expectFatal(broker, unsubscribe(1, ['a'], 5, hex('0b 01')), 0x81, 0x82)
    await expectFatal(broker, ack('pubrel', 1, 0, hex('23 0001')), 0x81, 0x82)
    await expectConnectRefused(broker, connect({ clientId: unique('c'), properties: hex('23 0001') }), 0x81, 0x82)
  })

  test('§2.2.2.2 a property that may stand once and stands twice is a Protocol Error', async () => {
    await expectFatal(broker, publish({ topic: 'a', properties: hex('01 00 01 00') }), 0x82)
    await expectFatal(broker, publish({ topic: 'a', properties: hex('02 00000009 02 00000009') }), 0x82)
    await expectFatal(broker, publish({ topic: 'a', properties: hex('23 0001 23 0001') }), 0x82)
    await expectFatal(broker, publish({ topic: 'a', properties: hex('03 0001 61 03 0001 61') }), 0x82)
    await expectFatal(broker, publish({ topic: 'a', properties: hex('08 0001 61 08 0001 61') }), 0x82)
    await expectFatal(broker, publish({ topic: 'a', properties: hex('09 0001 61 09 0001 61') }), 0x82)
    await expectFatal(broker, subscribe(1, [{ filter: 'a' }], 5, hex('0b 01 0b 02')), 0x82)
    for (const twice of ['11 00000001', '21 0009', '27 00010000', '22 0001', '19 00', '17 01', '15 0001 61']) {
      await expectConnectRefused(broker, connect({ clientId: unique('c'), properties: hex(twice + twice) }), 0x82)
    }
  })

  test('§2.2.2.2 a property that is cut off is a Malformed Packet', async () => {
    for (const cut of ['01', '02 0000', '03 0005 61', '09 0002 61', '23 00', '26 0001 61', '26 0001 61 0002 61']) {
      await expectFatal(broker, publish({ topic: 'a', properties: hex(cut) }), 0x81)
    }
  })
})
