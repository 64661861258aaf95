import { describe, expect, test } from 'vitest'
import { external, unique, useBroker } from './broker.ts'
import { field, frame, hex, u8 } from './bytes.ts'
import { publish } from './packets.ts'
import { expectFatal, expectNoMessage, lasting, pair, payloads, resume } from './scenes.ts'

const broker = useBroker()

describe('3.3.1 fixed header', () => {
  test('[MQTT-3.3.1-1] a PUBLISH sent again on a resumed session has DUP 1', async () => {
    const session = lasting()
    for (const qos of [1, 2]) {
      const { topic, subscriber, publisher } = await pair(broker, { subscriber: session })
      await publisher.publish({ topic, payload: 'again', qos })
      expect((await subscriber.take('publish')).dup).toBe(false)
      subscriber.drop()
      const second = await resume(broker, session)
      expect((await second.receive()).dup).toBe(true)
      await second.unsubscribe(topic)
    }
  })

  test('[MQTT-3.3.1-2] [MQTT-4.3.1-1] QoS 0 messages have DUP 0', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    await publisher.publish({ topic })
    expect((await subscriber.receive()).dup).toBe(false)
  })

  test('[MQTT-3.3.1-3] DUP of a publisher is not passed on', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    for (const qos of [1, 2]) {
      await publisher.publish({ topic, qos, dup: true })
      expect((await subscriber.receive()).dup).toBe(false)
    }
  })

  test('[MQTT-3.3.1-4] QoS 3 is a Malformed Packet', async () => {
    await expectFatal(broker, publish({ topic: 'a', qos: 3 }), 0x81)
    await expectFatal(broker, publish({ topic: 'a', qos: 3, dup: true, retain: true }), 0x81)
  })
})

