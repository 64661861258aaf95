import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import { systemClock } from '#shared/base/clock.ts'
import { type Address, type Asked, StoreClient } from './store-client.contract.ts'
import {
  clockFault,
  commandOf,
  lifetimeOf,
  type Scenario,
  shifted,
  type Step,
  USUAL_CLIENT,
  wallOf,
  withLifetime,
} from './vectors.contract.ts'

/** A store that is replayed against. */
export interface Target {
  address(clientId: string): Address
  /** kill -9 of the process that has the key; it is started again. */
  kill(shardKey: string): Promise<void>
  /** Whether connections end with a kill, and what they watched with them. */
  readonly dropsConnections: boolean
}

export interface ReplayOptions {
  /** Steps behind which there is a kill; never behind the last. */
  readonly killsBehind: ReadonlySet<number>
  /** Of lifetimes with a kill within them: they must outlast it. All others are those of the vectors. */
  readonly lifetimes: (ms: number) => number
}

/** Ahead of the sending of a request, where the store must find a clock ahead of its own when it executes it. */
const LEAD_MS = 1_000
/** A clock so much ahead of its step is judged against the present of the step. */
const FAR_AHEAD_MS = 50_000
/** Requests of which the later one must be executed so soon after the earlier one travel in one write. */
const TOGETHER_MS = 100
/** An answer may be known a little earlier than the clock of the store says. */
const ROUNDING_MS = 2

/** One entry's lifetime, in the time of the vectors and in ours. */
interface Deadline {
  readonly vectorMs: number
  /** It may be gone from then on. */
  readonly earliestMs: number
  /** It is gone. */
  readonly realMs: number
}

/** A step should have found what another one made, and this machine was too slow: nothing is proved either way. */
export class TooLate extends Error {}

/** Replays the steps of one scenario, in their order and with their distances in time, and leaves the store empty. */
export class Replay {
  kills = 0
  readonly #target: Target
  readonly #scenario: Scenario
  readonly #options: ReplayOptions
  readonly #clients = new Map<string, StoreClient>()
  /** Client Identifier and key of each registration there should be. */
  readonly #watching = new Map<string, { readonly clientId: string; readonly request: string }>()
  readonly #given = new Map<string, string>()
  readonly #deadlines: Deadline[] = []
  readonly #startMs = systemClock.wallMs()
  #sentMs = this.#startMs

  constructor(target: Target, scenario: Scenario, options: ReplayOptions) {
    this.#target = target
    this.#scenario = scenario
    this.#options = options
  }

