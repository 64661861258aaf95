import { connect } from 'node:net'
import { once } from 'node:events'
import { describe, expect, test } from 'vitest'
import { type RealBroker, startBroker } from './real-broker.ts'

/** Opens a connection that says nothing; resolves when the broker has closed it. */
async function closedByBroker(broker: RealBroker): Promise<void> {
  const socket = connect(broker.port, broker.host)
  socket.on('error', () => {})
  socket.resume()
  await once(socket, 'close')
}

describe('connection limits', () => {
  test('connectionsMax: one more is closed and counted; those that are there stay; one that leaves makes room', async () => {
    const broker = await startBroker('--connections-max', '3')
    const clients = [await broker.connect(), await broker.connect({ version: 4 }), await broker.connect()]
    await closedByBroker(broker)
    expect(await broker.metric('millrace_connections_refused_total')).toBe(1)
    expect(await broker.metric('millrace_connections')).toBe(3)
    for (const client of clients) await client.ping()
    await clients[0]!.disconnect()
    await expect.poll(() => broker.metric('millrace_connections')).toBe(2)
    const next = await broker.connect()
    await next.ping()
  })

  test('those that never send CONNECT: bounded for an address, and closed at the deadline', async () => {
    const broker = await startBroker('--unauthenticated-per-address-max', '2', '--connect-deadline-ms', '1000')
    const client = await broker.connect()
    const silent = [closedByBroker(broker), closedByBroker(broker)]
    await expect.poll(() => broker.metric('millrace_connections')).toBe(3)
    await closedByBroker(broker)
    await Promise.all(silent)
    await client.ping()
    expect(await broker.metric('millrace_connections')).toBe(1)
    expect(await broker.metric('millrace_connections_refused_total')).toBe(1)
  })

  test('sessionsMax: a CONNECT that would start one more gets 0x97, known clients come back', async () => {
    const broker = await startBroker('--sessions-max', '2')
    const kept = { clientId: 'kept', cleanStart: false, properties: { sessionExpiryInterval: 100 } }
    await (await broker.connect(kept)).disconnect()
    await broker.connect()
    const third = await broker.open()
    third.sendConnect({ clientId: 'third' })
    await third.expectRefused(0x97)
    await broker.connect(kept)
  })
})
