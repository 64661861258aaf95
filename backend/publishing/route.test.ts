import { describe, expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { BackendRig, NEVER, type ConnectOptions, type RigClient } from '../backend-rig.contract.ts'
import { matchOf } from './route.ts'

const QOS = [0, 1, 2] as const

/** Reasons of all publishes, by ticket. */
async function answers(client: RigClient): Promise<(readonly [number, ReasonCode])[]> {
  await client.rig.settle()
  const found = client.take().flatMap(event => (event.is === 'acknowledged' ? [[event.ticket, event.reason] as const] : []))
  return found.sort(([a], [b]) => a - b)
}

describe('who gets a message', () => {
  for (const expirySeconds of [0, NEVER]) {
    for (const published of QOS) {
      for (const subscribed of QOS) {
        test(`[MQTT-3.8.4-8] expiry ${expirySeconds}: published with QoS ${published}, subscribed with ${subscribed}`, async () => {
          const rig = await BackendRig.open()
          const subscriber = await rig.connect('s', { expirySeconds })
          subscriber.subscribe('a/+', { qos: subscribed, identifier: 9 })
          const publisher = await rig.connect('p', { expirySeconds: NEVER })
          const ticket = publisher.publish('a/b', 'm', { qos: published, userProperties: [['name', 'value']] })
          expect(await answers(publisher)).toEqual(published === 0 ? [] : [[ticket, ReasonCode.Success]])
          const sent = await subscriber.drain()
          expect(sent).toMatchObject([
            { topic: 'a/b', payload: 'm', qos: Math.min(published, subscribed), identifiers: [9], dup: false, retain: false },
          ])
          expect(sent[0]!.packetId > 0).toBe(sent[0]!.qos > 0)
          expect(rig.engine.counters).toMatchObject({ messageBytes: 0, queuedMessages: 0 })
        })
      }
    }
  }

  test('a Topic lets go of the recipients when the index does', async () => {
    const rig = await BackendRig.open()
    const client = await rig.connect('c')
    client.subscribe('a')
    const message = rig.message('a', 'm')
    const result = matchOf(rig.engine, message)
    expect(result.recipients).toHaveLength(1)
    expect(matchOf(rig.engine, message)).toBe(result)
    client.subscribe('#')
    expect(message.topic.resolved).toEqual({ result: null })
  })

  test('nobody: 0x10 for QoS 1 and 2, and the identifier of QoS 2 is held all the same', async () => {
    const rig = await BackendRig.open()
    const publisher = await rig.connect('p', { expirySeconds: NEVER })
    publisher.publish('a', 'm', { qos: 1, packetId: 1 })
    publisher.publish('a', 'm', { qos: 2, packetId: 2 })
    publisher.release(2)
    expect((await answers(publisher)).map(([, reason]) => reason)).toEqual([
      ReasonCode.NoMatchingSubscribers,
      ReasonCode.NoMatchingSubscribers,
      ReasonCode.Success,
    ])
  })

  test('[MQTT-3.3.4-2] overlapping Subscriptions: one copy, the highest QoS, all identifiers; Retain As Published if one asks for it', async () => {
    const rig = await BackendRig.open()
    const client = await rig.connect('c')
    client.subscribeAll([
      ['a', { qos: 0, identifier: 1 }],
      ['+', { qos: 2, identifier: 2, retainAsPublished: true }],
      ['#', { qos: 1 }],
    ])
    await rig.settle()
    client.take()
    const publisher = await rig.connect('p')
    publisher.publish('a', 'm', { qos: 2, retain: true })
    expect(client.takeSent()).toMatchObject([{ qos: 2, identifiers: [1, 2], retain: true }])
  })

  test('[MQTT-3.8.3-3] No Local: not to the publisher itself', async () => {
    const rig = await BackendRig.open()
    const client = await rig.connect('c')
    const other = await rig.connect('other')
    client.subscribe('a', { noLocal: true })
    client.publish('a', 'own', { qos: 1 })
    other.publish('a', "other's", { qos: 1 })
    await rig.settle()
    const events = client.take()
    expect(events.flatMap(event => (event.is === 'publish' ? [event.payload] : []))).toEqual(["other's"])
    expect(events).toContainEqual({ is: 'acknowledged', ticket: 1, reason: ReasonCode.NoMatchingSubscribers })
  })

  test('a message to many is kept once', async () => {
    const rig = await BackendRig.open()
    const clients: RigClient[] = []
    for (let i = 0; i < 20; i++) {
      const client = await rig.connect(`${i}`, { expirySeconds: NEVER })
      client.subscribe('a')
      client.detach()
      clients.push(client)
    }
    const publisher = await rig.connect('p')
    publisher.publish('a', 'x'.repeat(1_000), { qos: 1 })
    expect(rig.engine.counters).toMatchObject({ queuedMessages: 20, messageBytes: 1_240 })
  })
})

const FILTER = '$share/g/a'

async function members(rig: BackendRig, names: readonly string[], options: ConnectOptions = {}): Promise<RigClient[]> {
  const clients: RigClient[] = []
  for (const name of names) {
    const client = await rig.connect(name, { expirySeconds: NEVER, ...options })
    client.subscribe(FILTER)
    clients.push(client)
  }
  await rig.settle()
  for (const client of clients) client.take()
  return clients
}

describe('Shared Subscriptions', () => {
  test('[MQTT-4.8.2-4] each message to one member, in turns over those that can take one', async () => {
    const rig = await BackendRig.open()
    const [a, b, c] = (await members(rig, ['a', 'b', 'c'])) as [RigClient, RigClient, RigClient]
    b.writable(false)
    const publisher = await rig.connect('p')
    for (let i = 0; i < 8; i++) publisher.publish('a', `${i}`, { qos: 1 })
    await rig.settle()
    expect([a.takeSent().length, b.takeSent().length, c.takeSent().length]).toEqual([4, 0, 4])
  })

  test('when nobody can take one now it waits for a member that is away; QoS 0 does not', async () => {
    const rig = await BackendRig.open()
    const [a] = (await members(rig, ['a'])) as [RigClient]
    a.detach()
    const publisher = await rig.connect('p')
    publisher.publish('a', 'waits', { qos: 1 })
    publisher.publish('a', 'is gone', { qos: 0 })
    expect(await answers(publisher)).toEqual([[0, ReasonCode.Success]])
    expect((await rig.connect('a', { expirySeconds: NEVER })).takePayloads()).toEqual(['waits'])
  })

  test('a member that is away with a Subscription of QoS 0 gets nothing that another one could hold', async () => {
    const rig = await BackendRig.open()
    const [zero, one] = (await members(rig, ['zero', 'one'])) as [RigClient, RigClient]
    zero.subscribe(FILTER, { qos: 0 })
    zero.detach()
    one.detach()
    const publisher = await rig.connect('p')
    for (let i = 0; i < 4; i++) publisher.publish('a', `${i}`, { qos: 1 })
    expect((await (await rig.connect('one', { expirySeconds: NEVER })).drain()).map(({ payload }) => payload)).toEqual(['0', '1', '2', '3'])
  })

  // Either way round: by the hash alone one of the two would get everything.
  for (const [filter, busyName, awayName] of [
    ['$share/g/a', 'x', 'y'],
    ['$share/g/+', 'x', 'y'],
    ['$share/g/+', 'y', 'x'],
  ] as const) {
    test(`${filter}: ${busyName}, online but busy, comes before ${awayName}, away, until its queue is full`, async () => {
      const rig = await BackendRig.open({ settings: { queueMessagesMax: 3 } })
      const busy = await rig.connect(busyName, { expirySeconds: NEVER, receiveMaximum: 1 })
      const away = await rig.connect(awayName, { expirySeconds: NEVER })
      for (const member of [busy, away]) member.subscribe(filter)
      await rig.settle()
      away.detach()
      const publisher = await rig.connect('p')
      for (let i = 0; i < 6; i++) publisher.publish('a', `${i}`, { qos: 1 })
      expect((await answers(publisher)).map(([, reason]) => reason)).toEqual([0, 0, 0, 0, 0, 0])
      expect((await busy.drain()).map(({ payload }) => payload)).toEqual(['0', '1', '2', '3'])
      expect((await (await rig.connect(awayName, { expirySeconds: NEVER })).drain()).map(({ payload }) => payload)).toEqual(['4', '5'])
    })
  }

  test('a session with room for one that gets a copy of its own and a shared one gets both; the next publish is refused', async () => {
    const rig = await BackendRig.open({ settings: { queueMessagesMax: 2 } })
    const [away] = (await members(rig, ['away'])) as [RigClient]
    away.subscribe('+')
    await rig.settle()
    away.detach()
    const publisher = await rig.connect('p')
    publisher.publish('b', 'first', { qos: 1 })
    publisher.publish('a', 'twice', { qos: 1 })
    publisher.publish('a', 'refused', { qos: 1 })
    expect((await answers(publisher)).map(([, reason]) => reason)).toEqual([0, 0, ReasonCode.QuotaExceeded])
    const back = await rig.connect('away', { expirySeconds: NEVER })
    expect((await back.drain()).map(({ payload }) => payload)).toEqual(['first', 'twice', 'twice'])
    expect(rig.engine.counters).toMatchObject({ queueDropped: 0, messageBytes: 0, queuedMessages: 0 })
  })

  test('a Will that no member of the group has room for is counted as dropped', async () => {
    const rig = await BackendRig.open({ settings: { queueMessagesMax: 1 } })
    for (const member of await members(rig, ['a', 'b'])) member.detach()
    for (const name of ['1', '2', '3']) {
      const mortal = await rig.connect(name, { will: { message: rig.message('a', name, { qos: 1 }), delaySeconds: 0 } })
      mortal.detach()
    }
    expect(rig.engine.counters).toMatchObject({ queueDropped: 1, queuedMessages: 2 })
  })

  test('DropOldest: a copy that another copy of the same publication drops does not come back after a restart', async () => {
    const rig = await BackendRig.open({ settings: { queueMessagesMax: 1, queueStrategy: 'DropOldest' } })
    const [away] = (await members(rig, ['away'])) as [RigClient]
    away.subscribe('+')
    await rig.settle()
    away.detach()
    const publisher = await rig.connect('p')
    for (const payload of ['first', 'second']) publisher.publish('a', payload, { qos: 1 })
    await rig.settle()
    expect(rig.engine.counters).toMatchObject({ queueDropped: 3, queuedMessages: 1 })
    const after = await rig.restart()
    expect(after.engine.counters).toMatchObject({ queuedMessages: 1 })
    expect((await (await after.connect('away', { expirySeconds: NEVER })).drain()).map(({ payload }) => payload)).toEqual(['second'])
  })

  test('a group whose members are all full refuses', async () => {
    const rig = await BackendRig.open({ settings: { queueMessagesMax: 2 } })
    for (const member of await members(rig, ['a', 'b'])) member.detach()
    const publisher = await rig.connect('p')
    for (let i = 0; i < 5; i++) publisher.publish('a', `${i}`, { qos: 1 })
    expect((await answers(publisher)).map(([, reason]) => reason)).toEqual([0, 0, 0, 0, ReasonCode.QuotaExceeded])
  })

  test('what a member that ends for good did not acknowledge goes to another one, in order', async () => {
    const rig = await BackendRig.open()
    const [a] = (await members(rig, ['a'], { receiveMaximum: 2 })) as [RigClient]
    const publisher = await rig.connect('p')
    for (let i = 0; i < 4; i++) publisher.publish('a', `${i}`, { qos: 1 })
    const [b] = (await members(rig, ['b'])) as [RigClient]
    b.detach()
    const [first] = a.takeSent()
    a.puback(first!.packetId)
    a.detach({ sessionExpirySeconds: 0 })
    await rig.settle()
    const back = await rig.connect('b', { expirySeconds: NEVER })
    expect((await back.drain()).map(({ payload }) => payload)).toEqual(['1', '2', '3'])
    expect(rig.engine.counters).toMatchObject({ messageBytes: 0, queuedMessages: 0 })
  })

  test('[MQTT-4.8.2-5] not a QoS 2 message that was sent: it may have arrived', async () => {
    const rig = await BackendRig.open()
    const [a, b] = (await members(rig, ['a', 'b'], { receiveMaximum: 1 })) as [RigClient, RigClient]
    b.detach()
    const publisher = await rig.connect('p')
    for (const payload of ['sent', 'waits']) publisher.publish('a', payload, { qos: 2 })
    await rig.settle()
    expect(a.takePayloads()).toEqual(['sent'])
    a.detach({ sessionExpirySeconds: 0 })
    await rig.settle()
    const after = await rig.restart()
    expect((await (await after.connect('b', { expirySeconds: NEVER })).drain()).map(({ payload }) => payload)).toEqual(['waits'])
  })

  test('a message that expired meanwhile is not handed on; another says how long is left', async () => {
    const rig = await BackendRig.open()
    const [a, b] = (await members(rig, ['a', 'b'], { receiveMaximum: 1 })) as [RigClient, RigClient]
    b.writable(false)
    const publisher = await rig.connect('p')
    publisher.publish('a', 'expires', { qos: 1, expirySeconds: 5 })
    publisher.publish('a', 'stays', { qos: 1, expirySeconds: 50 })
    b.detach()
    await rig.advance(10_000)
    const back = await rig.connect('b', { expirySeconds: NEVER })
    a.detach({ sessionExpirySeconds: 0 })
    expect((await back.drain()).map(({ payload, expirySeconds }) => [payload, expirySeconds])).toEqual([['stays', 40]])
    expect(rig.engine.counters).toMatchObject({ messageBytes: 0, queuedMessages: 0 })
  })

  test('with nobody left they go with the session', async () => {
    const rig = await BackendRig.open()
    const [a] = (await members(rig, ['a'])) as [RigClient]
    const publisher = await rig.connect('p')
    publisher.publish('a', 'm', { qos: 1 })
    a.detach({ sessionExpirySeconds: 0 })
    await rig.settle()
    expect(rig.engine.counters).toMatchObject({ messageBytes: 0, queuedMessages: 0 })
    expect(rig.engine.index.nodeCount).toBe(0)
  })
})
