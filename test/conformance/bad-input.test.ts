import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { external, unique, useBroker } from './broker.ts'
import { field, frame, hex, u16, u8, varint } from './bytes.ts'
import * as packets from './packets.ts'
import { connect, publish, subscribe, unsubscribe } from './packets.ts'
import type { RawClient } from './raw-client.ts'
import { expectFatal, lasting, payloads, seeded } from './scenes.ts'

// Slow handshakes are the subject of one describe below; the deadline does not disturb the others.
const broker = useBroker('--connect-deadline-ms', '1500')

afterEach(async () => {
  expect(broker.running, 'the broker process runs').toBe(true)
  await broker.stillServes()
})

/** 65,535 bytes with 65,536 levels: no Topic Name of MQTT can have more. */
const DEEPEST = Buffer.alloc(65_535, '/')

describe('other protocols on the MQTT port', () => {
  const CLIENT_HELLO = hex(
    '16 0301 00b0 01 0000ac 0303' + '00'.repeat(32) + '20' + '11'.repeat(32) + '0004 1301 1302 0100 005f' + '00'.repeat(95),
  )
  const OTHERS: Record<string, Buffer> = {
    'TLS ClientHello': CLIENT_HELLO,
    'HTTP GET': Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'),
    'HTTP POST': Buffer.from('POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc'),
    'HTTP/2 preface': Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    'WebSocket upgrade': Buffer.from(
      'GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n',
    ),
    SSH: Buffer.from('SSH-2.0-OpenSSH_9.2\r\n'),
    RESP: Buffer.from('*1\r\n$4\r\nPING\r\n'),
    'PROXY protocol v1': Buffer.from('PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n'),
    'PROXY protocol v2': hex('0d0a0d0a000d0a515549540a 21 11 000c c0000201 c0000202 0001 0002'),
    zeros: Buffer.alloc(1_000),
    ones: Buffer.alloc(1_000, 0xff),
  }

  test('TLS, HTTP, SSH and other greetings close the connection without a word of MQTT', async () => {
    for (const [name, bytes] of Object.entries(OTHERS)) {
      const client = await broker.open()
      client.send(bytes)
      expect(await client.endedWith(), name).toBe('')
    }
  })

  test('the same bytes in the middle of a session close it', async () => {
    for (const bytes of Object.values(OTHERS)) {
      const client = await broker.connect()
      client.send(bytes, Buffer.alloc(2_000, 0xff))
      await client.endedWith()
    }
  })
})

describe('topics that are deep, long or named to confuse', () => {
  test('topics and filters of as many levels as fit are refused, alone and by the hundred', async () => {
    const client = await broker.connect()
    const outcomes = await Promise.all([
      client.subscribe({ filter: DEEPEST }).then(
        suback => suback.reasons[0]!,
        () => 'closed',
      ),
      client.publish({ topic: DEEPEST, qos: 1 }).then(
        puback => puback!.reason,
        () => 'closed',
      ),
    ])
    if (!external) expect(outcomes).toEqual([0x8f, 0x90])
    for (const bytes of [publish({ topic: DEEPEST }), subscribe(1, [{ filter: DEEPEST }]), unsubscribe(1, [DEEPEST])]) {
      const flood = await broker.connect()
      flood.send(...Array.from({ length: 100 }, () => bytes))
      await flood.ping().catch(() => flood.ended())
    }
  })

  test.skipIf(external)('a wildcard against the deepest allowed topics, and the reverse, costs no more than others', async () => {
    const levels = Array<string>(64).fill('a')
    const subscriber = await broker.connect()
    const filters = Array.from({ length: 64 }, (_, n) => levels.map((level, at) => (at % (n + 2) === 0 ? '+' : level)).join('/'))
    await subscriber.subscribe([...filters, ...filters.map(filter => `${filter}/#`)].map(filter => ({ filter })))
    for (let n = 0; n < 50; n++) subscriber.send(publish({ topic: levels.join('/'), payload: `${n}` }))
    expect(new Set(await payloads(subscriber, 50)).size).toBe(50)
  })

  test('__proto__, constructor and the like are names like any others', async () => {
    const names = [
      '__proto__',
      'constructor',
      'prototype',
      'toString',
      'hasOwnProperty',
      'valueOf',
      '__defineGetter__',
      'length',
      'size',
      'then',
    ]
    const publisher = await broker.connect()
    for (const name of names) {
      const client = await broker.connect({ ...lasting(name), userName: name })
      const filters = [`${name}`, `${name}/${name}`, `${name}/+/x`, `$share/${name}/${name}/shared`]
      expect((await client.subscribe(filters.map(filter => ({ filter, qos: 1 })))).reasons).toEqual([1, 1, 1, 1])
      for (const topic of [name, `${name}/${name}`, `${name}/${name}/x`, `${name}/shared`]) {
        const properties = { userProperty: [[name, name]] as [string, string][], contentType: name }
        await publisher.publish({ topic, payload: name, qos: 1, retain: true, properties })
        const message = await client.receive()
        expect([message.topic, message.payload.toString(), message.properties]).toEqual([topic, name, properties])
        await publisher.publish({ topic, qos: 1, retain: true })
        await client.receive()
      }
      expect((await client.unsubscribe(...filters)).reasons).toEqual([0, 0, 0, 0])
      await client.disconnect(0, { sessionExpiryInterval: 0 })
    }
  })
})

