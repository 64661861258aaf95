import { parseArgs } from 'node:util'
import { systemClock } from '#shared/base/clock.ts'
import type { Mutation } from './mutations.ts'
import { MUTATIONS } from './mutations.ts'
import { SimCluster } from './sim-cluster.ts'
import { SimStandalone } from './sim-standalone.ts'
import { type Outcome, simulate, type SimulationOptions } from './simulation.ts'

/** Of each failing seed so many violations and lines of history are printed. */
const VIOLATIONS_MAX = 5
const LINES_MAX = 150
/** After so many failing seeds it ends. */
const FAILURES_MAX = 20

const HELP = `npm run simulate -- [--seeds N] [--seed FIRST] [--busy-ms MS] [--system cluster|standalone] [--mutation NAME] [--words a,b] [--keep-going]
mutations: ${Object.keys(MUTATIONS).join(', ')}
`

/** Many seeds, one after the other. Exit code 1 when a run broke a rule, or, with a mutation, when none did. */
async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '100' },
      seed: { type: 'string', default: '1' },
      'busy-ms': { type: 'string', default: '6000' },
      system: { type: 'string', default: 'cluster' },
      mutation: { type: 'string' },
      words: { type: 'string' },
      'keep-going': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return print(HELP)
  const mutation = values.mutation === undefined ? {} : MUTATIONS[values.mutation]
  if (mutation === undefined) return fail(`no mutation ${values.mutation}\n${HELP}`)
  const first = Number(values.seed)
  const seeds = Number(values.seeds)
  const startMs = systemClock.monotonicMs()
  let rejection: unknown = null
  process.on('unhandledRejection', error => (rejection = error))
  const failed: number[] = []
  const rules = new Map<string, number>()
  let [done, events, simulatedMs] = [0, 0, 0]
  for (let seed = first; seed < first + seeds; seed++) {
    const outcome = await simulate(optionsFor(seed, Number(values['busy-ms']), values.system, mutation))
    done++
    events += outcome.events
    simulatedMs += outcome.simulatedMs
    if (rejection !== null) print(`seed ${seed}: a rejection that nobody handles: ${textOf(rejection)}`)
    if (outcome.violations.length === 0 && rejection === null) continue
    failed.push(seed)
    rejection = null
    for (const rule of new Set(outcome.violations.map(each => each.rule))) rules.set(rule, (rules.get(rule) ?? 0) + 1)
    if (values.mutation === undefined || values['keep-going']) report(outcome, seeds === 1, values.words?.split(','))
    if (!values['keep-going'] && (values.mutation !== undefined || failed.length >= FAILURES_MAX)) break
  }
  const seconds = (systemClock.monotonicMs() - startMs) / 1_000
  print(
    `${done} seeds from ${first} in ${seconds.toFixed(1)} s (${(done / seconds).toFixed(1)} per second): ${failed.length} failed; ` +
      `${Math.round(events / done)} events and ${Math.round(simulatedMs / done)} simulated ms each`,
  )
  if (rules.size > 0) print(`rules broken: ${[...rules].map(([rule, count]) => `${rule} in ${count}`).join(', ')}`)
  if (values.mutation !== undefined) {
    if (failed.length === 0) return fail(`the mutation ${values.mutation} was not caught`)
    return print(`the mutation ${values.mutation} was caught, first with seed ${failed[0]}`)
  }
  if (failed.length > 0) process.exitCode = 1
}

function optionsFor(seed: number, busyMs: number, system: string, mutation: Mutation): SimulationOptions {
  return {
    seed,
    busyMs,
    faultPauseMs: 1_000,
    clientsMin: 3,
    clientsMax: 7,
    pauseMs: 80,
    system: (world, history) =>
      system === 'standalone' ? new SimStandalone(world, history, mutation.store ?? {}) : new SimCluster(world, history, mutation),
  }
}

function report({ seed, violations, history }: Outcome, isOnly: boolean, words: readonly string[] | undefined): void {
  print(`seed ${seed}: ${violations.length} violations (npm run simulate -- --seeds 1 --seed ${seed})`)
  for (const { rule, text } of violations.slice(0, VIOLATIONS_MAX)) print(`  ${rule}: ${text}`)
  if (!isOnly) return
  const wanted = words ?? [...(violations[0]?.words ?? []), 'fault']
  const lines = history.lines(wanted)
  print(`history of ${wanted.join(', ')}, ${lines.length} of ${history.events.length} lines, hash ${history.hash}:`)
  for (const line of words === undefined ? lines.slice(-LINES_MAX) : lines) print(line)
}

function textOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

function fail(text: string): void {
  process.stderr.write(`${text}\n`)
  process.exitCode = 1
}

await main()
