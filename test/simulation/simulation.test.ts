import { describe, expect, test } from 'vitest'
import { MUTATIONS } from './mutations.ts'
import { runSeed, type SeedOrder, type SeedResult } from './seed-run.ts'

const ORDER: Omit<SeedOrder, 'seed'> = { busyMs: 4_000, system: 'cluster', mutation: null, level: null, isBroken: false, words: null }
/** A few of them: `npm run simulate -- --seeds 10000` runs more. */
const SEEDS = 10
/** Among so many seeds there is one that notices a mutation; most need a few. */
const MUTATED_SEEDS_MAX = 100

/** On a busy machine; a tenth of it otherwise. */
const TIMEOUT_MS = 120_000

function run(seed: number, order: Partial<SeedOrder> = {}): Promise<SeedResult> {
  return runSeed({ ...ORDER, ...order, seed })
}

test('the same seed gives the same history, to the last event', async () => {
  const [first, again, other] = [await run(7), await run(7), await run(8)]
  expect(first.events).toBeGreaterThan(300)
  expect([again.hash, again.events]).toEqual([first.hash, first.events])
  expect(other.hash).not.toBe(first.hash)
})

test.each([
  ['a cluster', 'cluster'],
  ['a standalone broker', 'standalone'],
] as const)(
  '%s keeps its promises under faults',
  async (_, system) => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const { violations } = await run(seed, { system })
      expect(violations, `npm run simulate -- --seeds 1 --seed ${seed} --busy-ms ${ORDER.busyMs} --system ${system}`).toEqual([])
    }
  },
  TIMEOUT_MS,
)

describe('what is broken on purpose is noticed, by a seed that finds nothing without it', () => {
  test.each(Object.keys(MUTATIONS))(
    '%s',
    async mutation => {
      for (let seed = 1; seed <= MUTATED_SEEDS_MAX; seed++) {
        const order = { mutation, busyMs: 6_000 }
        const hasNoticed = (await run(seed, { ...order, isBroken: true })).violations.length > 0
        if (hasNoticed && (await run(seed, order)).violations.length === 0) return
      }
      expect.unreachable('no seed has found it')
    },
    TIMEOUT_MS,
  )
})
