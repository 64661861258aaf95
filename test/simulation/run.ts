import { parseArgs } from 'node:util'
import { systemClock } from '#shared/base/clock.ts'
import { MUTATIONS } from './mutations.ts'
import type { SeedOrder, SeedResult } from './seed-run.ts'
import { SeedRunner } from './seed-runner.ts'
import { Totals } from './totals.ts'

/** Of each failing seed so many violations and lines of history are printed. */
const VIOLATIONS_MAX = 5
const LINES_MAX = 150
/** After so many failing seeds it ends. */
const FAILURES_MAX = 20
const PROGRESS_SEEDS = 250

const HELP = `npm run simulate -- [--seeds N] [--seed FIRST] [--busy-ms MS] [--system cluster|standalone] [--level LEVEL] [--words a,b] [--keep-going]
npm run simulate -- --mutation NAME|all [--seeds N] [--seed FIRST]

Many seeds, one after the other. With --mutation the cluster is broken on purpose: which of the seeds notice it, that find nothing without it?
mutations: ${Object.keys(MUTATIONS).join(', ')}
`

const LEVELS = ['replicated', 'stored', 'memory'] as const

type Order = Omit<SeedOrder, 'seed'>

/** Exit code 1 when a run broke a rule, or, with a mutation, when none did. */
async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '100' },
      seed: { type: 'string', default: '1' },
      'busy-ms': { type: 'string', default: '6000' },
      system: { type: 'string', default: 'cluster' },
      mutation: { type: 'string' },
      level: { type: 'string' },
      words: { type: 'string' },
      'keep-going': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return print(HELP)
  const runner = new SeedRunner()
  const order: Order = {
    busyMs: Number(values['busy-ms']),
    system: values.system === 'standalone' ? 'standalone' : 'cluster',
    mutation: null,
    level: LEVELS.find(level => level === values.level) ?? null,
    isBroken: false,
    words: null,
  }
  const range = { first: Number(values.seed), seeds: Number(values.seeds), keepGoing: values['keep-going'] }
  const words = values.words?.split(',') ?? []
  if (values.mutation === undefined) await runAll(runner, range.seeds === 1 ? { ...order, words } : order, range)
  else if (range.seeds === 1) await runAll(runner, { ...order, words, mutation: values.mutation, isBroken: true }, range)
  else await runMutations(runner, order, range, values.mutation === 'all' ? Object.keys(MUTATIONS) : [values.mutation])
  await runner.close()
}

interface SeedRange {
  readonly first: number
  readonly seeds: number
  readonly keepGoing: boolean
}

async function runAll(runner: SeedRunner, order: Order, { first, seeds, keepGoing }: SeedRange): Promise<void> {
  const startMs = systemClock.monotonicMs()
  const secondsSoFar = (): number => (systemClock.monotonicMs() - startMs) / 1_000
  const totals = new Totals()
  for (let seed = first; seed < first + seeds; seed++) {
    const result = await runner.run({ ...order, seed })
    totals.add(result)
    if (result.violations.length > 0) report(result, order)
    else if (order.words !== null) printHistory(result)
    if (totals.seeds % PROGRESS_SEEDS === 0 && totals.seeds < seeds) {
      const rate = (totals.seeds / secondsSoFar()).toFixed(1)
      print(`${totals.seeds} of ${seeds} seeds, ${rate} per second, ${totals.failed.length} failed`)
    }
    if (!keepGoing && totals.failed.length >= FAILURES_MAX) break
  }
  print(totals.table(secondsSoFar()))
  if (totals.failed.length > 0) process.exitCode = 1
}

/** A seed counts that breaks a rule with the mutation and none without. */
async function runMutations(runner: SeedRunner, order: Order, { first, seeds }: SeedRange, names: readonly string[]): Promise<void> {
  print('| broken on purpose | noticed by | first | rules |\n|---|---|---|---|')
  for (const mutation of names) {
    const caught: number[] = []
    const rules = new Set<string>()
    for (let seed = first; seed < first + seeds; seed++) {
      const { violations } = await runner.run({ ...order, seed, mutation, isBroken: true })
      if (violations.length === 0 || (await runner.run({ ...order, seed, mutation })).violations.length > 0) continue
      caught.push(seed)
      for (const { rule } of violations) rules.add(rule)
    }
    print(`| ${mutation} | ${caught.length} of ${seeds} seeds | ${caught[0] ?? 'none'} | ${[...rules].join(', ')} |`)
    if (caught.length === 0) process.exitCode = 1
  }
}

function report(result: SeedResult, { busyMs, system, mutation, level, words }: Order): void {
  const { seed, violations } = result
  const others = `${busyMs === 6_000 ? '' : ` --busy-ms ${busyMs}`}${system === 'cluster' ? '' : ` --system ${system}`}`
  const only = level === null ? '' : ` --level ${level}`
  const broken = mutation === null ? '' : ` --mutation ${mutation}`
  print(
    `seed ${seed}: ${violations.length} violations; again with its history: npm run simulate -- --seeds 1 --seed ${seed}${others}${only}${broken}`,
  )
  for (const { rule, text } of violations.slice(0, VIOLATIONS_MAX)) print(`  ${rule}: ${text}`)
  if (words !== null) printHistory(result)
}

function printHistory({ lines, hash }: SeedResult): void {
  print(`history, ${lines.length} lines, hash ${hash}:`)
  for (const line of lines.slice(-LINES_MAX)) print(line)
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

await main()
