import { describe, expect, test } from 'vitest'
import { external, unique, useBroker } from './broker.ts'
import { field, frame, hex, u16, u8 } from './bytes.ts'
import type { Connect } from './packets.ts'
import * as packets from './packets.ts'
import { connect, publish, subscribe } from './packets.ts'
import type { RawClient } from './raw-client.ts'
import { expectNoMessage, payloads } from './scenes.ts'

// Clause numbers of MQTT 3.1.1 differ from those of MQTT 5: titles here write them as (3.1.1: …).
const broker = useBroker()

function client(options: Connect = {}): Promise<RawClient> {
  return broker.connect({ version: 4, ...options })
}

/** A CONNECT that must be refused with this return code. */
async function expectReturnCode(bytes: Buffer, code: number): Promise<void> {
  const opened = await broker.open(4)
  opened.send(bytes)
  expect((await opened.expect('connack')).reason).toBe(code)
  await opened.expectClosed()
}

/** MQTT 3.1.1 has no DISCONNECT of a server: after bad bytes there is only the end of the connection. */
async function expectCut(bytes: Buffer): Promise<void> {
  const connected = await client()
  connected.send(bytes)
  await connected.expectClosed()
}

describe('MQTT 3.1.1 CONNECT', () => {
  test('(3.1.1: MQTT-3.2.2-1, -2, -3) CONNACK is four bytes, with Session Present as the session was', async () => {
    const clientId = unique('s')
    const first = await client({ clientId, cleanStart: false })
    expect([first.connack.bytes, first.connack.sessionPresent]).toEqual([4, false])
    await first.disconnect()
    const second = await client({ clientId, cleanStart: false })
    expect(second.connack.sessionPresent).toBe(true)
    await second.disconnect()
    expect((await client({ clientId, cleanStart: true })).connack.sessionPresent).toBe(false)
  })

  test('(3.1.1: MQTT-3.1.2-4, -5, -6) Clean Session 0 keeps the session beyond the connection, Clean Session 1 does not', async () => {
    const clientId = unique('s')
    const topic = unique('t')
    const first = await client({ clientId, cleanStart: false })
    await first.subscribe({ filter: topic, qos: 2 })
    first.drop()
    const publisher = await client()
    await publisher.publish({ topic, payload: 'one', qos: 1 })
    await publisher.publish({ topic, payload: 'two', qos: 2 })
    const second = await client({ clientId, cleanStart: false })
    expect(await payloads(second, 2)).toEqual(['one', 'two'])
    await second.disconnect()
    await (await client({ clientId, cleanStart: true })).disconnect()
    const last = await client({ clientId, cleanStart: false })
    expect(last.connack.sessionPresent).toBe(false)
    await last.publish({ topic, qos: 1 })
    await last.expectNothing()
  })

  test('(3.1.1: MQTT-3.1.3-8) an empty Client Identifier with Clean Session 0 gets return code 2', async () => {
    await expectReturnCode(connect({ version: 4, clientId: '', cleanStart: false }), 2)
  })

  test('(3.1.1: MQTT-3.1.3-7) an empty Client Identifier with Clean Session 1 is accepted', async () => {
    const clients = [await client({ clientId: '' }), await client({ clientId: '' })]
    for (const each of clients) await each.ping()
  })

  test('(3.1.1: MQTT-3.1.2-2) an unknown protocol level with the name MQTT is refused', async () => {
    for (const protocolLevel of [1, 2, 3]) {
      const opened = await broker.open(4)
      opened.send(connect({ version: 4, protocolLevel, clientId: unique('c') }))
      expect(await opened.endedWith()).toMatch(/^$|^20020001$/)
    }
  })

  test('(3.1.1: MQTT-3.1.0-2) a second CONNECT cuts the connection', async () => {
    await expectCut(connect({ version: 4, clientId: unique('c') }))
  })

  test('(3.1.1: MQTT-3.1.2-3, -22) reserved flag or password without user name cuts the connection', async () => {
    for (const flags of [0x03, 0x42, 0x0a, 0x22]) {
      const opened = await broker.open(4)
      opened.send(connect({ version: 4, flags, payload: Buffer.concat([field(unique('c')), field('x')]) }))
      expect(await opened.endedWith()).toMatch(/^$|^200200/)
    }
  })

  test('(3.1.1: MQTT-3.1.4-2) a takeover cuts the older connection without a DISCONNECT', async () => {
    const clientId = unique('c')
    const first = await client({ clientId })
    const second = await client({ clientId })
    await first.expectClosed()
    await second.ping()
  })

  test('(3.1.1: MQTT-3.1.4-2) takeovers work across protocol versions', async () => {
    const clientId = unique('c')
    const first = await client({ clientId })
    const second = await broker.connect({ clientId })
    await first.expectClosed()
    await client({ clientId })
    await second.expectDisconnect(0x8e)
  })

  test.concurrent('(3.1.1: MQTT-3.1.2-24) a client that is silent for one and a half times Keep Alive is cut off, without a DISCONNECT', async () => {
    const silent = await client({ keepAlive: 1 })
    await silent.expectClosed()
  })
})

