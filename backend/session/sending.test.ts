import { describe, expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { BackendRig, NEVER, type ConnectOptions, type RigClient } from '../backend-rig.contract.ts'
import type { BackendSettings } from '../config.ts'
import type { Session } from './session.ts'

async function subscriberAndPublisher(
  options: ConnectOptions = {},
  settings: Partial<BackendSettings> = {},
): Promise<{ rig: BackendRig; subscriber: RigClient; publisher: RigClient }> {
  const rig = await BackendRig.open({ settings })
  const subscriber = await rig.connect('subscriber', { expirySeconds: NEVER, ...options })
  subscriber.subscribe('a')
  await rig.settle()
  subscriber.take()
  return { rig, subscriber, publisher: await rig.connect('publisher', { expirySeconds: NEVER }) }
}

async function publishAll(publisher: RigClient, qos: 1 | 2, payloads: readonly string[], topic = 'a'): Promise<ReasonCode[]> {
  const tickets = payloads.map(payload => publisher.publish(topic, payload, { qos }))
  await publisher.rig.settle()
  const reasons = new Map(publisher.take().flatMap(event => (event.is === 'acknowledged' ? [[event.ticket, event.reason]] : [])))
  return tickets.map(ticket => reasons.get(ticket)!)
}

function sessionOf(rig: BackendRig, clientId: string): Session {
  return rig.engine.shardFor(clientId).sessions.get(clientId)!
}

const numbers = (count: number, from = 1): string[] => Array.from({ length: count }, (_, index) => `${from + index}`)

describe('the window of Receive Maximum', () => {
  test.each([1, 2] as const)(
    '[MQTT-3.3.4-9] QoS %i: no more go out unacknowledged; one acknowledged lets one follow, in order',
    async qos => {
      const { rig, subscriber, publisher } = await subscriberAndPublisher({ receiveMaximum: 3 })
      await publishAll(publisher, qos, numbers(6))
      const first = subscriber.takeSent()
      expect(first.map(({ payload }) => payload)).toEqual(['1', '2', '3'])
      if (qos === 1) subscriber.puback(first[0]!.packetId)
      else {
        subscriber.pubrec(first[0]!.packetId)
        await rig.settle()
        expect(subscriber.take()).toEqual([{ is: 'released', packetId: first[0]!.packetId, reason: ReasonCode.Success }])
        subscriber.pubcomp(first[0]!.packetId)
      }
      await rig.settle()
      expect(subscriber.takePayloads()).toEqual(['4'])
    },
  )

  test('a resumed session sends again in order and within a smaller Receive Maximum, with DUP [MQTT-4.4.0-1]', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher({ receiveMaximum: 4 })
    await publishAll(publisher, 1, numbers(2))
    await publishAll(publisher, 2, numbers(2, 3))
    const before = subscriber.takeSent()
    subscriber.detach()
    const again = await rig.connect('subscriber', { expirySeconds: NEVER, receiveMaximum: 2 })
    const resent = again.takeSent()
    expect(resent.map(({ payload, dup, packetId }) => [payload, dup, packetId])).toEqual([
      ['1', true, before[0]!.packetId],
      ['2', true, before[1]!.packetId],
    ])
    again.puback(resent[1]!.packetId)
    again.puback(resent[0]!.packetId)
    await rig.settle()
    expect(again.takePayloads()).toEqual(['3', '4'])
    expect(sessionOf(rig, 'subscriber').outbox!.inWindow).toBe(2)
  })

  test('a message that comes before the old ones went again takes no place from them', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher({ receiveMaximum: 10 })
    await publishAll(publisher, 2, numbers(2))
    subscriber.detach()
    const again = await rig.connect('subscriber', { expirySeconds: NEVER, receiveMaximum: 1, isWritable: false })
    await publishAll(publisher, 2, ['3'])
    again.writable(true)
    expect((await again.drain()).map(({ payload }) => payload)).toEqual(['1', '2', '3'])
  })

  test('inflightMax is the ceiling whatever the client allows', async () => {
    const { subscriber, publisher } = await subscriberAndPublisher({ receiveMaximum: 65_535 }, { inflightMax: 2 })
    await publishAll(publisher, 1, numbers(3))
    expect(subscriber.takePayloads()).toEqual(['1', '2'])
  })

  test('an identifier stays in use until the exchange ends, so a receiver that answers the last ones first never sees one twice', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher({ receiveMaximum: 3 })
    await publishAll(publisher, 1, numbers(3))
    const [stuck] = subscriber.takeSent()
    const inUse = new Set([stuck!.packetId])
    for (let round = 0; round < 50; round++) {
      await publishAll(publisher, 1, [`${round}`])
      for (const { packetId } of subscriber.takeSent()) inUse.add(packetId)
      for (const packetId of [...inUse].slice(1)) subscriber.puback(packetId)
      await rig.settle()
      for (const { packetId } of subscriber.takeSent()) {
        expect(packetId).not.toBe(stuck!.packetId)
        subscriber.puback(packetId)
      }
      inUse.clear()
      inUse.add(stuck!.packetId)
    }
    expect(subscriber.puback(stuck!.packetId)).toBe(true)
    expect(subscriber.puback(stuck!.packetId)).toBe(false)
  })
})

