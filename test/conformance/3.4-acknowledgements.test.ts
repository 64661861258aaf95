import { describe, expect, test } from 'vitest'
import { external, unique, useBroker } from './broker.ts'
import { frame, hex, u16, u8 } from './bytes.ts'
import { ack, publish } from './packets.ts'
import { expectFatal, pair } from './scenes.ts'

const broker = useBroker()

describe('3.4 PUBACK', () => {
  test('[MQTT-3.4.2-1] PUBACK uses one of its Reason Codes: 0x00 with a subscriber', async () => {
    const { topic, publisher } = await pair(broker)
    expect((await publisher.publish({ topic, qos: 1 }))!.reason).toBe(0x00)
  })

  test.skipIf(external)('[MQTT-3.4.2-1] PUBACK 0x10 says that nobody subscribes', async () => {
    const client = await broker.connect()
    expect((await client.publish({ topic: unique('nobody'), qos: 1 }))!.reason).toBe(0x10)
    expect((await client.publish({ topic: unique('nobody'), qos: 1, retain: true, payload: 'x' }))!.reason).toBe(0x10)
  })

  test.skipIf(external)('[MQTT-3.4.2-1] PUBACK 0x10 follows the last unsubscription and the end of the last session', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    await subscriber.unsubscribe(topic)
    expect((await publisher.publish({ topic, qos: 1 }))!.reason).toBe(0x10)
    await subscriber.subscribe({ filter: `${topic}/#`, qos: 0 })
    expect((await publisher.publish({ topic, qos: 1 }))!.reason).toBe(0x00)
    await subscriber.disconnect()
    expect((await publisher.publish({ topic, qos: 1 }))!.reason).toBe(0x10)
  })

  test('[MQTT-3.4.2-2] [MQTT-3.4.2-3] PUBACK stays within Maximum Packet Size and comes all the same', async () => {
    const { client } = await narrow()
    const answer = (await client.publish({ topic: 'n', qos: 1 }))!
    expect(answer.bytes).toBeLessThanOrEqual(client.connack.bytes + 5)
  })

  test('§3.4.2 a client may leave out Reason Code and properties, or send them', async () => {
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: { properties: { receiveMaximum: 1 } } })
    for (const bytes of [
      hex(''),
      hex('00'),
      hex('00 00'),
      hex('10 00'),
      hex('80 00'),
      hex('00 05 1f 0002 6f6b'),
      hex('97 07 26 0001 61 0001 62'),
    ]) {
      await publisher.publish({ topic, qos: 1 })
      const message = await subscriber.take('publish')
      subscriber.send(frame(0x40, u16(message.packetId), bytes))
    }
    await subscriber.expectNothing()
  })
})

describe('3.5 PUBREC', () => {
  test('[MQTT-3.5.2-1] PUBREC uses one of its Reason Codes: 0x00 with a subscriber', async () => {
    const { topic, publisher } = await pair(broker)
    expect((await publisher.publish({ topic, qos: 2 }))!.reason).toBe(0x00)
  })

  test.skipIf(external)('[MQTT-3.5.2-1] PUBREC 0x10 says that nobody subscribes, and the exchange goes on', async () => {
    const client = await broker.connect()
    client.send(publish({ topic: unique('nobody'), qos: 2, packetId: 3 }))
    expect((await client.expect('pubrec')).reason).toBe(0x10)
    client.send(ack('pubrel', 3))
    expect((await client.expect('pubcomp')).reason).toBe(0x00)
  })

  test('[MQTT-3.5.2-2] [MQTT-3.5.2-3] PUBREC stays within Maximum Packet Size and comes all the same', async () => {
    const { client } = await narrow()
    expect((await client.publish({ topic: 'n', qos: 2 }))!.bytes).toBeLessThanOrEqual(client.connack.bytes + 5)
  })

  test('§3.5 PUBREC for an unknown Packet Identifier is answered with PUBREL 0x92', async () => {
    const client = await broker.connect()
    client.send(ack('pubrec', 4_711))
    const answer = await client.expect('pubrel')
    expect([answer.packetId, answer.reason]).toEqual([4_711, 0x92])
    client.send(ack('pubcomp', 4_711, 0x92))
    await client.ping()
  })
})