describe('3.3.1.3 RETAIN', () => {
  test('[MQTT-3.3.1-5] a retained message replaces the one before and is stored with its QoS and properties', async () => {
    const publisher = await broker.connect()
    for (const qos of [0, 1, 2]) {
      const topic = unique('r')
      await publisher.publish({ topic, payload: 'old', retain: true, qos: 1, properties: { contentType: 'old' } })
      await publisher.publish({ topic, payload: 'new', retain: true, qos, properties: { userProperty: [['a', 'b']] } })
      const subscriber = await broker.connect()
      await subscriber.subscribe({ filter: topic, qos: 2 })
      const message = await subscriber.receive()
      expect([message.payload.toString(), message.qos, message.retain, message.properties]).toEqual([
        'new',
        qos,
        true,
        { userProperty: [['a', 'b']] },
      ])
      await subscriber.expectNothing()
    }
  })

  test('[MQTT-3.3.1-6] a retained message without payload removes the stored one and is delivered as usual', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    await publisher.publish({ topic, payload: 'stored', retain: true, qos: 1 })
    await publisher.publish({ topic, retain: true, qos: 1 })
    expect((await subscriber.receive()).payload.toString()).toBe('stored')
    expect((await subscriber.receive()).payload.length).toBe(0)
    const late = await broker.connect()
    await late.subscribe({ filter: topic, qos: 1 })
    await late.expectNothing()
  })

  test('[MQTT-3.3.1-7] a retained message without payload is not stored', async () => {
    const publisher = await broker.connect()
    const topic = unique('r')
    await publisher.publish({ topic, retain: true, qos: 1 })
    await publisher.publish({ topic, retain: true, qos: 2 })
    await publisher.subscribe({ filter: topic, qos: 1 })
    await publisher.expectNothing()
  })

  test('[MQTT-3.3.1-8] a message without RETAIN neither becomes retained nor touches what is', async () => {
    const publisher = await broker.connect()
    const [kept, never] = [unique('r'), unique('r')]
    await publisher.publish({ topic: kept, payload: 'kept', retain: true, qos: 1 })
    await publisher.publish({ topic: kept, payload: 'passing', qos: 1 })
    await publisher.publish({ topic: kept, qos: 1 })
    await publisher.publish({ topic: never, payload: 'passing', qos: 1 })
    await publisher.subscribe([
      { filter: kept, qos: 1 },
      { filter: never, qos: 1 },
    ])
    expect((await publisher.receive()).payload.toString()).toBe('kept')
    await publisher.expectNothing()
  })

  test('[MQTT-3.3.1-9] Retain Handling 0 sends the Retained Messages with every SUBSCRIBE', async () => {
    const client = await broker.connect()
    const topic = unique('r')
    for (const level of ['x', 'y']) await client.publish({ topic: `${topic}/${level}`, payload: level, retain: true, qos: 1 })
    for (const filter of [`${topic}/+`, `${topic}/+`, `${topic}/#`, `${topic}/x`]) {
      await client.subscribe({ filter, qos: 1, retainHandling: 0 })
      const expected = filter.endsWith('x') ? ['x'] : ['x', 'y']
      expect((await payloads(client, expected.length)).sort()).toEqual(expected)
    }
    await client.expectNothing()
  })

  test('[MQTT-3.3.1-10] Retain Handling 1 sends them only when the subscription is new', async () => {
    const client = await broker.connect()
    const topic = unique('r')
    await client.publish({ topic, payload: 'retained', retain: true, qos: 1 })
    await client.subscribe({ filter: topic, qos: 1, retainHandling: 1 })
    expect((await client.receive()).retain).toBe(true)
    await client.subscribe({ filter: topic, qos: 2, retainHandling: 1, retainAsPublished: true })
    await client.expectNothing()
    await client.unsubscribe(topic)
    await client.subscribe({ filter: topic, qos: 1, retainHandling: 1 })
    expect((await client.receive()).retain).toBe(true)
  })

  test('[MQTT-3.3.1-11] Retain Handling 2 never sends them', async () => {
    const client = await broker.connect()
    const topic = unique('r')
    await client.publish({ topic, payload: 'retained', retain: true, qos: 1 })
    for (const filter of [topic, `${topic}/#`, topic]) await client.subscribe({ filter, qos: 1, retainHandling: 2 })
    await client.expectNothing()
    await client.publish({ topic, payload: 'live', qos: 1 })
    expect((await client.receive()).payload.toString()).toBe('live')
  })

  test('[MQTT-3.3.1-12] Retain As Published 0 clears RETAIN of forwarded messages', async () => {
    const { topic, subscriber, publisher } = await pair(broker, { subscription: { retainAsPublished: false } })
    for (const retain of [true, false]) {
      await publisher.publish({ topic, payload: 'x', retain, qos: 1 })
      expect((await subscriber.receive()).retain).toBe(false)
    }
  })

  test('[MQTT-3.3.1-13] Retain As Published 1 keeps RETAIN of forwarded messages', async () => {
    const { topic, subscriber, publisher } = await pair(broker, { subscription: { retainAsPublished: true } })
    for (const retain of [true, false]) {
      await publisher.publish({ topic, payload: 'x', retain, qos: 1 })
      expect((await subscriber.receive()).retain).toBe(retain)
    }
  })

  test('§3.3.1.3 a message from the retained store has RETAIN 1 whatever Retain As Published says', async () => {
    const client = await broker.connect()
    const topic = unique('r')
    await client.publish({ topic, payload: 'x', retain: true, qos: 1 })
    for (const retainAsPublished of [true, false]) {
      await client.subscribe({ filter: topic, qos: 1, retainAsPublished })
      expect((await client.receive()).retain).toBe(true)
    }
  })

  test('§3.3.1.3 Retained Messages outlive their publisher and its session', async () => {
    const topic = unique('r')
    const publisher = await broker.connect()
    await publisher.publish({ topic, payload: 'stays', retain: true, qos: 1 })
    await publisher.disconnect()
    const client = await broker.connect()
    await client.subscribe({ filter: topic, qos: 1 })
    expect((await client.receive()).payload.toString()).toBe('stays')
  })
})

