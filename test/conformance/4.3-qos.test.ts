import { describe, expect, test } from 'vitest'
import { external, unique, useBroker } from './broker.ts'
import { ack, publish, subscribe, unsubscribe } from './packets.ts'
import { expectNoMessage, lasting, pair, payloads, resume } from './scenes.ts'

const broker = useBroker()

describe('4.3.1 QoS 0', () => {
  test('[MQTT-4.3.1-1] a QoS 0 message is sent once, with QoS 0 and DUP 0', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    await publisher.publish({ topic, payload: 'x' })
    const message = await subscriber.receive()
    expect([message.qos, message.dup]).toEqual([0, false])
    await subscriber.expectNothing()
  })
})

describe('4.3.2 QoS 1', () => {
  test('[MQTT-4.3.2-1] [MQTT-4.3.2-2] each new message is sent with an unused Packet Identifier, QoS 1 and DUP 0', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    const ids = new Set<number>()
    for (let n = 0; n < 30; n++) await publisher.publish({ topic, qos: 1 })
    for (let n = 0; n < 30; n++) {
      const message = await subscriber.take('publish')
      expect([message.qos, message.dup]).toEqual([1, false])
      ids.add(message.packetId)
    }
    expect(ids.size).toBe(30)
  })

  test('[MQTT-4.3.2-3] a message counts as unacknowledged until its PUBACK, and only that PUBACK', async () => {
    const session = { ...lasting(), properties: { sessionExpiryInterval: 600, receiveMaximum: 3 } }
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: session })
    for (const payload of ['1', '2', '3', '4']) await publisher.publish({ topic, payload, qos: 1 })
    const [one, two, three] = [await subscriber.take('publish'), await subscriber.take('publish'), await subscriber.take('publish')]
    subscriber.send(ack('puback', two.packetId))
    expect((await subscriber.take('publish')).payload.toString()).toBe('4')
    subscriber.drop()
    const second = await resume(broker, session)
    const again = [await second.receive(), await second.receive(), await second.receive()]
    expect(again.map(message => message.payload.toString())).toEqual(['1', '3', '4'])
    expect(again.slice(0, 2).map(message => message.packetId)).toEqual([one.packetId, three.packetId])
    await second.expectNothing()
  })

  test('[MQTT-4.3.2-4] PUBACK follows with the same Packet Identifier, and the message then belongs to the broker', async () => {
    const session = lasting()
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: session })
    await subscriber.disconnect()
    publisher.send(publish({ topic, payload: 'owned', qos: 1, packetId: 777 }))
    expect((await publisher.expect('puback')).packetId).toBe(777)
    publisher.drop()
    expect(await payloads(await resume(broker, session), 1)).toEqual(['owned'])
  })

  test('[MQTT-4.3.2-5] after PUBACK the same Packet Identifier is a new message, DUP or not', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    for (const dup of [false, true, true]) await publisher.publish({ topic, payload: `${dup}`, qos: 1, packetId: 5, dup })
    expect(await payloads(subscriber, 3)).toEqual(['false', 'true', 'true'])
  })
})

