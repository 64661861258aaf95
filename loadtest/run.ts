import { Fleet } from './fleet.ts'
import type { LoadOptions } from './options.ts'
import type { Scenario, ScenarioResult } from './scenario.ts'

/** Runs one scenario from the first connection to the last. @throws {Error} the broker refused something, or went away */
export async function runScenario(scenario: Scenario, options: LoadOptions): Promise<ScenarioResult> {
  const fleet = await Fleet.start(scenario, options)
  try {
    return await scenario.conduct(fleet, options)
  } finally {
    await fleet.close()
  }
}
