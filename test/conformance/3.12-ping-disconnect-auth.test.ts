import { describe, expect, test } from 'vitest'
import { unique, useBroker } from './broker.ts'
import { field, frame, hex, u8 } from './bytes.ts'
import { auth, connect, disconnect, PINGREQ, publish, subscribe } from './packets.ts'
import { expectConnectRefused, expectFatal, expectNoMessage, lasting, pair, resume } from './scenes.ts'

const broker = useBroker()

describe('3.12 PINGREQ', () => {
  test('[MQTT-3.12.4-1] every PINGREQ is answered by one PINGRESP', async () => {
    const client = await broker.connect()
    client.send(...Array.from({ length: 20 }, () => PINGREQ))
    for (let n = 0; n < 20; n++) expect((await client.expect('pingresp')).bytes).toBe(2)
    await client.expectNothing()
  })
})

describe('3.14 DISCONNECT', () => {
  test('[MQTT-3.14.0-1] no DISCONNECT comes before CONNACK', async () => {
    for (const bytes of [
      disconnect(0),
      frame(0x10, hex('0004')),
      publish({ topic: 'a' }),
      hex('ff ff ff ff ff ff'),
      connect({ clientId: 'nul\0' }),
    ]) {
      const client = await broker.open()
      client.send(bytes)
      await client.ended()
      expect(client.received.filter(packet => packet.type === 'disconnect')).toEqual([])
    }
  })

  test('[MQTT-3.14.1-1] DISCONNECT with reserved bits set is answered with 0x81', async () => {
    for (const firstByte of [0xe1, 0xe2, 0xe8]) await expectFatal(broker, frame(firstByte, u8(0)), 0x81)
  })

  test('[MQTT-3.14.2-1] the DISCONNECT of the broker uses one of its Reason Codes', async () => {
    await expectFatal(broker, hex('00 00'), 0x81, 0x82)
    await expectFatal(broker, subscribe(1, []), 0x82)
    await expectFatal(broker, publish({ topic: '', properties: { topicAlias: 0 } }), 0x94, 0x82)
    const clientId = unique('c')
    const client = await broker.connect({ clientId })
    await broker.connect({ clientId })
    await client.expectDisconnect(0x8e)
  })

  test('[MQTT-3.14.2-1] a DISCONNECT of a client with a Reason Code that only a server sends, or none does, closes the connection', async () => {
    for (const reason of [0x01, 0x03, 0x05, 0x7f, 0x8d, 0x8e, 0x9c, 0xff]) {
      const client = await broker.connect()
      client.send(disconnect(reason))
      await client.expectGivenUp()
    }
  })

  test('[MQTT-3.14.2-2] the DISCONNECT of the broker has no Session Expiry Interval', async () => {
    const session = lasting()
    const first = await broker.connect(session)
    await resume(broker, session)
    expect(Object.keys((await first.expectDisconnect(0x8e)).properties)).not.toContain('sessionExpiryInterval')
  })

  test('[MQTT-3.14.2-3] [MQTT-3.14.2-4] DISCONNECT stays within Maximum Packet Size and comes all the same', async () => {
    const usual = await broker.connect()
    const clientId = unique('c')
    const client = await broker.connect({ clientId, properties: { maximumPacketSize: usual.connack.bytes + 5 } })
    client.send(subscribe(1, []))
    await client.expectDisconnect(0x82)
  })

  test('[MQTT-3.14.4-1] [MQTT-3.14.4-2] after its DISCONNECT the broker sends nothing and closes', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    for (let n = 0; n < 20; n++) publisher.send(publish({ topic, payload: `${n}` }))
    subscriber.send(hex('00 00'))
    for (let n = 20; n < 40; n++) publisher.send(publish({ topic, payload: `${n}` }))
    await subscriber.expectDisconnect(0x81, 0x82)
    expect(subscriber.received.at(-1)?.type).toBe('disconnect')
  })

  test('[MQTT-3.14.4-3] the Will of a client that leaves with 0x00 is discarded', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    const client = await broker.connect({ will: { topic, payload: 'never', qos: 1 } })
    await client.disconnect(0, { reasonString: 'bye', userProperty: [['a', 'b']] })
    await expectNoMessage(subscriber, publisher)
  })

  test('§3.14.4 what a client sends after DISCONNECT is not processed', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    publisher.send(disconnect(0), publish({ topic, payload: 'too late', qos: 1 }))
    await publisher.expectClosed()
    await expectNoMessage(subscriber, await broker.connect())
  })

  test('§3.14.2.2.2 Session Expiry Interval in DISCONNECT replaces the one of CONNECT', async () => {
    const session = { clientId: unique('s'), properties: { sessionExpiryInterval: 600 } }
    const client = await broker.connect(session)
    await client.disconnect(0, { sessionExpiryInterval: 0 })
    const second = await resume(broker, session)
    expect(second.connack.sessionPresent).toBe(false)
    await second.disconnect(0, { sessionExpiryInterval: 300 })
    expect((await resume(broker, session)).connack.sessionPresent).toBe(true)
  })

  test.concurrent('§3.14.2.2.2 a shorter Session Expiry Interval in DISCONNECT counts', async () => {
    const session = { clientId: unique('s'), properties: { sessionExpiryInterval: 600 } }
    const client = await broker.connect(session)
    await client.disconnect(0, { sessionExpiryInterval: 1 })
    await new Promise(resolve => setTimeout(resolve, 2_500))
    expect((await resume(broker, session)).connack.sessionPresent).toBe(false)
  })

  test('§3.14.2.2.2 raising Session Expiry Interval from 0 is a Protocol Error', async () => {
    for (const properties of [{}, { sessionExpiryInterval: 0 }]) {
      const client = await broker.connect({ properties })
      client.send(disconnect(0, { sessionExpiryInterval: 5 }))
      await client.expectDisconnect(0x82)
    }
  })
})