describe('3.3.2.1 Topic Name', () => {
  test('[MQTT-3.3.2-1] a PUBLISH without a well-formed Topic Name in front is a Malformed Packet', async () => {
    await expectFatal(broker, hex('30 00'), 0x81)
    await expectFatal(broker, hex('30 01 00'), 0x81)
    await expectFatal(broker, frame(0x30, field(hex('e2 28 a1')), u8(0)), 0x81)
  })

  test('[MQTT-3.3.2-2] [MQTT-4.7.0-1] a Topic Name with a wildcard character is refused', async () => {
    for (const topic of ['+', '#', 'a/+', 'a/#', 'a+b', 'a#', '/+/']) {
      for (const qos of [0, 1, 2]) await expectFatal(broker, publish({ topic, qos, packetId: 3 }), 0x81, 0x82, 0x90)
    }
  })

  test('[MQTT-3.3.2-3] what a subscriber gets matches its Topic Filter and carries the Topic Name as published', async () => {
    const client = await broker.connect()
    const topic = unique('t')
    await client.subscribe([{ filter: `${topic}/+/c` }, { filter: `${topic}/d/#` }])
    const published = [`${topic}/a/c`, `${topic}/a/d`, `${topic}/d`, `${topic}/d/e/f`, `${topic}/c`, `${topic}//c`, `${topic}/a/c/`]
    for (const name of published) await client.publish({ topic: name })
    const got: string[] = []
    for (let n = 0; n < 4; n++) got.push((await client.receive()).topic)
    expect(got).toEqual([`${topic}/a/c`, `${topic}/d`, `${topic}/d/e/f`, `${topic}//c`])
    await client.expectNothing()
  })

  test('§3.3.2.1 an empty Topic Name without alias is a Protocol Error', async () => {
    await expectFatal(broker, publish({ topic: '' }), 0x82)
    await expectFatal(broker, publish({ topic: '', qos: 1 }), 0x82)
  })
})

