import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { sleep } from '../monotonic.ts'
import type { LoadOptions } from '../options.ts'
import { redisInfo } from '../redis-commands.ts'
import type { Peer, RunningBroker } from './broker.ts'
import { temporaryDirectory } from './broker.ts'
import { missingMillrace, PROGRAM } from './millrace.ts'
import { accepts, freePort, ServerProcess } from './server-process.ts'

const HOST = '127.0.0.1'
/** They hold nothing that is needed afterwards; who does not end in time is killed. */
const STOP_TIMEOUT_MS = 3_000
/** Shards may still change hands when the last process is ready. */
const SETTLE_MS = 1_000

const DURABLE = { save: '', appendonly: 'yes', appendfsync: 'everysec', 'repl-diskless-sync-delay': '0' }

/** Parts of a cluster in the reports. */
export const FRONTENDS_PART = 'frontends'
export const AUTHSVCS_PART = 'authsvcs'
export const BACKENDS_PART = 'backends'
export const REDIS_PART = 'Redis'
export const REPLICA_PART = 'replica'

interface Level {
  readonly persistence: 'memory' | 'replicated'
  readonly redundancyFactor: 1 | 2
}

/** How many processes of each role there are, and what they read. */
interface Layout {
  readonly frontends: number
  readonly backends: number
  readonly authsvcs: number
  /**
   * Writes a directory of resources that opens `port`, somewhere in `directory`.
   * @returns its path, and what a load must be told
   */
  readonly resources?: (directory: string, port: number) => { readonly path: string; readonly set: Partial<LoadOptions> }
}

const PAIR: Layout = { frontends: 2, backends: 2, authsvcs: 0 }

/** Acknowledgements wait for the backend alone. */
export const clusterMemory = clusterPeer('cluster-memory', { persistence: 'memory', redundancyFactor: 1 })
/** Acknowledgements wait for Redis and one replica. */
export const clusterReplicated = clusterPeer('cluster-replicated', { persistence: 'replicated', redundancyFactor: 2 })

/** Frontends that share one port, backends, and Redis: processes of this machine, linked over TCP as `millrace cluster` links them. */
export function clusterPeer(name: string, level: Level, layout: Layout = PAIR): Peer {
  return { name, lacks: [], roundsMax: Number.POSITIVE_INFINITY, missing: missingParts, start: () => startCluster(name, level, layout) }
}

function missingParts(): string | null {
  const isThere = spawnSync('redis-server', ['--version'], { stdio: 'ignore' }).status === 0
  return missingMillrace() ?? (isThere ? null : 'redis-server is not installed (Debian: apt-get install redis-server)')
}

/** @throws {Error} a process did not become ready; what it wrote is in the message, and all are stopped */
async function startCluster(name: string, level: Level, layout: Layout): Promise<RunningBroker> {
  const cluster = new LocalCluster(name, level, layout)
  try {
    return await cluster.start()
  } catch (error) {
    await cluster.stop()
    throw error
  }
}

interface RoleProcess {
  readonly server: ServerProcess
  /** `HOST:PORT` */
  readonly metrics: string
}

class LocalCluster {
  readonly #name: string
  readonly #level: Level
  readonly #layout: Layout
  readonly #directory: string
  readonly #processes: ServerProcess[] = []
  readonly #keyFile: string
  #redisPort = 0
  readonly #removeAtExit = (): void => rmSync(this.#directory, { recursive: true, force: true })

