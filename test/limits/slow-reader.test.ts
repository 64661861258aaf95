import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import { expect, test } from 'vitest'
import * as packets from '../conformance/packets.ts'
import { type RealBroker, startBroker } from './real-broker.ts'

const MIB = 1024 * 1024
const SLOW_READERS = 10
/** Messages that others exchange while a flood goes on; one that starves them never ends, and the test with it. */
const EXCHANGES = 3
/** Far less than the flood would need if it were kept: SLOW_READERS times what one of them is sent. */
const GROWTH_MAX = 100 * MIB

/** Subscribes to `flood` and never reads again. */
async function slowReader(broker: RealBroker, qos: number): Promise<void> {
  const client = await broker.connect()
  await client.subscribe({ filter: 'flood', qos })
  client.pause()
}

/** How many messages others have exchanged so far. */
type Exchanged = () => number

/** A publisher that sends `count` messages as fast as its socket takes them, more until others were served, and drops what it is answered. */
async function floodQos0(broker: RealBroker, payloadBytes: number, count: number, exchanged: Exchanged): Promise<void> {
  const socket: Socket = connect(broker.port, broker.host)
  socket.resume()
  await once(socket, 'connect')
  socket.write(packets.connect({ version: 4, clientId: 'flooder' }))
  const packet = packets.publish({ topic: 'flood', payload: Buffer.alloc(payloadBytes, 7) }, 4)
  const burst = Math.max(1, Math.floor((256 * 1024) / packet.length))
  const bytes = Buffer.concat(Array.from({ length: burst }, () => packet))
  const enough = exchanged() + EXCHANGES
  for (let sent = 0; sent < count || exchanged() < enough; sent += burst) {
    // Awaited in any case: the others of this process must get to their sockets.
    if (!socket.write(bytes)) await once(socket, 'drain')
    else await setImmediate()
  }
  socket.end(packets.disconnect())
  await once(socket, 'close')
}

/** One client to another, again and again while `flood` goes on; who floods ends only when enough of them made it. */
async function serveMeanwhile(broker: RealBroker, flood: (exchanged: Exchanged) => Promise<void>): Promise<void> {
  const [publisher, subscriber] = [await broker.connect(), await broker.connect({ version: 4 })]
  await subscriber.subscribe({ filter: 'other', qos: 1 })
  let isDone = false
  let exchanged = 0
  const exchange = async (): Promise<void> => {
    while (!isDone) {
      await publisher.publish({ topic: 'other', qos: 1, payload: 'x' })
      await subscriber.receive()
      exchanged++
    }
  }
  await Promise.all([flood(() => exchanged).finally(() => (isDone = true)), exchange()])
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
  await serveMeanwhile(broker, exchanged => floodQos0(broker, payloadBytes, count, exchanged))
  expect((await broker.residentBytes()) - before).toBeLessThan(GROWTH_MAX)
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
  const flood = async (exchanged: Exchanged): Promise<void> => {
    const enough = exchanged() + EXCHANGES
    for (let burst = 0; burst < 30 || exchanged() < enough; burst++) {
      for (let id = 1; id <= 50; id++) publisher.send(packets.publish({ topic: 'flood', qos: 1, packetId: id, payload }))
      for (let id = 1; id <= 50; id++) expect((await publisher.take('puback', id)).reason).toBe(0)
    }
  }
  await serveMeanwhile(broker, flood)
  // Garbage included, of the 940 MiB that are offered.
  expect((await broker.residentBytes()) - before).toBeLessThan(2 * GROWTH_MAX)
  expect(await broker.metric('millrace_queue_messages_dropped_total')).toBeGreaterThan(100)
  expect(await broker.metric('millrace_queued_messages')).toBeLessThanOrEqual(100 * SLOW_READERS)
})