describe('packets with very many parts', () => {
  test('10,000 Topic Filters in one SUBSCRIBE and UNSUBSCRIBE are handled, more refused', async () => {
    const client = await broker.connect()
    const prefix = unique('t')
    const filters = Array.from({ length: 10_000 }, (_, n) => `${prefix}/${n}/+`)
    const suback = await client.subscribe(filters.map(filter => ({ filter, qos: 1 })))
    expect(suback.reasons).toEqual(Array(10_000).fill(1))
    await client.publish({ topic: `${prefix}/9999/x`, qos: 1 })
    await client.receive()
    expect((await client.unsubscribe(...filters)).reasons).toEqual(Array(10_000).fill(0))
    if (!external)
      await expectFatal(
        broker,
        subscribe(
          1,
          [...filters, 'one/more'].map(filter => ({ filter })),
        ),
        0x97,
      )
    if (!external) await expectFatal(broker, unsubscribe(1, [...filters, 'one/more']), 0x97)
  })

  test('10,000 User Properties in one packet are handled, more refused', async () => {
    const userProperty = Array.from({ length: 10_000 }, (_, n): [string, string] => ['name', `${n}`])
    const client = await broker.connect({ properties: { userProperty } })
    const topic = unique('t')
    await client.subscribe({ filter: topic, qos: 1 }, { userProperty })
    await client.publish({ topic, qos: 1, properties: { userProperty } })
    expect((await client.receive()).properties.userProperty).toEqual(userProperty)
    const more = { userProperty: [...userProperty, ['one', 'more'] as [string, string]] }
    if (!external) await expectFatal(broker, publish({ topic, properties: more }), 0x97)
    if (!external) await expectFatal(broker, subscribe(1, [{ filter: topic }], 5, more), 0x97)
  })

  test('a packet announced as the largest there is keeps nothing waiting', async () => {
    const huge = hex('ff ff ff 7f')
    for (const firstByte of [0x30, 0x32, 0x82, 0xa2, 0x62, 0xc0, 0xe0]) {
      const client = await broker.connect()
      client.send(Buffer.concat([u8(firstByte), huge]))
      if (!external) await client.expectDisconnect(0x95, 0x81)
    }
    const opened = await broker.open()
    opened.send(Buffer.concat([u8(0x10), huge, field('MQTT'), u8(5)]))
    await opened.endedWith()
  })

  test('lengths inside a packet that point beyond it are Malformed Packets', async () => {
    const beyond = [
      frame(0x30, hex('ff ff 61')),
      frame(0x30, field('a'), varint(200), u8(0)),
      frame(0x82, u16(1), u8(0), hex('ff ff 61 00')),
      frame(0x30, field('a'), hex('05 09 ffff 61 62')),
      frame(0xa2, u16(1), u8(0), hex('00 ff 61')),
      frame(0x40, u16(1), u8(0), hex('7f')),
    ]
    for (const bytes of beyond) await expectFatal(broker, bytes, 0x81)
  })
})

