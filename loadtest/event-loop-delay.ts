/** How late the event loop of a broker's process was, since it was last asked. */
export interface LoopDelay {
  readonly p99Ms: number
  readonly maxMs: number
}

/** Reads it from a Prometheus page of Millrace; reading begins a new period. @throws {Error} there is no such page, or nothing of the kind on it */
export async function loopDelay(metricsUrl: string): Promise<LoopDelay> {
  const response = await fetch(metricsUrl)
  const text = await response.text()
  const of = (quantile: string): number => {
    const line = new RegExp(`^nodejs_eventloop_delay_seconds\\{[^}]*quantile="${quantile}"[^}]*\\} (\\S+)$`, 'm').exec(text)
    if (line === null) throw new Error(`${metricsUrl} has no nodejs_eventloop_delay_seconds`)
    return Number(line[1]) * 1_000
  }
  return { p99Ms: of('p99'), maxMs: of('max') }
}
