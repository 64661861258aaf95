import { type Metric, Registry } from 'prom-client'

/** A number that only grows. The data path adds to `value` itself. */
export class Counter {
  value = 0

  add(amount: number): void {
    this.value += amount
  }
}

/** Observations in fixed buckets: one comparison per bucket passed, no allocation. */
export class Histogram {
  /** Upper bounds, ascending; a last bucket without bound follows. */
  readonly bounds: Float64Array
  readonly counts: Float64Array
  sum = 0

  constructor(bounds: readonly number[]) {
    this.bounds = Float64Array.from(bounds)
    this.counts = new Float64Array(bounds.length + 1)
  }

  observe(value: number): void {
    let bucket = 0
    while (bucket < this.bounds.length && value > this.bounds[bucket]!) bucket++
    this.counts[bucket]! += 1
    this.sum += value
  }
}

/** Counters of one name that differ in their labels, at most `seriesMax`; combinations beyond share the series of all `other`. */
export class CounterFamily {
  readonly #labelNames: readonly string[]
  readonly #seriesMax: number
  readonly #series = new Map<string, { readonly labels: Labels; readonly counter: Counter }>()

  constructor(labelNames: readonly string[], seriesMax: number) {
    this.#labelNames = labelNames
    this.#seriesMax = seriesMax
  }

  /** The counter for these label values, in the order of the names. A Map look-up: keep the counter on a hot path. */
  with(...values: readonly string[]): Counter {
    const key = JSON.stringify(values)
    const known = this.#series.get(key)
    if (known !== undefined) return known.counter
    const isFull = this.#series.size >= this.#seriesMax
    if (isFull && !values.every(value => value === OTHER)) return this.with(...this.#labelNames.map(() => OTHER))
    const labels = this.#labelNames.map((name, index) => [name, values[index] ?? ''] as const)
    const counter = new Counter()
    this.#series.set(key, { labels, counter })
    return counter
  }

  *samples(): Iterable<Sample> {
    for (const { labels, counter } of this.#series.values()) yield { labels, value: counter.value }
  }
}

export type Labels = readonly (readonly [name: string, value: string])[]

export interface Sample {
  readonly labels: Labels
  readonly value: number
}

const OTHER = 'other'
/** Characters of a label value; clients choose some of them (`metriccategory`). */
const LABEL_LENGTH_MAX = 128
const METRIC_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/

type Kind = 'counter' | 'gauge' | 'histogram'

/** One line of a metric. `metricName` where it is not the metric's own name. */
interface Line {
  readonly metricName?: string
  readonly labels: Readonly<Record<string, string | number>>
  readonly value: number
}

/**
 * Every metric of the process, read only when somebody asks. Names as in the operations guide: `aio_broker_*`, ours `millrace_*`.
 * The numbers are ours, plain fields that the data path adds to; prom-client asks for them and writes the text.
 */
export class MetricsRegistry {
  readonly #registry = new Registry()

  /** @param common labels of every series, such as the host name */
  constructor(common: Labels = []) {
    this.#registry.setDefaultLabels(Object.fromEntries(common))
  }

  counter(name: string, help: string): Counter {
    const counter = new Counter()
    this.counterFrom(name, help, () => counter.value)
    return counter
  }

  /** A counter that lives elsewhere, such as in a `Float64Array`. */
  counterFrom(name: string, help: string, read: () => number | Iterable<Sample>): void {
    this.#register('counter', name, help, () => sampleLines(read()))
  }

  counterFamily(name: string, help: string, labelNames: readonly string[], seriesMax: number): CounterFamily {
    const family = new CounterFamily(labelNames, seriesMax)
    this.#register('counter', name, help, () => sampleLines(family.samples()))
    return family
  }

  /** @param read called on each scrape; several samples must differ in their labels */
  gauge(name: string, help: string, read: () => number | Iterable<Sample>): void {
    this.#register('gauge', name, help, () => sampleLines(read()))
  }

  /** @param bounds upper bounds of the buckets, ascending, in the unit that the name ends with */
  histogram(name: string, help: string, bounds: readonly number[]): Histogram {
    const histogram = new Histogram(bounds)
    this.#register('histogram', name, help, () => histogramLines(name, histogram))
    return histogram
  }

  /** Prometheus text format 0.0.4. Rejects with what the `read` of a metric threw. */
  render(): Promise<string> {
    return this.#registry.metrics()
  }

  /**
   * The library's own metrics would keep a second copy of each number and find series by a text that two sets of label values
   * can share; a registry also takes whatever has a `get`, which its types do not know.
   */
  #register(type: Kind, name: string, help: string, lines: () => Line[]): void {
    if (!METRIC_NAME.test(name)) throw new TypeError(`'${name}' is no name for a metric`)
    const metric = { name, get: () => ({ name, help, type, values: lines() }) }
    this.#registry.registerMetric(metric as unknown as Metric)
  }
}

function sampleLines(found: number | Iterable<Sample>): Line[] {
  if (typeof found === 'number') return [{ labels: {}, value: found }]
  return Array.from(found, ({ labels, value }) => ({
    labels: Object.fromEntries(labels.map(([name, text]) => [name, text.slice(0, LABEL_LENGTH_MAX).toWellFormed()])),
    value,
  }))
}

function histogramLines(name: string, { bounds, counts, sum }: Histogram): Line[] {
  let count = 0
  const buckets = Array.from(counts, (bucketCount, bucket) => {
    count += bucketCount
    return { metricName: `${name}_bucket`, labels: { le: bounds[bucket] ?? '+Inf' }, value: count }
  })
  return [...buckets, { metricName: `${name}_sum`, labels: {}, value: sum }, { metricName: `${name}_count`, labels: {}, value: count }]
}
