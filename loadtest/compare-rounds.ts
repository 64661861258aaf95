/** Runs one row of a comparison: its brokers side by side, taking turns. */
import type { LoadOptions } from './options.ts'
import { generalDefaults } from './options.ts'
import type { Peer, RunningBroker } from './peers/broker.ts'
import { runScenario } from './run.ts'
import type { ScenarioResult } from './scenario.ts'
import { findScenario } from './scenarios.ts'

/** What a row of any comparison runs. */
export interface ScenarioRow {
  readonly key: string
  readonly title: string
  readonly scenario: string
  readonly set: Partial<LoadOptions>
  /** Another scenario for one broker, by its name. */
  readonly scenarioFor?: Readonly<Record<string, string>>
  /** Settings of one broker alone, by its name. */
  readonly setFor?: Readonly<Record<string, Partial<LoadOptions>>>
  /** Names of the brokers that take part; all of them unless given. */
  readonly peers?: readonly string[]
  /** The brokers keep their sessions on disk. */
  readonly durable?: boolean
  /** Memory is measured against a process that has done nothing yet. */
  readonly fresh?: boolean
  /** Each round finds out the full rate in a closed loop first; what counts is an open loop at half of it. */
  readonly atHalfRate?: boolean
  /** Measured seconds of a round, whatever is asked for. */
  readonly durationS?: number
  /** Seconds before, whatever is asked for. */
  readonly warmupS?: number
  /** Rounds at most: for rows that take long, or whose figure is no ratio. */
  readonly roundsMax?: number
}

/** All rounds of one broker in one row; or why there are none. */
export type PeerRounds = { readonly results: readonly ScenarioResult[] } | { readonly failed: string }

/** One row as it was measured: peer's name to its rounds. */
export interface MeasuredRow<Row extends ScenarioRow = ScenarioRow> {
  readonly row: Row
  readonly rounds: ReadonlyMap<string, PeerRounds>
}

export interface RoundOptions {
  readonly rounds: number
  readonly durationS: number
  readonly warmupS: number
  readonly processes: number
}

const running = new Set<RunningBroker>()

/** Brokers live through all rounds of a row, so that a just-in-time compiler is warm and nothing of another row is left over. */
export async function measureRow<Row extends ScenarioRow>(
  row: Row,
  peers: readonly Peer[],
  options: RoundOptions,
): Promise<MeasuredRow<Row>> {
  const results = new Map<string, ScenarioResult[]>()
  const failures = new Map<string, string>()
  const brokers = new Map<string, RunningBroker>()
  const able = peers.filter(peer => takesPart(row, peer))
  for (let round = 0; round < Math.min(options.rounds, row.roundsMax ?? Number.POSITIVE_INFINITY); round++) {
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

/** Ends the brokers of whatever is under way. */
export async function stopRunning(): Promise<void> {
  await Promise.all([...running].map(finish))
}

export function takesPart(row: ScenarioRow, peer: Peer): boolean {
  return !peer.lacks.includes(row.scenario) && (row.peers?.includes(peer.name) ?? true)
}

function rotated<T>(items: readonly T[], by: number): readonly T[] {
  const at = items.length > 0 ? by % items.length : 0
  return [...items.slice(at), ...items.slice(0, at)]
}

async function begin(peer: Peer, row: ScenarioRow): Promise<RunningBroker> {
  const broker = await peer.start(row.durable === true)
  running.add(broker)
  return broker
}

async function finish(broker: RunningBroker): Promise<void> {
  await broker.stop()
  running.delete(broker)
}

async function measureOnce(row: ScenarioRow, broker: RunningBroker, round: RoundOptions): Promise<ScenarioResult> {
  const scenario = findScenario(row.scenarioFor?.[broker.name] ?? row.scenario)
  const options: LoadOptions = {
    ...generalDefaults,
    settleS: 0.2,
    ...scenario.defaults,
    ...row.set,
    ...row.setFor?.[broker.name],
    ...broker.set,
    port: broker.port,
    pids: broker.parts.flatMap(part => part.pids),
    parts: broker.parts,
    redisPort: broker.redisPort,
    durationS: row.durationS ?? round.durationS,
    warmupS: row.warmupS ?? round.warmupS,
    processes: round.processes,
  }
  if (!row.atHalfRate) return runScenario(scenario, options)
  const full = await runScenario(scenario, options)
  const half = await runScenario(scenario, { ...options, ratePerS: full.perSecond / 2 })
  return { ...half, extra: { ...half.extra, fullPerSecond: full.perSecond } }
}
