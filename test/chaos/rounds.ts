import { setTimeout as sleep } from 'node:timers/promises'
import { SeededRandom } from '#shared/testing/seeded-random.ts'
import { missingText } from '../cast/checker.ts'
import { Ledger, type Publication } from '../cast/ledger.ts'
import { Load, type Outcome } from '../cast/load.ts'
import { Stage } from '../cast/stage.ts'
import { type EventKind, type PlannedEvent, planRound } from './events.ts'
import { Disconnects, type System } from './system.ts'
import { WillRounds } from './will-rounds.ts'

/** After the last repair, everything must be ready again within this time. */
const RECOVERY_TIMEOUT_MS = 40_000
/** A round whose quiet does not come to an end is a fault, and the last one. */
const QUIET_TIMEOUT_MS = 150_000
const CONNACK_TIMEOUT_MS = 5_000
/** In every fourth round those wake up who were asleep before. */
const ROUNDS_ASLEEP = 4
/** Around a Redis failover at level stored: what was acknowledged then may not have reached the replica (docs/durability.md). */
const LOSS_BEFORE_MS = 1_000
const LOSS_AFTER_MS = 3_000

export interface ChaosPlan {
  readonly seed: number
  readonly rounds: number
  readonly firstRound: number
  readonly eventsPerRound: number
  readonly kinds: readonly EventKind[]
  /** Events after which acknowledged messages may be missing, as documented; empty at level replicated. */
  readonly lossyKinds: readonly EventKind[]
  readonly onEvent?: (text: string) => void
  readonly onRound?: (result: RoundResult) => void
}

export interface EventResult {
  readonly kind: EventKind
  readonly target: string
  /** Since the beginning of the round. */
  readonly atMs: number
  /** From the fault to its repair. */
  readonly tookMs: number
  /** Longest wait for a PUBACK that began before or during the event's consequences, that is: before the next event. */
  readonly pubackGapMs: number
}

export interface RoundResult {
  readonly round: number
  readonly events: readonly EventResult[]
  readonly published: number
  readonly acknowledged: number
  readonly refused: number
  readonly delivered: number
  readonly repeated: number
  readonly lost: readonly string[]
  readonly duplicates: readonly string[]
  readonly disordered: readonly string[]
  readonly violations: readonly string[]
  readonly unexpectedDisconnects: readonly string[]
  /** Of a round with a Redis failover at level stored: lost within the documented window, or a consequence of that. */
  readonly lostInWindow: readonly string[]
  readonly excused: readonly string[]
  readonly disconnects: { readonly touched: number; readonly partitioned: number; readonly takenOver: number; readonly refused: number }
  readonly recoveryMs: number
}

interface Span extends Omit<EventResult, 'pubackGapMs' | 'atMs'> {
  readonly startMs: number
}

/** Does the planned things to the system, round by round, and answers what its clients found. */
export async function chaos(system: System, plan: ChaosPlan): Promise<RoundResult[]> {
  const ledger = new Ledger()
  const disconnects = new Disconnects(system.disturbances)
  const stage = new Stage(
    {
      address: clientId => system.address(clientId),
      orderedBy: 'topicAndQos',
      connackTimeoutMs: CONNACK_TIMEOUT_MS,
      lost: (clientId, connection) => disconnects.lost(clientId, connection),
    },
    ledger,
    // Not the one that plans: what the clients do depends on time, and must not change the events.
    new SeededRandom(plan.seed ^ 0x5eed),
  )
  const wills = new WillRounds(stage, system.disturbances)
  const load = new Load(stage, wills)
  const results: RoundResult[] = []
  try {
    await load.prepare()
    for (let round = plan.firstRound; round < plan.firstRound + plan.rounds; round++) {
      const { result, isLast } = await new Round({ system, plan, stage, load, wills, disconnects }, round).run()
      results.push(result)
      plan.onRound?.(result)
      if (isLast) break
    }
  } finally {
    await Promise.race([load.close(), sleep(5_000, undefined, { ref: false })])
  }
  return results
}

interface Parts {
  readonly system: System
  readonly plan: ChaosPlan
  readonly stage: Stage
  readonly load: Load
  readonly wills: WillRounds
  readonly disconnects: Disconnects
}

class Round {
  readonly #parts: Parts
  readonly #round: number
  readonly #startMs = performance.now()
  readonly #before: ReturnType<typeof counts>
  readonly #spans: Span[] = []

  constructor(parts: Parts, round: number) {
    this.#parts = parts
    this.#round = round
    this.#before = counts(parts)
  }

