import { describe, expect, test } from 'vitest'
import { unique, useBroker } from './broker.ts'
import { hex } from './bytes.ts'
import { ack, connect, disconnect, publish, subscribe, unsubscribe } from './packets.ts'
import { expectConnectRefused, expectFatal, lasting, pair, resume } from './scenes.ts'

const broker = useBroker()

describe('4.13 handling errors', () => {
  test('[MQTT-4.13.1-1] Malformed Packets and Protocol Errors end the connection with their Reason Code', async () => {
    const malformed = [
      hex('00 00'),
      hex('f0 02 18 01'),
      publish({ topic: 'a', qos: 3 }),
      hex('82 02 00 01'),
      hex('62 01 00'),
      hex('e0 03 00 01 7f'),
    ]
    for (const bytes of malformed) await expectFatal(broker, bytes, 0x81, 0x82)
    const errors = [
      subscribe(1, []),
      unsubscribe(1, []),
      publish({ topic: '' }),
      connect({ clientId: unique('c') }),
      disconnect(0, { sessionExpiryInterval: 9 }),
    ]
    for (const bytes of errors) await expectFatal(broker, bytes, 0x82)
  })

  test('[MQTT-4.13.1-1] an error in CONNECT ends the connection with a CONNACK of its Reason Code', async () => {
    await expectConnectRefused(broker, connect({ clientId: unique('c'), flags: 0x01 }), 0x81)
    await expectConnectRefused(broker, connect({ clientId: unique('c'), properties: hex('21 0001 21 0001') }), 0x82)
  })

  test('[MQTT-4.13.2-1] a Reason Code of 0x80 or more in CONNACK or DISCONNECT is followed by the end of the connection', async () => {
    await expectConnectRefused(broker, connect({ clientId: unique('c'), protocolLevel: 9 }), 0x84)
    await expectFatal(broker, publish({ topic: 'a', properties: { topicAlias: 0 } }), 0x94, 0x82)
    const client = await broker.connect()
    client.send(disconnect(0x82))
    await client.expectClosed()
  })

  test('[MQTT-4.13.2-1] a failure code in PUBACK, PUBREC, SUBACK or UNSUBACK leaves the connection open', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    await publisher.publish({ topic, qos: 1 })
    subscriber.send(ack('puback', (await subscriber.take('publish')).packetId, 0x80))
    expect((await subscriber.unsubscribe(unique('never'))).reasons).toEqual([0x11])
    await subscriber.ping()
  })

  test('§4.13.1 an error of one connection has no consequence for its session nor for others', async () => {
    const session = lasting()
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: session })
    subscriber.send(hex('00 00'))
    await subscriber.expectGivenUp()
    await publisher.publish({ topic, payload: 'kept', qos: 1 })
    const again = await resume(broker, session)
    expect(again.connack.sessionPresent).toBe(true)
    expect((await again.receive()).payload.toString()).toBe('kept')
  })
})
