import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { CuttingProxy, PASSING } from '#shared/testing/cutting-proxy.ts'
import type { Address } from '../cast/client.ts'
import { freePorts } from '#shared/testing/free-ports.ts'
import { chosen, type EventKind, type PlannedEvent } from './events.ts'
import { RoleProcess, settled } from './role-process.ts'
import { Disturbances, type System } from './system.ts'

const START_TIMEOUT_MS = 30_000
const DRAIN_TIMEOUT_MS = 30_000

/** `millrace start`, with a cutting proxy between it and its clients. */
export class StandaloneSystem implements System {
  readonly kinds: readonly EventKind[] = ['kill-backend', 'stop-backend', 'drain-backend', 'cut-links', 'half-open-links', 'delay-links']
  readonly disturbances = new Disturbances()
  readonly deaths: string[] = []
  readonly #flags: readonly string[]
  readonly #process: RoleProcess
  #proxy: CuttingProxy | null = null

  constructor(folder: string, flags: readonly string[]) {
    this.#flags = ['--data', join(folder, 'data'), '--shards', '2', '--sys-topic-interval-seconds', '0', '--log-level', 'warn', ...flags]
    this.#process = new RoleProcess('broker', folder, what => this.deaths.push(what))
  }

  async start(): Promise<void> {
    await this.#launch()
    const [unready] = await this.unready(START_TIMEOUT_MS)
    if (unready !== undefined) throw new Error(unready)
  }

  async #launch(): Promise<void> {
    const [mqtt, ws, admin] = await freePorts(3)
    const target = { host: '127.0.0.1', port: mqtt! }
    if (this.#proxy === null) this.#proxy = await CuttingProxy.open(target)
    else this.#proxy.target = target
    const ports = Object.entries({ mqtt, ws, admin }).flatMap(([flag, port]) => [`--${flag}`, `127.0.0.1:${port}`])
    await this.#process.launch(['start', ...ports, ...this.#flags])
  }

  address(): Address {
    return { host: '127.0.0.1', port: this.#proxy!.port }
  }

  async perform({ kind, lastsMs, way }: PlannedEvent): Promise<string> {
    const end = this.disturbances.begin(null, 'process')
    if (kind === 'kill-backend') await this.#restart(() => this.#process.kill(), lastsMs / 4)
    else if (kind === 'drain-backend') await this.#restart(() => this.#process.drain(DRAIN_TIMEOUT_MS), 0)
    else if (kind === 'stop-backend') {
      this.#process.pause()
      await sleep(lastsMs)
      this.#process.resume()
    } else await this.#breakLinks(kind, lastsMs, way)
    end()
    return 'the broker'
  }

  async #restart(end: () => Promise<void>, absentMs: number): Promise<void> {
    await end()
    await sleep(absentMs)
    await this.start()
  }

  async #breakLinks(kind: EventKind, lastsMs: number, way: number): Promise<void> {
    const proxy = this.#proxy!
    if (kind === 'cut-links') return proxy.cut()
    const stopped = chosen([['toServer'], ['toClient'], ['toServer', 'toClient']] as const, way)
    proxy.flow(kind === 'delay-links' ? { is: 'delayed', delayMs: 10 + Math.floor(way * 200) } : { is: 'halfOpen', stopped })
    await sleep(lastsMs)
    proxy.flow(PASSING)
  }

  async unready(timeoutMs: number): Promise<string[]> {
    return settled(async () => [await this.#process.unready()].filter(each => each !== null), timeoutMs)
  }

  async close(): Promise<void> {
    await this.#process.kill()
    await this.#proxy?.close()
  }
}