describe('identifiers', () => {
  test('acknowledgements for unknown Packet Identifiers: 0x92 where it is prescribed, no harm elsewhere', async () => {
    const client = await broker.connect()
    const topic = unique('t')
    await client.subscribe({ filter: topic, qos: 2 })
    for (const packetId of [1, 2, 65_535]) {
      client.send(packets.ack('pubrel', packetId), packets.ack('pubrec', packetId))
      if (!external) expect((await client.take('pubcomp', packetId)).reason).toBe(0x92)
      if (!external) expect((await client.take('pubrel', packetId)).reason).toBe(0x92)
    }
    for (let round = 0; round < 1_000; round++) client.send(packets.ack('puback', round + 1), packets.ack('pubcomp', round + 1))
    await client.ping().catch(() => client.ended())
  })

  test('acknowledgements of the wrong kind do not break the exchange of another message', async () => {
    const client = await broker.connect()
    const topic = unique('t')
    await client.subscribe({ filter: topic, qos: 2 })
    await client.publish({ topic, payload: 'two', qos: 2 })
    const message = await client.take('publish')
    client.send(packets.ack('puback', message.packetId), packets.ack('pubcomp', message.packetId))
    await client.ping().catch(() => client.ended())
  })

  test('one Packet Identifier for everything at once', async () => {
    const client = await broker.connect()
    const topic = unique('t')
    for (let round = 0; round < 20; round++) {
      client.send(
        publish({ topic, qos: 2, packetId: 1 }),
        publish({ topic, qos: 1, packetId: 1 }),
        subscribe(1, [{ filter: topic, qos: 2 }]),
        unsubscribe(1, [topic]),
        packets.ack('pubrel', 1),
        packets.ack('pubrel', 1),
        packets.ack('pubrec', 1),
        packets.ack('puback', 1),
      )
    }
    await client.ping().catch(() => client.ended())
  })
})

describe('storms', () => {
  test('many connections with one Client Identifier: one survives, and the session is intact', async () => {
    const session = lasting()
    const topic = unique('t')
    const first = await broker.connect(session)
    await first.subscribe({ filter: topic, qos: 1 })
    const publisher = await broker.connect()
    await publisher.publish({ topic, payload: 'before', qos: 1 })
    const storm = await Promise.all(Array.from({ length: 200 }, () => broker.open()))
    for (const [n, client] of storm.entries()) client.send(connect({ ...session, cleanStart: false }), ...(n % 3 ? [packets.PINGREQ] : []))
    const last = await broker.connect({ ...session, cleanStart: false })
    await Promise.all(storm.map(client => client.endedWith()))
    expect(last.connack.sessionPresent).toBe(true)
    expect(await payloads(last, 1)).toEqual(['before'])
    await publisher.publish({ topic, payload: 'after', qos: 1 })
    expect(await payloads(last, 1)).toEqual(['after'])
    await last.expectNothing()
  })

  test('connections that come and go before, while and after they say CONNECT', async () => {
    await Promise.all(
      Array.from({ length: 200 }, async (_, n) => {
        const client = await broker.open()
        const bytes = connect({ clientId: unique('c'), will: { topic: unique('t'), retain: true } })
        client.send(bytes.subarray(0, n % (bytes.length + 1)))
        if (n % 2) await new Promise(setImmediate)
        client.drop()
      }),
    )
  })

  test('clients that subscribe, publish to themselves and never read are cut off or outlived', async () => {
    const topic = unique('t')
    const sleeper = await broker.connect()
    await sleeper.subscribe({ filter: topic })
    sleeper.pause()
    const publisher = await broker.connect()
    for (let n = 0; n < 100; n++) await publisher.publish({ topic, payload: Buffer.alloc(100_000), qos: 1 })
    await broker.stillServes()
    sleeper.drop()
  })
})

