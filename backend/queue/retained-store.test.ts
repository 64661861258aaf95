import { describe, expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { BackendRig, NEVER, type RigClient } from '../backend-rig.contract.ts'
import { leftovers } from '../state-dump.contract.ts'

async function retain(client: RigClient, topic: string, payload: string, qos: 0 | 1 | 2 = 1): Promise<ReasonCode | null> {
  client.publish(topic, payload, { retain: true, qos })
  await client.rig.settle()
  const answer = client.take().findLast(event => event.is === 'acknowledged')
  return answer?.is === 'acknowledged' ? answer.reason : null
}

const KEPT = ReasonCode.NoMatchingSubscribers // taken; nobody subscribed

describe('the retained store', () => {
  test('[MQTT-3.3.1-5] [MQTT-3.3.1-6] one for each topic, the last; an empty one removes it; all of it over a restart', async () => {
    let rig = await BackendRig.open()
    let client = await rig.connect('c')
    for (const payload of ['1', '2']) await retain(client, 'a', payload)
    await retain(client, 'b', '3', 2)
    await retain(client, 'gone', '4', 0)
    await retain(client, 'gone', '')
    await retain(client, 'never was', '')
    rig = await rig.restart()
    expect(['a', 'b', 'gone', 'never was'].map(topic => rig.engine.retained.get(topic)?.payload.toString())).toEqual([
      '2',
      '3',
      undefined,
      undefined,
    ])
    expect(rig.engine.counters.retainedMessages).toBe(2)
    client = await rig.connect('c')
    for (const topic of ['a', 'b']) await retain(client, topic, '')
    client.detach()
    await rig.settle()
    expect(leftovers(rig.engine)).toMatchObject({ retainedMessages: 0, retainedBytes: 0, messageBytes: 0, retainedNodes: 0 })
  })

  test('retainedMessagesMax: one for a further topic is refused and reaches nobody; replacing and removing are not', async () => {
    const rig = await BackendRig.open({ settings: { retainedMessagesMax: 2 } })
    const client = await rig.connect('c')
    const watcher = await rig.connect('w')
    watcher.subscribe('3')
    expect([await retain(client, '1', 'x'), await retain(client, '2', 'x'), await retain(client, '3', 'x')]).toEqual([
      KEPT,
      KEPT,
      ReasonCode.QuotaExceeded,
    ])
    expect(watcher.takePayloads()).toEqual([])
    expect(await retain(client, '3', 'QoS 0', 0)).toBeNull()
    expect(watcher.takePayloads(), 'QoS 0 is delivered, but not retained').toEqual(['QoS 0'])
    expect([await retain(client, '1', 'y'), await retain(client, '2', ''), await retain(client, '3', 'x')]).toEqual([
      KEPT,
      KEPT,
      ReasonCode.Success,
    ])
    expect(rig.engine.counters).toMatchObject({ retainedMessages: 2, refusedRetainedFull: 1 })
  })

  test('retainedBytesMax holds exactly', async () => {
    const rig = await BackendRig.open({ settings: { retainedBytesMax: 1_000 } })
    const client = await rig.connect('c')
    expect(await retain(client, '1', 'x'.repeat(138))).toBe(KEPT) // 500 with what a message and its topic cost
    expect(await retain(client, '2', 'x'.repeat(139))).toBe(ReasonCode.QuotaExceeded)
    expect(await retain(client, '2', 'x'.repeat(138))).toBe(KEPT)
    expect(rig.engine.counters.retainedBytes).toBe(1_000)
    expect(await retain(client, '1', 'x'.repeat(139))).toBe(ReasonCode.QuotaExceeded)
    expect(await retain(client, '1', 'x'.repeat(10))).toBe(KEPT)
    expect(rig.engine.counters.retainedBytes).toBe(872)
  })

  test('retainedBytesMax counts names and levels of topics', async () => {
    const rig = await BackendRig.open({ settings: { retainedBytesMax: 10_000 } })
    const client = await rig.connect('c')
    const bytesOf = async (topic: string): Promise<number> => {
      expect(await retain(client, topic, 'x')).toBe(KEPT)
      const { retainedBytes } = rig.engine.counters
      await retain(client, topic, '')
      expect(rig.engine.counters.retainedBytes).toBe(0)
      return retainedBytes
    }
    const short = await bytesOf('1')
    expect((await bytesOf('1/2/3')) - short).toBe(2 * 4 + 2 * 120)
    expect((await bytesOf('ä'.repeat(500))) - short).toBe(2 * 999)
    expect((await bytesOf('1'.repeat(1_500))) - short).toBe(2 * 1_499 + 3 * 1_500)
    expect(await retain(client, '1/'.repeat(100), 'x')).toBe(ReasonCode.QuotaExceeded)
  })

  test('[MQTT-3.3.1-8] without RETAIN nothing is kept, replaced or removed', async () => {
    const rig = await BackendRig.open()
    const client = await rig.connect('c')
    await retain(client, 'a', 'kept')
    client.publish('a', 'other', { qos: 1 })
    client.publish('a', '', { qos: 1 })
    expect(rig.engine.retained.get('a')?.payload.toString()).toBe('kept')
  })

  test('expires while nobody looks, and does not come back', async () => {
    const rig = await BackendRig.open()
    const client = await rig.connect('c', { expirySeconds: NEVER })
    client.publish('a', 'm', { retain: true, qos: 1, expirySeconds: 10 })
    await rig.settle()
    await rig.advance(10_200)
    expect(rig.engine.counters).toMatchObject({ retainedMessages: 0, expiredMessages: 1, messageBytes: 0 })
    expect((await rig.restart()).engine.retained.count).toBe(0)
  })
})
