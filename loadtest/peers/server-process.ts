import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import net from 'node:net'
import { sleep } from '../monotonic.ts'
import { treePids } from '../usage.ts'

const START_TIMEOUT_MS = 30_000
const STOP_TIMEOUT_MS = 10_000
const LOOK_INTERVAL_MS = 50
/** The end of what a server wrote, shown when it does not start. */
const LOG_CHARS_MAX = 2_000

export interface ServerPlan {
  readonly name: string
  /** Program and arguments. */
  readonly command: readonly string[]
  readonly directory: string
  /** Asked again and again until it says yes. */
  isReady(): Promise<boolean>
}

/** A process of the benchmark's own. It and all that descend from it end with us. */
export class ServerProcess {
  readonly #plan: ServerPlan
  readonly #child: ChildProcess
  #log = ''
  readonly #killAtExit = (): void => void this.#child.kill('SIGKILL')

  constructor(plan: ServerPlan) {
    this.#plan = plan
    const [program, ...parameters] = plan.command
    this.#child = spawn(program!, parameters, { stdio: ['ignore', 'pipe', 'pipe'], cwd: plan.directory })
    const keep = (chunk: Buffer): void => {
      this.#log = (this.#log + chunk.toString()).slice(-LOG_CHARS_MAX)
    }
    this.#child.stdout?.on('data', keep)
    this.#child.stderr?.on('data', keep)
    this.#child.on('error', error => keep(Buffer.from(error.message)))
    process.on('exit', this.#killAtExit)
  }

  get pid(): number {
    return this.#child.pid!
  }

  /** @throws {Error} it ended, or did not become ready in time; what it wrote is in the message. It is stopped then. */
  async ready(): Promise<void> {
    for (let waitedMs = 0; !(await this.#plan.isReady()); waitedMs += LOOK_INTERVAL_MS) {
      if (waitedMs < START_TIMEOUT_MS && this.#child.exitCode === null && this.#child.pid !== undefined) await sleep(LOOK_INTERVAL_MS)
      else {
        await this.stop()
        throw new Error(`${this.#plan.name} did not start: ${this.#log.trim()}`)
      }
    }
  }

  /** Resolves when it and its descendants are gone; at once when they are. */
  async stop(timeoutMs = STOP_TIMEOUT_MS): Promise<void> {
    await this.#end(timeoutMs)
    process.off('exit', this.#killAtExit)
  }

  async #end(timeoutMs: number): Promise<void> {
    const child = this.#child
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    const pids = treePids([child.pid])
    const exited = new Promise<void>(resolve => child.once('exit', () => resolve()))
    child.kill('SIGTERM')
    const deadline = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
    await exited
    clearTimeout(deadline)
    for (const pid of treePids(pids)) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // ended by itself meanwhile
      }
    }
  }
}

/** Ports that were given to somebody of ours, who may not have opened them yet: the system gives a port again soon after it was closed. */
const given = new Set<number>()

/** A port that nobody listens at, another one each time. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = await closedPort()
    if (given.has(port)) continue
    given.add(port)
    return port
  }
}

async function closedPort(): Promise<number> {
  const server = net.createServer()
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise<void>(resolve => server.close(() => resolve()))
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

export function accepts(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = net.connect({ host: '127.0.0.1', port })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