describe('3.15 AUTH', () => {
  test('[MQTT-3.15.1-1] AUTH with flags is a Malformed Packet', async () => {
    for (const firstByte of [0xf1, 0xf2, 0xf8, 0xff]) await expectFatal(broker, frame(firstByte, u8(0x18), u8(0)), 0x81)
  })

  test('[MQTT-3.15.2-1] [MQTT-4.12.0-6] AUTH from a client without Authentication Method is a Protocol Error, and none is ever sent to it', async () => {
    for (const reason of [0x18, 0x19]) {
      const client = await broker.connect()
      expect(client.connack.properties.authenticationMethod).toBeUndefined()
      client.send(auth(reason, { authenticationMethod: 'x' }))
      await client.expectDisconnect(0x82)
      expect(client.received.some(packet => packet.type === 'auth')).toBe(false)
    }
  })

  test('[MQTT-3.15.2-1] AUTH with a Reason Code that its table lacks is refused', async () => {
    await expectFatal(broker, auth(0x01, { authenticationMethod: 'x' }), 0x81, 0x82)
  })

  test('[MQTT-3.15.2-2] [MQTT-3.15.2-3] the answer to AUTH stays within Maximum Packet Size', async () => {
    const usual = await broker.connect()
    const client = await broker.connect({ properties: { maximumPacketSize: usual.connack.bytes + 5 } })
    client.send(auth(0x19, { authenticationMethod: 'x', userProperty: [['a', 'b'.repeat(100)]] }))
    await client.expectDisconnect(0x82)
  })

  test('§3.15.2.2 AUTH without Authentication Method, or with an ill-formed one, is refused', async () => {
    await expectFatal(broker, auth(0x18, {}), 0x82, 0x81)
    await expectFatal(broker, auth(0x18, Buffer.concat([u8(0x15), field(hex('ff'))])), 0x81)
    await expectConnectRefused(broker, connect({ clientId: unique('c'), properties: hex('16 0001 61') }), 0x82)
  })
})