describe('a socket that is behind', () => {
  test('QoS 1 and 2 wait in the session, QoS 0 goes to the frontend, which drops what its buffer cannot hold', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher()
    subscriber.writable(false)
    publisher.publish('a', 'zero')
    await publishAll(publisher, 1, ['one'])
    await publishAll(publisher, 2, ['two'])
    expect(subscriber.takePayloads()).toEqual(['zero'])
    subscriber.writable(true)
    await rig.settle()
    expect(subscriber.takePayloads()).toEqual(['one', 'two'])
  })

  test.each([0, 1, 2] as const)('a QoS %i message after it caught up does not overtake', async qos => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher({ receiveMaximum: 1 })
    await publishAll(publisher, 1, ['first', 'second'])
    publisher.publish('a', 'last', { qos })
    const sent = await subscriber.drain()
    const expected = qos === 0 ? ['first', 'last', 'second'] : ['first', 'second', 'last']
    expect(sent.map(({ payload }) => payload)).toEqual(expected)
    expect(rig.engine.counters.queuedMessages).toBe(0)
  })
})

describe('QoS 2 to a persistent session', () => {
  test('is sent once it is stored with its identifier, and PUBREL once PUBREC is stored', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher()
    rig.store.isPrompt = false
    publisher.publish('a', 'm', { qos: 2 })
    rig.endTurn()
    expect(subscriber.take()).toEqual([])
    await rig.settle()
    const [sent] = subscriber.takeSent()
    expect(sent).toMatchObject({ payload: 'm', qos: 2, dup: false })
    subscriber.pubrec(sent!.packetId)
    rig.endTurn()
    expect(subscriber.take()).toEqual([])
    await rig.settle()
    expect(subscriber.take()).toEqual([{ is: 'released', packetId: sent!.packetId, reason: ReasonCode.Success }])
  })

  test('a PUBREC that was stored is answered by PUBREL alone after a restart; one that was not, by the message again', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher()
    await publishAll(publisher, 2, ['stored', 'not stored'])
    const [stored, notStored] = subscriber.takeSent()
    subscriber.pubrec(stored!.packetId)
    await rig.settle()
    rig.store.isPrompt = false
    subscriber.pubrec(notStored!.packetId)
    rig.endTurn()
    const after = await rig.restart()
    const again = await after.connect('subscriber', { expirySeconds: NEVER })
    expect(again.take()).toEqual([
      { is: 'released', packetId: stored!.packetId, reason: ReasonCode.Success },
      { ...notStored!, dup: true },
    ])
  })

  test('a PUBREC that refuses ends the delivery', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher({ receiveMaximum: 1 })
    await publishAll(publisher, 2, ['refused', 'next'])
    expect(subscriber.pubrec(subscriber.takeSent()[0]!.packetId, ReasonCode.QuotaExceeded)).toBe(true)
    await rig.settle()
    expect(subscriber.takePayloads()).toEqual(['next'])
    expect(sessionOf(await rig.restart(), 'subscriber').outbox!.ids.inUse).toBe(1)
  })
})

