import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { resolve } from 'node:path'
import { thrownText } from '#shared/base/thrown.ts'
import { OperatorError } from '../program.ts'
import type { Timers } from '#shared/base/timers.ts'
import type { Log } from '#shared/telemetry/log.ts'
import { relayLog } from './relay-log.ts'

const HOST = '127.0.0.1'
/** Until a server answers, its data read. */
const START_TIMEOUT_MS = 60_000
const POLL_MS = 20
const RESTART_MS = 500
const MISSING =
  'redis-server is not installed. On Debian or Ubuntu: apt-get install redis-server; elsewhere install Redis 7 or Valkey. Or name a Redis that runs: --redis URL'

export interface RedisPlan {
  readonly id: string
  /** 0: the system chooses one, which then stays. */
  readonly port: number
  readonly directory: string
  /** Port of the primary; null for the primary itself. */
  readonly replicaOf: number | null
  /** Each write is on the disk before it is answered. */
  readonly fsync: boolean
  /** Starts again after an end that nobody asked for. */
  readonly restarts: boolean
  /** A directory that shall not outlive a cluster that is killed; null: what is stored stays. */
  readonly temporary: string | null
}

/**
 * A redis-server of a local cluster: on loopback alone, with an append-only file, without a password. It is another program and knows nothing of
 * our channel, so a shell waits beside it for the end of a pipe that we hold, and kills it when we are gone.
 */
export class RedisProcess {
  readonly plan: RedisPlan
  readonly port: number
  readonly #log: Log
  readonly #timers: Timers
  #process: ChildProcess | null = null
  #watcher: ChildProcess | null = null
  #isStopping = false
  #cancelRestart: () => void = () => {}
  #whenGone: (() => void)[] = []

  private constructor(plan: RedisPlan, port: number, log: Log, timers: Timers) {
    this.plan = plan
    this.port = port
    this.#log = log
    this.#timers = timers
  }

  /**
   * Starts it and waits until it answers.
   * @throws {OperatorError} it is not installed, its port is taken, it ends
   */
  static async start(plan: RedisPlan, log: Log, timers: Timers): Promise<RedisProcess> {
    await mkdir(plan.directory, { recursive: true })
    const redis = new RedisProcess(plan, await freePort(plan.port), log, timers)
    await redis.#spawn()
    try {
      await redis.#answers()
    } catch (error) {
      await redis.stop('SIGKILL')
      throw error
    }
    return redis
  }

  /** Null while it does not run. */
  get pid(): number | null {
    return this.#process?.pid ?? null
  }

  /** Resolves when it is gone. */
  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    this.#isStopping = true
    this.#cancelRestart()
    const child = this.#process
    if (child === null) return
    child.kill(signal)
    await new Promise<void>(resolve => this.#whenGone.push(resolve))
  }

  async #spawn(): Promise<void> {
    const child = spawn('redis-server', ['-'], { stdio: ['pipe', 'pipe', 'pipe'], detached: true })
    const label = { role: 'redis', process: this.plan.id }
    relayLog(child.stdout, label, 'info')
    relayLog(child.stderr, label, 'info')
    child.once('exit', (code, signal) => this.#onEnd(child, signal ?? `exit code ${code}`))
    const error = await new Promise<Error | null>(resolve => {
      child.once('error', resolve)
      child.once('spawn', () => resolve(null))
    })
    if (error !== null) throw new OperatorError('code' in error && error.code === 'ENOENT' ? MISSING : `redis-server: ${error.message}`)
    this.#process = child
    this.#watcher = spawnWatcher(child.pid!, this.plan.temporary)
    // It may be gone before it has read this.
    child.stdin.on('error', () => undefined)
    child.stdin.end(configuration(this.plan, this.port))
  }

  async #answers(): Promise<void> {
    const deadlineMs = this.#timers.nowMs() + START_TIMEOUT_MS
    while (!(await ping(this.port))) {
      if (this.#process === null) throw new OperatorError(`${this.plan.id} on port ${this.port} ended while starting; its lines are above`)
      if (this.#timers.nowMs() > deadlineMs)
        throw new OperatorError(`${this.plan.id} on port ${this.port} does not answer after ${START_TIMEOUT_MS} ms`)
      await new Promise<void>(resolve => this.#timers.after(POLL_MS, resolve))
    }
  }

  #onEnd(child: ChildProcess, how: string): void {
    if (this.#process !== child) return
    this.#process = null
    this.#watcher?.kill('SIGKILL')
    for (const resolve of this.#whenGone.splice(0)) resolve()
    if (this.#isStopping) return
    this.#log.error('process_ended', { role: 'redis', process: this.plan.id, how })
    if (this.plan.restarts) this.#cancelRestart = this.#timers.after(RESTART_MS, () => void this.#spawn())
  }
}

/** What the server reads from its standard input, line by line: quoting as its own configuration files have it. */
function configuration({ directory, replicaOf, fsync }: RedisPlan, port: number): string {
  return [
    `port ${port}`,
    `bind ${HOST}`,
    `dir ${JSON.stringify(resolve(directory))}`,
    'daemonize no',
    'loglevel warning',
    'save ""',
    'appendonly yes',
    `appendfsync ${fsync ? 'always' : 'everysec'}`,
    // State is not a cache.
    'maxmemory-policy noeviction',
    'repl-diskless-sync-delay 0',
    ...(replicaOf === null ? [] : [`replicaof ${HOST} ${replicaOf}`]),
    '',
  ].join('\n')
}

/** Reads until the pipe from us ends, which it does with us, however we end. */
function spawnWatcher(pid: number, directory: string | null): ChildProcess {
  const script = 'while read -r _; do :; done; kill -9 "$1"; [ -z "$2" ] || rm -rf -- "$2"'
  const watcher = spawn('sh', ['-c', script, 'sh', String(pid), directory ?? ''], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
  watcher.on('error', () => undefined)
  watcher.unref()
  return watcher
}

/** Whether a server answers and has read its data. */
async function ping(port: number): Promise<boolean> {
  const socket = connect(port, HOST)
  try {
    await once(socket, 'connect')
    socket.write('PING\r\n')
    const [answer] = (await once(socket, 'data')) as [Buffer]
    return answer.toString().startsWith('+PONG')
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

/** @throws {OperatorError} the port is in use */
async function freePort(port: number): Promise<number> {
  const server = createServer()
  try {
    server.listen(port, HOST)
    await once(server, 'listening')
    return (server.address() as { port: number }).port
  } catch (error) {
    throw new OperatorError(`redis on ${HOST}:${port}: ${thrownText(error)}`)
  } finally {
    server.close()
  }
}