  /** @throws a step was not answered as its vector says */
  async run(): Promise<void> {
    const { steps } = this.#scenario
    for (let at = 0; at < steps.length; at++) {
      const together = this.#areTogether(at) ? [steps[at]!, steps[++at]!] : [steps[at]!]
      await this.#waitFor(together[0]!, steps[at - together.length])
      await this.#perform(together)
      if (this.#options.killsBehind.has(at) && at < steps.length - 1) await this.#kill(steps[at + 1]!)
    }
    await this.finish()
  }

  /** The next step must find what this one made before a short lifetime ends. */
  #areTogether(at: number): boolean {
    const [step, next] = [this.#scenario.steps[at]!, this.#scenario.steps[at + 1]]
    const lifetime = lifetimeOf(step)
    if (lifetime === null || next === undefined || this.#lifetimeOf(step)! > TOGETHER_MS) return false
    return next.clockMs < step.clockMs + lifetime
  }

  /** Until as much time has passed as between the vectors, and all is gone that is gone by then; who only reads what is there does not wait. */
  async #waitFor(step: Step, before: Step | undefined): Promise<void> {
    const isRead = commandOf(step)?.is === 'get'
    const distance = before === undefined || isRead ? 0 : step.clockMs - before.clockMs
    const over = this.#deadlines.filter(({ vectorMs }) => vectorMs <= step.clockMs).map(({ realMs }) => realMs + ROUNDING_MS)
    // Who waits for a notification waits for that; it comes by itself.
    const untilMs = step.request === undefined ? 0 : Math.max(this.#sentMs + distance, ...over)
    const waitMs = untilMs - systemClock.wallMs()
    if (waitMs > 0) await sleep(waitMs)
  }

  async #perform(steps: readonly Step[]): Promise<void> {
    const sent: { readonly step: Step; readonly byMs: number; readonly client: StoreClient; readonly asked: Asked & { bytes: Buffer } }[] =
      []
    for (const step of steps) {
      if (step.request === undefined) continue
      const client = await this.#clientOf(step.client ?? USUAL_CLIENT)
      const byMs = this.#shiftOf(step)
      sent.push({ step, byMs, client, asked: client.packet(this.#requestOf(step), this.#propertiesOf(step, byMs)) })
    }
    this.#sentMs = systemClock.wallMs()
    if (sent.length > 0) sent[0]!.client.send(...sent.map(({ asked }) => asked))
    for (const { step, byMs, client, asked } of sent) await this.#check(step, byMs, client, asked)
    for (const step of steps) await this.#expectNotifications(step)
  }

  async #check(step: Step, byMs: number, client: StoreClient, asked: Asked): Promise<void> {
    const { payload, ts } = await client.answer(asked).catch((cause: unknown) => {
      throw new Error(`${step.id}: ${(cause as Error).message}`, { cause })
    })
    if (payload !== step.response && this.#isLate(step)) throw new TooLate(`${step.id}: ${payload}`)
    expect(payload, step.id).toBe(step.response)
    expect(clockFault(ts, step.ts!, this.#given, byMs), step.id).toBeNull()
    if (ts !== null) this.#given.set(step.id, ts)
    const lifetime = this.#lifetimeOf(step)
    if (lifetime !== null && payload === '+OK\r\n') {
      const vectorMs = step.clockMs + lifetimeOf(step)!
      this.#deadlines.push({ vectorMs, earliestMs: this.#sentMs + lifetime, realMs: systemClock.wallMs() + lifetime })
    }
    const command = commandOf(step)
    if (command?.is !== 'keynotify') return
    const name = `${client.clientId} ${command.key}`
    if (command.isStop) this.#watching.delete(name)
    else this.#watching.set(name, { clientId: client.clientId, request: step.request! })
  }

  async #expectNotifications({ id, notify = [] }: Step): Promise<void> {
    for (const { to, topic, payload, ts: expected } of notify) {
      const told = await (await this.#clientOf(to)).notification()
      expect([told.topic, told.payload], id).toEqual([topic, payload])
      expect(clockFault(told.ts, expected, this.#given, 0), id).toBeNull()
    }
  }

  /** Whether what the step should find may have been gone. */
  #isLate({ clockMs }: Step): boolean {
    const nowMs = systemClock.wallMs()
    return this.#deadlines.some(({ vectorMs, earliestMs }) => clockMs < vectorMs && nowMs >= earliestMs)
  }

  /** What the step asks for here, milliseconds. */
  #lifetimeOf(step: Step): number | null {
    const lifetime = lifetimeOf(step)
    if (lifetime === null) return null
    const { steps } = this.#scenario
    const from = steps.indexOf(step)
    const isOutlived = steps.some((each, at) => at >= from && each.clockMs < step.clockMs + lifetime && this.#options.killsBehind.has(at))
    return isOutlived ? this.#options.lifetimes(lifetime) : lifetime
  }

  /** By how much the clocks of this step are later than in the vectors. */
  #shiftOf({ clockMs, props = {}, ts, response }: Step): number {
    const isAhead = (ts !== null && typeof ts === 'object' && ts.is !== undefined) || response?.includes('too far in the future') === true
    const walls = Object.values(props).map(value => (typeof value === 'string' ? (wallOf(value) ?? 0) : 0))
    const nowMs = systemClock.wallMs()
    if (isAhead) return nowMs + LEAD_MS - clockMs
    if (walls.some(wall => wall > clockMs + FAR_AHEAD_MS)) return nowMs - clockMs
    return this.#startMs - this.#scenario.steps[0]!.clockMs
  }

  #propertiesOf({ props = {} }: Step, byMs: number): [string, string][] {
    return Object.entries(props).map(([name, value]) => [
      name,
      typeof value === 'string' ? shifted(value, byMs) : this.#given.get(value.tsOf)!,
    ])
  }

  #requestOf(step: Step): string {
    const lifetime = this.#lifetimeOf(step)
    return lifetime === null ? step.request! : withLifetime(step.request!, lifetime)
  }

  async #clientOf(clientId: string): Promise<StoreClient> {
    const known = this.#clients.get(clientId)
    if (known !== undefined) return known
    const client = await StoreClient.open(this.#target.address(clientId), clientId)
    this.#clients.set(clientId, client)
    return client
  }

  async #kill(next: Step): Promise<void> {
    this.kills++
    await this.#target.kill(commandOf(next)?.key ?? next.client ?? USUAL_CLIENT)
    if (!this.#target.dropsConnections) {
      // Kills take time, and the broker gives up whoever says nothing for one and a half Server Keep Alives [MQTT-3.1.2-22].
      for (const { raw } of this.#clients.values()) await raw.ping()
      return
    }
    await Promise.all([...this.#clients.values()].map(({ raw }) => raw.ended()))
    this.#clients.clear()
    for (const { clientId, request } of this.#watching.values()) {
      expect((await (await this.#clientOf(clientId)).ask(request)).payload).toBe('+OK\r\n')
    }
  }

  /** Leaves the store empty. What was told out of order or twice comes before what is told last; what was answered twice as well. */
  async finish(): Promise<void> {
    const keys = new Set(this.#scenario.steps.map(step => commandOf(step)?.key))
    const isWatched = this.#scenario.steps.some(({ notify }) => notify !== undefined)
    const client = await this.#clientOf(isWatched ? 'client-id1' : USUAL_CLIENT)
    for (const key of keys) {
      if (key === undefined) continue
      const blob = `$${key.length}\r\n${key}\r\n`
      if (isWatched) expect((await client.ask(`*2\r\n$9\r\nKEYNOTIFY\r\n${blob}`)).payload).toBe('+OK\r\n')
      const { payload } = await client.ask(`*2\r\n$3\r\nDEL\r\n${blob}`)
      expect([':1\r\n', ':0\r\n']).toContain(payload)
      if (isWatched && payload === ':1\r\n') expect((await client.notification()).payload).toBe('*2\r\n$6\r\nNOTIFY\r\n$6\r\nDELETE\r\n')
    }
    for (const each of this.#clients.values()) {
      await each.expectNothing()
      await each.raw.disconnect()
    }
  }
}
