import { describe, expect, test } from 'vitest'
import { external, unique, useBroker } from './broker.ts'
import type { Publish } from './decode.ts'
import { ack } from './packets.ts'
import type { RawClient } from './raw-client.ts'
import { expectNoMessage, lasting, payloads, resume } from './scenes.ts'

const broker = useBroker()

/** `count` members of a fresh group on a fresh topic. */
async function group(count: number, qos = 2): Promise<{ topic: string; filter: string; members: RawClient[]; publisher: RawClient }> {
  const topic = unique('t')
  const filter = `$share/${unique('g')}/${topic}`
  const members = await Promise.all(Array.from({ length: count }, () => broker.connect()))
  for (const member of members) await member.subscribe({ filter, qos })
  return { topic, filter, members, publisher: await broker.connect() }
}

/** How many messages each member has got when a message sent now has reached all of them. */
async function counts(members: RawClient[], publisher: RawClient): Promise<number[]> {
  const end = unique('end')
  for (const member of members) await member.subscribe({ filter: end, qos: 1 })
  await publisher.publish({ topic: end, qos: 1 })
  return Promise.all(
    members.map(async member => {
      for (let count = 0; ; count++) if (member.topicOf(await member.receive()) === end) return count
    }),
  )
}

/** Which member got the message that was just published, and the message. */
async function whoGot(members: RawClient[]): Promise<{ at: number; message: Publish }> {
  for (;;) {
    for (const [at, member] of members.entries()) {
      const message = member.poll('publish')
      if (message) return { at, message }
      await member.ping()
    }
  }
}

