import type { EventResult, RoundResult } from './rounds.ts'

/** How many of each kind of fault are named. */
const NAMED_MAX = 10

/** What makes a run fail. */
export function faultCount({ lost, duplicates, disordered, violations, unexpectedDisconnects }: RoundResult): number {
  return lost.length + duplicates.length + disordered.length + violations.length + unexpectedDisconnects.length
}

/** A round as a line, then its faults by name. */
export function roundText(result: RoundResult): string {
  const { round, events, published, acknowledged, delivered, repeated, refused, recoveryMs, disconnects } = result
  const { lost, duplicates, disordered, violations, unexpectedDisconnects, lostInWindow, excused } = result
  const counts =
    `round ${round}: ${events.length} events, ${published} published, ${acknowledged} acknowledged, ${refused} refused, ${delivered} delivered, ` +
    `${lost.length} lost, ${duplicates.length} QoS 2 duplicates, ${disordered.length} out of order, ${violations.length} violations, ` +
    `${unexpectedDisconnects.length} unexpected disconnects (${disconnects.touched} with their frontend, ${disconnects.partitioned} with its links, ` +
    `${disconnects.takenOver} taken over, ${disconnects.refused} refused), ${repeated} QoS 1 repeats, ready after ${recoveryMs} ms` +
    (lostInWindow.length + excused.length > 0 ? `; in the loss window: ${lostInWindow.length} lost, ${excused.length} consequences` : '')
  const named = Object.entries({ lost, duplicates, disordered, violations, unexpectedDisconnects, lostInWindow, excused }).flatMap(
    ([kind, each]) => each.slice(0, NAMED_MAX).map(what => `  ${kind}: ${what}`),
  )
  return [counts, ...named].join('\n')
}

/** A row per kind of event, then the sums. */
export function summaryText(results: readonly RoundResult[]): string {
  const rows = byKind(results.flatMap(({ events }) => events)).map(
    ({ kind, count, longestMs, pubackGapMs }) =>
      `${kind.padEnd(16)} ${`${count}`.padStart(6)} ${`${longestMs}`.padStart(10)} ${`${pubackGapMs}`.padStart(14)}`,
  )
  const all = totals(results)
  return [
    `${'event'.padEnd(16)} ${'count'.padStart(6)} ${'longest ms'.padStart(10)} ${'PUBACK gap ms'.padStart(14)}`,
    ...rows,
    `total: ${Object.entries(all)
      .map(([name, count]) => `${name} ${count}`)
      .join(', ')}`,
  ].join('\n')
}

/** The whole run as a value for JSON. */
export function summary(results: readonly RoundResult[]): object {
  return { totals: totals(results), events: byKind(results.flatMap(({ events }) => events)), rounds: results }
}

function totals(results: readonly RoundResult[]): Record<string, number> {
  const sum = (of: (result: RoundResult) => number): number => results.reduce((total, result) => total + of(result), 0)
  return {
    rounds: results.length,
    events: sum(({ events }) => events.length),
    published: sum(({ published }) => published),
    acknowledged: sum(({ acknowledged }) => acknowledged),
    refused: sum(({ refused }) => refused),
    delivered: sum(({ delivered }) => delivered),
    repeated: sum(({ repeated }) => repeated),
    lost: sum(({ lost }) => lost.length),
    duplicates: sum(({ duplicates }) => duplicates.length),
    disordered: sum(({ disordered }) => disordered.length),
    violations: sum(({ violations }) => violations.length),
    unexpectedDisconnects: sum(result => result.unexpectedDisconnects.length),
    lostInWindow: sum(({ lostInWindow }) => lostInWindow.length),
    excused: sum(({ excused }) => excused.length),
  }
}

function byKind(events: readonly EventResult[]): { kind: string; count: number; longestMs: number; pubackGapMs: number }[] {
  return [...new Set(events.map(({ kind }) => kind))].sort().map(kind => {
    const these = events.filter(event => event.kind === kind)
    return {
      kind,
      count: these.length,
      longestMs: Math.max(...these.map(({ tookMs }) => tookMs)),
      pubackGapMs: Math.max(...these.map(({ pubackGapMs }) => pubackGapMs)),
    }
  })
}
