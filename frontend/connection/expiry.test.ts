import { describe, expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { Frontend } from '../frontend.ts'
import { type FakeClient, rulesOf, Surroundings } from '../surroundings.contract.ts'

const PINGREQ = Buffer.from([0xc0, 0])
const DAY_MS = 86_400_000

async function connected(world: Surroundings, inMs: number | null, keepAlive = 0, version: 5 | 4 = 5): Promise<FakeClient> {
  const expiresMs = inMs === null ? null : world.clock.wallMs() + inMs
  world.authentication.verdict = () => Promise.resolve(world.authentication.accepted({ expiresMs }))
  return (await world.connect(version, { keepAlive, will: { topic: 'w', payload: 'x' } })).forget()
}

const expired = (frontend: Frontend): number => frontend.counters.credentialsExpired

describe('the end of a credential', () => {
  test('closes without DISCONNECT; the Will goes out and the session stays; log, audit and a counter have it', async () => {
    for (const version of [5, 4] as const) {
      const world = new Surroundings()
      const client = await connected(world, 10_000, 0, version)
      world.pass(9_900)
      expect(client.transport.isEnded).toBe(false)
      world.pass(300)
      expect([client.bytes.length, client.transport.isEnded, expired(world.frontend)]).toEqual([0, true, 1])
      expect(world.backend.detached).toEqual([
        { connection: client.connection.id, end: { discardWill: false, sessionExpirySeconds: null } },
      ])
      expect(world.log.events).toContain('credential_expired')
      expect(world.refusals).toMatchObject([{ action: 'expiry', clientId: client.connection.clientId }])
    }
  })

  test('says DISCONNECT 0x87 where the port says so', async () => {
    const world = new Surroundings()
    world.port.rules = rulesOf('1', '1', { disconnectsOnExpiry: true })
    const client = await connected(world, 10_000)
    world.pass(10_200)
    expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.NotAuthorized }])
  })

  test('is not brought forward or put off by Keep Alive', async () => {
    const world = new Surroundings()
    const client = await connected(world, 60_000, 10)
    const silent = await connected(world, 60_000, 10)
    for (let second = 0; second < 59; second += 5) {
      world.pass(5_000)
      client.send(PINGREQ)
    }
    expect([client.transport.isEnded, silent.transport.isEnded]).toEqual([true, true])
    expect([expired(world.frontend), world.frontend.counters.keepAliveTimeouts]).toEqual([1, 1])
  })

  test('40 days ahead is not early: more milliseconds than a timer of the machine can wait', async () => {
    const world = new Surroundings({ serverKeepAliveSeconds: 0 })
    const client = await connected(world, 40 * DAY_MS)
    for (let hour = 0; hour < 40 * 24; hour++) {
      world.clock.advance(3_600_000 - 1)
      world.frontend.deadlines.tick()
    }
    expect(client.transport.isEnded).toBe(false)
    world.pass(2_000)
    expect(client.transport.isEnded).toBe(true)
  })

  test('at the end of time is never', async () => {
    const world = new Surroundings({ serverKeepAliveSeconds: 0 })
    const [never, late] = [await connected(world, null), await connected(world, 8.64e15 - 1_700_000_000_000)]
    world.clock.advance(400 * DAY_MS)
    world.frontend.deadlines.tick()
    expect([never.transport.isEnded, late.transport.isEnded]).toEqual([false, false])
  })

  test('goes by the wall clock: one that is set forward is noticed within a minute, one that is set back is waited for', async () => {
    const world = new Surroundings({ serverKeepAliveSeconds: 0 })
    const client = await connected(world, DAY_MS)
    world.clock.aheadMs = DAY_MS
    world.pass(60_200)
    expect(client.transport.isEnded).toBe(true)
    const other = await connected(world, 10_000)
    world.clock.aheadMs -= 30_000
    world.pass(20_000)
    expect(other.transport.isEnded).toBe(false)
    world.pass(20_200)
    expect(other.transport.isEnded).toBe(true)
  })
})
