import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemTimers } from '#shared/base/timers.ts'
import { openRedisNode } from '#shared/cluster/redis-connection.ts'
import type { RedisUrl } from '#shared/config/redis-url.ts'
import { freePort } from './free-ports.ts'

const HOST = '127.0.0.1'
const POLL_MS = 20
const START_TIMEOUT_MS = 15_000
/** A port that was free a moment ago may be taken when the server binds it. */
const START_ATTEMPTS = 3

export interface RedisServerOptions {
  /** Directives of redis.conf, as `{ appendonly: 'yes', maxmemory: '2mb' }`; a list for one that comes several times. */
  readonly config?: Readonly<Record<string, string | readonly string[]>>
  /** Starts as a replica of it. */
  readonly replicaOf?: RedisServer
  /** For `command`: what the server was told with requirepass. */
  readonly password?: string
}

const running = new Set<ChildProcess>()
// A test process that ends in whatever way takes its servers with it.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** Starts redis-server on a free port of 127.0.0.1, with a directory of its own, without persistence unless `config` says so. */
export async function startRedis(options: RedisServerOptions = {}): Promise<RedisServer> {
  return await started(options, 'server')
}

/** Starts a Sentinel that watches `primary` under the name `mymaster` and fails over after about a second; alone it is the quorum. */
export async function startSentinel(primary: RedisServer, quorum = 1): Promise<RedisServer> {
  const lines = [
    `monitor mymaster ${HOST} ${primary.port} ${quorum}`,
    'down-after-milliseconds mymaster 800',
    'failover-timeout mymaster 3000',
    ...(primary.password === '' ? [] : [`auth-pass mymaster ${primary.password}`]),
  ]
  return await started({ config: { sentinel: lines } }, 'sentinel')
}

async function started(options: RedisServerOptions, kind: 'server' | 'sentinel'): Promise<RedisServer> {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-redis-'))
  for (let attempt = 1; ; attempt++) {
    const server = new RedisServer(directory, await freePort(), options, kind)
    try {
      await server.start()
      return server
    } catch (error) {
      if (attempt < START_ATTEMPTS && (await server.output()).includes('Address already in use')) continue
      await server.dispose()
      throw error
    }
  }
}

/** One redis-server process, or one after the other on the same port and directory. */
export class RedisServer {
  readonly port: number
  readonly password: string
  readonly #directory: string
  readonly #arguments: readonly string[]
  #child: ChildProcess | null = null
  #ended: Promise<void> = Promise.resolve()

  constructor(directory: string, port: number, options: RedisServerOptions, kind: 'server' | 'sentinel') {
    this.port = port
    this.password = options.password ?? ''
    this.#directory = directory
    const settings = new Map<string, string | readonly string[]>([
      ['port', String(port)],
      ['bind', HOST],
      ['dir', directory],
      ['logfile', join(directory, 'redis.log')],
      ['daemonize', 'no'],
    ])
    if (kind === 'server')
      settings.set('save', '').set('appendonly', 'no').set('repl-diskless-sync-delay', '0').set('enable-debug-command', 'yes')
    if (this.password !== '') settings.set('requirepass', this.password).set('masterauth', this.password)
    if (options.replicaOf) settings.set('replicaof', `${HOST} ${options.replicaOf.port}`)
    for (const [name, value] of Object.entries(options.config ?? {})) settings.set(name, value)
    this.#arguments = commandLine(settings, join(directory, 'redis.conf'), kind)
  }

  get address(): { readonly host: string; readonly port: number } {
    return { host: HOST, port: this.port }
  }

  /** `redis://127.0.0.1:PORT`, with the password where there is one. */
  get url(): string {
    return `redis://${this.password === '' ? '' : `:${encodeURIComponent(this.password)}@`}${HOST}:${this.port}`
  }

