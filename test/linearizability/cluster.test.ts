import { expect, test } from 'vitest'
import type { SeededRandom } from '#shared/testing/seeded-random.ts'
import { check } from './checker.ts'
import { type Killable, StoreCluster } from './store-cluster.ts'
import { Workload } from './workload.ts'

const TIMEOUT_MS = 120_000
const ORDER = { operations: 100, keys: 5 }
const HISTORIES = 10
/** What is killed within which history. */
const KILLED: Readonly<Record<number, Killable>> = { 2: 'redis', 4: 'backends', 6: 'frontends', 8: 'backends' }

test('the store of a cluster is linearizable while backends, frontends and Redis are killed', { timeout: TIMEOUT_MS }, async () => {
  await using cluster = await StoreCluster.start('trio')
  await using workload = await Workload.open(cluster.urls, 8)
  for (let seed = 1; seed <= HISTORIES; seed++) {
    const killed = KILLED[seed]
    const disturb = (random: SeededRandom): Promise<void> => cluster.kill(killed!, random)
    const history = await workload.run({ ...ORDER, seed, disturbances: killed === undefined ? 0 : 1, disturb })
    expect(check(history), `seed ${seed}`).toEqual([])
    // Only clients of a frontend that is killed notice: else requests wait for the next owner, and 15 seconds would be the end of their patience.
    expect(history.length, `seed ${seed}`).toBeGreaterThanOrEqual(
      killed === 'frontends' ? ORDER.operations / 2 : ORDER.operations + 2 * ORDER.keys,
    )
    if (killed !== 'frontends')
      expect(
        history.filter(({ result }) => result === null),
        `seed ${seed}`,
      ).toEqual([])
    await cluster.isBack()
  }
  expect(cluster.kills).toEqual({ backends: 2, frontends: 1, redis: 1 })
})
