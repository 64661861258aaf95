import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { expect, test } from 'vitest'
import * as packets from '../conformance/packets.ts'
import { type RealBroker, startBroker } from './real-broker.ts'

const MIB = 1024 * 1024
const SLOW_READERS = 10
/** Far less than the flood would need if it were kept: SLOW_READERS times what one of them is sent. */
const GROWTH_MAX = 100 * MIB

/** Subscribes to `flood` and never reads again. */
async function slowReader(broker: RealBroker, qos: number): Promise<void> {
  const client = await broker.connect()
  await client.subscribe({ filter: 'flood', qos })
  client.pause()
}

/** A publisher that sends as fast as its socket takes it, and drops what it is answered. */
async function floodQos0(broker: RealBroker, payloadBytes: number, count: number): Promise<void> {
  const socket: Socket = connect(broker.port, broker.host)
  socket.resume()
  await once(socket, 'connect')
  socket.write(packets.connect({ version: 4, clientId: 'flooder' }))
  const packet = packets.publish({ topic: 'flood', payload: Buffer.alloc(payloadBytes, 7) }, 4)
  const burst = Math.max(1, Math.floor((256 * 1024) / packet.length))
  const bytes = Buffer.concat(Array.from({ length: burst }, () => packet))
  for (let sent = 0; sent < count; sent += burst) if (!socket.write(bytes)) await once(socket, 'drain')
  socket.end(packets.disconnect())
  await once(socket, 'close')
}

/** One client to another, again and again until `others` is done; answers how many messages made it. */
async function serveMeanwhile(broker: RealBroker, others: Promise<unknown>): Promise<number> {
  const [publisher, subscriber] = [await broker.connect(), await broker.connect({ version: 4 })]
  await subscriber.subscribe({ filter: 'other', qos: 1 })
  let isDone = false
  const done = others.finally(() => (isDone = true))
  let exchanged = 0
  do {
    await publisher.publish({ topic: 'other', qos: 1, payload: 'x' })
    await subscriber.receive()
    exchanged++
  } while (!isDone)
  await done
  return exchanged
}

async function publishedBytes(broker: RealBroker): Promise<number> {
  return broker.metric('aio_broker_payload_bytes_received')
}

test.each([
  { payloadBytes: 8_192, count: 6_000 },
  { payloadBytes: 20, count: 150_000 },
])('QoS 0, $count messages of $payloadBytes bytes: memory stays, others are served, drops are counted', async ({ payloadBytes, count }) => {
  const broker = await startBroker('--write-buffer-bytes-max', '256KiB')
  for (let i = 0; i < SLOW_READERS; i++) await slowReader(broker, 0)
  const before = await broker.residentBytes()
  const exchanged = await serveMeanwhile(broker, floodQos0(broker, payloadBytes, count))
  expect((await broker.residentBytes()) - before).toBeLessThan(GROWTH_MAX)
  expect(exchanged).toBeGreaterThan(1)
  expect(await publishedBytes(broker)).toBeGreaterThanOrEqual(payloadBytes * count)
  // The operating system takes some MiB for each socket; small messages may all fit in there.
  if (payloadBytes > 1_000) expect(await broker.metric('aio_broker_qos0_messages_dropped', 'outgoing')).toBeGreaterThan(1_000)
})

test('QoS 1: what a slow reader does not take waits in its bounded queue, the oldest is dropped and counted', async () => {
  const broker = await startBroker('--queue-messages-max', '100', '--queue-strategy', 'DropOldest')
  for (let i = 0; i < SLOW_READERS; i++) await slowReader(broker, 1)
  const before = await broker.residentBytes()
  const publisher = await broker.connect()
  const payload = Buffer.alloc(64 * 1024, 7)
  const flood = (async () => {
    for (let burst = 0; burst < 30; burst++) {
      for (let id = 1; id <= 50; id++) publisher.send(packets.publish({ topic: 'flood', qos: 1, packetId: id, payload }))
      for (let id = 1; id <= 50; id++) expect((await publisher.take('puback', id)).reason).toBe(0)
    }
  })()
  expect(await serveMeanwhile(broker, flood)).toBeGreaterThan(1)
  // Garbage included, of the 940 MiB that are offered.
  expect((await broker.residentBytes()) - before).toBeLessThan(2 * GROWTH_MAX)
  expect(await broker.metric('millrace_queue_messages_dropped_total')).toBeGreaterThan(100)
  expect(await broker.metric('millrace_queued_messages')).toBeLessThanOrEqual(100 * SLOW_READERS)
})
