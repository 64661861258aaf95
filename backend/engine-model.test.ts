import { expect, test } from 'vitest'
import { EngineModel } from './engine-model.contract.ts'

/** Fixed, so that a failure here is one everywhere. MODEL_SEED=n runs that seed alone, MODEL_SEED=n-m a range. */
const [first = 1, last = first] = (process.env['MODEL_SEED'] ?? '1-12').split('-').map(Number)
const SEEDS = Array.from({ length: last - first + 1 }, (_, index) => first + index)
const STEPS = 1_500

test.each(SEEDS)('seed %i: acknowledged is never lost, QoS 2 comes once, and what was stored comes back', async seed => {
  const figures = await EngineModel.run(seed, STEPS)
  for (const [name, count] of Object.entries(figures)) expect(count, name).toBeGreaterThan(0)
})
