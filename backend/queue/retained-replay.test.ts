import { describe, expect, test } from 'vitest'
import { BackendRig, NEVER, nextTurn, type ConnectOptions, type RigClient, type RigOptions } from '../backend-rig.contract.ts'

async function withRetained(
  count: number,
  options: RigOptions = {},
  qos: 0 | 1 | 2 = 0,
): Promise<{ rig: BackendRig; publisher: RigClient }> {
  const rig = await BackendRig.open(options)
  const publisher = await rig.connect('p')
  for (let i = 0; i < count; i++) publisher.publish(`r/${i}`, `${i}`, { retain: true, qos })
  await rig.settle()
  publisher.take()
  return { rig, publisher }
}

async function subscriberOf(rig: BackendRig, options: ConnectOptions = {}): Promise<RigClient> {
  return rig.connect('s', { expirySeconds: NEVER, ...options })
}

const numbers = (count: number): string[] => Array.from({ length: count }, (_, index) => `${index}`)

/** SUBACK leaves in the first, the first share of Retained Messages in the second. */
async function twoTurns(rig: BackendRig): Promise<void> {
  rig.endTurn()
  await nextTurn()
  rig.endTurn()
}

describe('Retained Messages for a new Subscription', () => {
  test('[MQTT-3.3.1-9] all that match, with RETAIN and the identifier, after SUBACK', async () => {
    const { rig } = await withRetained(20, {}, 2)
    const client = await subscriberOf(rig)
    client.subscribe('r/+', { qos: 1, identifier: 5 })
    await rig.settle()
    const events = client.take()
    expect(events[0]).toMatchObject({ is: 'subscribed' })
    expect(events.slice(1)).toHaveLength(20)
    for (const event of events.slice(1)) expect(event).toMatchObject({ is: 'publish', retain: true, qos: 1, identifiers: [5], dup: false })
  })

  test.each([
    [0, 1, true],
    [0, 2, true],
    [1, 1, true],
    [1, 2, false],
    [2, 1, false],
    [2, 2, false],
  ] as const)('[MQTT-3.3.1-9] [MQTT-3.3.1-11]: Retain Handling %i, time %i', async (retainHandling, time, isSent) => {
    const { rig } = await withRetained(1)
    const client = await subscriberOf(rig)
    if (time === 2) {
      client.subscribe('r/0', { retainHandling: 2 })
      await rig.settle()
      client.take()
    }
    client.subscribe('r/0', { retainHandling })
    await rig.settle()
    expect(client.takePayloads()).toEqual(isSent ? ['0'] : [])
  })

  test('not for a Shared Subscription', async () => {
    const { rig } = await withRetained(1)
    const client = await subscriberOf(rig)
    client.subscribe('$share/g/r/0')
    await rig.settle()
    expect(client.takePayloads()).toEqual([])
  })

  test('not one that has expired, and with the time that is left', async () => {
    const { rig, publisher } = await withRetained(0)
    publisher.publish('r/0', 'gone', { retain: true, expirySeconds: 5 })
    publisher.publish('r/1', 'there', { retain: true, expirySeconds: 50 })
    rig.clock.advance(10_000)
    const client = await subscriberOf(rig)
    client.subscribe('#', { qos: 0 })
    await rig.settle()
    expect(client.takeSent()).toMatchObject([{ payload: 'there', expirySeconds: 40 }])
    await rig.advance(200)
    expect(rig.engine.counters).toMatchObject({ expiredMessages: 1, retainedMessages: 1 })
  })

  test('a bounded number in each turn, and others go on meanwhile', async () => {
    const { rig } = await withRetained(6_000)
    const [first, second] = [await subscriberOf(rig), await rig.connect('other')]
    first.subscribe('#', { qos: 0 })
    second.subscribe('r/0', { qos: 0 })
    await twoTurns(rig)
    const share = first.takeSent().length
    expect(share).toBeGreaterThan(0)
    expect(share).toBeLessThan(6_000)
    expect(second.takePayloads(), 'a short one need not wait for a long one').toEqual(['0'])
    await rig.settle()
    expect(share + first.takeSent().length).toBe(6_000)
    expect(rig.engine.replaying.size).toBe(0)
  })

  test('many short ones are served in one turn', async () => {
    const { rig } = await withRetained(1)
    const clients: RigClient[] = []
    for (let i = 0; i < 100; i++) clients.push(await rig.connect(`${i}`))
    for (const client of clients) client.subscribe('r/0', { qos: 0 })
    await twoTurns(rig)
    expect(clients.flatMap(client => client.takePayloads())).toHaveLength(100)
  })

  test('waits for the window, and goes on with acknowledgements; the queue stays nearly empty', async () => {
    const { rig } = await withRetained(50, { settings: { queueMessagesMax: 2 } }, 1)
    const client = await subscriberOf(rig, { receiveMaximum: 5 })
    client.subscribe('r/+')
    await rig.settle()
    expect(rig.engine.counters.queuedMessages).toBeLessThanOrEqual(1)
    const sent = await client.drain()
    expect(new Set(sent.map(({ payload }) => payload))).toEqual(new Set(numbers(50)))
    expect(rig.engine.counters).toMatchObject({ queueDropped: 0, refusedQueueFull: 0, queuedMessages: 0 })
  })

  test('does not push out what waits, with DropOldest', async () => {
    const { rig, publisher } = await withRetained(50, { settings: { queueMessagesMax: 3, queueStrategy: 'DropOldest' } }, 1)
    const client = await subscriberOf(rig, { receiveMaximum: 1 })
    client.subscribe('live', { qos: 1 })
    await rig.settle()
    for (let i = 0; i < 3; i++) publisher.publish('live', `live ${i}`, { qos: 1 })
    client.subscribe('r/+')
    const sent = await client.drain()
    expect(sent).toHaveLength(53)
    expect(rig.engine.counters.queueDropped).toBe(0)
  })

  test('waits for the socket', async () => {
    const { rig } = await withRetained(10)
    const client = await subscriberOf(rig)
    client.writable(false)
    client.subscribe('#', { qos: 0 })
    await rig.settle()
    expect(client.takePayloads()).toEqual([])
    client.writable(true)
    await rig.settle()
    expect(client.takePayloads()).toHaveLength(10)
  })

  test('goes on with the next connection of the session; ends with the session', async () => {
    const { rig } = await withRetained(10, {}, 1)
    const client = await subscriberOf(rig, { receiveMaximum: 2 })
    client.subscribe('r/+')
    await rig.settle()
    client.detach()
    const back = await subscriberOf(rig, { receiveMaximum: 2 })
    expect(new Set((await back.drain()).map(({ payload }) => payload))).toEqual(new Set(numbers(10)))
    back.subscribe('r/+')
    await rig.settle()
    back.detach({ sessionExpirySeconds: 0 })
    await rig.settle()
    expect(rig.engine.replaying.size).toBe(0)
    expect(rig.engine.counters.queuedMessages).toBe(0)
  })

  test('UNSUBSCRIBE ends it, also before SUBACK has left', async () => {
    const { rig } = await withRetained(6_000)
    const client = await subscriberOf(rig)
    client.subscribe('#', { qos: 0 })
    await twoTurns(rig)
    client.unsubscribe('#')
    expect(client.takePayloads().length).toBeGreaterThan(0)
    await rig.settle()
    expect(client.takePayloads()).toEqual([])
    rig.store.isPrompt = false
    client.subscribe('#', { qos: 0 })
    client.unsubscribe('#')
    await rig.settle()
    expect(client.take().map(({ is }) => is)).toEqual(['subscribed', 'subscribed'])
    expect(rig.engine.replaying.size).toBe(0)
  })

  test('a SUBSCRIBE that lowers the QoS holds for what is still to come', async () => {
    const { rig } = await withRetained(6_000, { settings: { inflightMax: 65_535 } }, 1)
    const client = await subscriberOf(rig, { receiveMaximum: 65_535 })
    client.subscribe('r/+', { qos: 1 })
    await twoTurns(rig)
    const before = client.takeSent().length
    client.subscribe('r/+', { qos: 0, retainHandling: 2 })
    await rig.settle()
    const after = client.takeSent()
    expect(before).toBeGreaterThan(0)
    expect(after.length).toBeGreaterThan(0)
    expect(new Set(after.map(({ qos }) => qos))).toEqual(new Set([0]))
  })

  test('what is retained after the Subscription comes as it is published, once', async () => {
    const { rig, publisher } = await withRetained(2, { isLate: true })
    const client = await subscriberOf(rig)
    client.subscribe('r/+', { qos: 1 })
    publisher.publish('r/1', 'newer', { retain: true, qos: 1 })
    await rig.settle()
    expect(client.takeSent().map(({ payload, retain }) => [payload, retain])).toEqual([
      ['newer', false],
      ['0', true],
    ])
  })
})

test('a replay goes on when the message that it waited for has expired, with nothing left to acknowledge', async () => {
  const rig = await BackendRig.open({ isLate: true })
  const publisher = await rig.connect('p')
  for (const topic of ['r/1', 'r/2']) publisher.publish(topic, topic, { retain: true })
  const client = await subscriberOf(rig)
  client.subscribe('t')
  await rig.settle()
  client.take()
  client.subscribe('r/#')
  rig.endTurn()
  rig.store.complete()
  await nextTurn()
  // The first waits for its commit, the second behind it; both expire there.
  publisher.publish('t', 'first', { qos: 2, expirySeconds: 1 })
  publisher.publish('t', 'second', { qos: 1, expirySeconds: 1 })
  rig.clock.advance(5_000)
  await rig.settle()
  expect(client.takePayloads().toSorted()).toEqual(['r/1', 'r/2'])
})