describe('4.3.3 QoS 2, the broker sends', () => {
  test('[MQTT-4.3.3-1] [MQTT-4.3.3-2] each new message is sent with an unused Packet Identifier, QoS 2 and DUP 0', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    const ids = new Set<number>()
    for (let n = 0; n < 30; n++) await publisher.publish({ topic, qos: 2 })
    for (let n = 0; n < 30; n++) {
      const message = await subscriber.take('publish')
      expect([message.qos, message.dup]).toEqual([2, false])
      ids.add(message.packetId)
    }
    expect(ids.size).toBe(30)
  })

  test('[MQTT-4.3.3-3] [MQTT-4.3.3-6] until PUBREC the PUBLISH is sent again on a resumed session, afterwards only PUBREL', async () => {
    const session = lasting()
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: session })
    await publisher.publish({ topic, payload: 'exactly once', qos: 2 })
    const sent = await subscriber.take('publish')
    subscriber.drop()
    const second = await resume(broker, session)
    const again = await second.take('publish')
    expect([again.packetId, again.dup, again.qos]).toEqual([sent.packetId, true, 2])
    second.send(ack('pubrec', again.packetId))
    await second.take('pubrel', again.packetId)
    second.drop()
    const third = await resume(broker, session)
    expect((await third.expect('pubrel')).packetId).toBe(sent.packetId)
    third.send(ack('pubcomp', sent.packetId))
    await third.expectNothing()
    third.drop()
    await (await resume(broker, session)).expectNothing()
  })

  test('[MQTT-4.3.3-4] PUBREC below 0x80 is answered by PUBREL with the same Packet Identifier', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    for (const reason of [undefined, 0x00, 0x10]) {
      await publisher.publish({ topic, qos: 2 })
      const message = await subscriber.take('publish')
      subscriber.send(ack('pubrec', message.packetId, reason))
      const pubrel = await subscriber.expect('pubrel')
      expect([pubrel.packetId, pubrel.reason]).toEqual([message.packetId, 0])
      subscriber.send(ack('pubcomp', message.packetId))
    }
  })

  test('[MQTT-4.3.3-4] a repeated PUBREC gets PUBREL again', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    await publisher.publish({ topic, qos: 2 })
    const { packetId } = await subscriber.take('publish')
    subscriber.send(ack('pubrec', packetId), ack('pubrec', packetId))
    for (let n = 0; n < 2; n++) expect((await subscriber.expect('pubrel')).reason).toBe(0)
    subscriber.send(ack('pubcomp', packetId))
    await subscriber.expectNothing()
  })

  test('[MQTT-4.3.3-5] PUBREL counts as unacknowledged until PUBCOMP', async () => {
    const session = { ...lasting(), properties: { sessionExpiryInterval: 600, receiveMaximum: 1 } }
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: session })
    await publisher.publish({ topic, payload: 'one', qos: 2 })
    await publisher.publish({ topic, payload: 'two', qos: 2 })
    const one = await subscriber.take('publish')
    subscriber.send(ack('pubrec', one.packetId))
    await subscriber.expect('pubrel')
    await subscriber.expectNothing()
    subscriber.drop()
    const second = await resume(broker, session)
    expect((await second.expect('pubrel')).packetId).toBe(one.packetId)
    await second.expectNothing()
    second.send(ack('pubcomp', one.packetId))
    expect(await payloads(second, 1)).toEqual(['two'])
  })

  test.concurrent('[MQTT-4.3.3-7] a message that was sent once does not expire any more', async () => {
    const session = lasting()
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: session })
    await publisher.publish({ topic, payload: 'begun', qos: 2, properties: { messageExpiryInterval: 1 } })
    const sent = await subscriber.take('publish')
    subscriber.drop()
    await new Promise(resolve => setTimeout(resolve, 2_500))
    const second = await resume(broker, session)
    const again = await second.receive()
    expect([again.packetId, again.dup, again.payload.toString()]).toEqual([sent.packetId, true, 'begun'])
  })
})