  constructor(name: string, level: Level, layout: Layout) {
    this.#name = name
    this.#level = level
    this.#layout = layout
    this.#directory = temporaryDirectory(name)
    this.#keyFile = path.join(this.#directory, 'cluster-key')
    writeFileSync(this.#keyFile, randomBytes(32).toString('hex'), { mode: 0o600 })
    process.on('exit', this.#removeAtExit)
  }

  async start(): Promise<RunningBroker> {
    this.#redisPort = await freePort()
    const redis = await this.#startRedis('redis', this.#redisPort, {})
    const replicas = this.#level.redundancyFactor > 1 ? [await this.#startReplica()] : []
    const port = await freePort()
    const resources = this.#layout.resources?.(this.#directory, port)
    const config = resources === undefined ? [] : [`--config=${resources.path}`]
    const backends = await this.#startRoles('backend', this.#layout.backends, [
      ...config,
      `--rpc=${HOST}:0`,
      `--persistence=${this.#level.persistence}`,
      `--redundancy-factor=${this.#level.redundancyFactor}`,
    ])
    const authsvcs = await this.#startRoles('authsvc', this.#layout.authsvcs, [`--rpc=${HOST}:0`, ...config])
    // With resources the port comes from there.
    const ports = resources === undefined ? [`--mqtt=${HOST}:${port}`, '--ws=off'] : config
    const frontends = await this.#startRoles('frontend', this.#layout.frontends, [...ports, '--reuse-port', '--admin=off'])
    await Promise.all([...backends, ...authsvcs, ...frontends].map(({ server }) => server.ready()))
    await sleep(SETTLE_MS)
    const part = (partName: string, servers: readonly ServerProcess[]): RunningBroker['parts'] =>
      servers.length > 0 ? [{ name: partName, pids: servers.map(server => server.pid) }] : []
    const serversOf = (roles: readonly RoleProcess[]): readonly ServerProcess[] => roles.map(({ server }) => server)
    return {
      name: this.#name,
      port,
      parts: [
        ...part(FRONTENDS_PART, serversOf(frontends)),
        ...part(AUTHSVCS_PART, serversOf(authsvcs)),
        ...part(BACKENDS_PART, serversOf(backends)),
        ...part(REDIS_PART, [redis]),
        ...part(REPLICA_PART, replicas),
      ],
      redisPort: this.#redisPort,
      set: { ...resources?.set, metricsUrl: `http://${frontends[0]!.metrics}/metrics` },
      stop: () => this.stop(),
    }
  }

  async stop(): Promise<void> {
    const [redis, ...others] = this.#processes.splice(0)
    await Promise.all(others.map(server => server.stop(STOP_TIMEOUT_MS)))
    await redis?.stop(STOP_TIMEOUT_MS)
    process.off('exit', this.#removeAtExit)
    this.#removeAtExit()
  }

  async #startRedis(name: string, port: number, more: Readonly<Record<string, string>>): Promise<ServerProcess> {
    const directory = path.join(this.#directory, name)
    mkdirSync(directory)
    const server = this.#spawn({
      name,
      directory,
      // As `millrace cluster` has it.
      command: ['redis-server', ...redisFlags({ port: String(port), bind: HOST, dir: directory, ...DURABLE }), ...redisFlags(more)],
      isReady: () => accepts(port),
    })
    await server.ready()
    return server
  }

  async #startReplica(): Promise<ServerProcess> {
    const port = await freePort()
    const replica = await this.#startRedis('replica', port, { replicaof: `${HOST} ${this.#redisPort}` })
    const inStep = async (): Promise<boolean> => (await redisInfo(port, 'replication')).includes('master_link_status:up')
    for (let tries = 0; !(await inStep()); tries++) {
      if (tries > 200) throw new Error('the replica of Redis does not reach its primary')
      await sleep(50)
    }
    return replica
  }

  async #startRoles(role: string, count: number, flags: readonly string[]): Promise<RoleProcess[]> {
    const shared = [`--redis=redis://${HOST}:${this.#redisPort}`, `--cluster-key-file=${this.#keyFile}`]
    const servers: RoleProcess[] = []
    for (let index = 0; index < count; index++) {
      const metrics = `${HOST}:${await freePort()}`
      const id = `${role}-${index}`
      const server = this.#spawn({
        name: id,
        directory: this.#directory,
        command: [process.execPath, PROGRAM, role, '--id', id, '--metrics', metrics, ...shared, ...flags],
        isReady: () => answersReady(`http://${metrics}/readyz`),
      })
      servers.push({ server, metrics })
    }
    return servers
  }

  #spawn(plan: ConstructorParameters<typeof ServerProcess>[0]): ServerProcess {
    const server = new ServerProcess(plan)
    this.#processes.push(server)
    return server
  }
}

function redisFlags(directives: Readonly<Record<string, string>>): string[] {
  return Object.entries(directives).flatMap(([name, value]) => [`--${name}`, value])
}

export async function answersReady(url: string): Promise<boolean> {
  try {
    return (await fetch(url)).ok
  } catch {
    return false // not listening yet
  }
}
