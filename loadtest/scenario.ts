import type { DeliverySink, Target } from './client.ts'
import { LoadClient } from './client.ts'
import type { Engine } from './engine.ts'
import type { Fleet } from './fleet.ts'
import type { ConnectFields } from './frames.ts'
import type { HistogramSnapshot, LatencySummary } from './histogram.ts'
import type { LoadOptions } from './options.ts'
import type { CpuUse } from './usage.ts'

/** What a process answers to a step: numbers that add up over the processes, except `seconds`, of which the longest counts. */
export interface StepReport {
  readonly numbers?: Readonly<Record<string, number>>
  readonly seconds?: number
  readonly latency?: HistogramSnapshot
}

/** Numbers that the coordinator sends along with a step. */
export type StepArguments = Readonly<Record<string, number>>

/** The named things that one generator process can be asked to do. */
export type Steps = Readonly<Record<string, (given: StepArguments) => Promise<StepReport>>>

/** One generator process as its part of a scenario sees it. */
export interface Generator {
  readonly engine: Engine
  readonly options: LoadOptions
  /** 0 to processes - 1. Of anything numbered, a process takes those with `number % processes === index`. */
  readonly index: number
  readonly processes: number
  /** Tells this run's messages from those of an earlier one. */
  readonly runId: number
  /** Where the processes' links live; null when the scenario needs none. */
  readonly linkDirectory: string | null
}

/** The report of one run of a scenario. Units are in the names; null: not known or not applicable. */
export interface ScenarioResult {
  readonly scenario: string
  readonly protocol: number
  readonly qos: number
  readonly sizeBytes: number
  readonly window: number
  readonly seconds: number
  /** What `cpuUs` and `perSecond` count: deliveries, or SUBACK packets, or connections. */
  readonly unit: 'message' | 'acknowledgement' | 'connection'
  readonly done: number
  readonly perSecond: number
  /** CPU microseconds of the broker per unit. */
  readonly cpuUs: number | null
  readonly cpu: CpuUse | null
  /** The same for each part of the broker. */
  readonly partCpuUs: Readonly<Record<string, number>>
  /** Commands that clients of its Redis sent, per unit; null without a Redis. */
  readonly redisCommands: number | null
  readonly rssBytes: number | null
  readonly latency: LatencySummary | null
  /** Messages or copies that never came; anything but 0 makes the run worthless. */
  readonly lost: number
  readonly duplicates: number
  readonly disconnects: number
  /** CPU seconds of the generator's processes while the broker was measured. */
  readonly generatorCpuS: number
  readonly extra: Readonly<Record<string, number>>
}

/** One scenario: what a generator process can do, and what the coordinator asks for, in order. */
export interface Scenario {
  readonly name: string
  readonly help: string
  readonly defaults: Partial<LoadOptions>
  /** Messages of this scenario cross generator processes. */
  readonly linked?: boolean
  join(generator: Generator): Promise<Steps>
  conduct(fleet: Fleet, options: LoadOptions): Promise<ScenarioResult>
}

export function targetOf(options: LoadOptions): Target {
  return { host: options.host, port: options.port, protocol: options.protocol, tls: options.tls }
}

const KEEP_ALIVE_S = 600
const SESSION_EXPIRY_S = 3_600

/** CONNECT of a scenario's client. A session that is not clean is kept for an hour (version 5). */
export function connectFields(options: LoadOptions, clientId: string, persistent = false): ConnectFields {
  return {
    clientId: `${options.prefix}-${clientId}`,
    clean: !persistent,
    keepAliveS: KEEP_ALIVE_S,
    sessionExpiryS: persistent ? SESSION_EXPIRY_S : 0,
    username: options.username,
    password: options.password,
  }
}

/** The numbers below `total` that belong to this process. */
export function ownNumbers(generator: Generator, total: number): number[] {
  const own: number[] = []
  for (let number = generator.index; number < total; number += generator.processes) own.push(number)
  return own
}

/** Runs `work` for each item, at most `concurrency` at once. */
export async function forEachLimited<T>(items: readonly T[], concurrency: number, work: (item: T) => Promise<void>): Promise<void> {
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < items.length) await work(items[next++]!)
  }
  await Promise.all(Array.from({ length: Math.max(1, Math.min(concurrency, items.length)) }, lane))
}

/** Clients named `<kind><number>`, connected. Queued messages follow a CONNACK at once, so `deliveries` is in place before. @throws {Error} one of them was refused */
export async function openClients(
  generator: Generator,
  wanted: { readonly kind: string; readonly numbers: readonly number[]; readonly persistent?: boolean; readonly deliveries?: DeliverySink },
): Promise<LoadClient[]> {
  const { options, engine } = generator
  const clients = wanted.numbers.map(() => new LoadClient(engine, targetOf(options)))
  for (const client of clients) client.deliveries = wanted.deliveries ?? null
  await forEachLimited([...clients.keys()], options.concurrency, index =>
    clients[index]!.open(connectFields(options, `${wanted.kind}${wanted.numbers[index]!}`, wanted.persistent)),
  )
  return clients
}

export async function closeClients(clients: readonly LoadClient[]): Promise<void> {
  await Promise.all(clients.map(client => client.disconnect()))
}

/** Removes kept sessions: connects each client once more, clean. */
export async function forgetSessions(generator: Generator, kind: string, numbers: readonly number[]): Promise<void> {
  await closeClients(await openClients(generator, { kind, numbers }))
}

/** The part of `total` that part number `index` of `parts` takes. */
export function share(total: number, index: number, parts: number): number {
  return Math.floor(total / parts) + (index < total % parts ? 1 : 0)
}

/** @throws {Error} a filter was refused */
export function refuseRefused(clients: readonly LoadClient[]): void {
  const refused = clients.reduce((sum, client) => sum + client.refusedFilters, 0)
  if (refused > 0) throw new Error(`the broker refused ${refused} subscriptions`)
}
