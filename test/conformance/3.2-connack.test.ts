import { describe, expect, test } from 'vitest'
import { external, unique, useBroker } from './broker.ts'
import { frame, hex, u8, varint } from './bytes.ts'
import { connect, publish } from './packets.ts'
import { expectConnectRefused, lasting, pair, resume } from './scenes.ts'

// Small, so that the largest packet is quickly sent.
const broker = useBroker('--packet-bytes-max', '65536')

describe('3.2 CONNACK', () => {
  test('[MQTT-3.2.0-1] CONNACK 0x00 is the first packet, even when messages wait', async () => {
    const session = lasting()
    const topic = unique('t')
    const first = await broker.connect(session)
    await first.subscribe({ filter: topic, qos: 1 })
    await first.disconnect()
    const publisher = await broker.connect()
    for (let n = 0; n < 10; n++) await publisher.publish({ topic, qos: 1 })
    const second = await resume(broker, session)
    for (let n = 0; n < 10; n++) await second.receive()
    expect(second.received[0]?.type).toBe('connack')
  })

  test('[MQTT-3.2.0-2] a connection sees one CONNACK only', async () => {
    const clientId = unique('c')
    const client = await broker.connect({ clientId })
    await client.ping()
    client.send(connect({ clientId }))
    await client.expectGivenUp()
    expect(client.received.filter(packet => packet.type === 'connack')).toHaveLength(1)
  })

  test('[MQTT-3.2.2-1] bits 7 to 1 of the flags are 0, also in a refusal and on a resumed session', async () => {
    const session = lasting()
    await (await broker.connect(session)).disconnect()
    expect((await resume(broker, session)).connack.sessionPresent).toBe(true)
    await expectConnectRefused(broker, connect({ clientId: unique('c'), protocolLevel: 6 }), 0x84)
  })

  test('[MQTT-3.2.2-2] Session Present is 0 after Clean Start 1', async () => {
    const session = lasting()
    await (await broker.connect(session)).disconnect()
    expect((await broker.connect({ ...session, cleanStart: true })).connack.sessionPresent).toBe(false)
  })

  test('[MQTT-3.2.2-3] Session Present after Clean Start 0 says whether there was a session', async () => {
    const session = lasting()
    expect((await resume(broker, session)).connack.sessionPresent).toBe(false)
    expect((await resume(broker, session)).connack.sessionPresent).toBe(true)
  })

  test('[MQTT-3.2.2-6] [MQTT-3.2.2-7] a refusing CONNACK has Session Present 0 and is followed by the end of the connection', async () => {
    const session = lasting()
    await (await broker.connect(session)).disconnect()
    const properties = { ...session.properties, authenticationMethod: 'NO-SUCH-METHOD' }
    await expectConnectRefused(broker, connect({ ...session, cleanStart: false, properties }), 0x8c, 0x87)
    await expectConnectRefused(broker, connect({ clientId: session.clientId, protocolLevel: 7 }), 0x84)
  })

  test('[MQTT-3.2.2-8] every CONNACK reason is one of the Connect Reason Codes', async () => {
    await expectConnectRefused(broker, connect({ clientId: unique('c'), flags: 0x03 }), 0x81)
    await expectConnectRefused(broker, connect({ clientId: unique('c'), properties: hex('21 0000') }), 0x82, 0x81)
    await expectConnectRefused(broker, connect({ protocolLevel: 6 }), 0x84)
    await expectConnectRefused(
      broker,
      connect({ clientId: unique('c'), properties: { authenticationMethod: 'NO-SUCH-METHOD' } }),
      0x8c,
      0x87,
    )
  })

  test('[MQTT-3.2.2-9] without Maximum QoS in CONNACK, QoS 1 and 2 are supported', async () => {
    const client = await broker.connect()
    expect(client.connack.properties.maximumQoS).toBeUndefined()
    for (const qos of [1, 2]) expect((await client.publish({ topic: unique('t'), qos }))!.reason).toBeLessThan(0x80)
  })

  test('[MQTT-3.2.2-10] SUBSCRIBE with QoS 0, 1 and 2 is accepted', async () => {
    const client = await broker.connect()
    const topic = unique('t')
    const suback = await client.subscribe([0, 1, 2].map(qos => ({ filter: `${topic}/${qos}`, qos })))
    expect(suback.reasons).toEqual([0, 1, 2])
  })

  test('[MQTT-3.2.2-12] [MQTT-3.2.2-13] Wills of QoS 2 and retained Wills are within what the broker supports', async () => {
    const client = await broker.connect({ will: { topic: unique('t'), qos: 2, retain: true } })
    expect(client.connack.properties.retainAvailable ?? 1).toBe(1)
    await client.disconnect()
  })

  test('§3.2.2.3 nothing optional of MQTT 5 is announced as missing', async () => {
    const { properties } = (await broker.connect()).connack
    for (const name of [
      'retainAvailable',
      'wildcardSubscriptionAvailable',
      'subscriptionIdentifierAvailable',
      'sharedSubscriptionAvailable',
    ] as const) {
      expect(properties[name] ?? 1, name).toBe(1)
    }
    expect(properties.topicAliasMaximum ?? 0).toBeGreaterThan(0)
    expect(properties.sessionExpiryInterval).toBeUndefined()
    expect(properties.maximumPacketSize ?? 1).not.toBe(0)
  })

  test.skipIf(external)('§3.2.2.3.3 Receive Maximum 100 is announced', async () => {
    expect((await broker.connect()).connack.properties.receiveMaximum).toBe(100)
  })

  test.skipIf(external)(
    '[MQTT-3.2.2-15] a packet above the announced Maximum Packet Size ends with 0x95, before its body has come',
    async () => {
      const client = await broker.connect()
      const limit = client.connack.properties.maximumPacketSize!
      expect(limit).toBe(65_536)
      client.send(Buffer.concat([u8(0x30), varint(limit)]))
      await client.expectDisconnect(0x95)
    },
  )

  test.skipIf(external)('[MQTT-3.2.2-15] a packet of exactly the announced Maximum Packet Size is taken', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    const limit = publisher.connack.properties.maximumPacketSize!
    const headerBytes = 1 + varint(limit).length
    const bytes = publish({ topic, payload: Buffer.alloc(limit - headerBytes - 2 - topic.length - 1, 'x') })
    expect(bytes.length).toBe(limit)
    publisher.send(bytes)
    expect((await subscriber.receive()).bytes).toBe(limit)
  })

  test('[MQTT-3.2.2-16] an assigned Client Identifier belongs to no other session', async () => {
    const first = await broker.connect({ clientId: '', properties: { sessionExpiryInterval: 600 } })
    first.drop()
    const others = await Promise.all(Array.from({ length: 10 }, () => broker.connect({ clientId: '', cleanStart: false })))
    for (const other of others) {
      expect(other.connack.sessionPresent).toBe(false)
      expect(other.connack.properties.assignedClientIdentifier).not.toBe(first.connack.properties.assignedClientIdentifier)
    }
  })

  test('[MQTT-3.2.2-17] [MQTT-3.2.2-18] an alias above the announced Topic Alias Maximum ends with 0x94', async () => {
    const client = await broker.connect()
    const maximum = client.connack.properties.topicAliasMaximum ?? 0
    client.send(publish({ topic: unique('t'), properties: { topicAlias: Math.min(maximum + 1, 65_535) } }))
    if (maximum < 65_535) await client.expectDisconnect(0x94)
  })

  test('[MQTT-3.2.2-19] [MQTT-3.2.2-20] no Reason String or User Property makes CONNACK exceed Maximum Packet Size', async () => {
    const usual = await broker.connect()
    await broker.connect({ properties: { maximumPacketSize: usual.connack.bytes + 6 } })
    const client = await broker.open()
    client.sendConnect({ clientId: unique('c'), properties: { maximumPacketSize: 5, authenticationMethod: 'NO-SUCH-METHOD' } })
    await client.expectRefused(0x8c, 0x87)
  })

  test('§3.2 a CONNACK from a client is a Protocol Error', async () => {
    const client = await broker.connect()
    client.send(frame(0x20, u8(0), u8(0), u8(0)))
    await client.expectDisconnect(0x82, 0x81)
  })
})
