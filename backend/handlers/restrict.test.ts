import { beforeEach, describe, expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { BackendRig, type ConnectOptions, NEVER, nextTurn, rightsTo, type RigClient } from '../backend-rig.contract.ts'
import { leftovers, stateDump } from '../state-dump.contract.ts'

let rig: BackendRig
let publisher: RigClient

beforeEach(async () => {
  rig = await BackendRig.open()
  publisher = await rig.connect('p')
})

async function subscriber(filters: readonly string[], options: ConnectOptions = {}): Promise<RigClient> {
  const client = await rig.connect('c', { expirySeconds: NEVER, ...options })
  for (const filter of filters) client.subscribe(filter)
  await rig.settle()
  client.take()
  return client
}

async function publish(qos: 0 | 1 | 2, ...messages: readonly (readonly [topic: string, payload: string])[]): Promise<void> {
  for (const [topic, payload] of messages) publisher.publish(topic, payload, { qos })
  await rig.settle()
}

/** The process ends and another one goes on with what it stored. */
async function restart(): Promise<void> {
  rig = await rig.restart()
  publisher = await rig.connect('p')
}

/** The Session State of 'c' in memory is the one that a restart would find, connection aside. */
async function expectStored(): Promise<void> {
  const filters = (of: BackendRig): unknown => {
    const session = of.engine.shardFor('c').sessions.get('c')!
    return [
      [...(session.subscriptions?.keys() ?? [])].sort(),
      session.outbox?.ids.deliveries().length ?? 0,
      session.outbox?.queued.length ?? 0,
    ]
  }
  expect(filters(await rig.restart())).toEqual(filters(rig))
}

const QUEUED = { isWritable: false } as const

describe('attach with rights', () => {
  test('Subscriptions that they do not cover end with the commit of the attach; the others stay', async () => {
    const before = await subscriber(['a/#', 'b/1', 'c/+', '$share/g/a/1', '$share/g/b/1'])
    before.detach()
    await restart()
    const late = rig.store
    late.isPrompt = false
    const client = rig.client('c')
    const reply = client.attach({ expirySeconds: NEVER, rights: rightsTo(['b/#', 'c/#']) })
    rig.endTurn()
    expect(late.waiting).toBe(1)
    await rig.settle()
    client.opened(await reply)
    expect(client.sessionPresent).toBe(true)
    const session = rig.engine.shardFor('c').sessions.get('c')!
    expect([...session.subscriptions!.keys()]).toEqual(['b/1', 'c/+', '$share/g/b/1'])
    expect([rig.engine.index.subscriptionCount, rig.engine.index.sharedSubscriptionCount]).toEqual([2, 1])
    expect(rig.engine.counters.withdrawnSubscriptions).toBe(2)
    await expectStored()
    await publish(1, ['a/1', 'no'], ['b/1', 'yes'], ['c/1', 'too'])
    expect((await client.drain()).map(({ payload }) => payload).sort()).toEqual(['too', 'yes', 'yes'])
  })

  test('a crash before the commit leaves all as it was', async () => {
    const before = await subscriber(['a/#'])
    before.detach()
    await publish(1, ['a/1', 'waits'])
    rig.store.isPrompt = false
    void rig.client('c').attach({ expirySeconds: NEVER, rights: rightsTo([]) })
    rig.endTurn()
    await restart()
    const session = rig.engine.shardFor('c').sessions.get('c')!
    expect([[...session.subscriptions!.keys()], session.outbox!.queued.length]).toEqual([['a/#'], 1])
  })

  test.each([
    ['none are said', null],
    ['they are for everything', rightsTo(['#'])],
    ['they are for the same filters', rightsTo(['a/#', 'b'])],
    ['they are for what covers the filters', rightsTo(['a/#', '+', 'x'])],
  ])('nothing changes when %s', async (_, rights) => {
    const before = await subscriber(['a/#', '$share/g/b'])
    before.detach()
    await publish(1, ['a/1', 'one'], ['b', 'two'])
    const client = await rig.connect('c', { expirySeconds: NEVER, rights })
    expect((await client.drain()).map(({ payload }) => payload)).toEqual(['one', 'two'])
    expect(rig.engine.counters).toMatchObject({ withdrawnMessages: 0, withdrawnSubscriptions: 0 })
  })

  test('what waits for them alone is dropped and counted; what another Subscription wants stays', async () => {
    const before = await subscriber(['a/#', 'a/keep', 'b'])
    before.detach()
    await publish(1, ['a/1', 'no'], ['a/keep', 'kept'], ['b', 'other'], ['a/1', 'neither'])
    await restart()
    const client = await rig.connect('c', { expirySeconds: NEVER, rights: rightsTo(['a/keep', 'b']) })
    expect((await client.drain()).map(({ payload }) => payload)).toEqual(['kept', 'other'])
    expect(rig.engine.counters).toMatchObject({ withdrawnMessages: 2, queuedMessages: 0, messageBytes: 0 })
    await expectStored()
    client.detach()
    const again = await rig.connect('c', { expirySeconds: NEVER })
    expect(await again.drain()).toEqual([])
  })

  test('what waits for a Subscription that ended goes, also on a topic that the client could subscribe to by itself', async () => {
    const before = await subscriber(['a/#'])
    before.detach()
    await publish(1, ['a/1', 'no'], ['a/2', 'no'])
    const client = await rig.connect('c', { expirySeconds: NEVER, rights: rightsTo(['a/1']) })
    expect(await client.drain()).toEqual([])
    expect(rig.engine.counters.withdrawnMessages).toBe(2)
  })

  test('what waits for a Subscription that the client has given up itself goes by its topic', async () => {
    const before = await subscriber(['a/1', 'a/2', 'x'], QUEUED)
    await publish(1, ['a/1', 'no'], ['a/2', 'yes'])
    before.unsubscribe('a/1', 'a/2')
    await rig.settle()
    before.detach()
    const client = await rig.connect('c', { expirySeconds: NEVER, rights: rightsTo(['a/2', 'x']) })
    expect((await client.drain()).map(({ payload }) => payload)).toEqual(['yes'])
  })

  test('[MQTT-4.4.0-1] does not hold for QoS 1 that may not be shown again: the identifier is free', async () => {
    const before = await subscriber(['a', 'b'])
    await publish(1, ['a', 'no'], ['b', 'yes'])
    expect(before.takePayloads()).toEqual(['no', 'yes'])
    before.detach()
    await restart()
    const client = await rig.connect('c', { expirySeconds: NEVER, receiveMaximum: 1, rights: rightsTo(['b']) })
    expect(client.takeSent()).toMatchObject([{ payload: 'yes', dup: true, packetId: 2 }])
    const { outbox } = rig.engine.shardFor('c').sessions.get('c')!
    expect([outbox!.ids.inUse, outbox!.inWindow]).toEqual([1, 1])
    // A late acknowledgement of the first changes nothing.
    client.puback(1)
    expect(client.puback(2)).toBe(true)
    await rig.settle()
    expect([outbox!.ids.inUse, outbox!.inWindow, rig.engine.counters.messageBytes]).toEqual([0, 0, 0])
    expect(rig.engine.counters.withdrawnMessages).toBe(1)
  })

  test('QoS 2 whose PUBREC has come ends with PUBREL, whatever it was', async () => {
    const before = await subscriber(['a'])
    await publish(2, ['a', 'had'])
    before.pubrec(before.takeSent()[0]!.packetId)
    await rig.settle()
    before.detach()
    await restart()
    const client = await rig.connect('c', { expirySeconds: NEVER, rights: rightsTo([]) })
    expect(client.take()).toEqual([{ is: 'released', packetId: 1, reason: ReasonCode.Success }])
    expect(client.pubcomp(1)).toBe(true)
    expect(rig.engine.counters.withdrawnMessages).toBe(0)
  })

  test('QoS 2 that may have come is not shown again: PUBREL in its place, stored first, keeps the identifier from meaning another', async () => {
    const before = await subscriber(['a', 'b'])
    await publish(2, ['a', 'shown'])
    expect(before.takePayloads()).toEqual(['shown'])
    before.detach()
    await restart()
    const client = rig.client('c')
    rig.store.isPrompt = false
    const reply = client.attach({ expirySeconds: NEVER, rights: rightsTo(['b']) })
    await rig.settle()
    client.opened(await reply)
    await rig.settle()
    expect(client.take()).toEqual([{ is: 'released', packetId: 1, reason: ReasonCode.Success }])
    await publish(2, ['b', 'new'])
    expect(client.takeSent()).toMatchObject([{ payload: 'new', packetId: 2, dup: false }])
    // Again on the next connection, and after a restart, until it is answered.
    client.detach()
    await restart()
    const later = await rig.connect('c', { expirySeconds: NEVER })
    expect(later.take()).toMatchObject([
      { is: 'released', packetId: 1 },
      { is: 'publish', payload: 'new' },
    ])
    expect(later.pubcomp(1)).toBe(true)
  })

  test('a session that starts clean is not judged', async () => {
    const before = await subscriber(['a'])
    before.detach()
    const client = await rig.connect('c', { cleanStart: true, expirySeconds: NEVER, rights: rightsTo([]) })
    expect(client.sessionPresent).toBe(false)
    expect(rig.engine.counters).toMatchObject({ withdrawnSubscriptions: 0, sessionsTotal: 2 })
  })

  test('rights that cannot be read refuse the connection, and the one that is there goes on', async () => {
    const client = await subscriber(['a'])
    for (const permit of [Buffer.alloc(0), Buffer.from('no permit'), Buffer.concat([rightsTo(['a']).permit, Buffer.from([0])])]) {
      const rights = { permit, willGuard: Buffer.alloc(0) }
      expect(await rig.client('c').attach({ expirySeconds: NEVER, rights })).toMatchObject({
        is: 'refused',
        reason: ReasonCode.ImplementationSpecificError,
      })
    }
    await publish(1, ['a', 'still'])
    expect(client.takePayloads()).toEqual(['still'])
  })
})

describe('restrict', () => {
  test('ends Subscriptions of a connected client, and answers once that is stored', async () => {
    const client = await subscriber(['a', 'b'])
    rig.store.isPrompt = false
    const ticket = client.restrict(rightsTo(['b']))
    rig.endTurn()
    await nextTurn()
    expect(client.take()).toEqual([])
    await rig.settle()
    expect(client.take()).toEqual([{ is: 'subscribed', ticket, reasons: [] }])
    await publish(1, ['a', 'no'], ['b', 'yes'])
    expect(client.takePayloads()).toEqual(['yes'])
    await expectStored()
  })

  test('done again, or with nothing to end, it is answered at once and writes nothing', async () => {
    const client = await subscriber(['a'])
    client.restrict(rightsTo(['a']))
    await rig.settle()
    const { records } = rig.engine.journal
    const ticket = client.restrict(rightsTo(['a']))
    expect(client.take().at(-1)).toEqual({ is: 'subscribed', ticket, reasons: [] })
    expect(rig.engine.journal.records).toBe(records)
  })

  test('drops what waits behind a full window, and what comes after it in the queue moves up', async () => {
    const client = await subscriber(['a', 'b'], { receiveMaximum: 1 })
    await publish(1, ['b', 'first'], ['a', 'no'], ['b', 'second'], ['a', 'no'])
    expect(client.takePayloads()).toEqual(['first'])
    client.restrict(rightsTo(['b']))
    await rig.settle()
    expect(client.takeSent()).toEqual([])
    client.puback(1)
    await rig.settle()
    expect(client.takePayloads()).toEqual(['second'])
    expect(rig.engine.counters).toMatchObject({ withdrawnMessages: 2, queuedMessages: 0 })
    await expectStored()
  })

  test.each([1, 2] as const)('QoS %i that the connection has got is acknowledged as ever, and does not come again', async qos => {
    const client = await subscriber(['a', 'b'])
    await publish(qos, ['a', 'shown'])
    const { packetId } = client.takeSent()[0]!
    client.restrict(rightsTo(['b']))
    await rig.settle()
    client.take()
    client.detach()
    const back = await rig.connect('c', { expirySeconds: NEVER, rights: rightsTo(['b']) })
    expect(back.takeSent()).toEqual([])
    if (qos === 2) expect(back.pubcomp(packetId)).toBe(true)
    await publish(qos, ['b', 'next'])
    expect((await back.drain()).map(({ payload }) => payload)).toEqual(['next'])
    back.detach({ sessionExpirySeconds: 0 })
    publisher.detach()
    await rig.settle()
    expect(Object.entries(leftovers(rig.engine)).filter(([, left]) => left !== 0)).toEqual([])
  })

  test('QoS 2 half done on this connection is finished on it', async () => {
    const client = await subscriber(['a'])
    await publish(2, ['a', 'one'], ['a', 'two'])
    const [one, two] = client.takeSent().map(({ packetId }) => packetId)
    client.pubrec(one!)
    client.restrict(rightsTo([]))
    client.pubrec(two!)
    await rig.settle()
    expect(client.take().filter(({ is }) => is === 'released')).toHaveLength(2)
    expect([client.pubcomp(one!), client.pubcomp(two!)]).toEqual([true, true])
  })

  test('QoS 2 that waits for its commit is not sent, and gives its place to what comes behind it', async () => {
    const client = await subscriber(['a', 'b'], { receiveMaximum: 1 })
    rig.store.isPrompt = false
    publisher.publish('a', 'no', { qos: 2 })
    publisher.publish('b', 'yes', { qos: 1 })
    rig.endTurn()
    expect(client.takePayloads()).toEqual([])
    client.restrict(rightsTo(['b']))
    expect(client.takePayloads()).toEqual(['yes'])
    await rig.settle()
    expect(client.takePayloads()).toEqual([])
    expect(rig.engine.counters.withdrawnMessages).toBe(1)
    await expectStored()
  })

  test('what goes again on this connection and has not gone yet does not go', async () => {
    const before = await subscriber(['a', 'b'])
    await publish(1, ['a', 'no'], ['b', 'yes'])
    await publish(2, ['a', 'no'], ['b', 'yes too'])
    before.take()
    before.detach()
    const client = await rig.connect('c', { expirySeconds: NEVER, receiveMaximum: 1, isWritable: false })
    client.restrict(rightsTo(['b']))
    await rig.settle()
    client.take()
    client.writable(true)
    const sent = await client.drain()
    expect(sent.map(({ payload }) => payload)).toEqual(['yes', 'yes too'])
    expect(rig.engine.counters).toMatchObject({ withdrawnMessages: 2, messageBytes: 0 })
  })

  test('what was acknowledged before it went again is over already', async () => {
    const before = await subscriber(['a', 'b'])
    await publish(1, ['a', 'had'], ['b', 'yes'])
    before.detach()
    const client = await rig.connect('c', { expirySeconds: NEVER, isWritable: false })
    expect(client.puback(1)).toBe(true)
    client.restrict(rightsTo(['b']))
    client.writable(true)
    expect((await client.drain()).map(({ payload }) => payload)).toEqual(['yes'])
    expect(rig.engine.counters.withdrawnMessages).toBe(0)
  })

  test('PUBREL in the place of a QoS 2 message goes once it is stored that the message does not', async () => {
    const before = await subscriber(['a'])
    await publish(2, ['a', 'shown'])
    before.detach()
    const client = await rig.connect('c', { expirySeconds: NEVER, isWritable: false })
    rig.store.isPrompt = false
    client.restrict(rightsTo([]))
    client.writable(true)
    expect(client.take()).toEqual([])
    await rig.settle()
    expect(client.take()).toMatchObject([{ is: 'released', packetId: 1 }, { is: 'subscribed' }])
  })

  test('Retained Messages on their way for a Subscription stop with it', async () => {
    for (let i = 0; i < 20; i++) publisher.publish(`a/${i}`, 'no', { retain: true, qos: 1 })
    publisher.publish('b', 'yes', { retain: true, qos: 1 })
    await rig.settle()
    const client = await rig.connect('c', { expirySeconds: NEVER, receiveMaximum: 2 })
    client.subscribe('a/#', { qos: 1 })
    client.subscribe('b', { qos: 1 })
    await rig.settle()
    expect(client.takePayloads()).toEqual(['no', 'no'])
    client.restrict(rightsTo(['b']))
    expect([...rig.engine.shardFor('c').sessions.get('c')!.replays!.keys()]).toEqual(['b'])
    await rig.settle()
    for (const packetId of [1, 2]) client.puback(packetId)
    expect((await client.drain()).map(({ payload }) => payload)).toEqual(['yes'])
    expect(rig.engine.replaying.size).toBe(0)
  })

  test('of a SUBSCRIBE that is not stored yet, the Subscription ends and nothing retained follows', async () => {
    publisher.publish('a', 'no', { retain: true, qos: 1 })
    await rig.settle()
    const client = await rig.connect('c', { expirySeconds: NEVER })
    rig.store.isPrompt = false
    client.subscribe('a')
    client.restrict(rightsTo([]))
    await rig.settle()
    expect(client.takeSent()).toEqual([])
    expect(rig.engine.index.nodeCount).toBe(0)
    await expectStored()
  })

  test('of a Shared Subscription, what was not sent goes to another member; QoS 2 that was shown to nobody else', async () => {
    const client = await subscriber(['$share/g/a'], { receiveMaximum: 2 })
    await publish(2, ['a', 'shown'])
    await publish(1, ['a', 'shown too'], ['a', 'waits'])
    expect(client.takePayloads()).toEqual(['shown', 'shown too'])
    const other = await rig.connect('other', { expirySeconds: NEVER })
    other.subscribe('$share/g/a')
    await rig.settle()
    other.take()
    client.restrict(rightsTo([]))
    expect((await other.drain()).map(({ payload }) => payload)).toEqual(['waits'])
    client.detach()
    // What was not acknowledged, and may not be shown again, is another member's as well.
    await rig.connect('c', { expirySeconds: NEVER, rights: rightsTo([]) })
    expect((await other.drain()).map(({ payload }) => payload)).toEqual(['shown too'])
    await publish(1, ['a', 'new'])
    expect((await other.drain()).map(({ payload }) => payload)).toEqual(['new'])
    expect(rig.engine.counters).toMatchObject({ withdrawnMessages: 1, queueDropped: 0 })
  })

  test('of the last member of a group, what waits is dropped and counted', async () => {
    const client = await subscriber(['$share/g/a'], QUEUED)
    await publish(1, ['a', 'one'], ['a', 'two'])
    client.restrict(rightsTo([]))
    await rig.settle()
    expect(rig.engine.counters).toMatchObject({ withdrawnMessages: 2, queuedMessages: 0, messageBytes: 0 })
    await expectStored()
  })

  test('a queue that had no room has room again', async () => {
    rig = await BackendRig.open({ settings: { queueMessagesMax: 2 } })
    publisher = await rig.connect('p')
    const client = await subscriber(['a', 'b'], QUEUED)
    await publish(1, ['a', '1'], ['a', '2'], ['b', 'refused'])
    expect(publisher.take()).toContainEqual(expect.objectContaining({ reason: ReasonCode.QuotaExceeded }))
    client.restrict(rightsTo(['b']))
    await publish(1, ['b', 'taken'])
    expect(publisher.take().at(-1)).toMatchObject({ reason: ReasonCode.Success })
    expect(rig.engine.crowdedQueues.size).toBe(0)
  })

  test('of a connection that was taken over it does nothing; unreadable rights end the connection', async () => {
    const before = await subscriber(['a'])
    const client = await rig.connect('c', { expirySeconds: NEVER })
    before.take()
    before.restrict(rightsTo([]))
    await rig.settle()
    expect([before.take(), rig.engine.counters.withdrawnSubscriptions]).toEqual([[], 0])
    client.restrict({ permit: Buffer.from('no permit'), willGuard: Buffer.alloc(0) })
    await rig.settle()
    expect(client.take()).toEqual([{ is: 'disconnect', reason: ReasonCode.ImplementationSpecificError }])
  })

  test('of a session that ends with its connection it leaves nothing behind', async () => {
    const client = await rig.connect('c', { receiveMaximum: 1 })
    client.subscribe('a')
    client.subscribe('b')
    await publish(1, ['b', '1'], ['a', '2'], ['b', '3'])
    client.restrict(rightsTo(['b']))
    expect((await client.drain()).map(({ payload }) => payload)).toEqual(['1', '3'])
    client.detach()
    publisher.detach()
    await rig.settle()
    expect(Object.entries(leftovers(rig.engine)).filter(([, left]) => left !== 0)).toEqual([])
    expect(stateDump(rig.engine)).toMatchObject({ sessions: [] })
  })
})

test('a queue of many messages is judged topic by topic', async () => {
  const TOPICS = 50
  const MESSAGES = 20_000
  const filters = Array.from({ length: TOPICS }, (_, i) => `a/${i}`)
  const client = await subscriber([...filters, 'b/#'], QUEUED)
  for (let i = 0; i < MESSAGES; i++) publisher.publish(i % 2 === 0 ? `a/${i % TOPICS}` : `b/${i % TOPICS}`, '', { qos: 1 })
  await rig.settle()
  client.restrict(rightsTo(['b/#']))
  await rig.settle()
  expect(rig.engine.counters).toMatchObject({
    withdrawnMessages: MESSAGES / 2,
    queuedMessages: MESSAGES / 2,
    withdrawnSubscriptions: TOPICS,
  })
})
