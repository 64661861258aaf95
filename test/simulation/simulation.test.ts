import { describe, expect, test } from 'vitest'
import { type Mutation, MUTATIONS } from './mutations.ts'
import { SimCluster } from './sim-cluster.ts'
import { SimStandalone } from './sim-standalone.ts'
import { type Outcome, simulate } from './simulation.ts'

const LOAD = { busyMs: 4_000, faultPauseMs: 900, clientsMin: 3, clientsMax: 6, pauseMs: 90 }

function cluster(seed: number, mutation: Mutation = {}): Promise<Outcome> {
  return simulate({ ...LOAD, seed, system: (world, history) => new SimCluster(world, history, mutation) })
}

function standalone(seed: number): Promise<Outcome> {
  return simulate({ ...LOAD, seed, system: (world, history) => new SimStandalone(world, history, {}) })
}

test('the same seed gives the same history, to the last event', async () => {
  const [first, again, other] = [await cluster(7), await cluster(7), await cluster(8)]
  expect(first.history.events.length).toBeGreaterThan(300)
  expect([again.history.hash, again.events]).toEqual([first.history.hash, first.events])
  expect(other.history.hash).not.toBe(first.history.hash)
})

test.each([
  ['a cluster', cluster],
  ['a standalone broker', standalone],
])('%s keeps its promises under faults', async (_, run) => {
  for (let seed = 1; seed <= 15; seed++) {
    const { violations } = await run(seed)
    expect(violations, `npm run simulate -- --seeds 1 --seed ${seed} --busy-ms ${LOAD.busyMs}`).toEqual([])
  }
})

describe('what is broken on purpose is noticed', () => {
  test.each(Object.entries(MUTATIONS))('%s', async (_, mutation) => {
    for (let seed = 1; seed <= 200; seed++) if ((await cluster(seed, mutation)).violations.length > 0) return
    expect.unreachable('no seed has found it')
  })
})
