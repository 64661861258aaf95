/** The command line of the comparisons, and what becomes of their figures. */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { MeasuredRow, RoundOptions, ScenarioRow } from './compare-rounds.ts'
import { measureRow, stopRunning, takesPart } from './compare-rounds.ts'
import { numberOf, UsageError } from './flags.ts'
import { nowMs } from './monotonic.ts'
import { generalDefaults } from './options.ts'
import type { Peer } from './peers/broker.ts'

/** Numbers of a normal and of a quick run. */
export interface RoundPresets {
  readonly rounds: number
  readonly durationS: readonly [normal: number, quick: number]
  readonly warmupS: readonly [normal: number, quick: number]
}

/** What a comparison is made of. */
export interface Comparison<Row extends ScenarioRow> {
  /** First line of the help. */
  readonly usage: string
  readonly plan: readonly Row[]
  readonly peers: readonly Peer[]
  readonly presets: RoundPresets
  /** One line when a row is done. */
  readonly progress: (measured: MeasuredRow<Row>, peers: readonly string[]) => string
  readonly markdown: (rows: readonly MeasuredRow<Row>[], peers: readonly string[]) => string
  /** Whether all promises of the rows are kept, for --check. Null: there is no such flag. */
  readonly isKept: ((rows: readonly MeasuredRow<Row>[]) => boolean) | null
}

interface CompareOptions<Row> extends RoundOptions {
  readonly rows: readonly Row[]
  readonly peers: readonly Peer[]
  readonly markdown: string | undefined
  readonly json: string | undefined
  readonly check: boolean
}

function helpOf<Row extends ScenarioRow>({ usage, plan, peers, presets, isKept }: Comparison<Row>): string {
  return `${usage}
  --quick           one short round
  --rounds N        rounds, alternating the brokers; medians are shown (default ${presets.rounds})
  --duration S      measured seconds of a round (default ${presets.durationS[0]})
  --warmup S        seconds before (default ${presets.warmupS[0]})
  --processes N     generator processes (default: one less than the cores, 1 to 4)
  --only KEYS       rows, comma-separated: ${plan.map(row => row.key).join(', ')}
  --peers NAMES     ${peers.map(keyOf).join(', ')} (default: all that are there)
  --markdown FILE   write the tables there too
  --json FILE       write every round there
${isKept ? '  --check           exit code 1 when a goal is missed, or could not be judged\n' : ''}  --help            this text
`
}

function keyOf(peer: Peer): string {
  return peer.name.toLowerCase()
}

/** @throws {UsageError} */
function parse(argv: readonly string[]): Readonly<Record<string, string | boolean | undefined>> {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean' } as const
  const texts = { rounds: text, duration: text, warmup: text, processes: text, only: text, peers: text, markdown: text, json: text }
  try {
    return parseArgs({ args: [...argv], options: { quick: flag, help: flag, check: flag, ...texts } }).values
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}

/** @throws {UsageError} */
function optionsOf<Row extends ScenarioRow>(
  { plan, peers, presets, isKept }: Comparison<Row>,
  values: ReturnType<typeof parse>,
): CompareOptions<Row> {
  const textOf = (name: string): string | undefined => (typeof values[name] === 'string' ? values[name] : undefined)
  const number = (name: string, [normal, quick]: readonly [number, number]): number => {
    const given = textOf(name)
    return given === undefined ? (values['quick'] === true ? quick : normal) : numberOf(name, given, { min: 0, max: 3_600 })
  }
  if (values['check'] === true && !isKept) throw new UsageError('--check: this comparison has no such flag')
  return {
    rounds: Math.max(1, Math.floor(number('rounds', [presets.rounds, 1]))),
    durationS: number('duration', presets.durationS),
    warmupS: number('warmup', presets.warmupS),
    processes: number('processes', [generalDefaults.processes, generalDefaults.processes]),
    rows: chosen(plan, row => row.key, textOf('only')),
    peers: chosen(peers, keyOf, textOf('peers')),
    markdown: textOf('markdown'),
    json: textOf('json'),
    check: values['check'] === true,
  }
}

/** @throws {UsageError} a name that is not among them */
function chosen<T>(all: readonly T[], nameOf: (item: T) => string, wanted: string | undefined): readonly T[] {
  if (wanted === undefined) return all
  return wanted.split(',').map(name => {
    const found = all.find(item => nameOf(item) === name)
    if (!found) throw new UsageError(`unknown ${name}: one of ${all.map(nameOf).join(', ')}`)
    return found
  })
}

function say(text: string): void {
  process.stderr.write(`${text}\n`)
}

async function compare<Row extends ScenarioRow>(comparison: Comparison<Row>, options: CompareOptions<Row>): Promise<number> {
  const startMs = nowMs()
  const peers = options.peers.filter(peer => {
    const why = options.rows.some(row => takesPart(row, peer)) ? peer.missing() : null
    if (why !== null) say(`without ${peer.name}: ${why}`)
    return why === null
  })
  const names = peers.map(peer => peer.name)
  const measured: MeasuredRow<Row>[] = []
  for (const row of options.rows) {
    const one = await measureRow(row, peers, options)
    measured.push(one)
    say(`${row.title}: ${comparison.progress(one, names)}`)
  }
  const text = comparison.markdown(measured, names)
  process.stdout.write(`${text}\n`)
  say(`${Math.round((nowMs() - startMs) / 1_000)} s, ${options.rounds} rounds, ${options.processes} generator processes`)
  if (options.markdown) writeFileSync(options.markdown, text)
  if (options.json) {
    const rounds = measured.map(one => ({ row: one.row, rounds: Object.fromEntries(one.rounds) }))
    writeFileSync(options.json, `${JSON.stringify(rounds, null, 1)}\n`)
  }
  return options.check && !comparison.isKept?.(measured) ? 1 : 0
}

async function main<Row extends ScenarioRow>(comparison: Comparison<Row>): Promise<number> {
  const values = parse(process.argv.slice(2))
  if (values['help'] === true) {
    process.stdout.write(helpOf(comparison))
    return 0
  }
  return compare(comparison, optionsOf(comparison, values))
}

/** Runs a comparison as this process's only work, and sets the exit code. */
export async function runComparison<Row extends ScenarioRow>(comparison: Comparison<Row>): Promise<void> {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      void stopRunning().finally(() => process.exit(130))
    })
  }
  try {
    process.exitCode = await main(comparison)
  } catch (error) {
    say(error instanceof Error ? error.message : String(error))
    process.exitCode = error instanceof UsageError ? 2 : 1
  }
}
