import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemTimers } from '#shared/base/timers.ts'
import {
  CLUSTER_ONLY,
  CLUSTER_SETTINGS,
  type ClusterSettings,
  loadClusterSettings,
  PORTS_OF_ROLE,
} from '#shared/config/cluster-settings.ts'
import { systemSurroundings } from '#shared/config/load-broker-settings.ts'
import { variableName } from '#shared/config/read-settings.ts'
import { redisUrlText } from '#shared/config/redis-url.ts'
import { flagsHelp } from '#shared/config/settings-page.ts'
import { type Log, openLog } from '#shared/telemetry/log.ts'
import { openLiveSettings } from './open-live-settings.ts'
import { ClusterProcesses } from './processes/cluster-processes.ts'
import { RedisProcess } from './processes/cluster-redis.ts'
import { type Command, ExitCode, print } from './command.ts'
import { OperatorError } from './program.ts'
import { onStopSignal } from './signals.ts'

const CLUSTER_KEY_BYTES = 32
/** Settings of this command alone, which its processes would take for mistyped ones of theirs. An empty variable counts as none. */
const OWN_VARIABLES = Object.fromEntries(CLUSTER_ONLY.map(name => [variableName(name), '']))

/** `millrace cluster` */
export const cluster: Command = {
  help: () => `Usage: millrace cluster [FLAGS]

Starts a whole cluster of processes on this machine, for development and tests: frontends, backends, authsvcs and, unless --redis names one, a
redis-server with as many replicas as --redundancy-factor asks for. The first line on standard output is JSON with the process ids and
addresses; it is written when all of them serve. Their logs are on standard error, each line with its role and id. A process that ends is
started again. SIGTERM and SIGINT drain and stop all; a second signal kills them. Every flag has an environment variable: --base-port is
MILLRACE_BASE_PORT. docs/cluster.md has the ports.

${flagsHelp(CLUSTER_SETTINGS)}`,
  run: async args => {
    const log = openLog('info')
    const live = await openLiveSettings(CLUSTER_SETTINGS, args, log, snapshot =>
      loadClusterSettings(args, systemSurroundings(process.env, snapshot)),
    )
    const { settings } = live
    // How many processes there are is decided now; each of them follows the resources itself.
    await live.stop()
    process.on('uncaughtExceptionMonitor', error => log.error('uncaught_exception', { error }))
    return new LocalCluster(settings, log).run()
  },
}

/** Redis first, all others at once, and back in the opposite order. */
class LocalCluster {
  readonly #settings: ClusterSettings
  readonly #log: Log
  readonly #stopRequested: Promise<NodeJS.Signals>
  #stopWatchingParent: () => void = () => {}
  #redis: RedisProcess[] = []
  #processes: ClusterProcesses | null = null
  #temporary: string | null = null
  #isStopping = false

