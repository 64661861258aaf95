import { type ChildProcess, spawn } from 'node:child_process'
import type { Timers } from '#shared/base/timers.ts'
import type { Log } from '#shared/telemetry/log.ts'
import { relayLog } from './relay-log.ts'
import { type ChildState, type FromChild, SUPERVISED_ENVIRONMENT, type ToChild } from './supervision.ts'

/** Before a process that ended is started again; doubles with each end that follows soon after a start. */
const RESTART_MS_MIN = 200
const RESTART_MS_MAX = 10_000
/** One that ran for so long has recovered: its next end is a first one. */
const STEADY_MS = 10_000
/** How long a child may take to answer for its metrics; then the scrape goes on without it. */
const METRICS_TIMEOUT_MS = 2_000

export interface ChildPlan {
  /** Fields of each of its log lines, and of ours about it. */
  readonly label: Readonly<Record<string, string | number>>
  /** Arguments of `millrace`, read at each start. */
  readonly args: () => readonly string[]
  /** Added to our own environment; what a command line must not show is here. */
  readonly environment: Readonly<Record<string, string>>
  /** Starts again after an end that nobody asked for. */
  readonly restarts: boolean
}

/** What a child's owner is told. */
export interface ChildListener {
  onState(child: ServiceProcess): void
  /** It ended and nobody had asked for it. */
  onDeath(child: ServiceProcess, how: string): void
}

/**
 * Another process of this program, which says over a channel how it is (supervision.ts) and dies with us. It has a process group of its
 * own, so that Ctrl-C in a terminal reaches us alone and the order of stopping is ours.
 */
export class ServiceProcess {
  readonly plan: ChildPlan
  /** Null until it has said anything since its last start. */
  state: ChildState | null = null
  readonly #log: Log
  readonly #timers: Timers
  readonly #listener: ChildListener
  #process: ChildProcess | null = null
  #isStopping = false
  #restartMs = RESTART_MS_MIN
  #startedMs = 0
  #cancelRestart: () => void = () => {}
  #whenGone: (() => void)[] = []
  #requests = 0
  readonly #metricsWaiting = new Map<number, (text: string | null) => void>()

  constructor(plan: ChildPlan, log: Log, timers: Timers, listener: ChildListener) {
    this.plan = plan
    this.#log = log
    this.#timers = timers
    this.#listener = listener
  }

  /** Null while it does not run. */
  get pid(): number | null {
    return this.#process?.pid ?? null
  }

  get isServing(): boolean {
    return this.state !== null && this.state.waitingFor.length === 0
  }

  start(): void {
    this.#startedMs = this.#timers.nowMs()
    const [, main = ''] = process.argv
    const child = spawn(process.execPath, [...process.execArgv, main, ...this.plan.args()], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      detached: true,
      // Whoever waits for npm's processes to go waits for us, and they go with us.
      env: { ...process.env, npm_lifecycle_event: undefined, ...this.plan.environment, ...SUPERVISED_ENVIRONMENT },
    })
    this.#process = child
    if (child.stderr !== null) relayLog(child.stderr, this.plan.label)
    child.on('message', (message: FromChild) => this.#onMessage(message))
    child.once('error', error => this.#onEnd(child, error.message))
    child.once('exit', (code, signal) => this.#onEnd(child, signal ?? `exit code ${code}`))
  }

  /** SIGTERM, or SIGKILL to one that shall not drain; resolves when it is gone, at once when it is. */
  stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    this.#isStopping = true
    this.#cancelRestart()
    const child = this.#process
    if (child === null) return Promise.resolve()
    child.kill(signal)
    return new Promise(resolve => this.#whenGone.push(resolve))
  }

  /** Its metrics in the text format; null when it does not answer in time. */
  metrics(): Promise<string | null> {
    const child = this.#process
    if (child === null || !child.connected) return Promise.resolve(null)
    const request = ++this.#requests
    return new Promise(resolve => {
      const cancel = this.#timers.after(METRICS_TIMEOUT_MS, () => this.#answer(request, null))
      this.#metricsWaiting.set(request, text => {
        cancel()
        resolve(text)
      })
      const message: ToChild = { kind: 'metrics', request }
      child.send(message, error => {
        if (error !== null) this.#answer(request, null)
      })
    })
  }

  #onMessage(message: FromChild): void {
    if (message.kind === 'metrics') return this.#answer(message.request, message.text)
    this.state = message.state
    this.#listener.onState(this)
  }

  #answer(request: number, text: string | null): void {
    this.#metricsWaiting.get(request)?.(text)
    this.#metricsWaiting.delete(request)
  }

  #onEnd(child: ChildProcess, how: string): void {
    if (this.#process !== child) return
    this.#process = null
    this.state = null
    for (const request of this.#metricsWaiting.keys()) this.#answer(request, null)
    for (const resolve of this.#whenGone.splice(0)) resolve()
    if (this.#isStopping) return
    const ranMs = this.#timers.nowMs() - this.#startedMs
    if (ranMs >= STEADY_MS) this.#restartMs = RESTART_MS_MIN
    const { restarts, label } = this.plan
    this.#log.error('process_ended', { ...label, how, ranMs: Math.round(ranMs), ...(restarts && { restartMs: this.#restartMs }) })
    if (restarts) this.#cancelRestart = this.#timers.after(this.#restartMs, () => this.start())
    this.#restartMs = Math.min(this.#restartMs * 2, RESTART_MS_MAX)
    this.#listener.onDeath(this, how)
  }
}
