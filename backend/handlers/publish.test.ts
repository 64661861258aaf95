import { describe, expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { BackendRig, MIB, NEVER, type RigClient, type RigOptions } from '../backend-rig.contract.ts'
import { leftovers } from '../state-dump.contract.ts'

async function lastAnswer(client: RigClient): Promise<ReasonCode | undefined> {
  await client.rig.settle()
  const event = client.take().findLast(each => each.is === 'acknowledged')
  return event?.is === 'acknowledged' ? event.reason : undefined
}

describe('QoS 2 from a client (§4.3.3)', () => {
  for (const expirySeconds of [0, NEVER]) {
    test(`[MQTT-4.3.3-10] expiry ${expirySeconds}: a repeat before PUBREL is the same message, after it another one`, async () => {
      const rig = await BackendRig.open()
      const subscriber = await rig.connect('s')
      subscriber.subscribe('a')
      const client = await rig.connect('c', { expirySeconds })
      client.publish('a', 'one', { qos: 2, packetId: 5 })
      client.publish('a', 'one', { qos: 2, packetId: 5, dup: true })
      expect(await lastAnswer(client)).toBe(ReasonCode.Success)
      client.release(5)
      expect(await lastAnswer(client)).toBe(ReasonCode.Success)
      client.release(5)
      expect(await lastAnswer(client)).toBe(ReasonCode.PacketIdentifierNotFound)
      client.publish('a', 'two', { qos: 2, packetId: 5 })
      await rig.settle()
      expect(subscriber.takePayloads()).toEqual(['one', 'two'])
    })
  }

  test('the identifier is held for that alone: QoS 1, SUBSCRIBE and UNSUBSCRIBE with it are refused', async () => {
    const rig = await BackendRig.open()
    const client = await rig.connect('c')
    const heldId = 65_000 // what the rig's SUBSCRIBE and UNSUBSCRIBE take
    client.publish('a', 'm', { qos: 2, packetId: heldId })
    client.publish('a', 'm', { qos: 1, packetId: heldId })
    expect(await lastAnswer(client)).toBe(ReasonCode.PacketIdentifierInUse)
    client.subscribeAll([
      ['a', {}],
      ['b', {}],
    ])
    client.unsubscribe('a')
    await rig.settle()
    expect(client.take().map(event => (event.is === 'subscribed' ? event.reasons : event))).toEqual([
      [ReasonCode.PacketIdentifierInUse, ReasonCode.PacketIdentifierInUse],
      [ReasonCode.PacketIdentifierInUse],
    ])
    expect(rig.engine.index.nodeCount).toBe(0)
  })

  test('PUBREC and PUBCOMP leave when they are stored; what was acknowledged is remembered, what was not may be done again', async () => {
    const rig = await BackendRig.open()
    const subscriber = await rig.connect('s', { expirySeconds: NEVER })
    subscriber.subscribe('a')
    const client = await rig.connect('c', { expirySeconds: NEVER })
    client.publish('a', 'stored', { qos: 2, packetId: 1 })
    await rig.settle()
    client.take()
    rig.store.isPrompt = false
    client.publish('a', 'not stored', { qos: 2, packetId: 2 })
    client.release(1)
    rig.endTurn()
    expect(client.take()).toEqual([])
    const after = await rig.restart()
    const back = await after.connect('c', { expirySeconds: NEVER })
    back.publish('a', 'stored', { qos: 2, packetId: 1, dup: true })
    back.publish('a', 'not stored', { qos: 2, packetId: 2, dup: true })
    await after.settle()
    const again = await after.connect('s', { expirySeconds: NEVER })
    expect((await again.drain()).map(({ payload }) => payload)).toEqual(['stored', 'not stored'])
  })

  test('a refused message is not held [MQTT-4.3.3-9]', async () => {
    const rig = await BackendRig.open({ settings: { queueMessagesMax: 1 } })
    const away = await rig.connect('s', { expirySeconds: NEVER })
    away.subscribe('a')
    away.detach()
    const client = await rig.connect('c', { expirySeconds: NEVER })
    client.publish('a', '1', { qos: 2, packetId: 1 })
    client.publish('a', '2', { qos: 2, packetId: 2 })
    await rig.settle()
    client.release(2)
    expect(await lastAnswer(client)).toBe(ReasonCode.PacketIdentifierNotFound)
  })
})

describe('the memory watermark', () => {
  /** Over the watermark, by what waits for `away`. No new session may begin now; `older`, of MQTT 3.1.1, may come back. */
  async function full(options: RigOptions = {}): Promise<{ rig: BackendRig; publisher: RigClient; watcher: RigClient; away: RigClient }> {
    const settings = { memoryBytesMax: MIB, memoryWatermarkPercent: 50, ...options.settings }
    const rig = await BackendRig.open({ ...options, settings })
    const away = await rig.connect('away', { expirySeconds: NEVER })
    away.subscribe('fill')
    away.detach()
    const watcher = await rig.connect('watcher')
    watcher.subscribe('a')
    const publisher = await rig.connect('publisher')
    const older = await rig.connect('older', { protocolVersion: 4, expirySeconds: NEVER })
    while (rig.engine.counters.messageBytes <= rig.engine.watermarkBytes) older.publish('fill', 'x'.repeat(10_000), { qos: 1 })
    older.detach()
    await rig.settle()
    watcher.take()
    return { rig, publisher, watcher, away }
  }

  test('refuses QoS 1 and 2 with 0x97, drops and counts QoS 0, and nothing reaches anybody', async () => {
    const { rig, publisher, watcher } = await full()
    expect(rig.engine.counters.messageBytes).toBeGreaterThan(MIB / 2)
    expect(rig.engine.counters.messageBytes).toBeLessThan(MIB / 2 + 11_000)
    for (const qos of [1, 2] as const) {
      publisher.publish('a', 'm', { qos, retain: true })
      expect(await lastAnswer(publisher)).toBe(ReasonCode.QuotaExceeded)
    }
    publisher.publish('a', 'm', { qos: 0, retain: true })
    expect(watcher.takePayloads()).toEqual([])
    expect(rig.engine.counters).toMatchObject({ refusedMemory: 2, qos0DroppedIncoming: 1, retainedMessages: 0 })
  })

  test.each([
    ['Accept', true],
    ['Reject', false],
  ] as const)('$high_priority with %s', async (handling, isTaken) => {
    const { publisher, watcher } = await full({ settings: { highPriorityMessagesBackpressureHandling: handling } })
    const userProperties = [['$high_priority', 'true']] as const
    publisher.publish('a', 'first', { qos: 1, userProperties })
    expect(await lastAnswer(publisher)).toBe(isTaken ? ReasonCode.Success : ReasonCode.QuotaExceeded)
    publisher.publish('a', 'second', { userProperties })
    expect(watcher.takePayloads()).toEqual(isTaken ? ['first', 'second'] : [])
  })

  test('clients of MQTT 3.1.1 have no such code: they are taken, and frontends are told to stop reading', async () => {
    const { rig, watcher } = await full()
    const older = await rig.connect('older', { protocolVersion: 4, expirySeconds: NEVER })
    older.publish('a', 'm', { qos: 1 })
    expect(await lastAnswer(older)).toBe(ReasonCode.Success)
    expect(watcher.takePayloads()).toEqual(['m'])
    rig.backend.tick()
    rig.backend.tick()
    expect(rig.frontend.pressures).toEqual([true])
  })

  test('a frontend that comes while memory is full is told', async () => {
    const { rig } = await full()
    const after = await rig.restart()
    expect(after.engine.isFull).toBe(true)
    after.backend.tick()
    await after.connect('older', { protocolVersion: 4, expirySeconds: NEVER })
    expect(after.frontend.pressures).toEqual([true])
    after.backend.tick()
    expect(after.frontend.pressures).toEqual([true])
  })

  test('ends when the messages have gone', async () => {
    const { rig, publisher, away } = await full()
    rig.backend.tick()
    const back = await rig.connect('away', { expirySeconds: NEVER })
    await back.drain()
    rig.backend.tick()
    expect(rig.frontend.pressures).toEqual([true, false])
    publisher.publish('a', 'm', { qos: 1 })
    expect(await lastAnswer(publisher)).toBe(ReasonCode.Success)
    expect(away.clientId).toBe('away')
  })

  test('no new session begins, with 0x97; one that is there is taken up or begun anew', async () => {
    const { rig } = await full()
    expect(await rig.client('new').attach()).toMatchObject({ is: 'refused', reason: ReasonCode.QuotaExceeded })
    expect((await rig.connect('away', { expirySeconds: NEVER })).sessionPresent).toBe(true)
    expect((await rig.connect('watcher', { cleanStart: true })).sessionPresent).toBe(false)
  })

  test('further Subscriptions get 0x97, one that is there may be replaced', async () => {
    const { rig, watcher } = await full()
    watcher.subscribeAll([
      ['b', {}],
      ['a', { qos: 1 }],
      ['$share/g/a', {}],
    ])
    await rig.settle()
    const reasons = [ReasonCode.QuotaExceeded, ReasonCode.GrantedQoS1, ReasonCode.QuotaExceeded]
    expect(watcher.take()).toMatchObject([{ is: 'subscribed', reasons }])
  })

  test('is reached by filters alone, which count exactly', async () => {
    const rig = await BackendRig.open({ settings: { memoryBytesMax: MIB, memoryWatermarkPercent: 50 } })
    const client = await rig.connect('c', { expirySeconds: NEVER })
    const { counters } = rig.engine
    const empty = counters.sessionBytes
    const filters = Array.from({ length: 10 }, (_, i) => `${'x'.repeat(60_000)}/${i}`)
    for (const filter of filters) {
      client.subscribe(filter)
      await rig.settle()
    }
    const reasons = client.take().flatMap(event => (event.is === 'subscribed' ? event.reasons : []))
    expect(reasons.filter(reason => reason === ReasonCode.QuotaExceeded)).toHaveLength(5)
    expect(counters.sessionBytes).toBeGreaterThan(600_000)
    expect((await rig.restart()).engine.counters.sessionBytes).toBe(counters.sessionBytes)
    client.unsubscribe(...filters)
    await rig.settle()
    expect(counters.sessionBytes).toBe(empty)
    expect((await rig.restart()).engine.counters.sessionBytes).toBe(empty)
    client.detach({ sessionExpirySeconds: 0 })
    await rig.settle()
    expect(leftovers(rig.engine)).toMatchObject({ sessionBytes: 0, indexNodes: 0 })
  })

  test('counts records that the store does not take', async () => {
    const rig = await BackendRig.open({ isLate: true, settings: { memoryBytesMax: MIB, memoryWatermarkPercent: 50 } })
    const client = await rig.connect('c', { expirySeconds: NEVER })
    client.subscribe('a', { qos: 1 })
    await rig.settle()
    client.take()
    for (let i = 0; i < 200 && !rig.engine.isFull; i++) {
      client.publish('a', 'x'.repeat(10_000), { qos: 1 })
      for (const { packetId } of client.takeSent()) client.puback(packetId)
      rig.endTurn()
    }
    expect(rig.engine.isFull).toBe(true)
    await rig.settle()
    expect(rig.engine.isFull).toBe(false)
  })
})