describe('acknowledgements that do not fit', () => {
  test('PUBACK, PUBREC and PUBCOMP for identifiers that are not in use that way are refused and change nothing', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher()
    await publishAll(publisher, 1, ['one'])
    await publishAll(publisher, 2, ['two'])
    const [one, two] = subscriber.takeSent()
    expect([subscriber.puback(99), subscriber.pubrec(99), subscriber.pubcomp(99), subscriber.puback(0)]).toEqual([
      false,
      false,
      false,
      false,
    ])
    expect([subscriber.pubrec(one!.packetId), subscriber.pubcomp(one!.packetId)]).toEqual([false, false])
    expect([subscriber.puback(two!.packetId), subscriber.pubcomp(two!.packetId)]).toEqual([false, false])
    expect([subscriber.puback(one!.packetId), subscriber.pubrec(two!.packetId)]).toEqual([true, true])
    expect(subscriber.pubrec(two!.packetId), 'repeated: PUBREL goes again').toBe(true)
    await rig.settle()
    expect(subscriber.take()).toEqual([
      { is: 'released', packetId: 99, reason: ReasonCode.PacketIdentifierNotFound },
      { is: 'released', packetId: one!.packetId, reason: ReasonCode.PacketIdentifierNotFound },
      { is: 'released', packetId: two!.packetId, reason: ReasonCode.Success },
      { is: 'released', packetId: two!.packetId, reason: ReasonCode.Success },
    ])
    expect(subscriber.pubcomp(two!.packetId)).toBe(true)
    expect(sessionOf(rig, 'subscriber').outbox).toMatchObject({ inWindow: 0, isIdle: true, queuedBytes: 0 })
  })

  test('one for a message that waits to be sent again ends it; nothing is counted twice when the session ends', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher()
    const other = await rig.connect('other', { expirySeconds: NEVER, isWritable: false })
    other.subscribe('a')
    await publishAll(publisher, 1, numbers(3))
    subscriber.detach()
    const again = await rig.connect('subscriber', { expirySeconds: NEVER, receiveMaximum: 1 })
    const [first] = again.takeSent()
    expect(again.puback(first!.packetId + 1)).toBe(true)
    again.detach({ sessionExpirySeconds: 0 })
    await rig.settle()
    expect(rig.engine.counters).toMatchObject({ messageBytes: 3 * 241, queuedMessages: 3 })
    other.writable(true)
    expect(await other.drain()).toHaveLength(3)
    expect(rig.engine.counters).toMatchObject({ messageBytes: 0, queuedMessages: 0 })
  })
})

test('a resumed queue of QoS 2 gets its identifiers with one commit for a window, not one for each message', async () => {
  const { rig, subscriber, publisher } = await subscriberAndPublisher()
  subscriber.detach()
  await publishAll(publisher, 2, numbers(20))
  const again = await rig.connect('subscriber', { expirySeconds: NEVER, receiveMaximum: 10 })
  const before = rig.engine.journal.commits
  await rig.settle()
  expect(again.takePayloads()).toEqual(numbers(10))
  expect(rig.engine.journal.commits - before).toBeLessThanOrEqual(1)
})

