/** What the tables of all comparisons have in common. */
import type { MeasuredRow, ScenarioRow } from './compare-rounds.ts'
import type { ScenarioResult } from './scenario.ts'

/** The middle value; the mean of the two middle ones for an even number. NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

export function resultsOf(measured: MeasuredRow, peer: string): readonly ScenarioResult[] {
  const rounds = measured.rounds.get(peer)
  return rounds && 'results' in rounds ? rounds.results : []
}

/** Median over the rounds of one broker; null when none has the figure. */
export function medianOf(measured: MeasuredRow, peer: string, pick: (result: ScenarioResult) => number | null | undefined): number | null {
  const values = resultsOf(measured, peer).flatMap(result => pick(result) ?? [])
  return values.length > 0 ? median(values) : null
}

/** Rates, latencies and memory, a line for each broker of each row. */
export function detailTable(rows: readonly MeasuredRow<ScenarioRow>[], peers: readonly string[]): string {
  return markdownTable([
    ['scenario', 'broker', 'per second', 'p50 ms', 'p99 ms', 'p99.9 ms', 'RSS MiB', 'generator cores', 'lost'],
    ...rows.flatMap(measured => peers.flatMap(peer => detailRow(measured, peer))),
  ])
}

function detailRow(measured: MeasuredRow, peer: string): string[][] {
  const results = resultsOf(measured, peer)
  if (results.length === 0) return []
  const text = (pick: (result: ScenarioResult) => number | null | undefined, show: (value: number) => string): string => {
    const value = medianOf(measured, peer, pick)
    return value === null ? '–' : show(value)
  }
  const ms = (us: number): string => (us / 1_000).toFixed(us < 10_000 ? 2 : 0)
  return [
    [
      measured.row.title,
      peer,
      text(
        result => result.perSecond,
        value => Math.round(value).toLocaleString('en-US'),
      ),
      text(result => result.latency?.p50Us, ms),
      text(result => result.latency?.p99Us, ms),
      text(result => result.latency?.p999Us, ms),
      text(
        result => result.rssBytes,
        bytes => (bytes / 1_048_576).toFixed(1),
      ),
      text(
        result => (result.seconds > 0 ? result.generatorCpuS / result.seconds : 0),
        cores => cores.toFixed(2),
      ),
      String(results.reduce((sum, result) => sum + result.lost, 0)),
    ],
  ]
}

/** A paragraph for each broker that failed in a row. */
export function failureLines(rows: readonly MeasuredRow<ScenarioRow>[], peers: readonly string[]): string[] {
  return rows.flatMap(({ row, rounds }) =>
    peers.flatMap(peer => {
      const one = rounds.get(peer)
      return one && 'failed' in one ? ['', `${peer}, ${row.title}: ${one.failed}`] : []
    }),
  )
}

/** Padded, so that it can be read as it is. */
export function markdownTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(3, ...rows.map(row => row[column]!.length)))
  const line = (cells: readonly string[]): string => `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`
  const [head, ...body] = rows
  return [line(head!), `|${widths.map(width => '-'.repeat(width + 2)).join('|')}|`, ...body.map(line)].join('\n')
}
