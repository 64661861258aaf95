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

interface Metric {
  readonly name: string
  readonly kind: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  readonly lines: () => Iterable<string>
}

/** Every metric of the process, read only when somebody asks. Names as in the operations guide: `aio_broker_*`, ours `millrace_*`. */
export class MetricsRegistry {
  readonly #metrics = new Map<string, Metric>()
  readonly #common: Labels

  /** @param common labels of every series, such as the host name */
  constructor(common: Labels = []) {
    this.#common = common
  }

  counter(name: string, help: string): Counter {
    const counter = new Counter()
    this.counterFrom(name, help, () => counter.value)
    return counter
  }

  /** A counter that lives elsewhere, such as in a `Float64Array`. */
  counterFrom(name: string, help: string, read: () => number | Iterable<Sample>): void {
    this.#register('counter', name, help, read)
  }

  counterFamily(name: string, help: string, labelNames: readonly string[], seriesMax: number): CounterFamily {
    const family = new CounterFamily(labelNames, seriesMax)
    this.#register('counter', name, help, () => family.samples())
    return family
  }

  /** @param read called on each scrape; several samples must differ in their labels */
  gauge(name: string, help: string, read: () => number | Iterable<Sample>): void {
    this.#register('gauge', name, help, read)
  }

  /** @param bounds upper bounds of the buckets, ascending, in the unit that the name ends with */
  histogram(name: string, help: string, bounds: readonly number[]): Histogram {
    const histogram = new Histogram(bounds)
    this.#add({ name, kind: 'histogram', help, lines: () => this.#histogramLines(name, histogram) })
    return histogram
  }

  /** Prometheus text format 0.0.4. */
  render(): string {
    const text: string[] = []
    for (const metric of this.#metrics.values()) {
      text.push(
        `# HELP ${metric.name} ${metric.help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}`,
        `# TYPE ${metric.name} ${metric.kind}`,
      )
      text.push(...metric.lines())
    }
    return `${text.join('\n')}\n`
  }

  #register(kind: 'counter' | 'gauge', name: string, help: string, read: () => number | Iterable<Sample>): void {
    this.#add({ name, kind, help, lines: () => this.#sampleLines(name, read()) })
  }

  #add(metric: Metric): void {
    if (!METRIC_NAME.test(metric.name)) throw new TypeError(`'${metric.name}' is no name for a metric`)
    if (this.#metrics.has(metric.name)) throw new TypeError(`metric ${metric.name} exists already`)
    this.#metrics.set(metric.name, metric)
  }

  *#sampleLines(name: string, found: number | Iterable<Sample>): Iterable<string> {
    const samples = typeof found === 'number' ? [{ labels: [], value: found }] : found
    for (const { labels, value } of samples) yield `${name}${this.#labelText(labels)} ${numberText(value)}`
  }

  *#histogramLines(name: string, histogram: Histogram): Iterable<string> {
    let count = 0
    for (const [bucket, bucketCount] of histogram.counts.entries()) {
      count += bucketCount
      const bound = bucket < histogram.bounds.length ? numberText(histogram.bounds[bucket]!) : '+Inf'
      yield `${name}_bucket${this.#labelText([['le', bound]])} ${numberText(count)}`
    }
    yield `${name}_sum${this.#labelText([])} ${numberText(histogram.sum)}`
    yield `${name}_count${this.#labelText([])} ${numberText(count)}`
  }

  #labelText(labels: Labels): string {
    const all = [...this.#common, ...labels]
    return all.length === 0 ? '' : `{${all.map(([name, value]) => `${name}="${labelValue(value)}"`).join(',')}}`
  }
}

function labelValue(value: string): string {
  return value.slice(0, LABEL_LENGTH_MAX).toWellFormed().replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')
}

function numberText(value: number): string {
  if (value === Infinity) return '+Inf'
  return value === -Infinity ? '-Inf' : String(value)
}
