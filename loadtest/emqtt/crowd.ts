import { LoadClient } from '../client.ts'
import { Engine } from '../engine.ts'
import { nowMs, sleep } from '../monotonic.ts'
import type { Output } from '../output.ts'
import type { EmqttCommand, EmqttFlags, NumberedClient } from './flags.ts'
import { fillIn } from './flags.ts'

const REPORT_INTERVAL_MS = 1_000
/** Half of the Keep Alive leaves room for one lost timer. */
const PING_SHARE = 0.5

/** Totals that are printed once per second when they have changed. */
export class Tally {
  readonly #totals = new Map<string, { total: number; printed: number }>()

  add(name: string, by = 1): void {
    const entry = this.#totals.get(name)
    if (entry) entry.total += by
    else this.#totals.set(name, { total: by, printed: 0 })
  }

  total(name: string): number {
    return this.#totals.get(name)?.total ?? 0
  }

  /** Lines as `3s pub total=300 rate=100.00/sec`, for what moved since the last call. */
  report(secondsRun: number, secondsSince: number): string[] {
    return [...this.#totals].flatMap(([name, entry]) => {
      const moved = entry.total - entry.printed
      if (moved === 0) return []
      entry.printed = entry.total
      return [`${secondsRun}s ${name} total=${entry.total} rate=${(moved / secondsSince).toFixed(2)}/sec`]
    })
  }
}

/** The clients of one `conn`, `sub` or `pub`, connected one after the other, and the report every second. */
export class Crowd {
  readonly engine = new Engine()
  readonly tally = new Tally()
  readonly clients: NumberedClient[] = []
  readonly #flags: EmqttFlags
  readonly #output: Output
  readonly #timers: NodeJS.Timeout[] = []
  readonly #startMs = nowMs()
  #reportedMs = this.#startMs

  constructor(flags: EmqttFlags, output: Output) {
    this.#flags = flags
    this.#output = output
    this.#timers.push(setInterval(() => this.#report(), REPORT_INTERVAL_MS))
    if (flags.keepAliveS > 0) this.#timers.push(setInterval(() => this.#ping(), flags.keepAliveS * 1_000 * PING_SHARE))
  }

  /** Starts all connections at the asked pace; `onReady` runs for each that is accepted. Resolves when the last has an answer. */
  async connect(command: EmqttCommand, onReady: (client: NumberedClient) => void): Promise<void> {
    const { count, connectIntervalMs } = this.#flags
    const startMs = nowMs()
    const opening: Promise<void>[] = []
    for (let index = 0; index < count && !this.#output.interrupted.aborted; index++) {
      const waitMs = startMs + index * connectIntervalMs - nowMs()
      if (waitMs > 0) await sleep(waitMs)
      opening.push(this.#open(command, this.#flags.startNumber + index, onReady))
    }
    await Promise.all(opening)
  }

  async #open(command: EmqttCommand, number: number, onReady: (client: NumberedClient) => void): Promise<void> {
    const flags = this.#flags
    const clientId = `${flags.prefix}_${command}_${number}`
    const numbered = { client: new LoadClient(this.engine, flags.target), number, clientId }
    numbered.client.onLost = () => this.tally.add('connection_lost')
    try {
      await numbered.client.open({
        clientId,
        clean: flags.clean,
        keepAliveS: flags.keepAliveS,
        sessionExpiryS: flags.sessionExpiryS,
        username: flags.username === undefined ? undefined : fillIn(flags.username, { number, clientId }),
        password: flags.password,
      })
    } catch (error) {
      this.tally.add('connect_fail')
      if (this.tally.total('connect_fail') === 1)
        this.#output.err(`client ${clientId}: ${error instanceof Error ? error.message : String(error)}\n`)
      return
    }
    this.tally.add('connect_succ')
    this.clients.push(numbered)
    onReady(numbered)
  }

  #ping(): void {
    for (const { client } of this.clients) if (client.isReady) client.write(Uint8Array.of(0xc0, 0))
  }

  #report(): void {
    const now = nowMs()
    const lines = this.tally.report(Math.round((now - this.#startMs) / 1_000), (now - this.#reportedMs) / 1_000)
    this.#reportedMs = now
    if (lines.length > 0) this.#output.out(`${lines.join('\n')}\n`)
  }

  /** @returns the exit code: 1 when a connection failed or was lost */
  async close(): Promise<number> {
    for (const timer of this.#timers) clearInterval(timer)
    await Promise.all(this.clients.map(({ client }) => client.disconnect()))
    this.#report()
    return this.tally.total('connect_fail') + this.tally.total('connection_lost') > 0 ? 1 : 0
  }
}

/** Resolves on interrupt. */
export function untilInterrupted(output: Output): Promise<void> {
  if (output.interrupted.aborted) return Promise.resolve()
  return new Promise(resolve => {
    output.interrupted.addEventListener('abort', () => resolve(), { once: true })
  })
}