describe('4.3.3 QoS 2, the broker receives', () => {
  test('[MQTT-4.3.3-8] PUBREC follows with the same Packet Identifier, and the message then belongs to the broker', async () => {
    const session = lasting()
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: session })
    await subscriber.disconnect()
    publisher.send(publish({ topic, payload: 'owned', qos: 2, packetId: 888 }))
    expect((await publisher.expect('pubrec')).packetId).toBe(888)
    publisher.send(ack('pubrel', 888))
    await publisher.expect('pubcomp')
    expect(await payloads(await resume(broker, session), 1)).toEqual(['owned'])
  })

  test.skipIf(external)('[MQTT-4.3.3-9] after PUBREC of 0x80 or more the same Packet Identifier is a new message', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    const tooDeep = Array(129).fill('x').join('/')
    publisher.send(publish({ topic: tooDeep, qos: 2, packetId: 6 }))
    expect((await publisher.expect('pubrec')).reason).toBe(0x90)
    publisher.send(publish({ topic, payload: 'new', qos: 2, packetId: 6 }))
    expect((await publisher.expect('pubrec')).reason).toBe(0)
    publisher.send(ack('pubrel', 6))
    expect((await publisher.expect('pubcomp')).reason).toBe(0)
    expect(await payloads(subscriber, 1)).toEqual(['new'])
  })

  test('[MQTT-4.3.3-10] a PUBLISH repeated before PUBREL gets PUBREC again and is delivered once', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    for (const dup of [false, true, true]) {
      publisher.send(publish({ topic, payload: 'once', qos: 2, packetId: 9, dup }))
      const pubrec = await publisher.expect('pubrec')
      expect(pubrec.packetId).toBe(9)
      expect(pubrec.reason).toBeLessThan(0x80)
    }
    publisher.send(ack('pubrel', 9))
    await publisher.expect('pubcomp')
    expect(await payloads(subscriber, 1)).toEqual(['once'])
    await expectNoMessage(subscriber, publisher)
  })

  test('[MQTT-4.3.3-10] a repetition on a resumed session is recognised too', async () => {
    const session = lasting()
    const { topic, subscriber, publisher } = await pair(broker, { publisher: session })
    publisher.send(publish({ topic, payload: 'once', qos: 2, packetId: 9 }))
    await publisher.expect('pubrec')
    publisher.drop()
    const second = await resume(broker, session)
    second.send(publish({ topic, payload: 'once', qos: 2, packetId: 9, dup: true }))
    await second.expect('pubrec')
    second.drop()
    const third = await resume(broker, session)
    third.send(ack('pubrel', 9))
    expect((await third.expect('pubcomp')).reason).toBe(0)
    expect(await payloads(subscriber, 1)).toEqual(['once'])
    await expectNoMessage(subscriber, third)
  })

  test('[MQTT-4.3.3-11] PUBREL is answered by PUBCOMP with the same Packet Identifier', async () => {
    const client = await broker.connect()
    for (const packetId of [1, 256, 65_535]) {
      client.send(publish({ topic: unique('t'), qos: 2, packetId }))
      await client.expect('pubrec')
      client.send(ack('pubrel', packetId))
      expect((await client.expect('pubcomp')).packetId).toBe(packetId)
    }
  })

  test('[MQTT-4.3.3-12] after PUBCOMP the same Packet Identifier is a new message', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    for (const dup of [false, true, false]) await publisher.publish({ topic, payload: `${dup}`, qos: 2, packetId: 4, dup })
    expect(await payloads(subscriber, 3)).toEqual(['false', 'true', 'false'])
  })

  test.concurrent('[MQTT-4.3.3-13] the exchange is carried to its end although the message has expired', async () => {
    const client = await broker.connect()
    client.send(publish({ topic: unique('t'), qos: 2, packetId: 3, properties: { messageExpiryInterval: 1 } }))
    await client.expect('pubrec')
    await new Promise(resolve => setTimeout(resolve, 2_200))
    client.send(publish({ topic: unique('t'), qos: 2, packetId: 3, dup: true, properties: { messageExpiryInterval: 1 } }))
    expect((await client.expect('pubrec')).packetId).toBe(3)
    client.send(ack('pubrel', 3))
    expect((await client.expect('pubcomp')).reason).toBe(0)
  })

  test.skipIf(external)('§4.3.3 a Packet Identifier that a QoS 2 exchange holds is refused for other requests with 0x91', async () => {
    const client = await broker.connect()
    client.send(publish({ topic: unique('t'), qos: 2, packetId: 12 }))
    await client.expect('pubrec')
    client.send(publish({ topic: unique('t'), qos: 1, packetId: 12 }))
    expect((await client.expect('puback')).reason).toBe(0x91)
    client.send(subscribe(12, [{ filter: unique('t') }, { filter: unique('t') }]))
    expect((await client.expect('suback')).reasons).toEqual([0x91, 0x91])
    client.send(unsubscribe(12, [unique('t')]))
    expect((await client.expect('unsuback')).reasons).toEqual([0x91])
    client.send(ack('pubrel', 12))
    expect((await client.expect('pubcomp')).reason).toBe(0)
  })
})

