import { describe, expect, test } from 'vitest'
import { unique, useBroker } from './broker.ts'
import { field, frame, hex, u8 } from './bytes.ts'
import * as packets from './packets.ts'
import { connect, publish } from './packets.ts'
import { expectConnectRefused, expectNoMessage, lasting, pair, payloads, resume } from './scenes.ts'

const broker = useBroker()

describe('3.1.2 user name and password flags', () => {
  test('[MQTT-3.1.2-16] [MQTT-3.1.2-18] a user name or password without its flag is a Malformed Packet', async () => {
    const payload = Buffer.concat([field(unique('c')), field('user')])
    await expectConnectRefused(broker, connect({ flags: 0x02, payload }), 0x81)
    await expectConnectRefused(broker, connect({ flags: 0x82, payload: Buffer.concat([payload, field('password')]) }), 0x81)
  })

  test('[MQTT-3.1.2-17] [MQTT-3.1.2-19] a flag without its user name or password is a Malformed Packet', async () => {
    await expectConnectRefused(broker, connect({ flags: 0x82, payload: field(unique('c')) }), 0x81)
    await expectConnectRefused(broker, connect({ flags: 0x42, payload: field(unique('c')) }), 0x81)
    await expectConnectRefused(broker, connect({ flags: 0xc2, payload: Buffer.concat([field(unique('c')), field('user')]) }), 0x81)
  })

  test('§3.1.2.9 a password without a user name is allowed', async () => {
    await broker.connect({ password: 'secret' })
    await broker.connect({ userName: 'user', password: Buffer.from([0, 255, 0]) })
  })
})

describe('3.1.3 payload', () => {
  test('[MQTT-3.1.3-1] Will, user name and password are read in their order behind the Client Identifier', async () => {
    const { topic, subscriber } = await pair(broker)
    const client = await broker.connect({
      will: { topic, payload: 'ordered', qos: 1, properties: { contentType: 'text/plain' } },
      userName: 'user',
      password: 'password',
    })
    client.drop()
    const message = await subscriber.receive()
    expect(message.payload.toString()).toBe('ordered')
    expect(message.properties.contentType).toBe('text/plain')
  })

  test('[MQTT-3.1.3-2] the Client Identifier, compared byte by byte, names the session', async () => {
    const session = lasting(unique('S'))
    await (await broker.connect(session)).disconnect()
    for (const clientId of [session.clientId.toLowerCase(), `${session.clientId}x`, ` ${session.clientId}`]) {
      expect((await broker.connect({ clientId, cleanStart: false })).connack.sessionPresent).toBe(false)
    }
    expect((await resume(broker, session)).connack.sessionPresent).toBe(true)
  })

  test('[MQTT-3.1.3-3] [MQTT-3.1.3-4] a CONNECT without a well-formed Client Identifier is a Malformed Packet', async () => {
    await expectConnectRefused(broker, connect({ payload: Buffer.alloc(0) }), 0x81)
    await expectConnectRefused(broker, connect({ payload: hex('00') }), 0x81)
    await expectConnectRefused(broker, connect({ payload: hex('00 05 61') }), 0x81)
    await expectConnectRefused(broker, connect({ clientId: hex('c3 28') }), 0x81, 0x85)
  })

  test('[MQTT-3.1.3-5] Client Identifiers of 1 to 23 letters and digits are accepted', async () => {
    const characters = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'
    const names = [characters.slice(0, 23), characters.slice(23, 46), characters.slice(39), ...characters]
    for (const clientId of names) await (await broker.connect({ clientId })).disconnect()
  })

  test('§3.1.3.1 long and unusual Client Identifiers are accepted', async () => {
    for (const clientId of ['x'.repeat(1_000), 'ä/+#$ 日本 😀', '\ufeffmark', '{}', '../..', '__proto__', 'constructor']) {
      const session = lasting(clientId)
      const first = await broker.connect(session)
      const topic = unique('t')
      await first.subscribe({ filter: topic, qos: 1 })
      await first.disconnect()
      const second = await resume(broker, session)
      expect(second.connack.sessionPresent).toBe(true)
      await second.publish({ topic, qos: 1 })
      await second.receive()
      await second.disconnect(0, { sessionExpiryInterval: 0 })
    }
  })

  test('[MQTT-3.1.3-6] [MQTT-3.1.3-7] an empty Client Identifier gets a unique one, returned in CONNACK', async () => {
    const clients = await Promise.all(Array.from({ length: 20 }, () => broker.connect({ clientId: '' })))
    const assigned = clients.map(client => client.connack.properties.assignedClientIdentifier)
    expect(new Set(assigned).size).toBe(20)
    expect(assigned.every(clientId => clientId !== undefined && clientId.length > 0)).toBe(true)
  })

  test('[MQTT-3.1.3-7] an assigned Client Identifier works like one that the client chose', async () => {
    const first = await broker.connect({ clientId: '', cleanStart: false, properties: { sessionExpiryInterval: 600 } })
    const clientId = first.connack.properties.assignedClientIdentifier!
    await first.disconnect()
    const second = await broker.connect({ clientId, cleanStart: false, properties: { sessionExpiryInterval: 600 } })
    expect(second.connack.sessionPresent).toBe(true)
    expect(second.connack.properties.assignedClientIdentifier).toBeUndefined()
  })

  test('[MQTT-3.1.3-8] a refused Client Identifier is answered with 0x85 or 0x81 and the connection closed', async () => {
    await expectConnectRefused(broker, connect({ clientId: 'nul\0' }), 0x85, 0x81)
    await expectConnectRefused(broker, connect({ clientId: hex('ff fe') }), 0x85, 0x81)
  })

  test('[MQTT-3.1.3-11] [MQTT-3.1.3-12] Will Topic and user name must be well-formed', async () => {
    await expectConnectRefused(broker, connect({ clientId: unique('c'), will: { topic: hex('c0 80') } }), 0x81)
    await expectConnectRefused(broker, connect({ clientId: unique('c'), userName: hex('ed b0 80') }), 0x81)
  })
})

