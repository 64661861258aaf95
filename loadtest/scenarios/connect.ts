import tls from 'node:tls'
import { ClientCertificates } from '../authentication/certificates.ts'
import type { Target } from '../client.ts'
import { LoadClient } from '../client.ts'
import { loopDelay } from '../event-loop-delay.ts'
import { Histogram } from '../histogram.ts'
import { nowMs } from '../monotonic.ts'
import { Pace } from '../pace.ts'
import { rates, resultHead } from '../publish-scenario.ts'
import type { Generator, Scenario, StepArguments, StepReport, Steps } from '../scenario.ts'
import { connectFields, targetOf } from '../scenario.ts'
import { rssOf } from '../usage.ts'

/** How often the open loop looks at the clock. */
const PACE_INTERVAL_MS = 1
/** Connects under way at once in the open loop; one more is not made, and counts as an overrun. */
const OPEN_MAX = 2_000

/** Clients that connect and leave: a whole TLS handshake with a certificate where there is one, CONNECT, CONNACK, DISCONNECT. */
export const connect: Scenario = {
  name: 'connect',
  help: 'connect and leave, --concurrency at once or --rate; %i in --username is a number; --tls for TLS',
  defaults: { connections: 200, concurrency: 16 },
  join: joinConnect,
  async conduct(fleet, options) {
    await fleet.step('prepare')
    if (options.warmupS > 0) await fleet.step('connects', { seconds: options.warmupS, ratePerS: options.ratePerS })
    if (options.metricsUrl !== null) await loopDelay(options.metricsUrl)
    const run = await fleet.measure('connects', { seconds: options.durationS, ratePerS: options.ratePerS })
    const delay = options.metricsUrl === null ? null : await loopDelay(options.metricsUrl)
    return {
      ...resultHead('connect', options),
      unit: 'connection',
      ...rates(run, run.numbers['connected'] ?? 0),
      rssBytes: rssOf(options.pids),
      latency: run.latency.summary(),
      lost: run.numbers['failed'] ?? 0,
      duplicates: 0,
      disconnects: 0,
      generatorCpuS: run.generatorCpuS,
      extra: { overruns: run.numbers['overruns'] ?? 0, ...(delay !== null && { loopP99Ms: delay.p99Ms, loopMaxMs: delay.maxMs }) },
    }
  },
}

async function joinConnect(generator: Generator): Promise<Steps> {
  let clients: Clients | null = null
  return {
    prepare: async () => {
      clients = new Clients(generator)
      return {}
    },
    connects: given => new Connects(generator, clients!).run(given),
  }
}

/** Who connects: number after number, with the certificates that were made before, or with a new one each time (--connections 0). */
class Clients {
  readonly #generator: Generator
  readonly #certificates: ClientCertificates | null
  readonly #targets: readonly Target[]
  #next: number

  constructor(generator: Generator) {
    const { options } = generator
    const { cert, issuerKey } = options.tls ?? {}
    this.#generator = generator
    this.#next = generator.index
    this.#certificates = cert !== undefined && issuerKey !== undefined ? new ClientCertificates(cert, issuerKey) : null
    const count = this.#certificates === null ? 0 : Math.ceil(options.connections / generator.processes)
    this.#targets = Array.from({ length: count }, (_, at) => this.#targetOf(generator.index + at * generator.processes))
  }

  take(): { readonly number: number; readonly target: Target } {
    const number = this.#next
    this.#next += this.#generator.processes
    if (this.#targets.length === 0) return { number, target: this.#targetOf(number) }
    const place = Math.floor(number / this.#generator.processes) % this.#targets.length
    // A device that comes back has the Client Identifier and the certificate that it had.
    return { number: this.#generator.index + place * this.#generator.processes, target: this.#targets[place]! }
  }

  #targetOf(number: number): Target {
    const target = targetOf(this.#generator.options)
    if (target.tls === null || this.#certificates === null) return target
    const { ca, key } = target.tls
    const secureContext = tls.createSecureContext({ ca, key, cert: this.#certificates.chainOf(number), minVersion: 'TLSv1.2' })
    return { ...target, tls: { ca, secureContext } }
  }
}

/** One phase of connecting. */
class Connects {
  readonly #generator: Generator
  readonly #clients: Clients
  readonly #latency = new Histogram()
  #connected = 0
  #failed = 0
  #overruns = 0
  #firstFault: Error | null = null

  constructor(generator: Generator, clients: Clients) {
    this.#generator = generator
    this.#clients = clients
  }

  /** @throws {Error} no client was let in */
  async run({ seconds = 0, ratePerS = 0 }: StepArguments): Promise<StepReport> {
    const { processes } = this.#generator
    const startMs = nowMs()
    const endMs = startMs + seconds * 1_000
    if (ratePerS > 0) await this.#paced(new Pace(ratePerS / processes, startMs), endMs)
    else await this.#closedLoop(endMs)
    if (this.#connected === 0 && this.#firstFault !== null) throw this.#firstFault
    return {
      numbers: { connected: this.#connected, failed: this.#failed, overruns: this.#overruns },
      seconds: (nowMs() - startMs) / 1_000,
      latency: this.#latency.snapshot(),
    }
  }

  async #closedLoop(endMs: number): Promise<void> {
    const { options, processes } = this.#generator
    const lane = async (): Promise<void> => {
      while (nowMs() < endMs) await this.#one()
    }
    await Promise.all(Array.from({ length: Math.max(1, Math.floor(options.concurrency / processes)) }, lane))
  }

  async #paced(pace: Pace, endMs: number): Promise<void> {
    const open = new Set<Promise<void>>()
    await new Promise<void>(resolve => {
      const timer = setInterval(() => {
        const now = nowMs()
        for (let due = pace.due(now); due > 0 && now < endMs; due--) {
          pace.take(now)
          if (open.size >= OPEN_MAX) this.#overruns++
          else this.#track(open)
        }
        if (now < endMs) return
        clearInterval(timer)
        resolve()
      }, PACE_INTERVAL_MS)
    })
    await Promise.all(open)
  }

  #track(open: Set<Promise<void>>): void {
    const one = this.#one().finally(() => open.delete(one))
    open.add(one)
  }

  async #one(): Promise<void> {
    const { options, engine } = this.#generator
    const { number, target } = this.#clients.take()
    const client = new LoadClient(engine, target)
    const fields = connectFields(options, `c${number}`)
    try {
      await client.open({ ...fields, username: fields.username?.replace('%i', String(number)) })
      this.#latency.record(client.connectUs)
      this.#connected++
    } catch (error) {
      this.#failed++
      this.#firstFault ??= error instanceof Error ? error : new Error(String(error))
    }
    await client.disconnect()
  }
}
