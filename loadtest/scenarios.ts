import type { Scenario } from './scenario.ts'
import { connect } from './scenarios/connect.ts'
import { fanout } from './scenarios/fanout.ts'
import { idle } from './scenarios/idle.ts'
import { offline } from './scenarios/offline.ts'
import { durable, pairs, topics } from './scenarios/pairs.ts'
import { policies } from './scenarios/policies.ts'
import { retained } from './scenarios/retained.ts'
import { shared } from './scenarios/shared.ts'
import { soak } from './scenarios/soak.ts'
import { stateGet, stateSet } from './scenarios/state.ts'
import { subscribe } from './scenarios/subscribe.ts'

export const scenarios: readonly Scenario[] = [
  fanout,
  pairs,
  topics,
  shared,
  durable,
  retained,
  offline,
  subscribe,
  idle,
  connect,
  policies,
  stateSet,
  stateGet,
  soak,
]

/** @throws {Error} no scenario has that name */
export function findScenario(name: string): Scenario {
  const found = scenarios.find(scenario => scenario.name === name)
  if (!found) throw new Error(`unknown scenario ${name}: one of ${scenarios.map(scenario => scenario.name).join(', ')}`)
  return found
}
