import { expect, test } from 'vitest'
import type { SeededRandom } from '#shared/testing/seeded-random.ts'
import { check } from './checker.ts'
import { StoreCluster } from './store-cluster.ts'
import { Workload } from './workload.ts'

const TIMEOUT_MS = 120_000
const ORDER = { operations: 100, keys: 5 }
const HISTORIES = 10
/** Of these a backend is killed in. */
const KILLED_IN = [3, 8]

test('the store of a cluster is linearizable while backends are killed', { timeout: TIMEOUT_MS }, async () => {
  await using cluster = await StoreCluster.start()
  await using workload = await Workload.open(cluster.urls, 8)
  for (let seed = 1; seed <= HISTORIES; seed++) {
    const disturb = (random: SeededRandom): Promise<void> => cluster.killBackend(random)
    const history = await workload.run({ ...ORDER, seed, disturbances: KILLED_IN.includes(seed) ? 1 : 0, disturb })
    expect(check(history), `seed ${seed}`).toEqual([])
    // Nobody notices a failover: requests wait for the next owner. 15 seconds would be the end of their patience.
    expect(history.filter(({ result }) => result === null)).toEqual([])
    expect(history).toHaveLength(ORDER.operations + 2 * ORDER.keys)
  }
  expect(cluster.kills).toBe(KILLED_IN.length)
})
