import { policyText, writeResources } from '../authentication/resources.ts'
import { LoadClient } from '../client.ts'
import { Engine } from '../engine.ts'
import { loopDelay } from '../event-loop-delay.ts'
import { nowMs, sleep } from '../monotonic.ts'
import type { LoadOptions } from '../options.ts'
import { rates, resultHead } from '../publish-scenario.ts'
import type { Scenario } from '../scenario.ts'
import { connectFields, targetOf } from '../scenario.ts'
import { cpuBetween, cpuOf, rssOf } from '../usage.ts'

/** Rules of the policy that is exchanged. */
const RULES = 10_000
const POLICY = 'rules-10000'
const ASK_EVERY_MS = 50
const IN_FORCE_TIMEOUT_MS = 60_000

/** Writes a policy of 10,000 rules anew with one rule more, until that one is in force: a client that only it lets in is let in. */
export const policies: Scenario = {
  name: 'policies',
  help: 'a policy file of 10,000 rules is exchanged: until it is in force, and what that costs (npm run bench:auth)',
  defaults: {},
  join: async () => ({}),
  async conduct(_fleet, options) {
    if (options.resources === null) throw new Error('scenario policies belongs to npm run bench:auth')
    const clientId = `late-${Math.floor(nowMs())}`
    const text = policyText(POLICY, RULES, { cache: 'Enabled', extra: clientId })
    if (await isLetIn(options, clientId)) throw new Error('a client that no rule names was let in')
    if (options.metricsUrl !== null) await loopDelay(options.metricsUrl)
    const before = cpuOf(options.pids)
    const startMs = nowMs()
    writeResources(options.resources, { [`${POLICY}.yaml`]: text })
    while (!(await isLetIn(options, clientId))) {
      if (nowMs() - startMs > IN_FORCE_TIMEOUT_MS) throw new Error('the policy does not come into force')
      await sleep(ASK_EVERY_MS)
    }
    const seconds = (nowMs() - startMs) / 1_000
    const cpu = cpuBetween(before, cpuOf(options.pids))
    const delay = options.metricsUrl === null ? null : await loopDelay(options.metricsUrl)
    return {
      ...resultHead('policies', options),
      unit: 'message',
      ...rates({ seconds, cpu, partCpuS: {}, redisCommands: null }, 1),
      rssBytes: rssOf(options.pids),
      latency: null,
      lost: 0,
      duplicates: 0,
      disconnects: 0,
      generatorCpuS: 0,
      extra: { inForceMs: seconds * 1_000, ...(delay !== null && { loopMaxMs: delay.maxMs }) },
    }
  },
}

async function isLetIn(options: LoadOptions, clientId: string): Promise<boolean> {
  const client = new LoadClient(new Engine(), targetOf(options))
  try {
    await client.open({ ...connectFields(options, ''), clientId })
    await client.disconnect()
    return true
  } catch {
    return false
  }
}
