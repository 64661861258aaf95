import { describe, expect, test } from 'vitest'
import { external, unique, useBroker } from './broker.ts'
import { connect, publish, subscribe } from './packets.ts'
import { expectConnectRefused, expectFatal, lasting, pair, payloads, resume } from './scenes.ts'

// A broker that lacks what MQTT 5 lets a server lack, and whose limits are small.
const MISSING = ['--compatibility', 'AzureIoTOperations', '--retained-messages-max', '0']
const SMALL = ['--receive-maximum', '3', '--queue-messages-max', '5']
const broker = useBroker(...MISSING, ...SMALL)

describe.skipIf(external)('3.2.2.3 features that are announced as missing', () => {
  test('[MQTT-3.2.2-9] Maximum QoS 1 is announced, and QoS 2 from a client ends with 0x9B', async () => {
    const client = await broker.connect()
    expect(client.connack.properties.maximumQoS).toBe(1)
    expect((await client.publish({ topic: unique('t'), qos: 1 }))!.reason).toBeLessThan(0x80)
    await expectFatal(broker, publish({ topic: unique('t'), qos: 2 }), 0x9b)
  })

  test('[MQTT-3.2.2-10] SUBSCRIBE with QoS 2 is accepted all the same', async () => {
    const client = await broker.connect()
    const topic = unique('t')
    const [zero, one, two] = (await client.subscribe([0, 1, 2].map(qos => ({ filter: `${topic}/${qos}`, qos })))).reasons
    expect([zero, one]).toEqual([0, 1])
    expect([1, 2]).toContain(two)
    await client.publish({ topic: `${topic}/2`, qos: 1 })
    expect((await client.receive()).qos).toBe(1)
  })

  test('[MQTT-3.2.2-12] a Will of QoS 2 is refused with 0x9B', async () => {
    await expectConnectRefused(broker, connect({ clientId: unique('c'), will: { topic: unique('t'), qos: 2 } }), 0x9b)
  })

  test('[MQTT-3.2.2-13] a retained Will is refused with 0x9A', async () => {
    await expectConnectRefused(broker, connect({ clientId: unique('c'), will: { topic: unique('t'), retain: true } }), 0x9a)
  })

  test('[MQTT-3.2.2-14] Retain Available 0 is announced, and a retained message ends with 0x9A', async () => {
    expect((await broker.connect()).connack.properties.retainAvailable).toBe(0)
    for (const qos of [0, 1]) await expectFatal(broker, publish({ topic: unique('t'), payload: 'x', qos, retain: true }), 0x9a)
  })

  test('[MQTT-3.2.2-18] without Topic Alias Maximum any alias ends with 0x94', async () => {
    expect((await broker.connect()).connack.properties.topicAliasMaximum ?? 0).toBe(0)
    await expectFatal(broker, publish({ topic: unique('t'), properties: { topicAlias: 1 } }), 0x94)
  })

  test('§3.2.2.3.12 Subscription Identifier Available 0 is announced, and an identifier ends with 0xA1', async () => {
    expect((await broker.connect()).connack.properties.subscriptionIdentifierAvailable).toBe(0)
    await expectFatal(broker, subscribe(1, [{ filter: unique('t') }], 5, { subscriptionIdentifier: 1 }), 0xa1)
  })
})

describe.skipIf(external)('3.2.2.3 limits that are announced', () => {
  test('[MQTT-3.3.4-7] a Receive Maximum of 3 is announced, and packets beyond the quota end with 0x93 or were acknowledged in time', async () => {
    const client = await broker.connect()
    expect(client.connack.properties.receiveMaximum).toBe(3)
    for (let packetId = 1; packetId <= 3; packetId++) client.send(publish({ topic: unique('t'), qos: 1, packetId }))
    for (let packetId = 1; packetId <= 3; packetId++) await client.take('puback', packetId)
  })

  const impatient = useBroker('--server-keep-alive-seconds', '1')

  test('[MQTT-3.1.2-22] Server Keep Alive is enforced in place of the value of the client', async () => {
    for (const keepAlive of [0, 600]) {
      const client = await impatient.connect({ keepAlive })
      expect(client.connack.properties.serverKeepAlive).toBe(1)
      await client.expectGivenUp()
    }
  })

  test('§4.9 a session whose queue is full has new messages refused with 0x97, and loses none', async () => {
    const session = lasting()
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: session, subscription: { qos: 1 } })
    await subscriber.disconnect()
    const reasons: number[] = []
    for (let n = 0; n < 8; n++) reasons.push((await publisher.publish({ topic, payload: `${n}`, qos: 1 }))!.reason)
    expect(reasons).toEqual([0, 0, 0, 0, 0, 0x97, 0x97, 0x97])
    const second = await resume(broker, session)
    expect(await payloads(second, 5)).toEqual(['0', '1', '2', '3', '4'])
    await second.expectNothing()
    expect((await publisher.publish({ topic, payload: 'room', qos: 1 }))!.reason).toBe(0)
    expect(await payloads(second, 1)).toEqual(['room'])
  })
})