describe('4.4 message delivery retry', () => {
  test('[MQTT-4.4.0-1] a resumed session gets everything unacknowledged again: same order, same identifiers', async () => {
    const session = lasting()
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: session })
    for (let n = 0; n < 8; n++) await publisher.publish({ topic, payload: `${n}`, qos: 1 + (n % 2) })
    const sent = []
    for (let n = 0; n < 8; n++) sent.push(await subscriber.take('publish'))
    for (const message of sent.slice(0, 4)) if (message.qos === 2) subscriber.send(ack('pubrec', message.packetId))
    for (const message of sent.slice(0, 4)) if (message.qos === 2) await subscriber.take('pubrel', message.packetId)
    subscriber.drop()
    await publisher.publish({ topic, payload: 'new', qos: 1 })
    const second = await resume(broker, session)
    const again: string[] = []
    for (let n = 0; n < 9; n++) {
      const packet = await second.next()
      if (packet === 'closed') throw new Error('the broker closed a resumed session')
      if (packet.type === 'publish') again.push(`${packet.payload.toString()}${packet.dup ? ` again #${packet.packetId}` : ''}`)
      if (packet.type === 'pubrel') again.push(`pubrel #${packet.packetId}`)
    }
    const ids = sent.map(message => message.packetId)
    expect(again.filter(each => /^\d again/.test(each))).toEqual([0, 2, 4, 5, 6, 7].map(n => `${n} again #${ids[n]}`))
    expect(again.filter(each => each.startsWith('pubrel'))).toEqual([1, 3].map(n => `pubrel #${ids[n]}`))
    // The broker may have sent it before it noticed that the connection was gone.
    expect(again.at(-1)).toMatch(/^new/)
  })

  test.concurrent('[MQTT-4.4.0-1] on a living connection nothing is sent again', async () => {
    const { topic, subscriber, publisher } = await pair(broker)
    await publisher.publish({ topic, qos: 1 })
    await publisher.publish({ topic, qos: 2 })
    await subscriber.take('publish')
    subscriber.send(ack('pubrec', (await subscriber.take('publish')).packetId))
    await subscriber.take('pubrel')
    await new Promise(resolve => setTimeout(resolve, 3_000))
    await subscriber.expectNothing()
  })

  test('[MQTT-4.4.0-1] what is sent again respects the Receive Maximum of the new connection', async () => {
    const session = lasting()
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: session })
    for (let n = 0; n < 6; n++) await publisher.publish({ topic, payload: `${n}`, qos: 1 })
    for (let n = 0; n < 6; n++) await subscriber.take('publish')
    subscriber.drop()
    const second = await broker.connect({ ...session, cleanStart: false, properties: { sessionExpiryInterval: 600, receiveMaximum: 2 } })
    const held = [await second.take('publish'), await second.take('publish')]
    await second.expectNothing()
    for (const message of held) await second.acknowledge(message)
    expect(await payloads(second, 4)).toEqual(['2', '3', '4', '5'])
  })

  test('[MQTT-4.4.0-1] what was sent by alias alone is sent again with its Topic Name', async () => {
    const session = { ...lasting(), properties: { sessionExpiryInterval: 600, topicAliasMaximum: 1 } }
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: session })
    for (const qos of [0, 1, 2]) await publisher.publish({ topic, payload: `${qos}`, qos })
    for (let n = 0; n < 3; n++) await subscriber.take('publish')
    subscriber.drop()
    const second = await resume(broker, session)
    const again = [await second.receive(), await second.receive()]
    expect(again.map(message => second.topicOf(message))).toEqual([topic, topic])
    expect(again[0]!.topic).toBe(topic)
  })

  test('[MQTT-4.4.0-2] PUBACK or PUBREC of 0x80 or more ends the exchange for good', async () => {
    const session = lasting()
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: session })
    await publisher.publish({ topic, payload: 'one', qos: 1 })
    await publisher.publish({ topic, payload: 'two', qos: 2 })
    subscriber.send(ack('puback', (await subscriber.take('publish')).packetId, 0x80))
    subscriber.send(ack('pubrec', (await subscriber.take('publish')).packetId, 0x97))
    await subscriber.expectNothing()
    subscriber.drop()
    const second = await resume(broker, session)
    await second.expectNothing()
  })
})

describe('4.9 flow control', () => {
  test('[MQTT-4.9.0-1] the send quota begins with Receive Maximum, not with zero', async () => {
    for (const receiveMaximum of [1, 5, 65_535]) {
      const { topic, subscriber, publisher } = await pair(broker, { subscriber: { properties: { receiveMaximum } } })
      for (let n = 0; n < 7; n++) await publisher.publish({ topic, qos: 1 })
      for (let n = 0; n < Math.min(7, receiveMaximum); n++) await subscriber.take('publish')
      await subscriber.expectNothing()
    }
  })

  test('[MQTT-4.9.0-2] PUBACK, PUBCOMP and a refusing PUBREC give quota back; PUBREC below 0x80 does not', async () => {
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: { properties: { receiveMaximum: 1 } } })
    for (let n = 0; n < 4; n++) await publisher.publish({ topic, payload: `${n}`, qos: n === 0 ? 1 : 2 })
    subscriber.send(ack('puback', (await subscriber.take('publish')).packetId))
    const refused = await subscriber.take('publish')
    await subscriber.expectNothing()
    subscriber.send(ack('pubrec', refused.packetId, 0x83))
    const third = await subscriber.take('publish')
    subscriber.send(ack('pubrec', third.packetId))
    await subscriber.expect('pubrel')
    await subscriber.expectNothing()
    subscriber.send(ack('pubcomp', third.packetId))
    expect(await payloads(subscriber, 1)).toEqual(['3'])
  })

  test('[MQTT-4.9.0-3] with the quota at zero every other packet is still answered', async () => {
    const { topic, subscriber, publisher } = await pair(broker, { subscriber: { properties: { receiveMaximum: 1 } } })
    await publisher.publish({ topic, payload: 'held', qos: 1 })
    const held = await subscriber.take('publish')
    await publisher.publish({ topic, payload: 'waits', qos: 1 })
    const other = unique('t')
    expect((await subscriber.subscribe({ filter: other, qos: 1 })).reasons).toEqual([1])
    expect((await subscriber.publish({ topic: unique('t'), qos: 1 }))!.reason).toBeLessThan(0x80)
    expect((await subscriber.unsubscribe(other)).reasons).toEqual([0])
    await subscriber.expectNothing()
    await subscriber.acknowledge(held)
    expect(await payloads(subscriber, 1)).toEqual(['waits'])
  })
})