describe('3.1.4 actions', () => {
  test('[MQTT-3.1.4-1] a CONNECT that does not match its format closes the connection', async () => {
    await expectConnectRefused(broker, connect({ payload: Buffer.concat([field(unique('c')), hex('00')]) }), 0x81)
    const firstByteWrong = Buffer.from(connect({ clientId: unique('c') }))
    firstByteWrong[0] = 0x11
    const cut = [firstByteWrong, frame(0x10), frame(0x10, hex('00')), frame(0x10, field('MQTT')), frame(0x10, field('MQTT'), u8(5))]
    for (const bytes of cut) {
      const client = await broker.open()
      client.send(bytes)
      await client.expectGivenUp()
    }
  })

  test('[MQTT-3.1.4-2] [MQTT-4.12.0-1] a client whose Authentication Method is not supported is refused and its connection closed', async () => {
    await expectConnectRefused(
      broker,
      connect({ clientId: unique('c'), properties: { authenticationMethod: 'NO-SUCH-METHOD' } }),
      0x8c,
      0x87,
    )
  })

  test('[MQTT-3.1.4-3] the older of two connections with one Client Identifier gets 0x8E and is closed', async () => {
    const clientId = unique('c')
    const first = await broker.connect({ clientId })
    const second = await broker.connect({ clientId })
    await first.expectDisconnect(0x8e)
    await second.ping()
  })

  test('[MQTT-3.1.4-3] a takeover keeps the session and what was in flight', async () => {
    const session = lasting()
    const topic = unique('t')
    const first = await broker.connect(session)
    await first.subscribe({ filter: topic, qos: 1 })
    const publisher = await broker.connect()
    await publisher.publish({ topic, payload: 'in flight', qos: 1 })
    const unacknowledged = await first.take('publish')
    const second = await resume(broker, session)
    await first.expectDisconnect(0x8e)
    expect(second.connack.sessionPresent).toBe(true)
    const again = await second.receive()
    expect([again.packetId, again.dup, again.payload.toString()]).toEqual([unacknowledged.packetId, true, 'in flight'])
  })

  test('[MQTT-3.1.4-3] a takeover publishes the Will of the older connection', async () => {
    const { topic, subscriber } = await pair(broker)
    const clientId = unique('c')
    await broker.connect({ clientId, will: { topic, payload: 'taken over', qos: 1 } })
    await broker.connect({ clientId })
    expect((await subscriber.receive()).payload.toString()).toBe('taken over')
  })

  test('[MQTT-3.1.4-4] Clean Start is processed on a takeover too', async () => {
    const session = lasting()
    const first = await broker.connect(session)
    await first.subscribe({ filter: unique('t'), qos: 1 })
    const second = await broker.connect({ ...session, cleanStart: true })
    expect(second.connack.sessionPresent).toBe(false)
    await first.expectDisconnect(0x8e)
    expect((await resume(broker, session)).connack.sessionPresent).toBe(true)
  })

  test('[MQTT-3.1.4-5] an accepted CONNECT is acknowledged with 0x00', async () => {
    const client = await broker.open()
    client.send(connect({ clientId: unique('c') }))
    expect((await client.expect('connack')).reason).toBe(0)
  })

  test('[MQTT-3.1.4-6] what follows a refused CONNECT is not processed', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    const refused = connect({ clientId: unique('c'), properties: { authenticationMethod: 'NO-SUCH-METHOD' } })
    const client = await broker.open()
    client.send(refused, publish({ topic, payload: 'smuggled', qos: 1, retain: true }))
    await client.expectGivenUp()
    await expectNoMessage(subscriber, publisher)
  })

  test('§3.1.4 packets that follow CONNECT before CONNACK are processed in order', async () => {
    const client = await broker.open()
    const topic = unique('t')
    client.send(
      connect({ clientId: unique('c') }),
      packets.subscribe(1, [{ filter: topic, qos: 1 }]),
      publish({ topic, qos: 1, packetId: 2 }),
      packets.PINGREQ,
    )
    await client.expect('connack')
    await client.take('suback', 1)
    await client.take('puback', 2)
    await client.take('publish')
    await client.take('pingresp')
  })

  test('§3.1.4 CONNECT, PUBLISH and DISCONNECT in one segment are all processed, and the Will is not', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    for (const version of [5, 4] as const) {
      const client = await broker.open(version)
      const hello = connect({ version, clientId: unique('c'), will: { topic, payload: 'never' } })
      client.send(hello, publish({ topic, payload: `hasty ${version}` }, version), packets.disconnect())
      expect((await subscriber.receive()).payload.toString()).toBe(`hasty ${version}`)
      await client.ended()
    }
    await expectNoMessage(subscriber, publisher)
  })

  test('§3.1.4 what was published before the connection broke comes before the Will', async () => {
    const { topic, subscriber } = await pair(broker)
    const client = await broker.open()
    client.send(connect({ clientId: unique('c'), will: { topic, payload: 'will' } }), publish({ topic, payload: 'last words' }))
    client.finish()
    expect(await payloads(subscriber, 2)).toEqual(['last words', 'will'])
  })

  test('[MQTT-3.1.0-2] two CONNECTs in one segment: CONNACK, then 0x82', async () => {
    const client = await broker.open()
    const hello = connect({ clientId: unique('c') })
    client.send(hello, hello)
    await client.expectDisconnect(0x82)
    expect(client.received.map(packet => packet.type)).toEqual(['connack', 'disconnect'])
  })

  test('§3.1.2.11.8 User Properties of CONNECT may repeat', async () => {
    await broker.connect({
      properties: {
        userProperty: [
          ['a', '1'],
          ['a', '1'],
          ['metriccategory', 'tests'],
        ],
      },
    })
  })
})
