import { setTimeout } from 'node:timers/promises'
import { expect, test } from 'vitest'
import * as packets from '../conformance/packets.ts'
import type { RawClient } from '../conformance/raw-client.ts'
import { type RealBroker, startBroker } from './real-broker.ts'

const MIB = 1024 * 1024
/** No new session begins at the watermark: this one is there before. */
const OLDER = { clientId: 'older', version: 4, cleanStart: false } as const
const KEPT = { clientId: 'subscriber', cleanStart: false, properties: { sessionExpiryInterval: 1_000 } } as const

/** Publishes 1 MiB with QoS 1 until it is refused with 0x97; answers how many were taken. */
async function fill(publisher: RawClient): Promise<number> {
  const payload = Buffer.alloc(MIB, 7)
  for (let taken = 0; taken < 1_000; taken++) {
    const puback = await publisher.publish({ topic: 'q', qos: 1, payload })
    if (puback!.reason === 0x97) return taken
    expect(puback!.reason).toBe(0)
  }
  throw new Error('never refused')
}

/** Takes `count` messages of the subscriber's session. */
async function drain(broker: RealBroker, count: number): Promise<Buffer[]> {
  const client = await broker.connect(KEPT)
  const payloads = []
  for (let i = 0; i < count; i++) payloads.push((await client.receive()).payload)
  await client.expectNothing()
  await client.disconnect()
  return payloads
}

test('at the watermark MQTT 5 publishers get 0x97, older ones wait, and all goes on once the queue is read', async () => {
  const broker = await startBroker('--memory-bytes-max', '240MiB')
  const subscriber = await broker.connect(KEPT)
  await subscriber.subscribe({ filter: 'q', qos: 1 })
  await subscriber.disconnect()

  await (await broker.connect(OLDER)).disconnect()

  const publisher = await broker.connect()
  const taken = await fill(publisher)
  expect(taken).toBeGreaterThan(10)
  expect(await broker.metric('millrace_message_bytes')).toBeLessThan(182 * MIB)
  expect(await broker.metric('aio_broker_backpressure_packets_rejected_memory')).toBe(1)
  expect(await broker.metric('millrace_publishes_refused_total'), 'counts the other limits').toBe(0)
  // QoS 0 is dropped and counted; who is marked as important still gets through.
  await publisher.publish({ topic: 'q', payload: 'x' })
  expect(await broker.metric('aio_broker_qos0_messages_dropped', 'incoming')).toBe(1)
  const important = { userProperty: [['$high_priority', 'true']] as [string, string][] }
  expect((await publisher.publish({ topic: 'q', qos: 1, payload: 'urgent', properties: important }))?.reason).toBe(0)

  // Frontends are told with the next tick of the process, and nothing that a client sees says when.
  await setTimeout(300)
  // An older publisher sends twenty messages at once. It is not told anything; it is read no further.
  const older = await broker.connect({ ...OLDER, keepAlive: 1 })
  const ids = Array.from({ length: 20 }, (_, i) => i + 1)
  for (const id of ids) older.send(packets.publish({ topic: 'q', qos: 1, packetId: id, payload: `older ${id}` }, 4))
  await older.take('puback', 1)
  for (let i = 0; i < 10; i++) await publisher.publish({ topic: 'q', qos: 1, payload: 'x' })
  expect(older.poll('puback')).toBeUndefined()

  const payloads = await drain(broker, taken + 2)
  expect(payloads.filter(payload => payload.length === MIB)).toHaveLength(taken)
  // The queue has been read: publishers of every version go on, and nothing is lost.
  for (const id of ids.slice(1)) await older.take('puback', id)
  expect((await drain(broker, ids.length - 1)).map(String)).toEqual(ids.slice(1).map(id => `older ${id}`))
  await expect.poll(async () => (await publisher.publish({ topic: 'q', qos: 1, payload: 'x' }))?.reason, { timeout: 5_000 }).toBe(0)
})
