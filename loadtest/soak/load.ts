import { LoadClient } from '../client.ts'
import { filler, publishTemplate } from '../frames.ts'
import { Histogram } from '../histogram.ts'
import { MESSAGE_HEADER_BYTES } from '../message.ts'
import { nowMs, sleep } from '../monotonic.ts'
import { Pace } from '../pace.ts'
import type { Generator, StepReport, Steps } from '../scenario.ts'
import { closeClients, connectFields, forgetSessions, openClients, ownNumbers, refuseRefused, targetOf } from '../scenario.ts'
import { clearRetained, newChurnCounts, turnRetained, visit, wills, willTopic, WillWitness } from './churn.ts'
import { NumberedStream } from './stream.ts'

const PACE_INTERVAL_MS = 1
/** One session leaves and comes back, one visitor comes, this often per process; retained topics turn faster. */
const SESSION_CHURN_INTERVAL_MS = 250
const VISIT_INTERVAL_MS = 100
const RETAINED_INTERVAL_MS = 10
/** A session is away this long: its queue must stay below the limits of brokers with default settings. */
const AWAY_MS_MIN = 50
const AWAY_MS_MAX = 300

interface Session {
  readonly number: number
  readonly stream: NumberedStream
  client: LoadClient
  away: boolean
}

/** One process's part of a soak: numbered streams to persistent sessions, and churn around them. */
export class SoakLoad {
  readonly #generator: Generator
  readonly #latency = new Histogram()
  readonly #counts = newChurnCounts()
  readonly #sessions: Session[] = []
  #publishers: LoadClient[] = []
  #keeper: LoadClient | null = null
  #witness: LoadClient | null = null
  #resumed = 0
  #sessionsLost = 0

  constructor(generator: Generator) {
    this.#generator = generator
  }

  steps(): Steps {
    return {
      prepare: () => this.#prepare(),
      run: given =>
        this.#run(
          given['seconds'] ?? 0,
          (given['ratePerS'] ?? 0) / Math.min(this.#generator.processes, this.#generator.options.publishers),
        ),
      close: () => this.#close(),
    }
  }

  async #prepare(): Promise<StepReport> {
    const generator = this.#generator
    const { options, engine, runId } = generator
    const numbers = ownNumbers(generator, options.publishers)
    await forgetSessions(generator, 's', numbers)
    const subscribers = await openClients(generator, { kind: 's', numbers, persistent: true })
    await Promise.all(subscribers.map((client, at) => client.subscribe(topicOf(options.prefix, numbers[at]!), 1)))
    refuseRefused(subscribers)
    this.#publishers = await openClients(generator, { kind: 'p', numbers })
    const payload = filler(Math.max(MESSAGE_HEADER_BYTES, options.sizeBytes))
    for (const [at, publisher] of this.#publishers.entries()) {
      const number = numbers[at]!
      const template = publishTemplate(options.protocol, { topic: topicOf(options.prefix, number), qos: 1, payload })
      const stream = new NumberedStream({ engine, runId, id: number, publisher, template, latency: this.#latency })
      const client = subscribers[at]!
      client.deliveries = stream
      this.#sessions.push({ number, stream, client, away: false })
    }
    const [keeper, witness] = await openClients(generator, { kind: 'w', numbers: [generator.index * 2, generator.index * 2 + 1] })
    witness!.deliveries = new WillWitness(this.#counts)
    await witness!.subscribe(willTopic(generator), 1)
    this.#keeper = keeper!
    this.#witness = witness!
    return {}
  }

  async #run(seconds: number, ratePerS: number): Promise<StepReport> {
    const startMs = nowMs()
    const pace = new Pace(ratePerS, startMs)
    const churning = new Set<Promise<void>>()
    const keep = (work: Promise<void>): void => {
      churning.add(work)
      void work.finally(() => churning.delete(work))
    }
    let turn = 0
    const timers = [
      setInterval(() => {
        const now = nowMs()
        for (let due = pace.due(now); due > 0 && this.#sessions.length > 0; due--)
          this.#sessions[turn++ % this.#sessions.length]!.stream.send(pace.take(now))
      }, PACE_INTERVAL_MS),
      setInterval(() => keep(this.#leaveAndResume()), SESSION_CHURN_INTERVAL_MS),
      setInterval(() => keep(visit(this.#generator, this.#counts)), VISIT_INTERVAL_MS),
      setInterval(() => turnRetained(this.#generator, this.#keeper!, this.#counts), RETAINED_INTERVAL_MS),
    ]
    await sleep(seconds * 1_000)
    for (const timer of timers) clearInterval(timer)
    const publishedS = (nowMs() - startMs) / 1_000
    await Promise.all(churning)
    await this.#drained()
    await wills(this.#counts)
    const retainedLeft = await clearRetained(this.#generator, this.#keeper!, this.#counts)
    return { seconds: publishedS, numbers: { ...this.#totals(), ...this.#counts, retainedLeft }, latency: this.#latency.snapshot() }
  }

  async #leaveAndResume(): Promise<void> {
    const session = this.#sessions[Math.floor(Math.random() * this.#sessions.length)]
    if (!session || session.away) return
    session.away = true
    if (Math.random() < 0.5) await session.client.disconnect()
    else await session.client.destroy()
    await sleep(AWAY_MS_MIN + Math.random() * (AWAY_MS_MAX - AWAY_MS_MIN))
    const { options, engine } = this.#generator
    const client = new LoadClient(engine, targetOf(options))
    client.deliveries = session.stream
    try {
      await client.open(connectFields(options, `s${session.number}`, true))
      session.client = client
      this.#resumed++
      if (!client.sessionPresent) this.#sessionsLost++
      session.away = false
    } catch {
      this.#counts.failures++ // stays away: its messages will be missing, and the report says so
    }
  }

  async #drained(): Promise<void> {
    const { stallS } = this.#generator.options
    let received = -1
    for (let quietMs = 0; quietMs < stallS * 1_000 && !this.#sessions.every(session => session.stream.isDrained); quietMs += 50) {
      const now = this.#sessions.reduce((sum, session) => sum + session.stream.received, 0)
      if (now !== received) quietMs = 0
      received = now
      await sleep(50)
    }
  }

  #totals(): Record<string, number> {
    const sum = (pick: (stream: NumberedStream) => number): number =>
      this.#sessions.reduce((total, session) => total + pick(session.stream), 0)
    return {
      sent: sum(stream => stream.sent),
      received: sum(stream => stream.received),
      missing: sum(stream => stream.missing),
      disordered: sum(stream => stream.disordered),
      repeats: sum(stream => stream.repeats),
      overruns: sum(stream => stream.overruns),
      resumed: this.#resumed,
      sessionsLost: this.#sessionsLost,
    }
  }

  async #close(): Promise<StepReport> {
    const { disconnects } = this.#generator.engine
    await closeClients([...this.#publishers, ...this.#sessions.map(session => session.client), this.#keeper!, this.#witness!])
    await forgetSessions(
      this.#generator,
      's',
      this.#sessions.map(session => session.number),
    )
    return { numbers: { disconnects } }
  }
}

function topicOf(prefix: string, number: number): string {
  return `${prefix}/soak/p2p/${number}`
}
