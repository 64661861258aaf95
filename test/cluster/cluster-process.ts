import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'

const ROOT = join(import.meta.dirname, '../..')
/** What is kept of standard error. */
const STDERR_MAX = 200_000
/** Of that, what the text of an error has. */
const ERROR_LINES_BYTES = 4_000

export type ClusterRole = 'frontend' | 'backend' | 'authsvc' | 'redis'

export interface Endpoint {
  readonly host: string
  readonly port: number
}

export interface FrontendProcess {
  readonly pid: number
  readonly mqtt: Endpoint
  readonly ws: Endpoint
  readonly admin: Endpoint
  readonly metrics: Endpoint
}

export interface BackendProcess {
  readonly pid: number
  readonly rpc: Endpoint
  readonly metrics: Endpoint
}

/** How the command ended. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** The first line of `millrace cluster`. */
interface FirstLine {
  readonly frontends: readonly Readonly<Record<'mqtt' | 'ws' | 'admin' | 'metrics', string> & { pid: number }>[]
  readonly backends: readonly Readonly<Record<'rpc' | 'metrics', string> & { pid: number }>[]
  readonly authsvcs: readonly Readonly<Record<'metrics', string> & { pid: number }>[]
  readonly redis: readonly { readonly pid: number | null; readonly address: string; readonly role: string }[]
}

/** A real cluster: `millrace cluster` and all that it starts, on ports that the system chose. */
export class ClusterProcess {
  readonly frontends: readonly FrontendProcess[]
  readonly backends: readonly BackendProcess[]
  readonly authsvcs: readonly { readonly pid: number; readonly metrics: Endpoint }[]
  readonly redis: readonly (Endpoint & { readonly pid: number | null; readonly role: string })[]
  readonly ended: Promise<Ended>
  readonly #command: Command
  /** `backend-0` → its process id, which is another after each start. */
  readonly #pids = new Map<string, number>()

  private constructor(command: Command, first: FirstLine) {
    this.#command = command
    this.ended = command.ended
    this.frontends = first.frontends.map(({ pid, mqtt, ws, admin, metrics }) => ({
      pid,
      mqtt: endpoint(mqtt),
      ws: endpoint(ws),
      admin: endpoint(admin),
      metrics: endpoint(metrics),
    }))
    this.backends = first.backends.map(({ pid, rpc, metrics }) => ({ pid, rpc: endpoint(rpc), metrics: endpoint(metrics) }))
    this.authsvcs = first.authsvcs.map(({ pid, metrics }) => ({ pid, metrics: endpoint(metrics) }))
    this.redis = first.redis.map(({ pid, address, role }) => ({ pid, role, ...endpoint(address) }))
    const groups = { frontend: first.frontends, backend: first.backends, authsvc: first.authsvcs, redis: first.redis }
    for (const [role, group] of Object.entries(groups)) {
      for (const [index, { pid }] of group.entries()) if (pid !== null) this.#pids.set(`${role}-${index}`, pid)
    }
  }

  /** Serving. @throws it ended instead */
  static async start(command: Command): Promise<ClusterProcess> {
    return new ClusterProcess(command, JSON.parse(await command.firstLine()) as FirstLine)
  }

  /** Of the command itself. */
  get pid(): number {
    return this.#command.pid
  }

  /** Standard error of all processes, the last of it. */
  get err(): string {
    return this.#command.err
  }

