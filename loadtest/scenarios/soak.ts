import { writeFileSync, appendFileSync } from 'node:fs'
import type { Fleet, MeasuredReport } from '../fleet.ts'
import { idleSleep, nowMs } from '../monotonic.ts'
import type { LoadOptions } from '../options.ts'
import { rates, resultHead } from '../publish-scenario.ts'
import { runScenario } from '../run.ts'
import type { Scenario, ScenarioResult } from '../scenario.ts'
import { SoakLoad } from '../soak/load.ts'
import { metricOf, settledSlope } from '../soak/slope.ts'
import { cpuOf, cpuSeconds, rssOf } from '../usage.ts'
import { durable } from './pairs.ts'

const SAMPLE_INTERVAL_MS = 10_000
const CALIBRATION_S = 4
/** Millrace’s name, and the one that other Node programs commonly use. */
const HEAP_METRICS = ['nodejs_heap_used_bytes', 'nodejs_heap_size_used_bytes']
const METRICS_TIMEOUT_MS = 2_000

/**
 * Half of the full load for a long time, with churn: sessions that leave and resume, visitors with Wills, retained
 * topics set and cleared. Loses nothing at QoS 1, and the broker's memory stays flat.
 */
export const soak: Scenario = {
  name: 'soak',
  help: 'QoS 1 to persistent sessions at --rate (default: half of the full speed) for --duration (1 h), with churn',
  defaults: { publishers: 50, subscribers: 50, qos: 1, sizeBytes: 64, persistent: true, durationS: 3_600, warmupS: 0, stallS: 10 },
  join: async generator => new SoakLoad(generator).steps(),
  async conduct(fleet, options) {
    const ratePerS = options.ratePerS > 0 ? options.ratePerS : await halfOfFullSpeed(options)
    await fleet.step('prepare')
    const { run, samples } = await sampled(fleet, options, ratePerS)
    const end = await fleet.step('close')
    return resultOf(options, { run, samples, ratePerS, disconnects: end.numbers['disconnects'] ?? 0 })
  },
}

interface SoakSample {
  readonly atS: number
  readonly rssBytes: number | null
  readonly heapBytes: number | null
  readonly cpuS: number | null
}

async function halfOfFullSpeed(options: LoadOptions): Promise<number> {
  const full = await runScenario(durable, { ...options, durationS: CALIBRATION_S, warmupS: 1, count: 0, prefix: `${options.prefix}-full` })
  return Math.max(1, Math.floor(full.perSecond / 2))
}

async function sampled(fleet: Fleet, options: LoadOptions, ratePerS: number): Promise<{ run: MeasuredReport; samples: SoakSample[] }> {
  const startMs = nowMs()
  const samples: SoakSample[] = []
  if (options.csv) writeFileSync(options.csv, 'seconds,rss_bytes,heap_bytes,cpu_seconds\n')
  let running = true
  const run = fleet.measure('run', { seconds: options.durationS, ratePerS }).finally(() => {
    running = false
  })
  while (running) {
    const cpu = cpuOf(options.pids)
    const sample = {
      atS: (nowMs() - startMs) / 1_000,
      rssBytes: rssOf(options.pids),
      heapBytes: await heapOf(options.metricsUrl),
      cpuS: cpu ? cpuSeconds(cpu) : null,
    }
    samples.push(sample)
    if (options.csv)
      appendFileSync(options.csv, `${sample.atS.toFixed(1)},${sample.rssBytes ?? ''},${sample.heapBytes ?? ''},${sample.cpuS ?? ''}\n`)
    await Promise.race([run, idleSleep(SAMPLE_INTERVAL_MS)])
  }
  return { run: await run, samples }
}

/** Null without a URL, or when the page does not answer or lacks the metric: a soak goes on without it. */
async function heapOf(url: string | null): Promise<number | null> {
  if (url === null) return null
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(METRICS_TIMEOUT_MS) })
    const page = await answer.text()
    return HEAP_METRICS.map(name => metricOf(page, name)).find(value => value !== null) ?? null
  } catch {
    return null
  }
}

function resultOf(
  options: LoadOptions,
  of: { readonly run: MeasuredReport; readonly samples: readonly SoakSample[]; readonly ratePerS: number; readonly disconnects: number },
): ScenarioResult {
  const { run, samples, ratePerS } = of
  const number = (name: string): number => run.numbers[name] ?? 0
  const willsMissing = Math.max(0, number('willsDue') - number('willsSeen'))
  const perHour = (pick: (sample: SoakSample) => number | null): number =>
    Math.round(settledSlope(samples.flatMap(sample => (pick(sample) === null ? [] : [{ atS: sample.atS, value: pick(sample)! }]))) * 3_600)
  return {
    ...resultHead('soak', options),
    unit: 'message',
    ...rates(run, number('received')),
    rssBytes: samples.at(-1)?.rssBytes ?? null,
    latency: run.latency.summary(),
    lost: number('missing') + number('sessionsLost') + number('retainedLeft') + willsMissing,
    duplicates: number('repeats'),
    disconnects: of.disconnects,
    generatorCpuS: run.generatorCpuS,
    extra: {
      ratePerS,
      sent: number('sent'),
      messagesMissing: number('missing'),
      disordered: number('disordered'),
      overruns: number('overruns'),
      sessionsResumed: number('resumed'),
      sessionsLost: number('sessionsLost'),
      visitors: number('visitors'),
      willsDue: number('willsDue'),
      willsMissing,
      retainedSet: number('retainedSet'),
      retainedLeft: number('retainedLeft'),
      churnFailures: number('failures'),
      rssMaxBytes: Math.max(0, ...samples.map(sample => sample.rssBytes ?? 0)),
      rssSlopeBytesPerHour: perHour(sample => sample.rssBytes),
      heapSlopeBytesPerHour: perHour(sample => sample.heapBytes),
    },
  }
}