describe('queue limits', () => {
  test('None: exactly queueMessagesMax wait; the next one is refused and reaches nobody', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher({}, { queueMessagesMax: 3 })
    const other = await rig.connect('other')
    other.subscribe('a')
    await rig.settle()
    subscriber.detach()
    expect(await publishAll(publisher, 1, numbers(5))).toEqual([0, 0, 0, ReasonCode.QuotaExceeded, ReasonCode.QuotaExceeded])
    expect(other.takePayloads()).toEqual(['1', '2', '3'])
    expect(rig.engine.counters).toMatchObject({ refusedQueueFull: 2, queuedMessages: 3 })
    const again = await rig.connect('subscriber', { expirySeconds: NEVER })
    expect((await again.drain()).map(({ payload }) => payload)).toEqual(['1', '2', '3'])
    expect(await publishAll(publisher, 1, ['6'])).toEqual([0])
  })

  test('None: QoS 0 is not held up by a full queue, and reaches those who are connected', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher({}, { queueMessagesMax: 1 })
    const other = await rig.connect('other')
    other.subscribe('a')
    subscriber.detach()
    await publishAll(publisher, 1, ['1'])
    other.take()
    publisher.publish('a', 'zero')
    expect(other.takePayloads()).toEqual(['zero'])
  })

  test('None: expired messages make room, so that a session nobody comes back for does not refuse others for ever', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher({}, { queueMessagesMax: 2 })
    subscriber.detach()
    publisher.publish('a', 'short', { qos: 1, expirySeconds: 5 })
    publisher.publish('a', 'long', { qos: 1 })
    expect(await publishAll(publisher, 1, ['refused'])).toContain(ReasonCode.QuotaExceeded)
    await rig.advance(6_000)
    expect(await publishAll(publisher, 1, ['taken'])).toEqual([0])
    expect(rig.engine.counters).toMatchObject({ expiredMessages: 1, queuedMessages: 2 })
    const again = await rig.connect('subscriber', { expirySeconds: NEVER })
    expect((await again.drain()).map(({ payload }) => payload)).toEqual(['long', 'taken'])
  })

  test('None: a full queue is full after a restart as well', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher({}, { queueMessagesMax: 2 })
    subscriber.detach()
    await publishAll(publisher, 1, numbers(2))
    const after = await rig.restart()
    expect(await publishAll(await after.connect('publisher'), 1, ['3'])).toEqual([ReasonCode.QuotaExceeded])
  })

  test('None: queueBytesMax is not exceeded, neither at first nor after one message has left', async () => {
    const queueBytesMax = 2_000
    const { rig, subscriber, publisher } = await subscriberAndPublisher({ receiveMaximum: 1 }, { queueBytesMax })
    const { outbox } = sessionOf(rig, 'subscriber')
    expect(outbox).toBeNull()
    for (let i = 0; i < 20; i++) {
      await publishAll(publisher, 1, ['x'.repeat(i % 2 === 0 ? 700 : 10)])
      expect(sessionOf(rig, 'subscriber').outbox!.queuedBytes).toBeLessThanOrEqual(queueBytesMax)
      if (i % 3 === 0) for (const { packetId } of subscriber.takeSent()) subscriber.puback(packetId)
    }
    expect(rig.engine.counters.refusedQueueFull).toBeGreaterThan(0)
  })

  test('DropOldest: exactly queueMessagesMax wait, the oldest go first and are counted; what is in flight stays', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher(
      { receiveMaximum: 2 },
      { queueMessagesMax: 3, queueStrategy: 'DropOldest' },
    )
    expect(await publishAll(publisher, 1, numbers(10))).toEqual(Array.from({ length: 10 }, () => 0))
    expect(rig.engine.counters).toMatchObject({ queueDropped: 5, queuedMessages: 3 })
    expect((await subscriber.drain()).map(({ payload }) => payload)).toEqual(['1', '2', '8', '9', '10'])
    expect(rig.engine.counters).toMatchObject({ messageBytes: 0, queuedMessages: 0 })
  })

  test('DropOldest: queueBytesMax counts what is kept, and holds after a restart', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher({}, { queueBytesMax: 3_000, queueStrategy: 'DropOldest' })
    subscriber.detach()
    await publishAll(publisher, 2, ['x'.repeat(1_000), 'y'.repeat(1_000), 'z'.repeat(1_000)])
    const after = await rig.restart()
    expect(sessionOf(after, 'subscriber').outbox!.queuedBytes).toBe(2 * 1_240)
    const again = await after.connect('subscriber', { expirySeconds: NEVER })
    expect((await again.drain()).map(({ payload }) => payload[0])).toEqual(['y', 'z'])
  })

  test('DropOldest: with old messages waiting to go again, those that never went are dropped, not those', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher({}, { queueMessagesMax: 2, queueStrategy: 'DropOldest' })
    await publishAll(publisher, 2, numbers(3))
    subscriber.detach()
    const again = await rig.connect('subscriber', { expirySeconds: NEVER, isWritable: false })
    await publishAll(publisher, 1, numbers(4, 4))
    again.writable(true)
    expect((await again.drain()).map(({ payload }) => payload)).toEqual(['1', '2', '3', '6', '7'])
  })
})

