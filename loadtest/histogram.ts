/** 64 steps per power of two: a quantile is off by less than 1.6 %. */
const STEPS_LOG2 = 6
const STEPS = 1 << STEPS_LOG2
/** Covers all of u32: 71 minutes in microseconds. */
const BUCKETS = (33 - STEPS_LOG2) * STEPS

/** What one process sends to the one that merges. Times in microseconds. */
export interface HistogramSnapshot {
  readonly counts: Float64Array
  readonly count: number
  readonly sumUs: number
  readonly maxUs: number
}

/** The figures that a report shows, in microseconds. */
export interface LatencySummary {
  readonly count: number
  readonly meanUs: number
  readonly p50Us: number
  readonly p99Us: number
  readonly p999Us: number
  readonly maxUs: number
}

/** Log-linear histogram of whole microseconds. Recording allocates nothing. */
export class Histogram {
  readonly #counts = new Float64Array(BUCKETS)
  #count = 0
  #sumUs = 0
  #maxUs = 0

  get count(): number {
    return this.#count
  }

  /** @param us a u32; below 64 it is kept exactly */
  record(us: number): void {
    const bucket = bucketOf(us)
    this.#counts[bucket] = this.#counts[bucket]! + 1
    this.#count++
    this.#sumUs += us
    if (us > this.#maxUs) this.#maxUs = us
  }

  merge(other: HistogramSnapshot): void {
    for (let bucket = 0; bucket < BUCKETS; bucket++) this.#counts[bucket]! += other.counts[bucket] ?? 0
    this.#count += other.count
    this.#sumUs += other.sumUs
    this.#maxUs = Math.max(this.#maxUs, other.maxUs)
  }

  /** The time that `share` (0 to 1) of the records do not exceed: the middle of its bucket. 0 when nothing was recorded. */
  quantile(share: number): number {
    const wanted = Math.max(1, Math.ceil(share * this.#count - 1e-9))
    let seen = 0
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      seen += this.#counts[bucket]!
      if (seen >= wanted) return Math.min(middleOf(bucket), this.#maxUs)
    }
    return this.#maxUs
  }

  snapshot(): HistogramSnapshot {
    return { counts: this.#counts.slice(), count: this.#count, sumUs: this.#sumUs, maxUs: this.#maxUs }
  }

  summary(): LatencySummary {
    return {
      count: this.#count,
      meanUs: this.#count ? this.#sumUs / this.#count : 0,
      p50Us: this.quantile(0.5),
      p99Us: this.quantile(0.99),
      p999Us: this.quantile(0.999),
      maxUs: this.#maxUs,
    }
  }
}

function bucketOf(us: number): number {
  if (us < STEPS) return us
  const exponent = 31 - Math.clz32(us)
  return ((exponent - STEPS_LOG2 + 1) << STEPS_LOG2) + ((us >>> (exponent - STEPS_LOG2)) & (STEPS - 1))
}

function middleOf(bucket: number): number {
  if (bucket < STEPS) return bucket
  const exponent = (bucket >>> STEPS_LOG2) + STEPS_LOG2 - 1
  return (STEPS + (bucket & (STEPS - 1)) + 0.5) * 2 ** (exponent - STEPS_LOG2)
}