describe('MQTT 3.1.1 messages', () => {
  test.skipIf(external)('(3.1.1: MQTT-3.3.5-1) overlapping subscriptions deliver with their highest QoS', async () => {
    const subscriber = await client()
    const topic = unique('t')
    await subscriber.subscribe([
      { filter: `${topic}/#`, qos: 2 },
      { filter: `${topic}/+`, qos: 1 },
    ])
    await subscriber.publish({ topic: `${topic}/a`, qos: 2 })
    expect((await subscriber.receive()).qos).toBe(2)
    await subscriber.expectNothing()
  })

  test('(3.1.1: MQTT-3.8.4-1, MQTT-3.9.3-2) SUBACK grants QoS 0, 1 and 2 in order', async () => {
    const topic = unique('t')
    expect((await (await client()).subscribe([2, 0, 1].map(qos => ({ filter: `${topic}/${qos}`, qos })))).reasons).toEqual([2, 0, 1])
  })

  test.skipIf(external)('(3.1.1: MQTT-3.9.3-2) a filter that is refused gets 0x80 beside granted ones', async () => {
    const subscriber = await client()
    const tooDeep = Array(129).fill('x').join('/')
    expect(
      (
        await subscriber.subscribe([
          { filter: unique('t'), qos: 1 },
          { filter: tooDeep, qos: 1 },
        ])
      ).reasons,
    ).toEqual([1, 0x80])
  })

  test('(3.1.1: MQTT-3.10.4-5) UNSUBACK follows even when nothing was subscribed', async () => {
    expect((await (await client()).unsubscribe('never')).bytes).toBe(4)
  })

  test('(3.1.1: MQTT-3.3.1-6, -7, -8, -9) RETAIN is 1 from the retained store and 0 on forwarded messages', async () => {
    const [subscriber, publisher] = [await client(), await client()]
    const topic = unique('t')
    await subscriber.subscribe({ filter: topic, qos: 1 })
    await publisher.publish({ topic, payload: 'x', qos: 1, retain: true })
    expect((await subscriber.receive()).retain).toBe(false)
    await subscriber.subscribe({ filter: topic, qos: 1 })
    expect((await subscriber.receive()).retain).toBe(true)
  })

  test('(3.1.1: MQTT-3.8.4-3) every SUBSCRIBE sends the Retained Messages again', async () => {
    const subscriber = await client()
    const topic = unique('t')
    await subscriber.publish({ topic, payload: 'x', qos: 1, retain: true })
    for (let n = 0; n < 3; n++) {
      await subscriber.subscribe({ filter: topic, qos: 1 })
      await subscriber.receive()
    }
    await subscriber.expectNothing()
  })

  test('(3.1.1: MQTT-4.3.3) QoS 2 is delivered once and acknowledgements are two bytes of body', async () => {
    const [subscriber, publisher] = [await client(), await client()]
    const topic = unique('t')
    await subscriber.subscribe({ filter: topic, qos: 2 })
    for (const dup of [false, true]) {
      publisher.send(publish({ topic, payload: 'once', qos: 2, packetId: 5, dup }, 4))
      expect((await publisher.expect('pubrec')).bytes).toBe(4)
    }
    publisher.send(packets.ack('pubrel', 5))
    expect((await publisher.expect('pubcomp')).bytes).toBe(4)
    expect(await payloads(subscriber, 1)).toEqual(['once'])
    await expectNoMessage(subscriber, publisher)
  })

  test('(3.1.1: MQTT-4.4.0-1) unacknowledged messages come again with DUP on a resumed session', async () => {
    const clientId = unique('s')
    const topic = unique('t')
    const first = await client({ clientId, cleanStart: false })
    await first.subscribe({ filter: topic, qos: 2 })
    const publisher = await client()
    for (const qos of [1, 2]) await publisher.publish({ topic, payload: `${qos}`, qos })
    const sent = [await first.take('publish'), await first.take('publish')]
    first.drop()
    const second = await client({ clientId, cleanStart: false })
    for (const message of sent) {
      const again = await second.receive()
      expect([again.packetId, again.dup, again.payload.toString()]).toEqual([message.packetId, true, message.payload.toString()])
    }
  })

  test('a refused or unheard PUBLISH gets its plain PUBACK', async () => {
    const publisher = await client()
    expect((await publisher.publish({ topic: unique('nobody'), qos: 1 }))!.bytes).toBe(4)
    if (!external)
      expect((await publisher.publish({ topic: Array(129).fill('x').join('/'), qos: 1 }).catch(() => ({ bytes: 4 })))!.bytes).toBe(4)
  })

  test('messages pass between MQTT 5 and MQTT 3.1.1; properties end at 3.1.1', async () => {
    const [old, modern] = [await client(), await broker.connect()]
    const topic = unique('t')
    await old.subscribe({ filter: topic, qos: 2 })
    await modern.subscribe({ filter: topic, qos: 2 })
    await modern.publish({ topic, payload: 'modern', qos: 2, properties: { contentType: 'x', userProperty: [['a', 'b']] } })
    await old.publish({ topic, payload: 'old', qos: 2 })
    for (const each of [old, modern]) expect(await payloads(each, 2)).toEqual(['modern', 'old'])
  })

  test('a Will and Shared Subscriptions work for MQTT 3.1.1 too', async () => {
    const watcher = await client()
    const topic = unique('t')
    await watcher.subscribe({ filter: `$share/${unique('g')}/${topic}`, qos: 1 })
    const dying = await client({ will: { topic, payload: 'will', qos: 1 } })
    dying.drop()
    expect(await payloads(watcher, 1)).toEqual(['will'])
    const leaving = await client({ will: { topic, payload: 'never', qos: 1 } })
    await leaving.disconnect()
    await expectNoMessage(watcher, await client())
  })
})

