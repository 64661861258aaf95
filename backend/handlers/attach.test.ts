import { describe, expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { BackendRig, NEVER } from '../backend-rig.contract.ts'
import { leftovers } from '../state-dump.contract.ts'

describe('attach', () => {
  test('[MQTT-3.2.2-3] a session that is there is present, unless the client starts clean [MQTT-3.1.2-4]', async () => {
    const rig = await BackendRig.open()
    const first = await rig.connect('c', { expirySeconds: NEVER })
    expect(first.sessionPresent).toBe(false)
    first.subscribe('a')
    first.detach()
    const second = await rig.connect('c', { expirySeconds: NEVER })
    expect(second.sessionPresent).toBe(true)
    second.detach()
    const clean = await rig.connect('c', { cleanStart: true, expirySeconds: NEVER })
    expect(clean.sessionPresent).toBe(false)
    expect(rig.engine.index.nodeCount).toBe(0)
    expect(rig.engine.counters.sessionsTotal).toBe(1)
  })

  test('a session of expiry 0 ends with its connection, and leaves nothing', async () => {
    const rig = await BackendRig.open()
    const client = await rig.connect('c')
    client.subscribe('a')
    client.publish('a', 'm', { qos: 2 })
    await rig.settle()
    client.detach()
    await rig.settle()
    expect(Object.values(leftovers(rig.engine)).every(left => left === 0)).toBe(true)
    expect((await rig.connect('c')).sessionPresent).toBe(false)
  })

  test('answers once the session is stored', async () => {
    const rig = await BackendRig.open({ isLate: true })
    const client = rig.client('c')
    let isAttached = false
    void client.attach({ expirySeconds: NEVER }).then(() => (isAttached = true))
    rig.endTurn()
    await Promise.resolve()
    expect(isAttached).toBe(false)
    await rig.settle()
    expect(isAttached).toBe(true)
  })

  test('sessionsMax counts offline sessions; one that is there may always come back', async () => {
    const rig = await BackendRig.open({ settings: { sessionsMax: 2 } })
    const first = await rig.connect('1', { expirySeconds: NEVER })
    await rig.connect('2')
    first.detach()
    expect(await rig.client('3').attach()).toMatchObject({ is: 'refused', reason: ReasonCode.QuotaExceeded })
    expect((await rig.connect('1', { expirySeconds: NEVER })).sessionPresent).toBe(true)
  })

  test('nothing is sent before the connection is known as open', async () => {
    const rig = await BackendRig.open()
    const before = await rig.connect('c', { expirySeconds: NEVER })
    before.subscribe('a')
    before.detach()
    const publisher = await rig.connect('p')
    publisher.publish('a', 'm', { qos: 1 })
    const client = rig.client('c')
    const reply = client.attach({ expirySeconds: NEVER })
    await rig.settle()
    expect(client.take()).toEqual([])
    client.opened(await reply)
    expect(client.takePayloads()).toEqual(['m'])
  })
})

describe('take-over', () => {
  test('[MQTT-3.1.4-3] the older connection goes with 0x8E, and has no say any more', async () => {
    const rig = await BackendRig.open()
    const older = await rig.connect('c', { expirySeconds: NEVER })
    older.subscribe('a')
    await rig.settle()
    older.take()
    const newer = await rig.connect('c', { expirySeconds: NEVER })
    expect(older.take()).toEqual([{ is: 'disconnect', reason: ReasonCode.SessionTakenOver }])
    expect([newer.sessionPresent, rig.engine.counters.takeovers, rig.engine.counters.sessionsConnected]).toEqual([true, 1, 1])
    older.publish('a', 'stale', { qos: 1 })
    older.unsubscribe('a')
    older.release(1)
    older.writable(false)
    older.detach()
    await rig.settle()
    expect(older.take()).toEqual([])
    newer.publish('a', 'fresh', { qos: 1 })
    expect(newer.takePayloads()).toEqual(['fresh'])
    expect(newer.puback(1)).toBe(true)
  })

  test('a take-over before the first attach was stored refuses the first', async () => {
    const rig = await BackendRig.open({ isLate: true })
    const [first, second] = [rig.client('c'), rig.client('c')]
    const replies = [first.attach({ expirySeconds: NEVER }), second.attach({ expirySeconds: NEVER })]
    await rig.settle()
    expect(await Promise.all(replies)).toMatchObject([{ is: 'refused', reason: ReasonCode.SessionTakenOver }, { is: 'attached' }])
    expect(rig.engine.counters.sessionsConnected).toBe(1)
  })

  test('a storm with one Client Identifier leaves one connection and one session', async () => {
    const rig = await BackendRig.open({ isLate: true })
    const clients = Array.from({ length: 200 }, () => rig.client('c'))
    const replies = clients.map((client, i) => client.attach({ expirySeconds: i % 3 === 0 ? 0 : NEVER, cleanStart: i % 5 === 0 }))
    await rig.settle()
    expect((await Promise.all(replies)).map(({ is }) => is)).toEqual([...Array.from({ length: 199 }, () => 'refused'), 'attached'])
    expect(rig.engine.counters).toMatchObject({ sessionsConnected: 1, sessionsTotal: 1, takeovers: 199 })
  })
})

describe('Session Expiry Interval', () => {
  test('[MQTT-3.1.2-23] the session is there until it has passed, and a connection stops the clock', async () => {
    const rig = await BackendRig.open()
    const first = await rig.connect('c', { expirySeconds: 10 })
    await rig.advance(60_000)
    first.detach()
    await rig.advance(9_000)
    const second = await rig.connect('c', { expirySeconds: 10 })
    expect(second.sessionPresent).toBe(true)
    await rig.advance(60_000)
    second.detach()
    await rig.advance(10_200)
    expect(rig.engine.counters.sessionsTotal).toBe(0)
    expect((await rig.connect('c')).sessionPresent).toBe(false)
  })

  test('DISCONNECT may change it, to 0 as well', async () => {
    const rig = await BackendRig.open()
    const longer = await rig.connect('longer', { expirySeconds: 10 })
    longer.detach({ sessionExpirySeconds: 100 })
    const ended = await rig.connect('ended', { expirySeconds: 10 })
    ended.detach({ sessionExpirySeconds: 0 })
    const still0 = await rig.connect('still 0')
    still0.detach({ sessionExpirySeconds: 100 })
    expect(rig.engine.counters.sessionsTotal).toBe(1)
    await rig.advance(99_000)
    const after = await rig.restart()
    expect((await after.connect('longer')).sessionPresent).toBe(true)
    expect((await after.connect('ended')).sessionPresent).toBe(false)
  })

  test('0xFFFFFFFF never passes', async () => {
    const rig = await BackendRig.open()
    const client = await rig.connect('c', { expirySeconds: NEVER })
    client.detach()
    await rig.advance(200 * 365 * 86_400_000)
    expect(rig.engine.counters.sessionsTotal).toBe(1)
  })

  test('an end that was acknowledged by a Clean Start does not come back with a restart', async () => {
    const rig = await BackendRig.open()
    const client = await rig.connect('c', { expirySeconds: NEVER })
    client.subscribe('a')
    client.publish('a', 'm', { qos: 2 })
    await rig.settle()
    await rig.connect('c', { cleanStart: true, expirySeconds: NEVER })
    const after = await rig.restart()
    const session = after.engine.shardFor('c').sessions.get('c')!
    expect([session.subscriptions, session.outbox, session.receivedQos2]).toEqual([null, null, null])
  })
})

test('a call with the handle of an earlier connection does nothing, whatever number its connection has', async () => {
  const rig = await BackendRig.open()
  const first = await rig.connect('c', { expirySeconds: NEVER })
  const { handle, connection } = rig.engine.shardFor('c').sessions.get('c')!
  first.detach()
  await rig.connect('c', { expirySeconds: NEVER })
  expect(rig.engine.attached(handle, connection)).toBeNull()
  // Connections of another frontend may have the same number.
  rig.engine.shardFor('c').sessions.get('c')!.connection = connection
  expect(rig.engine.attached(handle, connection)).toBeNull()
})