  /** Every process that it has started and that is known by now, workers included; those that ended are among them. */
  get pids(): readonly number[] {
    const logged = this.lines().flatMap(({ pid }) => (typeof pid === 'number' ? [pid] : []))
    return [...new Set([...this.#pids.values(), ...logged])].filter(pid => pid !== this.pid)
  }

  /** Log lines, parsed. */
  lines(): readonly Readonly<Record<string, unknown>>[] {
    return this.err.split('\n').flatMap(line => {
      try {
        return [JSON.parse(line) as Record<string, unknown>]
      } catch {
        return []
      }
    })
  }

  /** The process as it was last known to serve. Redis's is that of its first start. */
  pidOf(role: ClusterRole, index: number): number {
    const name = `${role}-${index}`
    const last = this.lines().findLast(line => line['process'] === name && line['event'] === 'serving' && line['worker'] === undefined)
    // Of a cluster that lives for long the beginning of what it says is not kept.
    if (typeof last?.['pid'] === 'number') this.#pids.set(name, last['pid'])
    const pid = this.#pids.get(name)
    if (pid === undefined) throw new Error(`there is no ${name}`)
    return pid
  }

  /** kill -9, unless another signal is given; the command starts the process again unless `--no-restart` was among the flags. */
  kill(role: ClusterRole, index: number, signal: NodeJS.Signals = 'SIGKILL'): void {
    const pid = this.pidOf(role, index)
    try {
      process.kill(pid, signal)
    } catch (error) {
      throw new Error(`${role}-${index}, process ${pid}, is not there: ${this.err.slice(-ERROR_LINES_BYTES)}`, { cause: error })
    }
  }

  /** Waits until a process other than `before` serves in this place. @throws the cluster ended */
  async servesAgain(role: ClusterRole, index: number, before: number): Promise<void> {
    while (this.pidOf(role, index) === before) await this.#command.output()
  }

  /** Sum of the samples of one metric at one of the metrics ports. */
  async metric({ host, port }: Endpoint, name: string): Promise<number> {
    const text = await (await fetch(`http://${host}:${port}/metrics`)).text()
    const samples = text.split('\n').filter(line => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
    return samples.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
  }

  /** SIGTERM: drains and stops all. */
  async stop(): Promise<Ended> {
    this.#command.signal('SIGTERM')
    return this.ended
  }

  /** kill -9 of the command: what it started must end by itself. */
  async abandon(): Promise<void> {
    this.#command.signal('SIGKILL')
    await this.ended
  }
}

/** The child process `millrace cluster`, read line by line. */
export class Command {
  readonly ended: Promise<Ended>
  readonly #child: ChildProcessByStdio<null, Readable, Readable>
  readonly #waiting: { readonly resolve: () => void; readonly reject: (error: Error) => void }[] = []
  #out = ''
  err = ''

  constructor(flags: readonly string[], directory: string) {
    const args = [join(ROOT, 'bin/millrace.js'), 'cluster', '--base-port', '0', ...flags]
    this.#child = spawn(join(ROOT, 'node_modules/.bin/node'), args, { cwd: directory, stdio: ['ignore', 'pipe', 'pipe'] })
    // Not `close`: what was started holds the pipes for a moment longer.
    this.ended = once(this.#child, 'exit').then(([code, signal]: unknown[]) => ({
      code: code as number | null,
      signal: signal as NodeJS.Signals | null,
    }))
    void this.ended.then(ended => {
      this.#wake(ended)
    })
    this.#child.stdout.on('data', (text: Buffer) => {
      this.#out += text.toString()
      this.#wake()
    })
    this.#child.stderr.on('data', (text: Buffer) => {
      this.err = (this.err + text.toString()).slice(-STDERR_MAX)
      this.#wake()
    })
  }

  get pid(): number {
    return this.#child.pid!
  }

  async firstLine(): Promise<string> {
    while (!this.#out.includes('\n')) await this.output()
    return this.#out.slice(0, this.#out.indexOf('\n'))
  }

  /** Resolves when it has said more. @throws it ended */
  output(): Promise<void> {
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }))
  }

  #wake(ended?: Ended): void {
    for (const { resolve, reject } of this.#waiting.splice(0)) {
      if (ended === undefined) resolve()
      else reject(new Error(`the cluster ended with ${JSON.stringify(ended)}: ${this.err}`))
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }
}

/** Whether a process is there, a zombie not counting: its parent has not looked yet. */
export async function isRunning(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return stat !== '' && !/\) Z/.test(stat)
}

function endpoint(text: string): Endpoint {
  const at = text.lastIndexOf(':')
  return { host: text.slice(0, at), port: Number(text.slice(at + 1)) }
}