  constructor(settings: ClusterSettings, log: Log) {
    this.#settings = settings
    this.#log = log
    this.#stopRequested = new Promise(resolve => {
      this.#stopWatchingParent = onStopSignal(
        resolve,
        () => false,
        () => void this.#kill().finally(() => process.exit(ExitCode.Failure)),
      )
    })
  }

  /** Until a signal, or until the start has failed. */
  async run(): Promise<number> {
    const stopped = this.#stopRequested.then(signal => this.#log.info('draining', { signal }))
    try {
      const started = this.#start().then(() => this.#announce())
      await Promise.race([started, stopped])
      await stopped
      this.#isStopping = true
      await this.#processes?.stop()
      // Interrupted, it ends soon; what it has begun by then is known.
      await started.catch(() => undefined)
      await Promise.all(this.#redis.map(redis => redis.stop()))
      this.#log.info('stopped')
      return ExitCode.Success
    } catch (error) {
      await this.#kill()
      if (!(error instanceof OperatorError)) throw error
      process.stderr.write(`millrace cluster: ${error.message}\n`)
      return ExitCode.Failure
    } finally {
      this.#stopWatchingParent()
      await this.#removeTemporary()
    }
  }

  async #start(): Promise<void> {
    const environment = { ...(await this.#redisEnvironment()), ...this.#keyEnvironment() }
    if (this.#isStopping) return
    this.#processes = new ClusterProcesses(this.#settings, environment, this.#log, systemTimers)
    await this.#processes.start()
  }

  /** Where Redis is goes through the environment: a URL may hold a password. Empty variables hide those that we were given. */
  async #redisEnvironment(): Promise<Record<string, string>> {
    const { redis, redisText } = this.#settings
    if (redis !== null) return redisText === null ? {} : { MILLRACE_REDIS: redisText }
    const primary = await this.#startRedis()
    return { MILLRACE_REDIS: `redis://127.0.0.1:${primary.port}`, MILLRACE_REDIS_PASSWORD: '', MILLRACE_REDIS_PASSWORD_FILE: '' }
  }

  async #startRedis(): Promise<RedisProcess> {
    const { basePort, redundancyFactor, persistence, restarts, dataDirectory } = this.#settings
    if (dataDirectory === null) this.#temporary = await mkdtemp(join(tmpdir(), 'millrace-cluster-'))
    const directory = dataDirectory ?? this.#temporary!
    const start = async (index: number, replicaOf: number | null): Promise<RedisProcess> => {
      const id = `redis-${index}`
      const port = basePort === 0 ? 0 : basePort + PORTS_OF_ROLE.redis + index
      const plan = {
        id,
        port,
        directory: join(directory, id),
        replicaOf,
        fsync: persistence === 'fsynced',
        restarts,
        temporary: this.#temporary,
      }
      const redis = await RedisProcess.start(plan, this.#log, systemTimers)
      this.#redis.push(redis)
      return redis
    }
    const primary = await start(0, null)
    for (let index = 1; index < redundancyFactor && !this.#isStopping; index++) await start(index, primary.port)
    return primary
  }

  /** A key of this run alone: whoever is not started here is not a member. */
  #keyEnvironment(): Record<string, string> {
    return {
      MILLRACE_CLUSTER_KEY: randomBytes(CLUSTER_KEY_BYTES).toString('hex'),
      MILLRACE_CLUSTER_KEY_FILE: '',
      MILLRACE_ADVERTISE: '',
      ...OWN_VARIABLES,
    }
  }

  /** The line that programs read, and one for people. */
  #announce(): void {
    const processes = this.#processes
    if (processes === null || this.#isStopping) return
    const { redis } = this.#settings
    const frontends = processes.frontends.map(child => processes.portsOf(child))
    print(
      JSON.stringify({
        frontends,
        backends: processes.backends.map(({ pid, state }) => ({ pid, rpc: state?.rpc ?? '', metrics: state?.metrics ?? '' })),
        authsvcs: processes.authsvcs.map(({ pid, state }) => ({ pid, rpc: state?.rpc ?? '', metrics: state?.metrics ?? '' })),
        redis:
          redis === null
            ? this.#redis.map(({ pid, port, plan }) => ({
                pid,
                address: `127.0.0.1:${port}`,
                role: plan.replicaOf === null ? 'primary' : 'replica',
              }))
            : [{ pid: null, address: redisUrlText(redis), role: 'external' }],
      }),
    )
    const ports = frontends.map(({ mqtt }) => mqtt.slice(mqtt.lastIndexOf(':') + 1))
    print(`Try:  mosquitto_sub -p ${ports[0]} -t 'hello/#' -v &  mosquitto_pub -p ${ports.at(-1)} -t hello/world -m hi`)
    this.#log.info('serving', { pid: process.pid })
  }

  async #kill(): Promise<void> {
    await Promise.all([this.#processes?.kill(), ...this.#redis.map(redis => redis.stop('SIGKILL'))])
    await this.#removeTemporary()
  }

  async #removeTemporary(): Promise<void> {
    if (this.#temporary !== null) await rm(this.#temporary, { recursive: true, force: true })
  }
}
