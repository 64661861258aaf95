/** One look at the broker during a soak. */
export interface Sample {
  /** Seconds since the start. */
  readonly atS: number
  readonly value: number
}

/** Least-squares slope per second over the samples of the second half: the first half is warm-up. 0 with fewer than two. */
export function settledSlope(samples: readonly Sample[]): number {
  const last = samples.at(-1)?.atS ?? 0
  const used = samples.filter(sample => sample.atS >= last / 2)
  const meanAt = used.reduce((sum, sample) => sum + sample.atS, 0) / used.length
  const meanValue = used.reduce((sum, sample) => sum + sample.value, 0) / used.length
  let above = 0
  let below = 0
  for (const sample of used) {
    above += (sample.atS - meanAt) * (sample.value - meanValue)
    below += (sample.atS - meanAt) ** 2
  }
  return below > 0 ? above / below : 0
}

/** Value of a Prometheus metric (first series of that name) on a text page, or null. */
export function metricOf(page: string, name: string): number | null {
  const line = page.split('\n').find(one => one.startsWith(name) && /^[ {]/.test(one.slice(name.length)))
  const value = Number(line?.split(' ').at(-1))
  return line === undefined || Number.isNaN(value) ? null : value
}
