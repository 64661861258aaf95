import { detailTable, failureLines, markdownTable, medianOf } from './compare-figures.ts'
import type { PlanRow } from './compare-plan.ts'
import type { MeasuredRow } from './compare-rounds.ts'

export const SUBJECT = 'Millrace'
export const REFERENCE = 'Mosquitto'

/** What the row is about: CPU µs per message, or bytes per connection. Null when it was not measured. */
export function figureOf(measured: MeasuredRow<PlanRow>, peer: string): number | null {
  const bytes = measured.row.bytesMax !== undefined
  return medianOf(measured, peer, result => (bytes ? result.extra['rssPerConnectionBytes'] : result.cpuUs))
}

/** Null when either of the two was not measured. */
export function ratioOf(measured: MeasuredRow<PlanRow>): number | null {
  const subject = figureOf(measured, SUBJECT)
  const reference = figureOf(measured, REFERENCE)
  return subject !== null && reference !== null && reference > 0 ? subject / reference : null
}

/** Whether Millrace keeps the row's promise; null when there is none, or nothing to judge by. */
export function isReached(measured: MeasuredRow<PlanRow>): boolean | null {
  const { bytesMax, ratioMax } = measured.row
  const value = bytesMax === undefined ? ratioOf(measured) : figureOf(measured, SUBJECT)
  const limit = bytesMax ?? ratioMax
  return value === null || limit === null ? null : value <= limit
}

/** Two Markdown tables: the ratios next to their targets, then rates, latencies and memory of each broker. */
export function comparisonMarkdown(rows: readonly MeasuredRow<PlanRow>[], peers: readonly string[]): string {
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
  return [
    'CPU microseconds of the broker’s processes per delivered message (per acknowledgement for SUBSCRIBE), median of the rounds (Aedes: one round); bytes of RSS per connection in the last row.',
    '',
    markdownTable(ratios),
    '',
    detailTable(rows, peers),
    ...failureLines(rows, peers),
    '',
  ].join('\n')
}

function figureText(measured: MeasuredRow<PlanRow>, peer: string): string {
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
