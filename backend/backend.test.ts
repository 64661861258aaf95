import { describe, expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { BackendRig, NEVER, nextTurn } from './backend-rig.contract.ts'
import { openMemoryStore } from './store/memory/memory-store.ts'
import { retainedOf } from './state-dump.contract.ts'

describe('a store that fails', () => {
  test('nothing is acknowledged any more, everybody is disconnected, and nobody gets in', async () => {
    const rig = await BackendRig.open({ isLate: true })
    const subscriber = await rig.connect('s', { expirySeconds: NEVER })
    subscriber.subscribe('a')
    const publisher = await rig.connect('p', { expirySeconds: NEVER })
    await rig.settle()
    subscriber.take()
    publisher.publish('a', 'm', { qos: 2 })
    publisher.publish('a', 'm', { qos: 1 })
    const waiting = rig.client('late')
    const attaching = waiting.attach({ expirySeconds: NEVER })
    rig.endTurn()
    rig.store.fail()
    await nextTurn()
    expect(rig.failures.map(({ message }) => message)).toEqual(['the disk is gone'])
    expect(rig.backend.failure?.message).toBe('the disk is gone')
    expect(publisher.take().map(({ is }) => is)).toEqual(['disconnect'])
    expect(subscriber.take().map(({ is }) => is)).not.toContain('acknowledged')
    expect(await rig.client('new').attach()).toMatchObject({ is: 'refused', reason: ReasonCode.ServerUnavailable })
    expect(await attaching).toMatchObject({ is: 'refused', reason: ReasonCode.ServerUnavailable })
    publisher.detach()
    rig.endTurn()
    await rig.backend.close()
  })

  test('what was acknowledged before is there afterwards, and nothing else', async () => {
    const rig = await BackendRig.open()
    const subscriber = await rig.connect('s', { expirySeconds: NEVER })
    subscriber.subscribe('a')
    subscriber.detach()
    const publisher = await rig.connect('p', { expirySeconds: NEVER })
    publisher.publish('a', 'stored', { qos: 1 })
    await rig.settle()
    rig.store.isPrompt = false
    publisher.publish('a', 'lost', { qos: 1 })
    rig.endTurn()
    rig.store.fail()
    await nextTurn()
    const after = await rig.restart()
    expect((await after.connect('s', { expirySeconds: NEVER })).takePayloads()).toEqual(['stored'])
  })
})

test('closing stores what is left, then closes the store', async () => {
  const rig = await BackendRig.open({ isLate: true })
  const client = await rig.connect('c', { expirySeconds: NEVER })
  client.publish('a', 'kept', { qos: 0, retain: true })
  const closed = rig.backend.close()
  await rig.settle()
  await closed
  expect(Object.keys(retainedOf((await rig.restart()).engine))).toEqual(['a'])
})

test('on a store that remembers nothing no record is made, and sessions live as long as the process', async () => {
  const rig = await BackendRig.open({ store: openMemoryStore({ shardCount: 3 }) })
  const first = await rig.connect('s', { expirySeconds: NEVER })
  first.subscribe('a')
  first.detach()
  const publisher = await rig.connect('p', { expirySeconds: NEVER })
  for (const qos of [1, 2] as const) publisher.publish('a', `QoS ${qos}`, { qos })
  const second = await rig.connect('s', { expirySeconds: NEVER })
  expect((await second.drain()).map(({ payload }) => payload)).toEqual(['QoS 1', 'QoS 2'])
  expect(rig.engine.journal).toMatchObject({ records: 0, commits: 0 })
  expect(rig.engine.counters).toMatchObject({ messageBytes: 0, queuedMessages: 0 })
})
