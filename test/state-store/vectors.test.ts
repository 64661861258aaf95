import { expect, test } from 'vitest'
import { hash32 } from '#shared/base/hash.ts'
import { replayAll } from './replay-with-kills.ts'
import type { ReplayOptions, Target } from './replay.contract.ts'
import { ClusterTarget, StandaloneTarget } from './targets.contract.ts'
import { type Scenario, scenarios } from './vectors.contract.ts'

const SEED = 20_261_122
const REPLAY_MS = 240_000
/** A process is back, and a failover over, long before an entry is gone. */
const LIFETIME_LEAST_MS = 10_000

/** Just as the vectors are: no byte of a request but its clocks is another. */
function asTheyAre(): ReplayOptions {
  return { killsBehind: new Set(), lifetimes: ms => ms }
}

/** One kill in a place that the seed chooses; `node test/state-store/replay-with-kills.ts` kills between every two steps. */
function killingOnce({ name, steps }: Scenario): ReplayOptions {
  const place = hash32(name, SEED) % (steps.length - 1)
  return { killsBehind: new Set([place]), lifetimes: ms => Math.max(ms, LIFETIME_LEAST_MS) }
}

async function expectReplayed(target: Target, optionsOf: (scenario: Scenario) => ReplayOptions): Promise<void> {
  const wanted = scenarios.map(scenario => [scenario.name, scenario.steps.length, optionsOf(scenario).killsBehind.size, null])
  const replayed = []
  for await (const each of replayAll(target, scenarios, optionsOf)) replayed.push(each)
  expect(replayed.map(({ name, steps, kills, fault }) => [name, steps, kills, fault])).toEqual(wanted)
  expect(replayed.reduce((sum, { steps }) => sum + steps, 0)).toBe(82)
}

// They wait for lifetimes most of the time, so they do it together.
test.concurrent('all vectors over real connections to a process, byte by byte', { timeout: REPLAY_MS }, async () => {
  await using target = await StandaloneTarget.start()
  await expectReplayed(target, asTheyAre)
})

test.concurrent('all vectors on a process that is killed within each scenario and starts again on its data', {
  timeout: REPLAY_MS,
}, async () => {
  await using target = await StandaloneTarget.start()
  await expectReplayed(target, killingOnce)
})

test.concurrent('all vectors on a cluster; the backend that owns the key is killed within each scenario', {
  timeout: REPLAY_MS,
}, async () => {
  await using target = await ClusterTarget.start()
  await expectReplayed(target, killingOnce)
})
