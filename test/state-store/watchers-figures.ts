/**
 * `node test/state-store/watchers-figures.ts`: 100,000 watches in one process, on few connections, on many, and of one key; with `--cluster` as many
 * in a cluster (docs/benchmarks.md).
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { ErrorText } from '#shared/state-store/errors.ts'
import type { Seen } from './bystander.ts'
import { startCluster, startProcess, type WatchedBroker } from './watched-broker.ts'
import { WatchingClient } from './watching-client.ts'

/** Every connection watches every key. */
export interface WatchPlan {
  readonly connections: number
  readonly keys: number
  /** Of each key. */
  readonly changes: number
  /** The limits are just what the plan needs; else the defaults. */
  readonly isExact?: boolean
}

/** What came of it. Faults are empty when all is well. */
export interface WatchResult {
  readonly faults: readonly string[]
  readonly watches: number
  /** Over all connections. */
  readonly told: number
  /** Answers to a watch too many, by key and by connection. */
  readonly refusals: readonly string[]
  /** Watches that are left when all connections are gone. */
  readonly left: number
  readonly figures: readonly string[]
}

const PLANS: readonly WatchPlan[] = [
  { connections: 100, keys: 1_000, changes: 2 },
  { connections: 2_000, keys: 50, changes: 2 },
  { connections: 18_000, keys: 1, changes: 10, isExact: true },
  { connections: 10_000, keys: 10, changes: 2 },
]
/** The backends of a cluster share the machine with its frontends and Redis. */
const CLUSTER_PLANS: readonly WatchPlan[] = [
  { connections: 2_000, keys: 50, changes: 2 },
  { connections: 5_000, keys: 1, changes: 50 },
]
const OPENING_MAX = 100
const OK = '+OK\r\n'
const REFUSED = `-ERR ${ErrorText.QuotaExceeded}\r\n`
const POLL_MS = 20
const PATIENCE_MS = 120_000

/** Runs one plan against a broker of its own. */
export async function watchAll(plan: WatchPlan, start = startProcess): Promise<WatchResult> {
  const { connections, keys, isExact = false } = plan
  const limits = isExact ? ['--state-store-watchers-per-key-max', `${connections}`, '--state-store-watches-per-client-max', `${keys}`] : []
  await using broker = await start(limits)
  return await new Watching(plan, broker).run()
}

class Watching {
  readonly #plan: WatchPlan
  readonly #broker: WatchedBroker
  readonly #faults: string[] = []
  readonly #figures: string[] = []
  readonly #clients: WatchingClient[] = []
  #bystander: Worker | null = null
  #told = 0
  #onTold: () => void = () => undefined

  constructor(plan: WatchPlan, broker: WatchedBroker) {
    this.#plan = plan
    this.#broker = broker
  }

