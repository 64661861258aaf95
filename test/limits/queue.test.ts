import { describe, expect, test } from 'vitest'
import type { RawClient } from '../conformance/raw-client.ts'
import { type RealBroker, startBroker } from './real-broker.ts'

const KEPT = { clientId: 'subscriber', cleanStart: false, properties: { sessionExpiryInterval: 1_000 } } as const

/** A session that is away, subscribed to `q` with QoS 1. */
async function absentSubscriber(broker: RealBroker): Promise<void> {
  const client = await broker.connect(KEPT)
  await client.subscribe({ filter: 'q', qos: 1 })
  await client.disconnect()
}

/** Publishes 1, 2, …; answers the reasons. */
async function publishNumbers(client: RawClient, count: number, payloadBytes = 4): Promise<(number | undefined)[]> {
  const reasons = []
  for (let i = 1; i <= count; i++) {
    reasons.push((await client.publish({ topic: 'q', qos: 1, payload: String(i).padEnd(payloadBytes) }))?.reason)
  }
  return reasons
}

async function readBack(broker: RealBroker, count: number): Promise<number[]> {
  const client = await broker.connect(KEPT)
  const numbers = []
  for (let i = 0; i < count; i++) numbers.push(Number((await client.receive()).payload.toString()))
  await client.expectNothing()
  return numbers
}

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i)

describe('queue limits are exact', () => {
  test('DropOldest: the newest stay, the others are counted', async () => {
    const broker = await startBroker('--queue-messages-max', '10', '--queue-strategy', 'DropOldest')
    await absentSubscriber(broker)
    const publisher = await broker.connect()
    expect(await publishNumbers(publisher, 25)).toEqual(range(1, 25).map(() => 0))
    expect(await broker.metric('millrace_queue_messages_dropped_total')).toBe(15)
    expect(await broker.metric('millrace_queued_messages')).toBe(10)
    expect(await readBack(broker, 10)).toEqual(range(16, 25))
  })

  test('None: what does not fit is refused with 0x97, and fits again once there is room', async () => {
    const broker = await startBroker('--queue-messages-max', '10', '--queue-strategy', 'None')
    await absentSubscriber(broker)
    const publisher = await broker.connect()
    expect(await publishNumbers(publisher, 13)).toEqual([...range(1, 10).map(() => 0), 0x97, 0x97, 0x97])
    expect(await broker.metric('millrace_publishes_refused_total', 'queue')).toBe(3)
    expect(await broker.metric('millrace_queue_messages_dropped_total')).toBe(0)
    expect(await readBack(broker, 10)).toEqual(range(1, 10))
    expect(await publishNumbers(publisher, 1)).toEqual([0])
  })

  test('None: an older publisher is cut off, and what it sent before is there', async () => {
    const broker = await startBroker('--queue-messages-max', '3', '--queue-strategy', 'None')
    await absentSubscriber(broker)
    const publisher = await broker.connect({ version: 4 })
    await publishNumbers(publisher, 3)
    await expect(publisher.publish({ topic: 'q', qos: 1, payload: '4' })).rejects.toThrow('closed')
    expect(await readBack(broker, 3)).toEqual([1, 2, 3])
  })

  test('bytes are a limit as well', async () => {
    const broker = await startBroker('--queue-bytes-max', '64KiB', '--queue-strategy', 'DropOldest')
    await absentSubscriber(broker)
    const publisher = await broker.connect()
    await publishNumbers(publisher, 20, 10_000)
    const kept = await broker.metric('millrace_queued_messages')
    expect(kept).toBe(6)
    expect(await readBack(broker, kept)).toEqual(range(15, 20))
  })
})
