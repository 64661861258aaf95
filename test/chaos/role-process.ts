import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { freePorts } from '#shared/testing/free-ports.ts'

const ROOT = join(import.meta.dirname, '../..')
const FETCH_TIMEOUT_MS = 1_000

const running = new Set<ChildProcess>()
// Whatever ends the test takes its processes with it, the stopped ones too.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(1))

/** One process of Millrace, started again and again; what it prints goes to one file. */
export class RoleProcess {
  readonly name: string
  readonly #logFile: string
  readonly #onDeath: (what: string) => void
  #child: ChildProcess | null = null
  #exited: Promise<unknown> = Promise.resolve()
  #isExpected = false
  #metricsPort = 0

  /** @param onDeath the process ended although it was not told to */
  constructor(name: string, logFolder: string, onDeath: (what: string) => void) {
    this.name = name
    this.#logFile = join(logFolder, `${name}.log`)
    this.#onDeath = onDeath
  }

  get isRunning(): boolean {
    return this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  /** `millrace ARGS`, with a metrics port of its own. Waits for nothing. @param nodeFlags of Node itself, in front of the command */
  async launch(
    args: readonly string[],
    environment: Readonly<Record<string, string>> = {},
    nodeFlags: readonly string[] = [],
  ): Promise<void> {
    const [metricsPort] = await freePorts(1)
    this.#metricsPort = metricsPort!
    this.#isExpected = false
    const log = openSync(this.#logFile, 'a')
    const child = spawn(
      join(ROOT, 'node_modules/.bin/node'),
      [...nodeFlags, join(ROOT, 'bin/millrace.js'), ...args, '--metrics', `127.0.0.1:${metricsPort}`],
      { cwd: ROOT, stdio: ['ignore', log, log], env: { ...process.env, ...environment } },
    )
    closeSync(log)
    this.#child = child
    running.add(child)
    this.#exited = once(child, 'exit').then(([code, signal]: unknown[]) => {
      running.delete(child)
      if (!this.#isExpected) this.#onDeath(`${this.name} ended by itself: code ${String(code)}, signal ${String(signal)}`)
      else if (code !== 0 && signal !== 'SIGKILL') this.#onDeath(`${this.name} was told to end and did so with code ${String(code)}`)
    })
  }

  /** Null when `/readyz` says so, else why not. */
  async unready(): Promise<string | null> {
    if (!this.isRunning) return `${this.name} does not run`
    try {
      const response = await this.#get('readyz')
      const text = await response.text()
      return response.ok ? null : `${this.name}: ${text.trim()}`
    } catch (error) {
      return `${this.name}: ${(error as Error).message}`
    }
  }

  /** What is impaired while the rest serves. @throws it does not answer */
  async impaired(): Promise<readonly string[]> {
    const { impaired } = (await (await this.#get('readyz')).json()) as { readonly impaired: readonly string[] }
    return impaired
  }

  /** Samples of one metric, added up; 0 when there is none or the process does not answer. */
  async metric(name: string): Promise<number> {
    try {
      const response = await this.#get('metrics')
      const lines = (await response.text()).split('\n').filter(line => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
      return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
    } catch {
      return 0
    }
  }

  /** SIGKILL; returns when it is gone. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL')
  }

  /** SIGTERM: it drains and ends by itself. After `timeoutMs` it is killed, and that is told as a death. */
  async drain(timeoutMs: number): Promise<void> {
    const timer = setTimeout(() => {
      this.#onDeath(`${this.name} did not end within ${timeoutMs} ms of SIGTERM`)
      this.#child?.kill('SIGKILL')
    }, timeoutMs)
    await this.#end('SIGTERM')
    clearTimeout(timer)
  }

  pause(): void {
    this.#child?.kill('SIGSTOP')
  }

  resume(): void {
    this.#child?.kill('SIGCONT')
  }

  #get(path: string): Promise<Response> {
    return fetch(`http://127.0.0.1:${this.#metricsPort}/${path}`, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) })
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    this.#isExpected = true
    // Nobody can end in order while it is stopped.
    if (this.isRunning) this.#child?.kill('SIGCONT')
    this.#child?.kill(signal)
    await this.#exited
  }
}

/** Asks until the answer is empty, and answers the last one. */
export async function settled(question: () => Promise<string[]>, timeoutMs: number): Promise<string[]> {
  const endMs = performance.now() + timeoutMs
  let answer = await question()
  while (answer.length > 0 && performance.now() < endMs) {
    await new Promise(resolve => setTimeout(resolve, 50))
    answer = await question()
  }
  return answer
}