describe('Message Expiry Interval', () => {
  test('[MQTT-3.3.2-5] what expired in the queue is not sent; [MQTT-3.3.2-6] what did not says how long is left', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher()
    subscriber.detach()
    publisher.publish('a', 'short', { qos: 1, expirySeconds: 5 })
    publisher.publish('a', 'long', { qos: 2, expirySeconds: 60 })
    publisher.publish('a', 'for ever', { qos: 1 })
    await rig.advance(10_500)
    const sent = await (await rig.connect('subscriber', { expirySeconds: NEVER })).drain()
    expect(sent.map(({ payload, expirySeconds }) => [payload, expirySeconds])).toEqual([
      ['long', 50],
      ['for ever', -1],
    ])
    expect(rig.engine.counters).toMatchObject({ expiredMessages: 1, messageBytes: 0, queuedMessages: 0 })
  })

  test('a message that was sent before it expired goes again, or QoS 2 would lose its receiver', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher()
    publisher.publish('a', 'm', { qos: 2, expirySeconds: 5 })
    await rig.settle()
    subscriber.detach()
    await rig.advance(10_000)
    const sent = await (await rig.connect('subscriber', { expirySeconds: NEVER })).drain()
    expect(sent).toMatchObject([{ payload: 'm', dup: true, expirySeconds: 0 }])
  })

  for (const qos of [0, 1, 2] as const) {
    test(`QoS ${qos}: maxMessageExpirySeconds is a ceiling, also for messages that carry none, sent at once or from the queue`, async () => {
      const { rig, subscriber, publisher } = await subscriberAndPublisher({}, { maxMessageExpirySeconds: 30 })
      const publishThree = (): void => {
        publisher.publish('a', 'none', { qos })
        publisher.publish('a', 'more', { qos, expirySeconds: 60 })
        publisher.publish('a', 'less', { qos, expirySeconds: 20 })
      }
      const limited = [
        ['none', 30],
        ['more', 30],
        ['less', 20],
      ]
      publishThree()
      expect((await subscriber.drain()).map(({ payload, expirySeconds }) => [payload, expirySeconds])).toEqual(limited)
      subscriber.detach()
      publishThree()
      const sent = await (await rig.connect('subscriber', { expirySeconds: NEVER })).drain()
      expect(sent.map(({ payload, expirySeconds }) => [payload, expirySeconds])).toEqual(qos === 0 ? [] : limited)
    })
  }

  test('holds over a restart', async () => {
    const { rig, subscriber, publisher } = await subscriberAndPublisher()
    subscriber.detach()
    publisher.publish('a', 'gone', { qos: 1, expirySeconds: 5 })
    publisher.publish('a', 'there', { qos: 1, expirySeconds: 20 })
    await rig.settle()
    rig.clock.advance(10_000)
    const after = await rig.restart()
    const sent = await (await after.connect('subscriber', { expirySeconds: NEVER })).drain()
    expect(sent.map(({ payload, expirySeconds }) => [payload, expirySeconds])).toEqual([['there', 10]])
  })
})

test('what waits for an absent client lies in memory of its own, once for all who wait for it', async () => {
  const rig = await BackendRig.open()
  const publisher = await rig.connect('publisher')
  for (const name of ['away', 'away too', 'leaves']) {
    const client = await rig.connect(name, { expirySeconds: NEVER })
    client.subscribe('a')
    if (name !== 'leaves') client.detach()
  }
  publisher.publish('a', 'm', { qos: 1, userProperties: [['name', 'value']] })
  const queued = sessionOf(rig, 'away').outbox!.queued.peek()!.message
  expect(queued.payloadBytes.buffer.byteLength).toBe(queued.payloadLength + queued.propertiesLength)
  expect(sessionOf(rig, 'away too').outbox!.queued.peek()!.message).toBe(queued)
  expect(sessionOf(rig, 'leaves').outbox!.ids.deliveries()[0]!.message).toBe(queued)
})

test('so does what a client leaves unacknowledged', async () => {
  const { rig, subscriber, publisher } = await subscriberAndPublisher()
  publisher.publish('a', 'm', { qos: 1 })
  subscriber.detach()
  const [delivery] = sessionOf(rig, 'subscriber').outbox!.ids.deliveries()
  expect(delivery!.message.payloadBytes.buffer.byteLength).toBe(1)
})
