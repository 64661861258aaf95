import mqtt from 'mqtt-packet'
import { describe, expect, test } from 'vitest'
import type { DeliverySink } from './client.ts'
import { LoadClient } from './client.ts'
import { Engine } from './engine.ts'
import type { ProtocolVersion } from './frames.ts'
import { connectFrame, filler, publishTemplate, subscribeFrame, unsubscribeFrame } from './frames.ts'

function decode(frame: Uint8Array, protocolVersion: ProtocolVersion): mqtt.Packet {
  const packets: mqtt.Packet[] = []
  const parser = mqtt.parser({ protocolVersion })
  parser.on('packet', packet => void packets.push(packet))
  parser.on('error', error => {
    throw error
  })
  parser.parse(Buffer.from(frame))
  expect(packets).toHaveLength(1)
  return packets[0]!
}

describe.each([3, 4, 5] as const)('frames of version %i, read by mqtt-packet', protocol => {
  test('CONNECT', () => {
    const will = { topic: 'w', payload: filler(3), qos: 1, retain: true } as const
    const frame = connectFrame(protocol, {
      clientId: 'c1',
      clean: false,
      keepAliveS: 600,
      sessionExpiryS: 70_000,
      username: 'u',
      password: 'p',
      will,
    })
    expect(decode(frame, protocol)).toMatchObject({
      cmd: 'connect',
      protocolVersion: protocol,
      clientId: 'c1',
      clean: false,
      keepalive: 600,
      username: 'u',
      password: Buffer.from('p'),
      will: { topic: 'w', qos: 1, retain: true, payload: Buffer.from('abc') },
      ...(protocol === 5 ? { properties: { sessionExpiryInterval: 70_000 } } : {}),
    })
  })

  test('SUBSCRIBE and UNSUBSCRIBE', () => {
    expect(decode(subscribeFrame(protocol, 300, 'a/+', 2), protocol)).toMatchObject({
      messageId: 300,
      subscriptions: [{ topic: 'a/+', qos: 2 }],
    })
    expect(decode(unsubscribeFrame(protocol, 301, 'a/#'), protocol)).toMatchObject({ messageId: 301, unsubscriptions: ['a/#'] })
  })

  test('PUBLISH, with its Packet Identifier and payload where the template says', () => {
    const { bytes, packetIdAt, payloadAt } = publishTemplate(protocol, { topic: 't/é', qos: 1, retain: true, payload: filler(200) })
    bytes[packetIdAt] = 1
    bytes[packetIdAt + 1] = 2
    bytes[payloadAt] = 65
    expect(decode(bytes, protocol)).toMatchObject({
      cmd: 'publish',
      topic: 't/é',
      qos: 1,
      retain: true,
      messageId: 258,
      payload: Buffer.from(`A${Buffer.from(filler(200)).toString().slice(1)}`),
    })
    expect(publishTemplate(protocol, { topic: 't', qos: 0, payload: filler(1) }).packetIdAt).toBe(0)
  })
})

describe('what a client reads', () => {
  /** Feeds one packet, as mqtt-packet writes it, to a version 5 client. */
  function feed(packet: mqtt.Packet, deliveries: DeliverySink | null = null): LoadClient {
    const client = new LoadClient(new Engine(), { host: '127.0.0.1', port: 1, protocol: 5, tls: null })
    client.deliveries = deliveries
    const bytes = mqtt.generate(packet, { protocolVersion: 5 })
    const start = bytes[1]! < 0x80 ? 2 : 3
    client.frame(bytes[0]!, bytes, start, bytes.length)
    return client
  }

  test('Receive Maximum, wherever it is among the properties', () => {
    const properties = {
      reasonString: 'hello',
      userProperties: { a: 'b', c: 'd' },
      serverKeepAlive: 60,
      topicAliasMaximum: 9,
      receiveMaximum: 37,
    }
    expect(feed({ cmd: 'connack', reasonCode: 0, sessionPresent: true, properties })).toMatchObject({
      receiveMaximum: 37,
      sessionPresent: true,
    })
    expect(feed({ cmd: 'connack', reasonCode: 0, sessionPresent: false })).toMatchObject({ receiveMaximum: 65_535 })
  })

  test('the payload behind topic, Packet Identifier and properties', () => {
    let seen = ''
    const sink = {
      delivered: (_first: number, bytes: Uint8Array, at: number, end: number) =>
        void (seen = Buffer.from(bytes.subarray(at, end)).toString()),
    }
    const userProperties = { key: 'v'.repeat(150) }
    const client = feed(
      {
        cmd: 'publish',
        topic: 'a/b',
        qos: 1,
        dup: false,
        retain: false,
        messageId: 515,
        payload: 'the payload',
        properties: { userProperties },
      },
      sink,
    )
    expect(seen).toBe('the payload')
    expect([...client.outBuffer.subarray(0, 4)]).toEqual([0x40, 2, 2, 3])
  })

  test('a refused filter', () => {
    expect(feed({ cmd: 'suback', messageId: 1, granted: [0x87] })).toMatchObject({ refusedFilters: 1, ackCount: 1 })
  })
})
