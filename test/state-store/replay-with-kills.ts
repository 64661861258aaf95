import { parseArgs } from 'node:util'
import { Replay, type ReplayOptions, type Target, TooLate } from './replay.contract.ts'
import { ClusterTarget, StandaloneTarget } from './targets.contract.ts'
import { type Scenario, scenarios } from './vectors.contract.ts'

const HELP = `node test/state-store/replay-with-kills.ts [--target standalone|cluster|both] [--scenario TEXT]

Replays every vector of the state store over real connections, with kill -9 of the process that has the key between every two steps.
--scenario: only those with this text in their name. Exit code 1 when a step was not answered as it should be.
`

/** No lifetime of the vectors ends sooner: several kills, each with the time that a failover takes, are within it. */
const LIFETIME_LEAST_MS = 20_000
const LIFETIME_LONG_MS = 900_000
const LONG_FROM_MS = 10_000
/** Of a scenario on a machine that is too slow for its lifetimes. */
const ATTEMPTS_MAX = 4

const TARGETS = { standalone: () => StandaloneTarget.start(), cluster: () => ClusterTarget.start() } as const

/** What became of one scenario. */
interface Replayed {
  readonly name: string
  readonly steps: number
  readonly kills: number
  readonly seconds: number
  /** Null: each step was answered as its vector says. */
  readonly fault: string | null
}

/** Replays one scenario after the other, each from an empty store; nothing after the first that is wrong, as the store may not be empty then. */
export async function* replayAll(
  target: Target,
  chosen: readonly Scenario[],
  optionsOf: (scenario: Scenario) => ReplayOptions,
): AsyncGenerator<Replayed> {
  for (const scenario of chosen) {
    const sinceMs = performance.now()
    let left = ATTEMPTS_MAX
    let [kills, fault] = await attempt(target, scenario, optionsOf(scenario))
    while (fault instanceof TooLate && --left > 0) [kills, fault] = await attempt(target, scenario, optionsOf(scenario))
    const seconds = (performance.now() - sinceMs) / 1_000
    yield { name: scenario.name, steps: scenario.steps.length, kills, seconds, fault: fault?.message ?? null }
    if (fault !== null) return
  }
}

/** @returns how many kills there were, and what was wrong */
async function attempt(target: Target, scenario: Scenario, options: ReplayOptions): Promise<[kills: number, fault: Error | null]> {
  const replay = new Replay(target, scenario, options)
  try {
    await replay.run()
    return [replay.kills, null]
  } catch (error) {
    if (error instanceof TooLate) await replay.finish()
    return [replay.kills, error as Error]
  }
}

/** A kill behind every step; lifetimes outlast them. */
function killingAlways({ steps }: Scenario): ReplayOptions {
  const lifetimes = (ms: number): number => (ms < LONG_FROM_MS ? LIFETIME_LEAST_MS : LIFETIME_LONG_MS)
  return { killsBehind: new Set(steps.keys()), lifetimes }
}

async function replayOn(kind: keyof typeof TARGETS, part: string): Promise<void> {
  await using target = await TARGETS[kind]()
  const chosen = scenarios.filter(({ name }) => name.includes(part))
  const totals = { steps: 0, kills: 0, seconds: 0 }
  for await (const { name, steps, kills, seconds, fault } of replayAll(target, chosen, killingAlways)) {
    totals.steps += steps
    totals.kills += kills
    totals.seconds += seconds
    print(`${kind}: ${name}: ${steps} steps, ${kills} kills, ${seconds.toFixed(1)} s: ${fault ?? 'as the vectors say'}\n`)
    if (fault !== null) process.exitCode = 1
  }
  print(`${kind}: ${totals.steps} steps, ${totals.kills} kills, ${totals.seconds.toFixed(1)} s\n`)
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      target: { type: 'string', default: 'both' },
      scenario: { type: 'string', default: '' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return print(HELP)
  for (const kind of ['standalone', 'cluster'] as const) {
    if (values.target === 'both' || values.target === kind) await replayOn(kind, values.scenario)
  }
}

function print(text: string): void {
  process.stdout.write(text)
}

if (import.meta.main) await main()