  async run(): Promise<WatchResult> {
    const { host, port } = this.#broker.address(0)
    this.#bystander = new Worker(new URL('./bystander.ts', import.meta.url), { workerData: { url: `mqtt://${host}:${port}` } })
    const { connections, keys } = this.#plan
    await this.#phase(`${connections} connections`, () => this.#open())
    const bytesBefore = await this.#memory()
    await this.#phase(`${connections * keys} watches`, () => this.#watch())
    const watches = await this.#watches()
    const bytes = (await this.#memory()) - bytesBefore
    this.#figures.push(`${Math.round(bytes / watches)} bytes of resident memory more for each watch`)
    await this.#change()
    const refusals = this.#plan.isExact === true ? await this.#refusals() : []
    await this.#phase('the end of all connections', () => this.#close())
    await this.#endBystander()
    for (const { clientId, faults } of this.#clients) this.#faults.push(...faults.map(fault => `${clientId}: ${fault}`))
    return { faults: this.#faults, watches, told: this.#told, refusals, left: await this.#watches(), figures: this.#figures }
  }

  /** With what a client that has nothing to do with it has seen meanwhile. */
  async #phase(what: string, work: () => Promise<void>): Promise<void> {
    await this.#seen('seen')
    const [startMs, cpuBefore] = [performance.now(), await this.#cpuSeconds()]
    await work()
    const [ms, cpuSeconds] = [performance.now() - startMs, (await this.#cpuSeconds()) - cpuBefore]
    const { answered, longestMs, failed } = await this.#seen('seen')
    if (failed > 0) this.#faults.push(`${what}: ${failed} requests of another client failed`)
    this.#figures.push(
      `${what}: ${Math.round(ms)} ms, ${cpuSeconds.toFixed(2)} s of CPU; another client had ${answered} answers, the longest SET and GET took ${longestMs.toFixed(1)} ms`,
    )
  }

  async #seen(what: 'seen' | 'end'): Promise<Seen> {
    const worker = this.#bystander!
    worker.postMessage(what)
    const [seen] = (await once(worker, 'message')) as [Seen]
    return seen
  }

  async #open(): Promise<void> {
    const { connections } = this.#plan
    const onTold = (): void => {
      this.#told++
      this.#onTold()
    }
    for (let from = 0; from < connections; from += OPENING_MAX) {
      const numbers = Array.from({ length: Math.min(OPENING_MAX, connections - from) }, (_, at) => from + at)
      this.#clients.push(
        ...(await Promise.all(numbers.map(number => WatchingClient.open(this.#broker.address(number), `w${number}`, onTold)))),
      )
    }
  }

  async #watch(): Promise<void> {
    const { keys } = this.#plan
    const others = await Promise.all(this.#clients.map(client => client.askAll(keys, number => ['KEYNOTIFY', keyOf(number)], OK)))
    const refused = others.reduce((sum, count) => sum + count, 0)
    if (refused > 0) this.#faults.push(`${refused} watches refused`)
  }

  /** All keys again and again, many changes at a time. Then whether anything comes that should not. */
  async #change(): Promise<void> {
    const { connections, keys, changes } = this.#plan
    const writer = await WatchingClient.open(this.#broker.address(1), 'writer')
    await this.#phase(`${keys * changes} changes, ${keys * changes * connections} notifications`, async () => {
      const partsOf = (number: number): readonly string[] => ['SET', keyOf(number % keys), String(Math.floor(number / keys) + 1)]
      const others = await writer.askAll(keys * changes, partsOf, OK)
      if (others > 0) this.#faults.push(`${others} changes refused`)
      await this.#untilTold(keys * changes * connections)
    })
    this.#faults.push(...writer.faults)
    // Whatever came a second time was sent before the answer to this.
    await Promise.all(this.#clients.map(client => client.ask('GET', keyOf(0))))
    writer.drop()
  }

  async #untilTold(count: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const timer = setTimeout(() => reject(new Error(`${this.#told} notifications instead of ${count}`)), PATIENCE_MS)
    this.#onTold = () => {
      if (this.#told >= count) resolve()
    }
    this.#onTold()
    await promise
    clearTimeout(timer)
  }

  /** One connection more for a key; one key more for a connection. */
  async #refusals(): Promise<readonly string[]> {
    const one = await WatchingClient.open(this.#broker.address(0), 'one-too-many')
    const answers = [await one.ask('KEYNOTIFY', keyOf(0)), await this.#clients[0]!.ask('KEYNOTIFY', 'one key too many')]
    one.drop()
    if (answers.some(answer => answer !== REFUSED)) this.#faults.push(`watches over the quota: ${answers.join('')}`)
    return answers
  }

  async #close(): Promise<void> {
    const ended = this.#clients.filter(({ isClosed }) => isClosed).length
    if (ended > 0) this.#faults.push(`${ended} connections were ended by the broker`)
    for (const client of this.#clients) client.drop()
    const deadlineMs = performance.now() + PATIENCE_MS
    while ((await this.#watches()) > 0 && performance.now() < deadlineMs) await new Promise(resolve => setTimeout(resolve, POLL_MS))
  }

  async #endBystander(): Promise<void> {
    const worker = this.#bystander!
    const exited = once(worker, 'exit')
    await this.#seen('end')
    await exited
  }

  #watches(): Promise<number> {
    return this.#broker.metric('millrace_state_store_watches')
  }

  async #cpuSeconds(): Promise<number> {
    const [user, system] = await Promise.all(['user', 'system'].map(mode => this.#broker.metric(`process_cpu_${mode}_seconds_total`)))
    return user! + system!
  }

  #memory(): Promise<number> {
    return this.#broker.metric('process_resident_memory_bytes')
  }
}

function keyOf(number: number): string {
  return `watched-${String(number).padStart(8, '0')}`
}

async function main(): Promise<void> {
  let isGood = true
  const isCluster = process.argv.includes('--cluster')
  for (const plan of isCluster ? CLUSTER_PLANS : PLANS) {
    const { connections, keys } = plan
    const { faults, watches, told, left, figures } = await watchAll(plan, isCluster ? startCluster : startProcess)
    print(`${connections} connections × ${keys} keys: ${watches} watches, ${told} notifications, ${left} watches left at the end`)
    for (const figure of figures) print(`  ${figure}`)
    for (const fault of faults.slice(0, 20)) print(`  WRONG: ${fault}`)
    isGood &&= faults.length === 0 && watches === connections * keys && told === watches * plan.changes && left === 0
  }
  process.exitCode = isGood ? 0 : 1
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

if (import.meta.main) await main()
