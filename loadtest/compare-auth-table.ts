import type { AuthFigure, AuthGoal, AuthRow } from './compare-auth-plan.ts'
import { failureLines, markdownTable, median, medianOf, resultsOf } from './compare-figures.ts'
import type { MeasuredRow } from './compare-rounds.ts'
import { AUTHSVCS_PART, FRONTENDS_PART } from './peers/cluster.ts'
import type { ScenarioResult } from './scenario.ts'

const UNIT: Readonly<Record<AuthFigure, string>> = {
  cost: 'CPU per message',
  rate: 'connects per CPU second',
  loopP99Ms: 'event loop, p99 in ms',
  cpuS: 'CPU seconds',
}

/** CPU microseconds for a message or a connect. Of a cluster that of frontends and authentication services: who is let in is decided there. */
export function ownUs({ cpuUs, partCpuUs }: ScenarioResult): number | null {
  const parts = [FRONTENDS_PART, AUTHSVCS_PART].flatMap(part => partCpuUs[part] ?? [])
  return parts.length === 0 ? cpuUs : parts.reduce((sum, one) => sum + one, 0)
}

/** The median over the rounds; of what is compared, of the quotients within each round. Null when it was not measured. */
export function valueOf(measured: MeasuredRow<AuthRow>, { figure, subject, reference }: AuthGoal): number | null {
  const results = resultsOf(measured, subject)
  const references = reference === undefined ? [] : resultsOf(measured, reference)
  const values = results.flatMap((result, round) => {
    const own = ownUs(result)
    if (figure === 'loopP99Ms') return result.extra['loopP99Ms'] ?? []
    if (figure === 'cpuS') return own === null ? [] : own / 1e6
    const other = references[round] === undefined ? null : ownUs(references[round])
    if (own === null || other === null || own === 0 || other === 0) return []
    return figure === 'cost' ? own / other : other / own
  })
  return values.length > 0 ? median(values) : null
}

/** Null: nothing to judge by. */
function isReached(measured: MeasuredRow<AuthRow>, goal: AuthGoal): boolean | null {
  const value = valueOf(measured, goal)
  const { min = 0, max = Number.POSITIVE_INFINITY } = goal
  if (value === null || (goal.min === undefined && goal.max === undefined)) return null
  const hasLost = resultsOf(measured, goal.subject).some(({ lost, extra }) => lost + (extra['overruns'] ?? 0) > 0)
  return !hasLost && value >= min && value <= max
}

/** Whether all goals that have a limit were measured and reached. */
export function areGoalsReached(rows: readonly MeasuredRow<AuthRow>[]): boolean {
  return rows.every(measured =>
    measured.row.goals.every(goal => (goal.min === undefined && goal.max === undefined) || isReached(measured, goal) === true),
  )
}

export function progressText(measured: MeasuredRow<AuthRow>, peers: readonly string[]): string {
  const goals = measured.row.goals.map(goal => `${goalText(goal)} ${valueOf(measured, goal)?.toFixed(3) ?? '–'}`)
  const costs = peers.flatMap(peer => {
    const us = medianOf(measured, peer, ownUs)
    return us === null ? [] : [`${peer} ${us.toFixed(2)} µs`]
  })
  return [...costs, ...goals].join(', ')
}

/** Goals and what came of them, then the figures behind them. */
export function authMarkdown(rows: readonly MeasuredRow<AuthRow>[], peers: readonly string[]): string {
  const goals = rows.flatMap(measured =>
    measured.row.goals.map(goal => [
      measured.row.title,
      goalText(goal),
      valueOf(measured, goal)?.toFixed(2) ?? '–',
      limitText(goal),
      reachedText(isReached(measured, goal)),
    ]),
  )
  return [
    markdownTable([['scenario', 'figure', 'measured', 'goal', 'reached'], ...goals]),
    '',
    markdownTable([
      ['scenario', 'broker', 'CPU µs', 'per second', 'p50 ms', 'p99 ms', 'loop p99 ms', 'loop max ms', 'in force ms', 'lost'],
      ...rows.flatMap(measured => peers.flatMap(peer => detailRow(measured, peer))),
    ]),
    ...failureLines(rows, peers),
    '',
  ].join('\n')
}

function goalText({ figure, subject, reference }: AuthGoal): string {
  return `${UNIT[figure]}, ${subject}${reference === undefined ? '' : ` / ${reference}`}`
}

function limitText({ min, max }: AuthGoal): string {
  if (max !== undefined) return `≤ ${max}`
  return min === undefined ? '–' : `≥ ${min}`
}

function reachedText(reached: boolean | null): string {
  if (reached === null) return '–'
  return reached ? 'yes' : 'NO'
}

function detailRow(measured: MeasuredRow<AuthRow>, peer: string): string[][] {
  const results = resultsOf(measured, peer)
  if (results.length === 0) return []
  const text = (digits: number, pick: (result: ScenarioResult) => number | null | undefined): string =>
    medianOf(measured, peer, pick)?.toFixed(digits) ?? '–'
  return [
    [
      measured.row.title,
      peer,
      text(2, ownUs),
      text(0, result => result.perSecond),
      text(2, result => (result.latency === null ? null : result.latency.p50Us / 1_000)),
      text(2, result => (result.latency === null ? null : result.latency.p99Us / 1_000)),
      text(1, result => result.extra['loopP99Ms']),
      text(0, result => result.extra['loopMaxMs']),
      text(0, result => result.extra['inForceMs']),
      String(results.reduce((sum, result) => sum + result.lost, 0)),
    ],
  ]
}
