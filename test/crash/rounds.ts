import { setTimeout as sleep } from 'node:timers/promises'
import { BrokerProcess } from './broker-process.ts'
import { Ledger } from '../cast/ledger.ts'
import { Load, lostTexts } from '../cast/load.ts'
import { SeededRandom } from '#shared/testing/seeded-random.ts'
import { Stage } from '../cast/stage.ts'
import { WillClients } from './will-clients.ts'

/** Few shards, so that their logs grow enough for snapshots to be taken under load. */
const FLAGS = ['--shards', '2', '--sys-topic-interval-seconds', '0']
/** In every fourth round those wake up who were asleep before. */
const ROUNDS_ASLEEP = 4

export interface CrashPlan {
  readonly dataDirectory: string
  readonly rounds: number
  readonly seed: number
  /** Load before the crash, at the longest. */
  readonly loadMsMax: number
  readonly flags?: readonly string[]
  readonly onRound?: (result: RoundResult) => void
}

export interface RoundResult {
  readonly round: number
  readonly kills: number
  /** Publishes with PUBACK or PUBCOMP. */
  readonly acknowledged: number
  readonly refused: number
  /** Different messages at all receivers together. */
  readonly delivered: number
  /** QoS 1 messages that came once more. */
  readonly repeated: number
  readonly lost: readonly string[]
  /** Of QoS 2. */
  readonly duplicates: readonly string[]
  readonly disordered: readonly string[]
  readonly violations: readonly string[]
  /** Taken by the last process of the round. */
  readonly snapshots: number
  readonly recoveryMs: number
}

/** Kills the broker with SIGKILL in the middle of load, once or twice a round, and answers what its clients found. */
export async function crash(plan: CrashPlan): Promise<RoundResult[]> {
  const random = new SeededRandom(plan.seed)
  const broker = new BrokerProcess(plan.dataDirectory, [...FLAGS, ...(plan.flags ?? [])])
  const stage = new Stage({ address: () => broker, orderedBy: 'topic' }, new Ledger(), random)
  const wills = new WillClients(stage)
  const load = new Load(stage, wills)
  const results: RoundResult[] = []
  try {
    await broker.start()
    await load.prepare()
    for (let round = 1; round <= plan.rounds; round++) {
      const result = await crashOnce({ broker, stage, load, wills }, plan, round)
      results.push(result)
      plan.onRound?.(result)
    }
  } finally {
    await load.close()
    if (broker.isRunning) await broker.kill()
  }
  return results
}

interface Crash {
  readonly broker: BrokerProcess
  readonly stage: Stage
  readonly load: Load
  readonly wills: WillClients
}

async function crashOnce({ broker, stage, load, wills }: Crash, plan: CrashPlan, round: number): Promise<RoundResult> {
  const { ledger, random } = stage
  const before = { delivered: load.delivered, repeated: load.repeated, refused: ledger.refused }
  const known = { duplicates: load.duplicates.length, disordered: load.disordered.length, violations: ledger.violations.length }
  let snapshots = 0
  await wills.connect()
  load.begin()
  await stage.pause(50, plan.loadMsMax)
  await wills.leave()
  await stage.pause(0, 300)
  snapshots += await broker.metric('millrace_snapshots_total')
  load.writersStayAway()
  wills.beforeKill()
  await broker.kill()
  let kills = 1
  if (random.chance(0.4)) {
    // Into the recovery, or into the storm of clients that come back.
    await broker.launch()
    await stage.pause(0, 700)
    await broker.kill()
    kills++
  }
  const startMs = performance.now()
  await broker.start()
  const recoveryMs = Math.round(performance.now() - startMs)
  await load.checkRetained('after the crash')
  await wills.afterRestart()
  await load.writersReturn()
  await sleep(random.int(100, plan.loadMsMax / 3))
  const outcome = await load.finish(round % ROUNDS_ASLEEP === 0 || round === plan.rounds)
  snapshots += await broker.metric('millrace_snapshots_total')
  return {
    round,
    kills,
    acknowledged: outcome.owed.length,
    refused: ledger.refused - before.refused,
    delivered: load.delivered - before.delivered,
    repeated: load.repeated - before.repeated,
    lost: lostTexts(outcome),
    duplicates: load.duplicates.slice(known.duplicates),
    disordered: load.disordered.slice(known.disordered),
    violations: ledger.violations.slice(known.violations),
    snapshots,
    recoveryMs,
  }
}