  /** Starts the process, again after `kill` or `stop`; resolves when it answers and has loaded its data. */
  async start(): Promise<void> {
    const child = spawn('redis-server', this.#arguments, { stdio: 'ignore' })
    running.add(child)
    this.#child = child
    let failure: Error | null = null
    this.#ended = new Promise(resolve => {
      child.once('error', error => {
        failure = new Error('redis-server is not installed; npm test installs it (scripts/bootstrap.mjs --test-tools)', { cause: error })
        resolve()
      })
      child.once('exit', code => {
        failure ??= new Error(`redis-server ended with ${String(code)}`)
        resolve()
      })
    })
    void this.#ended.then(() => running.delete(child))
    await until(async () => {
      if (failure !== null) throw new Error(`${failure.message}: ${await this.output()}`, { cause: failure })
      return (await this.command('PING')) === 'PONG'
    }, `redis-server on port ${this.port} answers`)
  }

  /** SIGKILL, as a crash. */
  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL')
    await this.#ended
  }

  /** An orderly end. */
  async stop(): Promise<void> {
    this.#child?.kill('SIGTERM')
    await this.#ended
  }

  /** SIGSTOP: connections stay open, nothing is answered. */
  pause(): void {
    this.#child?.kill('SIGSTOP')
  }

  resume(): void {
    this.#child?.kill('SIGCONT')
  }

  /** Ends it and removes its directory. */
  async dispose(): Promise<void> {
    await this.kill()
    // A fork that writes a dump outlives the process a little.
    await rm(this.#directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 })
  }

  /** One command over a connection of its own; fails after a second without an answer. */
  async command(...args: readonly (string | number | Buffer)[]): Promise<unknown> {
    const url: RedisUrl = {
      kind: 'standalone',
      addresses: [this.address],
      isTls: false,
      username: '',
      password: this.password,
      database: 0,
      masterName: '',
      sentinelUsername: '',
      sentinelPassword: '',
    }
    const redis = openRedisNode(this.address, url, { onError: () => {}, commandTimeoutMs: 1_000, connectTimeoutMs: 1_000 })
    try {
      await redis.connect()
      return await redis.call(String(args[0]), ...args.slice(1))
    } finally {
      redis.disconnect()
    }
  }

  /** A field of INFO; empty when there is none of that name. */
  async info(field: string): Promise<string> {
    const text = String(await this.command('INFO', 'everything'))
    return new RegExp(`^${field}:(.*?)\\r?$`, 'm').exec(text)?.[1] ?? ''
  }

  /** Resolves when so many replicas follow and are in step. */
  async replicasInStep(count: number): Promise<void> {
    await until(async () => {
      const lines = String(await this.command('INFO', 'replication')).match(/^slave\d+:.*state=online.*$/gm) ?? []
      return lines.length >= count && Number(await this.command('WAIT', count, 100)) >= count
    }, `${count} replicas follow port ${this.port}`)
  }

  /** What the process wrote to its log. */
  async output(): Promise<string> {
    return await readFile(join(this.#directory, 'redis.log'), 'utf8').catch(() => '')
  }
}

/** A Redis Cluster: `primaries` first, then their replicas, `replicas` of each. */
export interface RedisClusterServers {
  readonly primaries: readonly RedisServer[]
  /** `replicas[n]` are those of `primaries[n]`. */
  readonly replicas: readonly (readonly RedisServer[])[]
  /** redis+cluster://… of the primaries. */
  readonly url: string
  dispose(): Promise<void>
}

const SLOTS = 16_384
/** After so long without an answer a node of a cluster counts as failed. */
const NODE_TIMEOUT_MS = 1_000

/** Starts a Redis Cluster whose slots are shared out evenly, and waits until it is whole. */
export async function startRedisCluster(options: {
  readonly primaries: number
  readonly replicas: number
  readonly config?: RedisServerOptions['config']
}): Promise<RedisClusterServers> {
  const start = async (): Promise<RedisServer> =>
    await startRedis({
      config: {
        'cluster-enabled': 'yes',
        'cluster-node-timeout': String(NODE_TIMEOUT_MS),
        'cluster-replica-validity-factor': '0',
        'cluster-port': String(await freePort()),
        ...options.config,
      },
    })
  const all = await Promise.all(Array.from({ length: options.primaries * (1 + options.replicas) }, start))
  const primaries = all.slice(0, options.primaries)
  const replicas = primaries.map((_, index) =>
    all.slice(options.primaries + index * options.replicas, options.primaries + (index + 1) * options.replicas),
  )
  await joinCluster(all, primaries)
  for (const [index, group] of replicas.entries()) {
    const id = String(await primaries[index]!.command('CLUSTER', 'MYID'))
    for (const replica of group) await untilDone(() => replica.command('CLUSTER', 'REPLICATE', id))
  }
  for (const server of all) {
    await until(async () => String(await server.command('CLUSTER', 'INFO')).includes('cluster_state:ok'), 'the cluster is ready')
  }
  for (const primary of primaries) await primary.replicasInStep(options.replicas)
  return {
    primaries,
    replicas,
    url: `redis+cluster://${primaries.map(server => `${HOST}:${server.port}`).join(',')}`,
    dispose: async () => void (await Promise.all(all.map(server => server.dispose()))),
  }
}

async function joinCluster(all: readonly RedisServer[], primaries: readonly RedisServer[]): Promise<void> {
  for (const [index, server] of all.entries()) await server.command('CLUSTER', 'SET-CONFIG-EPOCH', index + 1)
  for (const [index, server] of primaries.entries()) {
    const first = Math.floor((index * SLOTS) / primaries.length)
    const last = Math.floor(((index + 1) * SLOTS) / primaries.length) - 1
    await server.command('CLUSTER', 'ADDSLOTSRANGE', first, last)
  }
  const busPort = async (server: RedisServer): Promise<number> =>
    Number(((await server.command('CONFIG', 'GET', 'cluster-port')) as string[])[1])
  for (const server of all.slice(1)) await all[0]!.command('CLUSTER', 'MEET', HOST, server.port, await busPort(server))
  for (const server of all) {
    const known = async (): Promise<boolean> =>
      String(await server.command('CLUSTER', 'INFO')).includes(`cluster_known_nodes:${all.length}`)
    await until(known, 'the nodes of the cluster know each other')
  }
}

/** Asks until the answer is yes; a question that fails counts as no, except an Error with a cause, which is final. */
export async function until(question: () => Promise<boolean> | boolean, what: string, timeoutMs = START_TIMEOUT_MS): Promise<void> {
  const endMs = systemTimers.nowMs() + timeoutMs
  let last: unknown
  while (systemTimers.nowMs() < endMs) {
    try {
      if (await question()) return
    } catch (error) {
      if (error instanceof Error && error.cause !== undefined) throw error
      last = error
    }
    await new Promise<void>(resolve => systemTimers.after(POLL_MS, resolve))
  }
  throw new Error(`waited ${timeoutMs} ms in vain until ${what}`, { cause: last })
}

async function untilDone(act: () => Promise<unknown>): Promise<void> {
  await until(async () => {
    await act()
    return true
  }, 'a command is taken')
}

/** Everything goes into a file: a Sentinel starts with nothing else, and writes to it. */
function commandLine(
  settings: ReadonlyMap<string, string | readonly string[]>,
  file: string,
  kind: 'server' | 'sentinel',
): readonly string[] {
  const values = [...settings].flatMap(([name, value]) =>
    typeof value === 'string' ? [[name, value] as const] : value.map(one => [name, one] as const),
  )
  const lines = values.map(([name, value]) => `${name} ${value === '' ? '""' : value}`)
  // A sentinel must find what it wrote itself when it is started again, so only the first start writes the file.
  if (!existsSync(file)) writeFileSync(file, `${lines.join('\n')}\n`)
  return kind === 'sentinel' ? [file, '--sentinel'] : [file]
}