  /** `isLast`: it did not come to its end, so that another one would find its leftovers. */
  async run(): Promise<{ result: RoundResult; isLast: boolean }> {
    try {
      return { result: await this.#run(), isLast: false }
    } catch (error) {
      this.#parts.stage.ledger.violation(`round ${this.#round}`, (error as Error).message)
      const { publications } = this.#parts.stage.ledger
      const owed = publications.filter(({ acknowledgedAt }) => acknowledgedAt !== null)
      return { result: this.#judge({ lost: [], lostWills: [], published: publications, owed }, 0), isLast: true }
    }
  }

  async #run(): Promise<RoundResult> {
    const { plan, wills, load } = this.#parts
    const events = planRound(plan.seed, this.#round, plan.kinds, plan.eventsPerRound)
    await wills.begin(events.reduce((sum, { waitMs, lastsMs }) => sum + waitMs + lastsMs / 2, 0))
    load.begin()
    for (const event of events) await this.#perform(event)
    await sleep(events[0]?.waitMs ?? 0)
    const { recoveryMs, outcome } = await inTime(this.#quiet(), QUIET_TIMEOUT_MS, () => this.#stuck())
    return this.#judge(outcome, recoveryMs)
  }

  async #perform(event: PlannedEvent): Promise<void> {
    const { system, plan } = this.#parts
    await sleep(event.waitMs)
    const startMs = performance.now()
    let target: string
    try {
      target = await system.perform(event)
    } catch (error) {
      throw new Error(`${event.kind} failed: ${(error as Error).message}`, { cause: error })
    }
    const tookMs = Math.round(performance.now() - startMs)
    this.#spans.push({ kind: event.kind, target, startMs, tookMs })
    plan.onEvent?.(`${event.kind} ${target}, ${tookMs} ms`)
  }

  /** Everything recovers, all clients come back, all that is owed arrives. */
  async #quiet(): Promise<{ recoveryMs: number; outcome: Outcome }> {
    const { system, stage, load, plan } = this.#parts
    const fromMs = performance.now()
    for (const text of await system.unready(RECOVERY_TIMEOUT_MS)) {
      stage.ledger.violation('not ready after the last repair', text)
      plan.onEvent?.(`not ready: ${text}`)
    }
    const recoveryMs = Math.round(performance.now() - fromMs)
    const isLast = this.#round === plan.firstRound + plan.rounds - 1
    const outcome = await load.finish(this.#round % ROUNDS_ASLEEP === 0 || isLast)
    for (const death of system.deaths.slice(this.#before.deaths)) stage.ledger.violation('process', death)
    return { recoveryMs, outcome }
  }

  #stuck(): Error {
    return new Error(`did not come to rest within ${QUIET_TIMEOUT_MS} ms: ${this.#parts.load.busy().join('; ')}`)
  }

  #judge(outcome: Outcome, recoveryMs: number): RoundResult {
    const { stage, load, disconnects, plan } = this.#parts
    const before = this.#before
    const now = counts(this.#parts)
    const windows = this.#spans
      .filter(({ kind }) => plan.lossyKinds.includes(kind))
      .map(({ startMs, tookMs }) => [startMs - LOSS_BEFORE_MS, startMs + tookMs + LOSS_AFTER_MS] as const)
    const isAllowed = ({ acknowledgedMs }: Publication): boolean =>
      windows.some(([fromMs, toMs]) => acknowledgedMs !== null && fromMs <= acknowledgedMs && acknowledgedMs <= toMs)
    const faults = {
      lost: outcome.lost.filter(({ publication }) => !isAllowed(publication)).map(missingText),
      duplicates: load.duplicates.slice(before.duplicates),
      disordered: load.disordered.slice(before.disordered),
      violations: [...stage.ledger.violations.slice(before.violations), ...outcome.lostWills],
    }
    const isExcused = windows.length > 0
    const none = { duplicates: [], disordered: [], violations: [] }
    return {
      round: this.#round,
      events: this.#events(outcome.published),
      published: outcome.published.length,
      acknowledged: outcome.owed.length,
      refused: now.refused - before.refused,
      delivered: now.delivered - before.delivered,
      repeated: now.repeated - before.repeated,
      ...faults,
      ...(isExcused ? none : {}),
      unexpectedDisconnects: disconnects.unexpected.slice(before.unexpected),
      lostInWindow: outcome.lost.filter(({ publication }) => isAllowed(publication)).map(missingText),
      excused: isExcused ? [...faults.duplicates, ...faults.disordered, ...faults.violations] : [],
      disconnects: {
        touched: now.touched - before.touched,
        partitioned: now.partitioned - before.partitioned,
        takenOver: now.takenOver - before.takenOver,
        refused: now.refusedConnects - before.refusedConnects,
      },
      recoveryMs,
    }
  }

  #events(published: readonly Publication[]): EventResult[] {
    return this.#spans.map(({ startMs, ...span }, at) => {
      const untilMs = this.#spans[at + 1]?.startMs ?? Infinity
      const waits = published
        .filter(({ qos, sentMs, acknowledgedMs }) => qos === 1 && acknowledgedMs !== null && acknowledgedMs >= startMs && sentMs < untilMs)
        .map(({ sentMs, acknowledgedMs }) => acknowledgedMs! - sentMs)
      const pubackGapMs = Math.round(waits.reduce((longest, each) => Math.max(longest, each), 0))
      return { ...span, atMs: Math.round(startMs - this.#startMs), pubackGapMs }
    })
  }
}

/** Everything that is counted from the start of the run. */
function counts({ system, stage, load, disconnects }: Parts) {
  return {
    deaths: system.deaths.length,
    violations: stage.ledger.violations.length,
    refused: stage.ledger.refused,
    delivered: load.delivered,
    repeated: load.repeated,
    duplicates: load.duplicates.length,
    disordered: load.disordered.length,
    unexpected: disconnects.unexpected.length,
    touched: disconnects.touched,
    partitioned: disconnects.partitioned,
    takenOver: disconnects.takenOver,
    refusedConnects: disconnects.refused,
  }
}

/** What `promise` answers. @throws what `late` makes when that takes too long */
export async function inTime<T>(promise: Promise<T>, timeoutMs: number, late: () => Error): Promise<T> {
  const stop = new AbortController()
  const timeout = sleep(timeoutMs, null, { signal: stop.signal }).then(() => Promise.reject(late()))
  timeout.catch(() => undefined)
  try {
    return await Promise.race([promise, timeout])
  } finally {
    stop.abort()
  }
}
