import { describe, expect, test } from 'vitest'
import { unique, useBroker } from './broker.ts'
import { field, frame, hex, u16, u8, varint } from './bytes.ts'
import { connect, publish, subscribe, unsubscribe } from './packets.ts'
import { expectConnectRefused, expectFatal, expectNoMessage, pair } from './scenes.ts'

const broker = useBroker()

const ILL_FORMED = {
  'a lone continuation byte': hex('61 80'),
  'a byte that UTF-8 never has': hex('61 ff'),
  'an overlong slash': hex('c0 af'),
  'a surrogate': hex('ed a0 80'),
  'a code point above U+10FFFF': hex('f4 90 80 80'),
  'an unfinished sequence': hex('61 e2 82'),
}

/** Every place of a client's packets that holds a UTF-8 Encoded String, filled with `text`. */
function packetsWith(text: Buffer): Buffer[] {
  return [
    publish({ topic: text }),
    publish({ topic: text, qos: 1, packetId: 7 }),
    publish({ topic: 'a', properties: Buffer.concat([u8(0x03), field(text)]) }),
    publish({ topic: 'a', properties: Buffer.concat([u8(0x08), field(text)]) }),
    publish({ topic: 'a', properties: Buffer.concat([u8(0x26), field(text), field('value')]) }),
    publish({ topic: 'a', properties: Buffer.concat([u8(0x26), field('name'), field(text)]) }),
    subscribe(7, [{ filter: text }]),
    subscribe(7, [{ filter: Buffer.concat([Buffer.from('$share/g/'), text]) }]),
    unsubscribe(7, [text]),
  ]
}

describe('1.5.4 UTF-8 Encoded String', () => {
  test('[MQTT-1.5.4-1] ill-formed UTF-8 in any string of any packet is a Malformed Packet', async () => {
    await Promise.all(Object.values(ILL_FORMED).flatMap(text => packetsWith(text).map(bytes => expectFatal(broker, bytes, 0x81))))
    await broker.stillServes()
  })

  test('[MQTT-1.5.4-1] ill-formed UTF-8 in CONNECT is refused', async () => {
    for (const text of Object.values(ILL_FORMED)) {
      await expectConnectRefused(broker, connect({ clientId: text }), 0x81, 0x85)
      await expectConnectRefused(broker, connect({ clientId: unique('c'), will: { topic: text } }), 0x81)
      await expectConnectRefused(broker, connect({ clientId: unique('c'), userName: text }), 0x81)
    }
  })

  test('[MQTT-1.5.4-2] U+0000 in any string is a Malformed Packet', async () => {
    await Promise.all(packetsWith(Buffer.from('a\0b')).map(bytes => expectFatal(broker, bytes, 0x81)))
    await expectConnectRefused(broker, connect({ clientId: 'a\0b' }), 0x81, 0x85)
  })

  test('[MQTT-1.5.4-3] U+FEFF at the beginning of a Topic Name is part of it', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    await publisher.publish({ topic: `\ufeff${topic}`, payload: 'with mark', qos: 1 })
    await expectNoMessage(subscriber, publisher)
    await subscriber.subscribe({ filter: `\ufeff${topic}`, qos: 1 })
    await publisher.publish({ topic: `\ufeff${topic}`, payload: 'with mark', qos: 1 })
    expect((await subscriber.receive()).topic).toBe(`\ufeff${topic}`)
  })
})

describe('1.5.5 Variable Byte Integer', () => {
  test('[MQTT-1.5.5-1] the broker writes Remaining Length in the fewest bytes at every boundary', async () => {
    const { topic, subscriber, publisher } = await pair(broker, { subscription: { qos: 0 } })
    const overhead = 2 + topic.length + 1
    for (const remainingLength of [127, 128, 16_383, 16_384, 2_097_151, 2_097_152]) {
      await publisher.publish({ topic, payload: Buffer.alloc(remainingLength - overhead, 'x'), qos: 1 })
      const message = await subscriber.receive()
      expect(message.bytes).toBe(1 + varint(remainingLength).length + remainingLength)
    }
  })

  test('[MQTT-1.5.5-1] the broker writes Subscription Identifiers in the fewest bytes at every boundary', async () => {
    const { topic, publisher } = await pair(broker)
    const subscriber = await broker.connect()
    for (const identifier of [1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455]) {
      await subscriber.subscribe({ filter: topic, retainHandling: 2 }, { subscriptionIdentifier: identifier })
      await publisher.publish({ topic, qos: 1 })
      expect((await subscriber.receive()).properties.subscriptionIdentifier).toEqual([identifier])
    }
  })

  test('§1.5.5 a Remaining Length of more than four bytes is a Malformed Packet', async () => {
    await expectFatal(broker, hex('30 80 80 80 80 01'), 0x81)
    await expectFatal(broker, hex('c0 ff ff ff ff 7f'), 0x81)
  })

  test('§1.5.5 a Property Length of more than four bytes, or beyond the packet, is a Malformed Packet', async () => {
    await expectFatal(broker, frame(0x30, field('a'), hex('80 80 80 80 01')), 0x81)
    await expectFatal(broker, frame(0x30, field('a'), hex('05 01')), 0x81)
    await expectFatal(broker, frame(0x82, u16(1), hex('7f'), field('a'), u8(0)), 0x81)
  })
})

describe('1.5.7 UTF-8 String Pair', () => {
  test('[MQTT-1.5.7-1] both strings of a User Property must be well-formed', async () => {
    for (const text of Object.values(ILL_FORMED)) {
      await expectFatal(broker, subscribe(1, [{ filter: 'a' }], 5, Buffer.concat([u8(0x26), field(text), field('v')])), 0x81)
      await expectFatal(broker, unsubscribe(1, ['a'], 5, Buffer.concat([u8(0x26), field('n'), field(text)])), 0x81)
    }
  })

  test('[MQTT-1.5.7-1] User Properties arrive as the well-formed strings that were sent', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    const userProperty: [string, string][] = [
      ['', ''],
      ['näme', '\ufeffvalue'],
      ['😀', '日本'],
      ['x'.repeat(1_000), 'y'.repeat(1_000)],
    ]
    await publisher.publish({ topic, qos: 1, properties: { userProperty } })
    expect((await subscriber.receive()).properties.userProperty).toEqual(userProperty)
  })
})
