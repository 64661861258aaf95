import type { SeedResult } from './seed-run.ts'

/** Sums over many seeds. */
export class Totals {
  seeds = 0
  events = 0
  simulatedMs = 0
  acknowledged = 0
  delivered = 0
  storeAnswered = 0
  notified = 0
  violations = 0
  readonly failed: number[] = []
  readonly levels = new Map<string, number>()
  readonly faults = new Map<string, number>()
  readonly figures = new Map<string, number>()
  /** Rule → seeds that broke it. */
  readonly rules = new Map<string, number>()

  add({
    seed,
    violations,
    level,
    events,
    simulatedMs,
    acknowledged,
    delivered,
    storeAnswered,
    notified,
    faults,
    figures,
  }: SeedResult): void {
    this.seeds++
    this.events += events
    this.simulatedMs += simulatedMs
    this.acknowledged += acknowledged
    this.delivered += delivered
    this.storeAnswered += storeAnswered
    this.notified += notified
    this.violations += violations.length
    if (violations.length > 0) this.failed.push(seed)
    count(this.levels, level, 1)
    for (const [kind, times] of faults) count(this.faults, kind, times)
    for (const [name, value] of figures) count(this.figures, name, value)
    for (const rule of new Set(violations.map(each => each.rule))) count(this.rules, rule, 1)
  }

  /** A Markdown table. */
  table(seconds: number): string {
    const rows: [string, string][] = [
      ['seeds', `${number(this.seeds)} (${listOf(this.levels)})`],
      [
        'events',
        `${number(this.events)}, ${number(Math.round(this.simulatedMs / 1_000))} simulated seconds in ${number(Math.round(seconds))} s`,
      ],
      ['faults', `${number(sum(this.faults))} (${listOf(this.faults)})`],
      ['what they led to', listOf(this.figures)],
      ['QoS 1 and 2 publishes acknowledged', number(this.acknowledged)],
      ['messages delivered', number(this.delivered)],
      ['answers of the state store', `${number(this.storeAnswered)}, ${number(this.notified)} notifications`],
      ['violations', `${this.violations} in ${this.failed.length} seeds${this.rules.size === 0 ? '' : ` (${listOf(this.rules)})`}`],
    ]
    return ['| | |', '|---|---|', ...rows.map(([name, value]) => `| ${name} | ${value} |`)].join('\n')
  }
}

function count(into: Map<string, number>, name: string, by: number): void {
  into.set(name, (into.get(name) ?? 0) + by)
}

function sum(values: ReadonlyMap<string, number>): number {
  return [...values.values()].reduce((all, one) => all + one, 0)
}

/** Most first. */
function listOf(values: ReadonlyMap<string, number>): string {
  return [...values]
    .sort(([, a], [, b]) => b - a)
    .map(([name, value]) => `${name} ${number(value)}`)
    .join(', ')
}

function number(value: number): string {
  return value.toLocaleString('en')
}
