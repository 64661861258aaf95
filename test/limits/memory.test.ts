import { expect, test } from 'vitest'
import * as packets from '../conformance/packets.ts'
import type { RawClient } from '../conformance/raw-client.ts'
import { startBroker } from './real-broker.ts'

const MIB = 1024 * 1024
/** The process collects garbage every few seconds at most; only then is it seen how much memory is free again. */
const COLLECTED_MS = 30_000
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

/**
 * Publishes one message after the other until one is left unanswered because it is not read, while the newer publisher is answered again
 * and again; answers how many were sent. The broker tells its frontends of the pressure a few times a second, so the first ones pass.
 */
async function publishUntilPaused(older: RawClient, newer: RawClient): Promise<number> {
  for (let id = 1; id < 10_000; id++) {
    older.send(packets.publish({ topic: 'q', qos: 1, packetId: id, payload: `older ${id}` }, 4))
    let isAnswered = false
    for (let turn = 0; turn < 50 && !isAnswered; turn++) {
      expect((await newer.publish({ topic: 'q', qos: 1, payload: 'x' }))?.reason).toBe(0x97)
      isAnswered = older.poll('puback') !== undefined
    }
    if (!isAnswered) return id
  }
  throw new Error('never paused')
}

/** The payloads of the next `count` messages. */
async function receive(client: RawClient, count: number): Promise<Buffer[]> {
  const payloads = []
  for (let i = 0; i < count; i++) payloads.push((await client.receive()).payload)
  return payloads
}

test(
  'at the watermark MQTT 5 publishers get 0x97, older ones wait, and all goes on once the queue is read',
  async () => {
    const broker = await startBroker('--memory-bytes-max', '240MiB')
    const subscriber = await broker.connect(KEPT)
    await subscriber.subscribe({ filter: 'q', qos: 1 })
    await subscriber.disconnect()

    // Here before the memory is full: no session begins after that.
    const older = await broker.connect({ version: 4 })
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

    // An older publisher is not told anything; it is read no further.
    const sent = await publishUntilPaused(older, publisher)

    const back = await broker.connect(KEPT)
    const payloads = await receive(back, taken + sent)
    expect(payloads.filter(payload => payload.length === MIB)).toHaveLength(taken)
    expect(payloads.slice(taken).map(String)).toEqual(['urgent', ...Array.from({ length: sent - 1 }, (_, i) => `older ${i + 1}`)])
    // The queue has been read: publishers of every version go on once the garbage of the process is collected, and nothing is lost.
    const publish = async (): Promise<unknown> => (await publisher.publish({ topic: 'q', qos: 1, payload: 'newer' }))?.reason
    await expect.poll(publish, { timeout: COLLECTED_MS }).toBe(0)
    await older.take('puback', sent)
    expect((await receive(back, 2)).map(String).sort()).toEqual(['newer', `older ${sent}`])
    await back.expectNothing()
  },
  2 * COLLECTED_MS,
)
