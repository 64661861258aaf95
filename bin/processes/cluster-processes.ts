import { OperatorError } from '../program.ts'
import type { Timers } from '#shared/base/timers.ts'
import { type ClusterSettings, PORTS_OF_PROCESS, PORTS_OF_ROLE } from '#shared/config/cluster-settings.ts'
import type { Log } from '#shared/telemetry/log.ts'
import { type ChildListener, type ChildPlan, ServiceProcess } from './child-process.ts'
import type { ChildState } from './supervision.ts'

const HOST = '127.0.0.1'
/** From the start of the first to all of them serving. */
const START_TIMEOUT_MS = 60_000
/** A process has `drainTimeoutMs` to drain and ends itself then; one that does not is killed so much later. */
const STOP_GRACE_MS = 3_000

type Group = 'frontends' | 'backends' | 'authsvcs'
/** Offsets of a process's ports from its first one (docs/cluster.md). */
const OFFSETS = { mqtt: 0, ws: 1, admin: 2, metrics: 3, rpc: 4 } as const
type PortName = keyof typeof OFFSETS

/** As the first line on standard output has it. `HOST:PORT` each. */
export interface FrontendPorts {
  readonly pid: number | null
  readonly mqtt: string
  readonly ws: string
  readonly admin: string
  readonly metrics: string
}

/** The processes of a local cluster, without Redis. */
export class ClusterProcesses implements ChildListener {
  readonly frontends: readonly ServiceProcess[]
  readonly backends: readonly ServiceProcess[]
  readonly authsvcs: readonly ServiceProcess[]
  readonly #settings: ClusterSettings
  readonly #timers: Timers
  /** As they were when all served: a process that starts again gets the ports that it had, though the system chose them. */
  readonly #first = new Map<string, ChildState>()
  #settle: ((error: OperatorError | null) => void) | null = null

  /** @param environment secrets for every process */
  constructor(settings: ClusterSettings, environment: Readonly<Record<string, string>>, log: Log, timers: Timers) {
    this.#settings = settings
    this.#timers = timers
    const make = (group: Group, count: number): readonly ServiceProcess[] =>
      Array.from({ length: count }, (_, index) => new ServiceProcess(this.#plan(group, index, environment), log, timers, this))
    this.frontends = make('frontends', settings.frontends)
    this.backends = make('backends', settings.backends)
    this.authsvcs = make('authsvcs', settings.authsvcs)
  }

  /**
   * Starts all and waits until each serves.
   * @throws {OperatorError} one of them ended, or some do not serve in time
   */
  async start(): Promise<void> {
    const served = new Promise<OperatorError | null>(resolve => (this.#settle = resolve))
    for (const child of this.#all) child.start()
    const cancel = this.#timers.after(START_TIMEOUT_MS, () => this.#settle?.(new OperatorError(this.#missing())))
    const error = await served
    cancel()
    this.#settle = null
    if (error !== null) throw error
    for (const child of this.#all) this.#first.set(nameOf(child), child.state!)
  }

  /** Frontends drain first, so that their clients' last acknowledgements find backends. */
  async stop(): Promise<void> {
    this.#settle?.(new OperatorError('stopped while starting'))
    for (const group of [this.frontends, this.authsvcs, this.backends]) await Promise.all(group.map(child => this.#stopOne(child)))
  }

  async kill(): Promise<void> {
    await Promise.all(this.#all.map(child => child.stop('SIGKILL')))
  }

  /** Addresses of a frontend; empty texts for what it does not have. */
  portsOf(child: ServiceProcess): FrontendPorts {
    const { state } = child
    const listener = (flag: string): string => state?.listeners.find(({ name }) => name.startsWith(flag))?.address ?? ''
    return { pid: child.pid, mqtt: listener('--mqtt '), ws: listener('--ws '), admin: state?.admin ?? '', metrics: state?.metrics ?? '' }
  }

  onState(): void {
    if (this.#all.every(({ isServing }) => isServing)) this.#settle?.(null)
  }

  onDeath(child: ServiceProcess, how: string): void {
    this.#settle?.(new OperatorError(`${nameOf(child)} ended while starting (${how}); its lines are above`))
  }

  get #all(): readonly ServiceProcess[] {
    return [...this.backends, ...this.authsvcs, ...this.frontends]
  }

  async #stopOne(child: ServiceProcess): Promise<void> {
    const cancel = this.#timers.after(
      this.#settings.drainDelayMs + this.#settings.drainTimeoutMs + STOP_GRACE_MS,
      () => void child.stop('SIGKILL'),
    )
    await child.stop()
    cancel()
  }

  #missing(): string {
    const waiting = this.#all.filter(({ isServing }) => !isServing)
    const texts = waiting.map(child => `${nameOf(child)}: ${child.state?.waitingFor.join(', ') ?? 'starting'}`)
    return `not serving after ${START_TIMEOUT_MS} ms: ${texts.join('; ')}`
  }

  #plan(group: Group, index: number, environment: Readonly<Record<string, string>>): ChildPlan {
    const role = group.slice(0, -1)
    const name = `${role}-${index}`
    return {
      label: { role, process: name },
      args: () => [role, ...this.#settings.flagsForAll, `--id=${name}`, ...this.#flagsOf(group, index, name)],
      environment,
      restarts: this.#settings.restarts,
    }
  }

  #flagsOf(group: Group, index: number, name: string): readonly string[] {
    const { flagsForFrontends, workers, hasConfig, redundancyFactor, persistence } = this.#settings
    const port = (which: PortName): string => `--${which}=${this.#address(group, index, name, which)}`
    switch (group) {
      case 'frontends':
        return [
          ...flagsForFrontends,
          port('mqtt'),
          port('ws'),
          port('admin'),
          port('metrics'),
          '--mqtts=off',
          '--wss=off',
          `--workers=${workers}`,
          // All of them open the ports of the same resources.
          ...(hasConfig ? ['--reuse-port'] : []),
        ]
      case 'backends':
        return [port('rpc'), port('metrics'), `--redundancy-factor=${redundancyFactor}`, `--persistence=${persistence}`]
      case 'authsvcs':
        return [port('rpc'), port('metrics')]
    }
  }

  #address(group: Group, index: number, name: string, which: PortName): string {
    const { basePort } = this.#settings
    if (basePort !== 0) return `${HOST}:${basePort + PORTS_OF_ROLE[group] + index * PORTS_OF_PROCESS + OFFSETS[which]}`
    const first = this.#first.get(name)
    const chosen =
      which === 'mqtt' || which === 'ws' ? first?.listeners.find(one => one.name.startsWith(`--${which} `))?.address : first?.[which]
    return chosen ?? `${HOST}:0`
  }
}

function nameOf(child: ServiceProcess): string {
  return String(child.plan.label['process'])
}