describe('3.6 PUBREL', () => {
  test('[MQTT-3.6.1-1] PUBREL with other flags than 0010 is a Malformed Packet', async () => {
    for (const firstByte of [0x60, 0x61, 0x63, 0x64, 0x66, 0x6a]) await expectFatal(broker, frame(firstByte, u16(1)), 0x81)
  })

  test('[MQTT-3.6.2-1] PUBREL uses one of its Reason Codes: 0x00 in an exchange, 0x92 for an unknown identifier', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    await publisher.publish({ topic, qos: 2 })
    const message = await subscriber.take('publish')
    subscriber.send(ack('pubrec', message.packetId))
    expect((await subscriber.expect('pubrel')).reason).toBe(0x00)
    subscriber.send(ack('pubcomp', message.packetId), ack('pubrec', message.packetId))
    expect((await subscriber.expect('pubrel')).reason).toBe(0x92)
  })

  test('[MQTT-3.6.2-2] [MQTT-3.6.2-3] PUBREL stays within Maximum Packet Size and comes all the same', async () => {
    const { client } = await narrow()
    client.send(ack('pubrec', 9))
    expect((await client.expect('pubrel')).reason).toBe(0x92)
  })

  test('§3.6 a client may leave out Reason Code and properties, or send them', async () => {
    const client = await broker.connect()
    for (const bytes of [hex(''), hex('00'), hex('00 00'), hex('92 00'), hex('00 05 1f 0002 6f6b')]) {
      client.send(publish({ topic: unique('t'), qos: 2, packetId: 8 }))
      await client.expect('pubrec')
      client.send(frame(0x62, u16(8), bytes))
      expect((await client.expect('pubcomp')).packetId).toBe(8)
    }
  })
})

describe('3.7 PUBCOMP', () => {
  test('[MQTT-3.7.2-1] PUBCOMP uses one of its Reason Codes: 0x00 in an exchange, 0x92 for an unknown identifier', async () => {
    const client = await broker.connect()
    client.send(publish({ topic: unique('t'), qos: 2, packetId: 8 }))
    await client.expect('pubrec')
    client.send(ack('pubrel', 8))
    expect((await client.expect('pubcomp')).reason).toBe(0x00)
    client.send(ack('pubrel', 8))
    const unknown = await client.expect('pubcomp')
    expect([unknown.packetId, unknown.reason]).toEqual([8, 0x92])
  })

  test('[MQTT-3.7.2-2] [MQTT-3.7.2-3] PUBCOMP stays within Maximum Packet Size and comes all the same', async () => {
    const { client } = await narrow()
    client.send(ack('pubrel', 9))
    expect((await client.expect('pubcomp')).reason).toBe(0x92)
  })
})

describe('3.4 to 3.7 from a client', () => {
  test('§3.4 PUBACK and PUBCOMP for unknown identifiers harm nobody', async () => {
    const client = await broker.connect()
    client.send(ack('puback', 77), ack('pubcomp', 78), ack('puback', 65_535, 0x80, {}))
    await client.ping().catch(() => client.ended())
    await broker.stillServes()
  })

  test('§3.4 an acknowledgement with a Reason Code that its table lacks is refused or taken, but harms nobody', async () => {
    for (const [type, reason] of [
      ['puback', 0x01],
      ['pubrec', 0x92],
      ['pubrel', 0x80],
      ['pubcomp', 0x10],
    ] as const) {
      const client = await broker.connect()
      client.send(ack(type, 5, reason))
      await client.ping().catch(() => client.ended())
    }
    await broker.stillServes()
  })

  test('§3.4 an acknowledgement with a property of another packet is a Malformed Packet', async () => {
    for (const type of ['puback', 'pubrec', 'pubrel', 'pubcomp'] as const) {
      await expectFatal(broker, ack(type, 1, 0, Buffer.concat([u8(0x01), u8(1)])), 0x81, 0x82)
      await expectFatal(broker, ack(type, 1, 0, hex('1f 0001 61 1f 0001 61')), 0x82)
    }
  })
})

/** A client whose Maximum Packet Size has no room for explanations: CONNACK itself fits, with the property that asked for it. */
async function narrow() {
  const usual = await broker.connect()
  return { client: await broker.connect({ properties: { maximumPacketSize: usual.connack.bytes + 5 } }) }
}
