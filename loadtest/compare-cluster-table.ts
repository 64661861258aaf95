import { detailTable, failureLines, markdownTable, medianOf, resultsOf } from './compare-figures.ts'
import type { MeasuredRow } from './compare-rounds.ts'
import type { ClusterRow, Figure, Goal } from './compare-cluster-plan.ts'
import { BACKENDS_PART, FRONTENDS_PART, REDIS_PART, REPLICA_PART } from './peers/cluster.ts'
import type { ScenarioResult } from './scenario.ts'

type Measured = MeasuredRow<ClusterRow>

const PARTS = [FRONTENDS_PART, BACKENDS_PART, REDIS_PART, REPLICA_PART]
const FIGURE_TEXT: Readonly<Record<Figure, string>> = {
  millraceUs: 'CPU of Millrace',
  totalUs: 'CPU of all processes',
  redisCommands: 'Redis commands per message',
  p99Ms: 'p99, ms',
}
/** A generator that is busy for so much of the time sets the rate itself; its process has one core. */
const SATURATED_CORES = 0.95

/** Null when the round has no such figure. A broker without parts is Millrace, or its counterpart, as a whole. */
export function figureOf(result: ScenarioResult, figure: Figure): number | null {
  switch (figure) {
    case 'millraceUs': {
      const own = [FRONTENDS_PART, BACKENDS_PART].flatMap(part => result.partCpuUs[part] ?? [])
      return own.length > 0 ? own.reduce((sum, us) => sum + us, 0) : result.cpuUs
    }
    case 'totalUs':
      return result.cpuUs
    case 'redisCommands':
      return result.redisCommands
    case 'p99Ms':
      return result.latency ? result.latency.p99Us / 1_000 : null
  }
}

/** The goal's figure, or ratio of two; null when there is nothing to judge by. */
export function valueOf(measured: Measured, goal: Goal): number | null {
  const of = (peer: string): number | null => medianOf(measured, peer, result => figureOf(result, goal.figure))
  const subject = of(goal.subject)
  if (goal.reference === undefined || subject === null) return subject
  const reference = of(goal.reference)
  return reference === null || reference === 0 ? null : subject / reference
}

/** Whether a goal is reached; null when it could not be judged. A cluster that lost, repeated or dropped anything has reached nothing. */
export function isReached(measured: Measured, goal: Goal): boolean | null {
  const value = valueOf(measured, goal)
  if (value === null) return null
  return value <= goal.max && resultsOf(measured, goal.subject).every(isSound)
}

function isSound({ lost, duplicates, disconnects, extra }: ScenarioResult): boolean {
  return lost === 0 && duplicates === 0 && disconnects === 0 && (extra['overruns'] ?? 0) === 0
}

/** For --check: a goal that could not be judged is not kept. */
export function areGoalsReached(rows: readonly Measured[]): boolean {
  return rows.every(measured => measured.row.goals.every(goal => isReached(measured, goal) === true))
}

/** One line when a row is done. */
export function progressText(measured: Measured, peers: readonly string[]): string {
  const costs = peers.flatMap(peer => {
    const us = medianOf(measured, peer, result => figureOf(result, 'millraceUs'))
    return us === null ? [] : [`${peer} ${us.toFixed(2)} µs`]
  })
  return [...costs, ...measured.row.goals.map(goal => goalText(goal, valueOf(measured, goal)))].join(', ')
}

function goalText(goal: Goal, value: number | null): string {
  return `${goalName(goal)} ${value?.toFixed(2) ?? '–'} (≤ ${goal.max})`
}

function goalName({ figure, subject, reference }: Goal): string {
  return reference === undefined ? `${FIGURE_TEXT[figure]}, ${subject}` : `${FIGURE_TEXT[figure]}, ${subject} / ${reference}`
}

/** Goals, then what each part of each broker used, then rates, latencies and memory. */
export function clusterMarkdown(rows: readonly Measured[], peers: readonly string[]): string {
  return [
    'Medians of the rounds.',
    '',
    markdownTable([
      ['scenario', 'goal', 'measured', 'at most', 'reached'],
      ...rows.flatMap(measured => measured.row.goals.map(goal => goalRow(measured, goal))),
    ]),
    '',
    'CPU microseconds per delivered message (per connection in the row of idle connections), by processes.',
    '',
    markdownTable([
      ['scenario', 'broker', 'Millrace', ...PARTS, 'sum', 'Redis commands'],
      ...rows.flatMap(measured => peers.flatMap(peer => costRow(measured, peer))),
    ]),
    ...memoryTable(rows, peers),
    '',
    detailTable(rows, peers),
    ...failureLines(rows, peers),
    ...remarks(rows, peers),
    '',
  ].join('\n')
}

function goalRow(measured: Measured, goal: Goal): string[] {
  const reached = isReached(measured, goal)
  const verdict = reached === null ? '–' : reached ? 'yes' : 'NO'
  return [measured.row.title, goalName(goal), valueOf(measured, goal)?.toFixed(2) ?? '–', String(goal.max), verdict]
}

/** Brokers of one process have nothing but a sum. */
function costRow(measured: Measured, peer: string): string[][] {
  if (resultsOf(measured, peer).length === 0) return []
  const cell = (pick: (result: ScenarioResult) => number | null | undefined): string => medianOf(measured, peer, pick)?.toFixed(2) ?? '–'
  const isCluster = resultsOf(measured, peer).some(result => FRONTENDS_PART in result.partCpuUs)
  return [
    [
      measured.row.title,
      peer,
      isCluster ? cell(result => figureOf(result, 'millraceUs')) : '–',
      ...PARTS.map(part => cell(result => result.partCpuUs[part])),
      cell(result => result.cpuUs),
      cell(result => result.redisCommands),
    ],
  ]
}

/** Only where idle connections were measured. */
function memoryTable(rows: readonly Measured[], peers: readonly string[]): string[] {
  const lines = rows.flatMap(measured =>
    peers.flatMap(peer => {
      const bytes = (part: string): number | null => medianOf(measured, peer, result => result.extra[`rssPerConnectionBytes${part}`])
      if (bytes('') === null) return []
      const text = (part: string): string => bytes(part)?.toFixed(0) ?? '–'
      return [[peer, ...PARTS.map(part => text(` ${part}`)), text('')]]
    }),
  )
  if (lines.length === 0) return []
  return ['', 'Bytes of RSS for each idle connection.', '', markdownTable([['broker', ...PARTS, 'sum'], ...lines])]
}

/** What makes a figure doubtful: something went missing, or the generator was at its end. */
function remarks(rows: readonly Measured[], peers: readonly string[]): string[] {
  return rows.flatMap(measured =>
    peers.flatMap(peer => {
      const results = resultsOf(measured, peer)
      const lines: string[] = []
      if (!results.every(isSound)) lines.push('messages were lost, repeated or not sent, or connections closed: the figures say nothing')
      const busy = medianOf(measured, peer, result => (result.seconds > 0 ? result.generatorCpuS / result.seconds : 0)) ?? 0
      if (busy >= SATURATED_CORES) lines.push(`the generator used ${busy.toFixed(2)} cores: it may be what sets the rate`)
      return lines.flatMap(line => ['', `${peer}, ${measured.row.title}: ${line}.`])
    }),
  )
}