describe('garbage', () => {
  test('random bytes in the middle of sessions', async () => {
    const random = seeded(20_260_101)
    for (let round = 0; round < 150; round++) {
      const client = await broker.connect({ version: round % 3 === 0 ? 4 : 5 })
      client.send(Buffer.from(Array.from({ length: 1 + Math.floor(random() * 300) }, () => Math.floor(random() * 256))))
      client.drop()
    }
  })

  test('valid packets with one byte changed, one removed or one added', async () => {
    const random = seeded(7)
    const topic = unique('t')
    const properties = {
      contentType: 'a',
      responseTopic: 'b',
      correlationData: Buffer.from('c'),
      userProperty: [['d', 'e']] as [string, string][],
    }
    const valid = [
      publish({ topic, payload: 'x', qos: 2, packetId: 3, properties }),
      subscribe(4, [{ filter: topic, qos: 2 }], 5, { subscriptionIdentifier: 5 }),
      unsubscribe(6, [topic], 5, { userProperty: [['a', 'b']] }),
      packets.ack('pubrel', 3, 0, { reasonString: 'r' }),
      packets.ack('pubrec', 3, 0x80),
      packets.disconnect(4, { sessionExpiryInterval: 1, reasonString: 'x' }),
      packets.auth(0x18, { authenticationMethod: 'm' }),
    ]
    for (let round = 0; round < 400; round++) await sendMutated(valid[round % valid.length]!, random)
  })

  test('a mutated CONNECT', async () => {
    const random = seeded(11)
    for (let round = 0; round < 200; round++) {
      const bytes = connect({
        clientId: unique('m'),
        userName: 'u',
        password: 'p',
        properties: { sessionExpiryInterval: 0, receiveMaximum: 9, userProperty: [['a', 'b']] },
        will: { topic: unique('t'), payload: 'w', qos: 1, properties: { willDelayInterval: 1, contentType: 'c' } },
      })
      const client = await broker.open()
      client.send(mutated(bytes, random))
      await new Promise(setImmediate)
      client.drop()
    }
  })

  async function sendMutated(bytes: Buffer, random: () => number): Promise<void> {
    const client: RawClient = await broker.connect()
    client.send(mutated(bytes, random), packets.PINGREQ)
    if (random() < 0.1) await Promise.race([client.ended().catch(() => {}), sleep(5)])
    client.drop()
  }
})

describe.skipIf(external)('slow-loris', () => {
  test.concurrent('a connection that says nothing is closed at the deadline', async () => {
    const client = await broker.open()
    expect(await client.endedWith()).toBe('')
  })

  test.concurrent('a CONNECT that trickles in is cut at the deadline, however lively', async () => {
    const client = await broker.open()
    const bytes = connect({ clientId: unique('c'), userName: 'x'.repeat(1_000) })
    let sent = 0
    const trickle = setInterval(() => client.send(bytes.subarray(sent, ++sent)), 50)
    expect(await client.endedWith()).toBe('')
    clearInterval(trickle)
    expect(sent).toBeLessThan(bytes.length)
  })

  test.concurrent('hundreds of silent connections do not keep others from connecting', async () => {
    const silent = await Promise.all(Array.from({ length: 300 }, () => broker.open()))
    await broker.stillServes()
    await Promise.all(silent.map(client => client.endedWith()))
  })

  test.concurrent('a connection that was accepted in time is not subject to the deadline', async () => {
    const client = await broker.connect()
    await sleep(2_500)
    await client.ping()
  })

  test.concurrent('a packet that trickles in after CONNACK harms nobody else', async () => {
    const client = await broker.connect()
    const bytes = publish({ topic: unique('t'), payload: 'slow', qos: 1, packetId: 2 })
    for (const byte of bytes) {
      client.send(u8(byte))
      await sleep(20)
    }
    await client.take('puback', 2)
  })
})

function mutated(bytes: Buffer, random: () => number): Buffer {
  const at = Math.floor(random() * bytes.length)
  const byte = u8(Math.floor(random() * 256))
  const kind = Math.floor(random() * 3)
  return Buffer.concat([bytes.subarray(0, at), ...(kind === 1 ? [] : [byte]), bytes.subarray(kind === 2 ? at : at + 1)])
}