describe('3.3.2.3 properties', () => {
  test('[MQTT-3.3.2-4] Payload Format Indicator is passed on unaltered', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    for (const payloadFormatIndicator of [0, 1]) {
      await publisher.publish({ topic, payload: 'text', qos: 1, properties: { payloadFormatIndicator } })
      expect((await subscriber.receive()).properties).toEqual({ payloadFormatIndicator })
    }
  })

  test.concurrent('[MQTT-3.3.2-5] a message whose Message Expiry Interval has passed is not delivered', async () => {
    const session = lasting()
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: session })
    await subscriber.disconnect()
    await publisher.publish({ topic, payload: 'short', qos: 1, properties: { messageExpiryInterval: 1 } })
    await publisher.publish({ topic, payload: 'short', qos: 2, properties: { messageExpiryInterval: 1 } })
    await publisher.publish({ topic, payload: 'long', qos: 1, properties: { messageExpiryInterval: 600 } })
    await publisher.publish({ topic, payload: 'short', qos: 1, retain: true, properties: { messageExpiryInterval: 1 } })
    await new Promise(resolve => setTimeout(resolve, 2_200))
    const second = await resume(broker, session)
    expect((await second.receive()).payload.toString()).toBe('long')
    await expectNoMessage(second, publisher)
    const late = await broker.connect()
    await late.subscribe({ filter: topic, qos: 1 })
    await late.expectNothing()
  })

  test.concurrent('[MQTT-3.3.2-6] Message Expiry Interval is delivered less the time the message waited', async () => {
    const session = lasting()
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: session })
    await publisher.publish({ topic, payload: 'at once', qos: 1, properties: { messageExpiryInterval: 100 } })
    expect((await subscriber.receive()).properties.messageExpiryInterval).toBeGreaterThanOrEqual(99)
    await subscriber.disconnect()
    await publisher.publish({ topic, payload: 'waiting', qos: 1, retain: true, properties: { messageExpiryInterval: 100 } })
    await new Promise(resolve => setTimeout(resolve, 2_200))
    const second = await resume(broker, session)
    const waited = (await second.receive()).properties.messageExpiryInterval!
    expect(waited).toBeGreaterThan(85)
    expect(waited).toBeLessThanOrEqual(98)
    await second.subscribe({ filter: topic, qos: 1 })
    const retained = (await second.receive()).properties.messageExpiryInterval!
    expect(retained).toBeGreaterThan(85)
    expect(retained).toBeLessThanOrEqual(98)
  })

  test('[MQTT-3.3.2-7] aliases end with the Network Connection, in both directions', async () => {
    const session = lasting()
    const topic = unique('t')
    const first = await broker.connect({ ...session, properties: { ...session.properties, topicAliasMaximum: 5 } })
    await first.subscribe({ filter: topic })
    await first.publish({ topic, payload: 'one', properties: { topicAlias: 1 } })
    expect((await first.receive()).topic).toBe(topic)
    await first.disconnect()
    const second = await broker.connect({ ...session, cleanStart: false, properties: { ...session.properties, topicAliasMaximum: 5 } })
    await second.publish({ topic, payload: 'two' })
    expect((await second.receive()).topic).toBe(topic)
    second.send(publish({ topic: '', properties: { topicAlias: 1 } }))
    await second.expectDisconnect(0x82, 0x94)
  })

  test('[MQTT-3.3.2-8] Topic Alias 0 is refused with 0x94, and never sent', async () => {
    await expectFatal(broker, publish({ topic: 'a', properties: { topicAlias: 0 } }), 0x94, 0x82)
    const { topic, publisher } = await pair(broker)
    const subscriber = await broker.connect({ properties: { topicAliasMaximum: 65_535 } })
    await subscriber.subscribe({ filter: `${topic}/#` })
    for (let n = 0; n < 50; n++) await publisher.publish({ topic: `${topic}/${n}`, qos: 1 })
    for (let n = 0; n < 50; n++) expect((await subscriber.receive()).properties.topicAlias).not.toBe(0)
  })

  test('[MQTT-3.3.2-9] an alias above the announced Topic Alias Maximum ends with 0x94', async () => {
    const client = await broker.connect()
    const maximum = client.connack.properties.topicAliasMaximum ?? 0
    for (const topicAlias of [maximum + 1, 65_535])
      if (topicAlias <= 65_535 && topicAlias > maximum) {
        await expectFatal(broker, publish({ topic: unique('t'), qos: 1, properties: { topicAlias } }), 0x94)
      }
  })

  test('[MQTT-3.3.2-11] the broker never sends an alias above what the client allows', async () => {
    for (const topicAliasMaximum of [1, 2, 10]) {
      const { topic, publisher } = await pair(broker)
      const subscriber = await broker.connect({ properties: { topicAliasMaximum } })
      await subscriber.subscribe({ filter: `${topic}/#`, qos: 1 })
      for (let n = 0; n < 30; n++) await publisher.publish({ topic: `${topic}/${n % 13}`, payload: `${n}`, qos: n % 2 })
      const seen = await Promise.all(Array.from({ length: 30 }, () => subscriber.receive()))
      for (const message of seen) expect(subscriber.topicOf(message)).toMatch(new RegExp(`^${topic}/`))
    }
  })

  test('[MQTT-3.3.2-12] every alias from 1 to the announced maximum is accepted, set anew and reused', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    const maximum = publisher.connack.properties.topicAliasMaximum ?? 0
    const aliases = [...new Set([1, 2, Math.ceil(maximum / 2), maximum])].filter(alias => alias > 0 && alias <= maximum)
    for (const topicAlias of aliases) {
      await publisher.publish({ topic: unique('elsewhere'), qos: 1, properties: { topicAlias } })
      await publisher.publish({ topic, payload: 'set', qos: 1, properties: { topicAlias } })
      await publisher.publish({ topic: '', payload: 'used', qos: 2, properties: { topicAlias } })
      for (const expected of ['set', 'used']) {
        const message = await subscriber.receive()
        expect([message.topic, message.payload.toString(), message.properties]).toEqual([topic, expected, {}])
      }
    }
  })

  test('§3.3.2.3.4 an alias that was never set is a Protocol Error', async () => {
    const client = await broker.connect()
    if (!client.connack.properties.topicAliasMaximum) return
    client.send(publish({ topic: '', properties: { topicAlias: 1 } }))
    await client.expectDisconnect(0x82, 0x94)
  })

  test.skipIf(external)('§3.3.2.3.4 towards a client with Topic Alias Maximum aliases are used from the first message on', async () => {
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: { properties: { topicAliasMaximum: 1 } } })
    for (const qos of [0, 1, 2]) await publisher.publish({ topic, payload: 'x', qos })
    const [first, second, third] = [await subscriber.receive(), await subscriber.receive(), await subscriber.receive()]
    expect([first.topic, first.properties.topicAlias]).toEqual([topic, 1])
    expect([second.topic, second.properties.topicAlias]).toEqual(['', 1])
    expect([third.topic, third.properties.topicAlias]).toEqual(['', 1])
  })

  test('[MQTT-3.3.2-13] [MQTT-3.3.2-14] a Response Topic that is ill-formed or has wildcards is refused', async () => {
    await expectFatal(broker, publish({ topic: 'a', properties: Buffer.concat([u8(0x08), field(hex('ff'))]) }), 0x81)
    for (const responseTopic of ['a/+', '#', 'a#'])
      await expectFatal(broker, publish({ topic: 'a', properties: { responseTopic } }), 0x81, 0x82, 0x90)
  })

  test('[MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-20] Response Topic, Correlation Data and Content Type are passed on unaltered', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    const properties = {
      contentType: 'ünïcode/\ufefftype',
      responseTopic: '$share/answers/é',
      correlationData: Buffer.from([0, 255, 128, 0]),
    }
    for (const qos of [0, 1, 2]) {
      await publisher.publish({ topic, qos, properties })
      expect((await subscriber.receive()).properties).toEqual(properties)
    }
    await publisher.publish({ topic, qos: 1, properties: { contentType: '', correlationData: Buffer.alloc(0) } })
    expect((await subscriber.receive()).properties).toEqual({ contentType: '', correlationData: Buffer.alloc(0) })
  })

  test('[MQTT-3.3.2-17] [MQTT-3.3.2-18] User Properties are passed on unaltered and in order', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    const userProperty: [string, string][] = [
      ['b', '1'],
      ['a', '2'],
      ['b', '3'],
      ['', ''],
      ['b', '1'],
      ['__proto__', 'x'],
      ['$partition', 'p'],
    ]
    for (const qos of [0, 1, 2]) {
      await publisher.publish({ topic, qos, properties: { userProperty } })
      expect((await subscriber.receive()).properties).toEqual({ userProperty })
    }
  })

  test('[MQTT-3.3.2-17] properties survive the queue of an offline session and the retained store', async () => {
    const session = lasting()
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: session })
    await subscriber.disconnect()
    const properties = {
      payloadFormatIndicator: 1,
      contentType: 'c',
      responseTopic: 'r',
      correlationData: Buffer.from('d'),
      userProperty: [
        ['k', 'v'],
        ['k', 'w'],
      ] as [string, string][],
    }
    await publisher.publish({ topic, payload: 'text', qos: 1, retain: true, properties })
    const second = await resume(broker, session)
    expect((await second.receive()).properties).toEqual(properties)
    await second.subscribe({ filter: topic, qos: 1 })
    expect((await second.receive()).properties).toEqual(properties)
  })

  test('[MQTT-3.3.2-19] an ill-formed Content Type is a Malformed Packet', async () => {
    await expectFatal(broker, publish({ topic: 'a', properties: Buffer.concat([u8(0x03), field(hex('c3'))]) }), 0x81)
  })
})