describe('4.8.2 Shared Subscriptions', () => {
  test('[MQTT-4.8.2-1] [MQTT-4.8.2-2] a ShareName has a character or more, none of / + #, and a Topic Filter behind it', async () => {
    for (const filter of [
      '$share/',
      '$share//',
      '$share//a',
      '$share/g',
      '$share/g/',
      '$share/+/a',
      '$share/g+/a',
      '$share/#',
      '$share/#/a',
      '$share/g#/a',
    ]) {
      const client = await broker.connect()
      const outcome = await client.subscribe({ filter, qos: 1 }).then(
        suback => suback.reasons[0]!,
        () => 'closed' as const,
      )
      if (outcome === 'closed') await client.ended()
      else expect(outcome, filter).toBe(0x8f)
    }
  })

  test('§4.8.2 a message goes to one member of each group, and to every other subscription', async () => {
    const { topic, members, publisher } = await group(3)
    const [alone, other] = await Promise.all([broker.connect(), broker.connect()])
    await alone.subscribe({ filter: topic, qos: 1 })
    await other.subscribe({ filter: `$share/${unique('g')}/${topic}`, qos: 1 })
    for (let n = 0; n < 12; n++) await publisher.publish({ topic, payload: `${n}`, qos: 1 })
    const got = await counts([...members, other, alone], publisher)
    expect(got.slice(0, 3).reduce((sum, count) => sum + count)).toBe(12)
    expect(got.slice(3)).toEqual([12, 12])
  })

  test('§4.8.2 a session with a shared and a plain subscription gets a copy for each', async () => {
    const { topic, members, publisher } = await group(1)
    await members[0]!.subscribe({ filter: topic, qos: 1 })
    await publisher.publish({ topic, payload: 'x', qos: 1 })
    expect(await counts(members, publisher)).toEqual([2])
  })

  test('[MQTT-4.8.2-3] a message comes with the lower of its QoS and the one granted to the member', async () => {
    const { topic, filter, members, publisher } = await group(3)
    for (const [granted, member] of members.entries()) await member.subscribe({ filter, qos: granted })
    for (let n = 0; n < 18; n++) {
      const published = Math.floor(n / 3) % 3
      await publisher.publish({ topic, qos: published })
      const { at, message } = await whoGot(members)
      expect(message.qos).toBe(Math.min(at, published))
      await members[at]!.acknowledge(message)
    }
  })

  test('[MQTT-4.8.2-4] a QoS 2 delivery that breaks off is completed with the same member', async () => {
    const topic = unique('t')
    const filter = `$share/${unique('g')}/${topic}`
    const session = lasting()
    const [member, publisher] = [await broker.connect(session), await broker.connect()]
    await member.subscribe({ filter, qos: 2 })
    await publisher.publish({ topic, payload: 'begun', qos: 2 })
    const begun = await member.take('publish')
    const other = await broker.connect()
    await other.subscribe({ filter, qos: 2 })
    member.drop()
    await expectNoMessage(other, publisher)
    const again = await resume(broker, session)
    const message = await again.receive()
    expect([message.packetId, message.dup, message.payload.toString()]).toEqual([begun.packetId, true, 'begun'])
    await expectNoMessage(other, publisher)
  })

  test('[MQTT-4.8.2-5] a QoS 2 delivery that had begun goes to nobody else when the session ends', async () => {
    const topic = unique('t')
    const filter = `$share/${unique('g')}/${topic}`
    const [member, publisher] = [await broker.connect(), await broker.connect()]
    await member.subscribe({ filter, qos: 2 })
    await publisher.publish({ topic, payload: 'begun', qos: 2 })
    await member.take('publish')
    const other = await broker.connect()
    await other.subscribe({ filter, qos: 2 })
    member.drop()
    await member.ended()
    await expectNoMessage(other, publisher)
  })

  test.skipIf(external)('§4.8.2 QoS 1 of a member that goes away for good is given to another', async () => {
    const topic = unique('t')
    const filter = `$share/${unique('g')}/${topic}`
    const [member, publisher] = [await broker.connect(), await broker.connect()]
    await member.subscribe({ filter, qos: 1 })
    await publisher.publish({ topic, payload: 'rescued', qos: 1 })
    await member.take('publish')
    const other = await broker.connect()
    await other.subscribe({ filter, qos: 1 })
    member.drop()
    expect(await payloads(other, 1)).toEqual(['rescued'])
  })

  test('[MQTT-4.8.2-6] a message refused with PUBACK or PUBREC of 0x80 or more goes to nobody else', async () => {
    const { topic, members, publisher } = await group(2)
    for (const qos of [1, 2]) {
      for (let n = 0; n < 4; n++) {
        await publisher.publish({ topic, payload: 'refused', qos })
        const { at, message } = await whoGot(members)
        members[at]!.send(ack(qos === 1 ? 'puback' : 'pubrec', message.packetId, 0x80))
      }
    }
    expect(await counts(members, publisher)).toEqual([0, 0])
  })

  test.skipIf(external)('§4.8.2 subscribing twice to one shared filter is one membership', async () => {
    const { topic, filter, members, publisher } = await group(2, 1)
    await members[0]!.subscribe({ filter, qos: 2 })
    for (let n = 0; n < 20; n++) await publisher.publish({ topic, qos: 1 })
    expect(await counts(members, publisher)).toEqual([10, 10])
    await members[0]!.unsubscribe(filter)
    for (let n = 0; n < 6; n++) await publisher.publish({ topic, qos: 1 })
    expect(await counts(members, publisher)).toEqual([0, 6])
  })

  test('[MQTT-4.7.2-1] a shared filter that begins with a wildcard does not match topics that begin with $', async () => {
    const client = await broker.connect()
    const t = unique('t')
    await client.subscribe([
      { filter: `$share/g/+/${t}`, qos: 1 },
      { filter: `$share/g/+/${t}/#`, qos: 1 },
    ])
    await client.publish({ topic: `$x/${t}`, qos: 1 })
    await client.publish({ topic: `x/${t}`, payload: 'seen', qos: 1 })
    expect(await counts([client], client)).toEqual([2])
  })

  test('§4.8.2 a message published to a topic that looks like a shared filter does not reach the group', async () => {
    const { topic, filter, members, publisher } = await group(1)
    await publisher.publish({ topic: filter, qos: 1 })
    await publisher.publish({ topic, qos: 1 })
    expect(await counts(members, publisher)).toEqual([1])
  })

  test('§4.8.2 Retained Messages are not sent for Shared Subscriptions', async () => {
    const publisher = await broker.connect()
    const topic = unique('t')
    await publisher.publish({ topic, payload: 'x', qos: 1, retain: true })
    await publisher.subscribe({ filter: `$share/g/${topic}`, qos: 1, retainHandling: 0 })
    await publisher.expectNothing()
  })

  test('§4.8.2 Subscription Identifiers come with shared messages', async () => {
    const client = await broker.connect()
    const topic = unique('t')
    await client.subscribe({ filter: `$share/${unique('g')}/${topic}`, qos: 1 }, { subscriptionIdentifier: 77 })
    await client.publish({ topic, qos: 1 })
    expect((await client.receive()).properties.subscriptionIdentifier).toEqual([77])
  })

  test.skipIf(external)('§4.8.2 a filter without wildcard spreads messages in turn over its members', async () => {
    const { topic, members, publisher } = await group(4)
    for (let n = 0; n < 40; n++) await publisher.publish({ topic, qos: 1 })
    expect(await counts(members, publisher)).toEqual([10, 10, 10, 10])
  })

  test.skipIf(external)('§4.8.2 a $partition keeps to one member, a wildcard filter keeps a topic to one member', async () => {
    const { topic, members, publisher } = await group(4)
    for (let n = 0; n < 20; n++) await publisher.publish({ topic, qos: 1, properties: { userProperty: [['$partition', 'one']] } })
    expect((await counts(members, publisher)).sort((a, b) => a - b)).toEqual([0, 0, 0, 20])
    const filter = `$share/${unique('g')}/${topic}/#`
    for (const member of members) await member.subscribe({ filter, qos: 1 })
    for (let n = 0; n < 20; n++) await publisher.publish({ topic: `${topic}/sub`, qos: 1 })
    expect((await counts(members, publisher)).sort((a, b) => a - b)).toEqual([0, 0, 0, 20])
  })

  test.skipIf(external)('§4.8.2 members that are offline are passed over while one is online', async () => {
    const topic = unique('t')
    const filter = `$share/${unique('g')}/${topic}`
    const sessions = [lasting(), lasting()]
    const [away, here] = await Promise.all(sessions.map(session => broker.connect(session)))
    for (const member of [away!, here!]) await member.subscribe({ filter, qos: 1 })
    await away!.disconnect()
    const publisher = await broker.connect()
    for (let n = 0; n < 10; n++) await publisher.publish({ topic, payload: `${n}`, qos: 1 })
    expect(await counts([here!], publisher)).toEqual([10])
  })

  test('§4.8.2 with every member offline messages wait for the group', async () => {
    const topic = unique('t')
    const session = lasting()
    const member = await broker.connect(session)
    await member.subscribe({ filter: `$share/${unique('g')}/${topic}`, qos: 1 })
    await member.disconnect()
    const publisher = await broker.connect()
    for (const payload of ['one', 'two']) await publisher.publish({ topic, payload, qos: 1 })
    expect(await payloads(await resume(broker, session), 2)).toEqual(['one', 'two'])
  })
})