describe('MQTT 3.1.1 errors', () => {
  test('(3.1.1: MQTT-4.8.0-1) malformed packets and protocol errors cut the connection without a word', async () => {
    const bad = [
      hex('00 00'),
      hex('f0 00'),
      hex('c1 00'),
      hex('e1 00'),
      hex('60 02 00 01'),
      hex('30 00'),
      publish({ topic: '' }, 4),
      publish({ topic: 'a/#' }, 4),
      publish({ topic: 'a', qos: 3 }, 4),
      publish({ topic: 'a', qos: 1, packetId: 0 }, 4),
      subscribe(1, [], 4),
      subscribe(0, [{ filter: 'a' }], 4),
      subscribe(1, [{ filter: 'a', options: 3 }], 4),
      subscribe(1, [{ filter: 'a', options: 4 }], 4),
      frame(0x80, u16(1), field('a'), u8(0)),
      packets.unsubscribe(1, [], 4),
      publish({ topic: 'a\0' }, 4),
      publish({ topic: hex('ff') }, 4),
      hex('30 80 80 80 80 01'),
      hex('20 02 00 00'),
    ]
    await Promise.all(
      bad.map(bytes =>
        expectCut(bytes).catch((fault: Error) => {
          throw new Error(`after ${bytes.toString('hex')}: ${fault.message}`)
        }),
      ),
    )
    await broker.stillServes()
  })

  test('a DISCONNECT or acknowledgement with bytes of MQTT 5 cuts the connection', async () => {
    for (const bytes of [hex('e0 01 00'), hex('40 03 00 01 00'), hex('62 04 00 01 00 00')]) await expectCut(bytes)
  })
})

describe('MQTT 3.1', () => {
  test('a client with MQIsdp and level 3 connects, subscribes and publishes with every QoS', async () => {
    const old = await broker.connect({ version: 3, clientId: unique('old') })
    const topic = unique('t')
    expect((await old.subscribe({ filter: topic, qos: 2 })).reasons).toEqual([2])
    for (const qos of [0, 1, 2]) {
      await old.publish({ topic, payload: `${qos}`, qos })
      expect(await payloads(old, 1)).toEqual([`${qos}`])
    }
    await old.unsubscribe(topic)
    await old.disconnect()
  })

  test('CONNACK of MQTT 3.1 has no Session Present, and sessions are kept', async () => {
    const clientId = unique('old')
    const topic = unique('t')
    const first = await broker.connect({ version: 3, clientId, cleanStart: false })
    await first.subscribe({ filter: topic, qos: 1 })
    first.drop()
    await (await broker.connect()).publish({ topic, payload: 'kept', qos: 1 })
    const second = await broker.connect({ version: 3, clientId, cleanStart: false })
    expect(second.connack.sessionPresent).toBe(false)
    expect(await payloads(second, 1)).toEqual(['kept'])
  })

  test('an empty Client Identifier is refused with return code 2', async () => {
    const opened = await broker.open(3)
    opened.send(connect({ version: 3, clientId: '' }))
    expect((await opened.expect('connack')).reason).toBe(2)
    await opened.expectClosed()
  })

  test('MQIsdp with another level is refused', async () => {
    for (const protocolLevel of [4, 5]) {
      const opened = await broker.open(3)
      opened.send(connect({ version: 3, protocolLevel, clientId: unique('old') }))
      expect(await opened.endedWith()).toMatch(/^$|^20020001$|^20[0-9a-f]{2}0084/)
    }
  })
})
