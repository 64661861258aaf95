import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePorts } from '#shared/testing/free-ports.ts'

const ROOT = join(import.meta.dirname, '../..')
const POLL_MS = 15
const START_TIMEOUT_MS = 30_000
const STDERR_MAX = 8_000

/** How a process ended. */
export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stderr: string
}

/** A real broker process on one data directory, started and killed again and again. Ports are new at each start. */
export class BrokerProcess {
  readonly host = '127.0.0.1'
  /** Of MQTT over TCP; changes with each start. */
  port = 0
  #metricsPort = 0
  #child: ChildProcess | null = null
  #exited: Promise<Exit> | null = null
  #stderr = ''
  readonly #dataDirectory: string
  readonly #flags: readonly string[]

  constructor(dataDirectory: string, flags: readonly string[] = []) {
    this.#dataDirectory = dataDirectory
    this.#flags = flags
  }

  /** Starts and waits until `/readyz` says so. */
  async start(): Promise<void> {
    await this.launch()
    await this.ready()
  }

  /** Starts the process and does not wait for anything. */
  async launch(): Promise<void> {
    const [mqtt, ws, admin, metrics] = await freePorts(4)
    const listen = Object.entries({ mqtt, ws, admin, metrics }).flatMap(([flag, port]) => [`--${flag}`, `127.0.0.1:${port}`])
    const args = [join(ROOT, 'bin/millrace.js'), 'start', ...listen, '--data', this.#dataDirectory, '--log-level', 'warn', ...this.#flags]
    this.#stderr = ''
    const child = spawn(join(ROOT, 'node_modules/.bin/node'), args, { cwd: ROOT, stdio: ['ignore', 'ignore', 'pipe'] })
    child.stderr.on('data', (text: Buffer) => (this.#stderr = (this.#stderr + text.toString()).slice(-STDERR_MAX)))
    this.#child = child
    this.#exited = once(child, 'close').then(([code, signal]: unknown[]) => ({
      code: code as number | null,
      signal: signal as NodeJS.Signals | null,
      stderr: this.#stderr,
    }))
    this.port = mqtt!
    this.#metricsPort = metrics!
  }

  /** Waits until the process serves; throws when it ends instead. */
  async ready(): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS
    while (!(await this.#isReady())) {
      if (!this.isRunning) throw new Error(`the broker ended while starting: ${JSON.stringify(await this.exited())}`)
      if (performance.now() > deadline) throw new Error(`the broker is not ready after ${START_TIMEOUT_MS} ms: ${this.#stderr}`)
      await sleep(POLL_MS)
    }
  }

  async #isReady(): Promise<boolean> {
    try {
      const response = await fetch(`http://127.0.0.1:${this.#metricsPort}/readyz`)
      await response.arrayBuffer()
      return response.ok
    } catch {
      return false
    }
  }

  get isRunning(): boolean {
    return this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** Sum of the samples of one metric; 0 when there is none. */
  async metric(name: string): Promise<number> {
    const response = await fetch(`http://127.0.0.1:${this.#metricsPort}/metrics`)
    const lines = (await response.text()).split('\n').filter(line => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
  }

  /** kill -9, then waits until the process is gone. */
  async kill(): Promise<Exit> {
    return this.#end('SIGKILL')
  }

  /** SIGTERM: the process drains and ends by itself. */
  async terminate(): Promise<Exit> {
    return this.#end('SIGTERM')
  }

  /** Resolves when the process has ended, for whatever reason. */
  async exited(): Promise<Exit> {
    if (this.#exited === null) throw new Error('the broker was never started')
    return this.#exited
  }

  #end(signal: NodeJS.Signals): Promise<Exit> {
    this.#child?.kill(signal)
    return this.exited()
  }
}
