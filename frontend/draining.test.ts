import { describe, expect, test } from 'vitest'
import { ManualTimers } from '#shared/base/timers.ts'
import type { ProtocolVersion } from '#shared/mqtt/protocol-version.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { drainConnections } from './draining.ts'
import { type FakeClient, Surroundings } from './surroundings.contract.ts'

async function many(world: Surroundings, count: number, version: ProtocolVersion = 5): Promise<FakeClient[]> {
  return Promise.all(Array.from({ length: count }, async () => (await world.connect(version)).forget()))
}

/** Lets time pass until `drained` is settled; answers how many were disconnected after each 100 ms. Sockets close as asked. */
async function run(clients: readonly FakeClient[], timers: ManualTimers, drained: Promise<void>): Promise<number[]> {
  const counts: number[] = []
  let isDrained = false
  drained.then(
    () => (isDrained = true),
    () => {},
  )
  for (let tenth = 0; !isDrained && tenth < 100_000; tenth++) {
    if (tenth % 10 === 0) counts.push(clients.filter(({ transport }) => transport.isEnded).length)
    for (const { transport } of clients) if (transport.isEnded) transport.cut(null)
    timers.advance(10)
    await new Promise(resolve => setImmediate(resolve))
  }
  return counts
}

describe('draining', () => {
  test('disconnects at the rate asked for, and says why; sessions and Wills as after a loss', async () => {
    const world = new Surroundings()
    const clients = await many(world, 25)
    const timers = new ManualTimers()
    const counts = await run(clients, timers, drainConnections(world.frontend, { perSecond: 100, withinMs: 60_000 }, timers))
    expect(counts).toEqual([10, 20, 25])
    for (const client of clients) expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.ServerShuttingDown }])
    expect(world.backend.detached.every(({ end }) => !end.discardWill && end.sessionExpirySeconds === null)).toBe(true)
    expect([timers.pendingCount, world.frontend.counters.connectionsOpen]).toEqual([0, 0])
  })

  test('names the other server when there is one', async () => {
    const world = new Surroundings({ serverReference: 'other:1883' })
    const clients = await many(world, 1)
    const timers = new ManualTimers()
    await run(clients, timers, drainConnections(world.frontend, { perSecond: 1, withinMs: 60_000 }, timers))
    expect(clients[0]!.packets).toMatchObject([
      { cmd: 'disconnect', reasonCode: ReasonCode.UseAnotherServer, properties: { serverReference: 'other:1883' } },
    ])
  })

  test('goes faster when the time would not do', async () => {
    const world = new Surroundings()
    const clients = await many(world, 200)
    const timers = new ManualTimers()
    const counts = await run(clients, timers, drainConnections(world.frontend, { perSecond: 10, withinMs: 2_000 }, timers))
    expect(counts.length).toBeLessThanOrEqual(11)
    expect(Math.max(...counts.map((count, i) => count - (counts[i - 1] ?? 0)))).toBeLessThanOrEqual(40)
  })

  test('ends connections that are no clients yet and older clients too, and waits for sockets that close late', async () => {
    const world = new Surroundings()
    const clients = [...(await many(world, 1, 4)), world.open()]
    const timers = new ManualTimers()
    const drained = drainConnections(world.frontend, { perSecond: 100, withinMs: 60_000 }, timers)
    expect(clients.map(({ transport, bytes }) => [transport.isEnded, bytes.length])).toEqual([
      [true, 0],
      [true, 0],
    ])
    let isDrained = false
    void drained.then(() => (isDrained = true))
    timers.advance(1_000)
    await world.settled()
    expect(isDrained).toBe(false)
    await run(clients, timers, drained)
  })

  test('without connections is done at once', async () => {
    await drainConnections(new Surroundings().frontend, { perSecond: 1, withinMs: 0 }, new ManualTimers())
  })
})
