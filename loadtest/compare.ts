/** `npm run bench`: Millrace, Mosquitto and Aedes side by side, round by round, as ratios (docs/benchmarks.md). */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { numberOf, UsageError } from './flags.ts'
import { nowMs } from './monotonic.ts'
import { generalDefaults } from './options.ts'
import { aedes } from './peers/aedes.ts'
import type { Peer, RunningBroker } from './peers/broker.ts'
import { startBroker } from './peers/broker.ts'
import { millrace } from './peers/millrace.ts'
import { mosquitto } from './peers/mosquitto.ts'
import type { PlanRow } from './compare-plan.ts'
import { plan } from './compare-plan.ts'
import type { MeasuredRow, PeerRounds } from './compare-table.ts'
import { comparisonMarkdown, figureOf, ratioOf } from './compare-table.ts'
import { runScenario } from './run.ts'
import type { ScenarioResult } from './scenario.ts'
import { findScenario } from './scenarios.ts'

const HELP = `usage: npm run bench -- [flags]
  --quick           one short round
  --rounds N        rounds, alternating the brokers; medians are shown (default 3)
  --duration S      measured seconds of a round (default 1.5)
  --warmup S        seconds before (default 0.7)
  --processes N     generator processes (default: one less than the cores, 1 to 4)
  --only KEYS       rows, comma-separated: ${plan.map(row => row.key).join(', ')}
  --peers NAMES     millrace, mosquitto, aedes (default: all that are there)
  --markdown FILE   write the tables there too
  --json FILE       write every round there
  --help            this text
`

interface CompareOptions {
  readonly rounds: number
  readonly durationS: number
  readonly warmupS: number
  readonly processes: number
  readonly rows: readonly PlanRow[]
  readonly peers: readonly Peer[]
  readonly markdown: string | undefined
  readonly json: string | undefined
}

const running = new Set<RunningBroker>()

/** @throws {UsageError} */
function parseCompareFlags(argv: readonly string[]): CompareOptions | null {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean' } as const
  let values
  try {
    values = parseArgs({
      args: [...argv],
      options: {
        quick: flag,
        help: flag,
        rounds: text,
        duration: text,
        warmup: text,
        processes: text,
        only: text,
        peers: text,
        markdown: text,
        json: text,
      },
    }).values
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
  if (values.help) return null
  const number = (name: 'rounds' | 'duration' | 'warmup' | 'processes', preset: number, quick: number): number =>
    values[name] === undefined ? (values.quick ? quick : preset) : numberOf(name, values[name], { min: 0, max: 3_600 })
  return {
    rounds: Math.max(1, Math.floor(number('rounds', 3, 1))),
    durationS: number('duration', 1.5, 0.7),
    warmupS: number('warmup', 0.7, 0.4),
    processes: number('processes', generalDefaults.processes, generalDefaults.processes),
    rows: chosen(plan, row => row.key, values.only),
    peers: chosen([millrace, mosquitto, aedes], peer => peer.name.toLowerCase(), values.peers),
    markdown: values.markdown,
    json: values.json,
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

/** Brokers live through all rounds of a row, so that a just-in-time compiler is warm and nothing of another row is left over. */
async function measureRow(row: PlanRow, peers: readonly Peer[], options: CompareOptions): Promise<MeasuredRow> {
  const results = new Map<string, ScenarioResult[]>()
  const failures = new Map<string, string>()
  const brokers = new Map<string, RunningBroker>()
  const able = peers.filter(peer => !peer.lacks.includes(row.scenario))
  for (let round = 0; round < options.rounds; round++) {
    for (const peer of rotated(able, round)) {
      if (failures.has(peer.name) || round >= peer.roundsMax) continue
      try {
        const broker = brokers.get(peer.name) ?? (await begin(peer, row))
        brokers.set(peer.name, broker)
        const result = await measureOnce(row, broker, options)
        results.set(peer.name, [...(results.get(peer.name) ?? []), result])
        if (!row.fresh) continue
        await finish(broker)
        brokers.delete(peer.name)
      } catch (error) {
        failures.set(peer.name, error instanceof Error ? error.message : String(error))
      }
    }
  }
  await Promise.all([...brokers.values()].map(finish))
  const rounds = new Map<string, PeerRounds>([...results].map(([name, all]) => [name, { results: all }]))
  for (const [name, failed] of failures) rounds.set(name, { failed })
  return { row, rounds }
}

function rotated<T>(items: readonly T[], by: number): readonly T[] {
  const at = items.length > 0 ? by % items.length : 0
  return [...items.slice(at), ...items.slice(0, at)]
}

async function begin(peer: Peer, row: PlanRow): Promise<RunningBroker> {
  const broker = await startBroker(peer, row.durable === true)
  running.add(broker)
  return broker
}

async function finish(broker: RunningBroker): Promise<void> {
  await broker.stop()
  running.delete(broker)
}

function measureOnce(row: PlanRow, broker: RunningBroker, options: CompareOptions): Promise<ScenarioResult> {
  const scenario = findScenario(row.scenario)
  return runScenario(scenario, {
    ...generalDefaults,
    settleS: 0.2,
    ...scenario.defaults,
    ...row.set,
    port: broker.port,
    pids: [broker.pid],
    durationS: options.durationS,
    warmupS: options.warmupS,
    processes: options.processes,
  })
}

async function compare(options: CompareOptions): Promise<number> {
  const startMs = nowMs()
  const say = (text: string): void => void process.stderr.write(`${text}\n`)
  const peers = options.peers.filter(peer => {
    const why = peer.missing()
    if (why !== null) say(`without ${peer.name}: ${why}`)
    return why === null
  })
  const measured: MeasuredRow[] = []
  for (const row of options.rows) {
    const one = await measureRow(row, peers, options)
    measured.push(one)
    const figures = peers.map(peer => `${peer.name} ${figureOf(one, peer.name)?.toFixed(2) ?? '–'}`).join(', ')
    say(`${row.title}: ${figures}; ratio ${ratioOf(one)?.toFixed(2) ?? '–'}`)
  }
  const text = comparisonMarkdown(
    measured,
    peers.map(peer => peer.name),
  )
  process.stdout.write(`${text}\n`)
  say(`${Math.round((nowMs() - startMs) / 1_000)} s, ${options.rounds} rounds, ${options.processes} generator processes`)
  if (options.markdown) writeFileSync(options.markdown, text)
  if (options.json)
    writeFileSync(
      options.json,
      `${JSON.stringify(
        measured.map(({ row, rounds }) => ({ row, rounds: Object.fromEntries(rounds) })),
        null,
        1,
      )}\n`,
    )
  return 0
}

async function main(): Promise<number> {
  const options = parseCompareFlags(process.argv.slice(2))
  if (!options) {
    process.stdout.write(HELP)
    return 0
  }
  return compare(options)
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    void Promise.all([...running].map(finish)).finally(() => process.exit(130))
  })
}

try {
  process.exitCode = await main()
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = error instanceof UsageError ? 2 : 1
}
