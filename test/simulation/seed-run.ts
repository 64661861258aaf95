import type { Violation } from './checker.ts'
import type { DurabilityLevel } from '../../backend/store/shard-store.ts'
import { MUTATIONS, type Scenario } from './mutations.ts'
import { SimCluster } from './sim-cluster.ts'
import { SimStandalone } from './sim-standalone.ts'
import { type Outcome, simulate } from './simulation.ts'

/** What one run is to be: the same values give the same run. */
export interface SeedOrder {
  readonly seed: number
  readonly busyMs: number
  readonly system: 'cluster' | 'standalone'
  /** Name of a mutation: a run in which it matters. */
  readonly mutation: string | null
  /** Null: left to chance. */
  readonly level: DurabilityLevel | null
  /** What the mutation says is broken; false: all else is the same. */
  readonly isBroken: boolean
  /** Lines of the history that say something about these are wanted; null: none. Empty: what the first violation names. */
  readonly words: readonly string[] | null
}

/** What came of it, in values that can be passed between threads. */
export interface SeedResult {
  readonly seed: number
  readonly violations: readonly Violation[]
  readonly hash: number
  readonly level: string
  readonly events: number
  readonly simulatedMs: number
  /** Of publishes with QoS 1 and 2: PUBACK or PUBREC without failure. */
  readonly acknowledged: number
  /** Messages that clients got. */
  readonly delivered: number
  /** Requests to the state store that were answered, and what watchers were told. */
  readonly storeAnswered: number
  readonly notified: number
  /** Kind of fault → how often. */
  readonly faults: ReadonlyMap<string, number>
  /** What the processes of the run counted, summed. */
  readonly figures: ReadonlyMap<string, number>
  readonly lines: readonly string[]
}

const LOAD = { faultPauseMs: 1_000, clientsMin: 3, clientsMax: 7, pauseMs: 80, publishersShare: 0.2, isDivided: false, storeShare: 0.7 }

/** Runs one seed. */
export async function runSeed(order: SeedOrder): Promise<SeedResult> {
  const { seed, busyMs, system, mutation: name, isBroken } = order
  const named = name === null ? {} : MUTATIONS[name]
  if (named === undefined) throw new Error(`no mutation ${name}`)
  const scenario: Scenario = { ...named.scenario, ...(order.level === null ? {} : { level: order.level }) }
  const mutation = isBroken ? named : {}
  const outcome = await simulate({
    ...LOAD,
    publishersShare: scenario.publishersShare ?? LOAD.publishersShare,
    isDivided: scenario.isDivided ?? LOAD.isDivided,
    // What is broken on purpose is found by other rules, and more of it.
    storeShare: name === null || scenario.usesStore === true ? LOAD.storeShare : 0,
    seed,
    busyMs: busyMs * (scenario.length ?? 1),
    system: (world, history) =>
      system === 'standalone'
        ? new SimStandalone(world, history, mutation.store ?? {})
        : new SimCluster(world, history, mutation, scenario),
  })
  return resultOf(outcome, order)
}

function resultOf({ seed, violations, history, level, events, simulatedMs, figures }: Outcome, { words }: SeedOrder): SeedResult {
  const faults = new Map<string, number>()
  let [acknowledged, delivered, storeAnswered, notified] = [0, 0, 0, 0]
  for (const event of history.events) {
    if (event.is === 'fault' && event.kind !== 'note') faults.set(event.kind, (faults.get(event.kind) ?? 0) + 1)
    else if (event.is === 'acknowledged' && event.reason < 0x80) acknowledged++
    else if (event.is === 'received') delivered++
    else if (event.is === 'storeAnswered') storeAnswered++
    else if (event.is === 'notified') notified++
  }
  const wanted = words === null || words.length > 0 ? words : [...(violations[0]?.words ?? []), 'fault']
  const lines = wanted === null ? [] : history.lines(wanted)
  return {
    seed,
    violations,
    hash: history.hash,
    level,
    events,
    simulatedMs,
    acknowledged,
    delivered,
    storeAnswered,
    notified,
    faults,
    figures,
    lines,
  }
}
