import { expect, test } from 'vitest'
import { KeyStoreModel } from './key-store-model.contract.ts'

/** Fixed, so that a failure here is one everywhere. MODEL_SEED=n runs that seed alone, MODEL_SEED=n-m a range. */
const [first = 1, last = first] = (process.env['MODEL_SEED'] ?? '1-8').split('-').map(Number)
const SEEDS = Array.from({ length: last - first + 1 }, (_, index) => first + index)
const STEPS = 2_000

test.each(SEEDS)('seed %i: answers, tells and remembers as the plainest store would, over failovers and snapshots', seed => {
  for (const [name, count] of Object.entries(KeyStoreModel.run(seed, STEPS))) expect(count, name).toBeGreaterThan(0)
})
