import type { PlanRow } from './compare-plan.ts'
import type { ScenarioResult } from './scenario.ts'

/** All rounds of one broker in one row; or why there are none. */
export type PeerRounds = { readonly results: readonly ScenarioResult[] } | { readonly failed: string }

/** One row of the plan as it was measured: peer's name to its rounds. */
export interface MeasuredRow {
  readonly row: PlanRow
  readonly rounds: ReadonlyMap<string, PeerRounds>
}

export const SUBJECT = 'Millrace'
export const REFERENCE = 'Mosquitto'

/** The middle value; the mean of the two middle ones for an even number. NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** What the row is about: CPU µs per message, or bytes per connection. Null when it was not measured. */
export function figureOf(measured: MeasuredRow, peer: string): number | null {
  const bytes = measured.row.bytesMax !== undefined
  const values = resultsOf(measured, peer).flatMap(result => {
    const value = bytes ? result.extra['rssPerConnectionBytes'] : result.cpuUs
    return value === null || value === undefined ? [] : [value]
  })
  return values.length > 0 ? median(values) : null
}

/** Null when either of the two was not measured. */
export function ratioOf(measured: MeasuredRow): number | null {
  const subject = figureOf(measured, SUBJECT)
  const reference = figureOf(measured, REFERENCE)
  return subject !== null && reference !== null && reference > 0 ? subject / reference : null
}

/** Whether Millrace keeps the row's promise; null when there is none, or nothing to judge by. */
export function isReached(measured: MeasuredRow): boolean | null {
  const { bytesMax, ratioMax } = measured.row
  const value = bytesMax === undefined ? ratioOf(measured) : figureOf(measured, SUBJECT)
  const limit = bytesMax ?? ratioMax
  return value === null || limit === null ? null : value <= limit
}

function resultsOf(measured: MeasuredRow, peer: string): readonly ScenarioResult[] {
  const rounds = measured.rounds.get(peer)
  return rounds && 'results' in rounds ? rounds.results : []
}

/** Two Markdown tables: the ratios next to their targets, then rates, latencies and memory of each broker. */
export function comparisonMarkdown(rows: readonly MeasuredRow[], peers: readonly string[]): string {
  const ratios = [
    ['scenario', ...peers.map(peer => `${peer} µs`), `${SUBJECT} / ${REFERENCE}`, 'target', 'reached'],
    ...rows.map(measured => [
      measured.row.title,
      ...peers.map(peer => figureText(measured, peer)),
      ratioOf(measured)?.toFixed(2) ?? '–',
      targetText(measured.row),
      reachedText(isReached(measured)),
    ]),
  ]
  const details = [
    ['scenario', 'broker', 'per second', 'p50 ms', 'p99 ms', 'p99.9 ms', 'RSS MiB', 'generator cores', 'lost'],
    ...rows.flatMap(measured => peers.flatMap(peer => detailRow(measured, peer))),
  ]
  return [
    'CPU microseconds of the broker’s processes per delivered message (per acknowledgement for SUBSCRIBE), median of the rounds (Aedes: one round); bytes of RSS per connection in the last row.',
    '',
    markdownTable(ratios),
    '',
    markdownTable(details),
    ...rows.flatMap(measured => peers.flatMap(peer => failureText(measured, peer))),
    '',
  ].join('\n')
}

function figureText(measured: MeasuredRow, peer: string): string {
  const value = figureOf(measured, peer)
  if (value === null) return measured.rounds.has(peer) ? 'failed' : '–'
  return measured.row.bytesMax === undefined ? value.toFixed(2) : `${Math.round(value)} B`
}

function targetText(row: PlanRow): string {
  if (row.bytesMax !== undefined) return `≤ ${row.bytesMax} B`
  return row.ratioMax === null ? '–' : `≤ ${row.ratioMax}`
}

function reachedText(reached: boolean | null): string {
  if (reached === null) return '–'
  return reached ? 'yes' : 'NO'
}

function detailRow(measured: MeasuredRow, peer: string): string[][] {
  const results = resultsOf(measured, peer)
  if (results.length === 0) return []
  const of = (pick: (result: ScenarioResult) => number | null | undefined): number => median(results.flatMap(result => pick(result) ?? []))
  const ms = (us: number): string => (Number.isNaN(us) ? '–' : (us / 1_000).toFixed(us < 10_000 ? 2 : 0))
  const rss = of(result => result.rssBytes)
  return [
    [
      measured.row.title,
      peer,
      Math.round(of(result => result.perSecond)).toLocaleString('en-US'),
      ms(of(result => result.latency?.p50Us)),
      ms(of(result => result.latency?.p99Us)),
      ms(of(result => result.latency?.p999Us)),
      Number.isNaN(rss) ? '–' : (rss / 1_048_576).toFixed(1),
      of(result => (result.seconds > 0 ? result.generatorCpuS / result.seconds : 0)).toFixed(2),
      String(results.reduce((sum, result) => sum + result.lost, 0)),
    ],
  ]
}

function failureText(measured: MeasuredRow, peer: string): string[] {
  const rounds = measured.rounds.get(peer)
  return rounds && 'failed' in rounds ? ['', `${peer}, ${measured.row.title}: ${rounds.failed}`] : []
}

/** Padded, so that it can be read as it is. */
export function markdownTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(3, ...rows.map(row => row[column]!.length)))
  const line = (cells: readonly string[]): string => `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`
  const [head, ...body] = rows
  return [line(head!), `|${widths.map(width => '-'.repeat(width + 2)).join('|')}|`, ...body.map(line)].join('\n')
}
