import { hostname } from 'node:os'
import packageJson from '../package.json' with { type: 'json' }
import { StoreError } from '../backend/store/shard-store.ts'
import { type AdminServer, openAdminServer } from '../frontend/admin/admin-server.ts'
import type { BrokerStatus } from '../frontend/admin/broker-status.ts'
import { ListenError } from '../frontend/listener/listener.ts'
import { systemClock } from '#shared/base/clock.ts'
import { systemTimers } from '#shared/base/timers.ts'
import { type Address, addressText } from '#shared/config/address.ts'
import { type BrokerSettings, limitSettings } from '#shared/config/broker-settings.ts'
import { loadBrokerSettings, START_SETTINGS, systemSurroundings } from '#shared/config/load-broker-settings.ts'
import { flagsHelp } from '#shared/config/settings-page.ts'
import { type HealthServer, openHealthServer } from '#shared/telemetry/health-server.ts'
import { type Log, openLog } from '#shared/telemetry/log.ts'
import { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { logOpenFilesLimit, openFilesMax } from '#shared/telemetry/open-files.ts'
import { registerProcessMetrics } from '#shared/telemetry/process-metrics.ts'
import { type Command, ExitCode, print } from './command.ts'
import { type RunningBroker, startStandalone } from './standalone.ts'

/** `millrace start` */
export const start: Command = {
  help: () => `Usage: millrace start [FLAGS]

Starts the whole broker in this process. Every flag has an environment variable: --connections-max is MILLRACE_CONNECTIONS_MAX.
SIGTERM and SIGINT drain: clients are disconnected, the store is flushed, the exit code is 0. A second signal exits at once.

${flagsHelp(START_SETTINGS)}`,
  run: async args => {
    const { settings, warnings } = loadBrokerSettings(args, systemSurroundings(process.env))
    const log = openLog(settings.logLevel)
    for (const warning of warnings) log.warn('setting_without_effect', { detail: warning })
    logOpenFilesLimit(log, openFilesMax(), { max: settings.limits.connectionsMax, default: limitSettings.connectionsMax.default })
    const metrics = new MetricsRegistry([['host', hostname()]])
    // Node then prints the stack and ends with code 1; the log has the fault as a line like any other.
    process.on('uncaughtExceptionMonitor', error => log.error('uncaught_exception', { error }))
    const program = new Program(settings, log, metrics)
    try {
      await program.run()
      return ExitCode.Success
    } catch (error) {
      const text = operatorText(error)
      if (text === null) throw error
      await program.close()
      process.stderr.write(`millrace start: ${text}\n`)
      return ExitCode.Failure
    }
  },
}

/** Faults that the operator can repair, as one sentence; null for one of ours. */
function operatorText(error: unknown): string | null {
  if (error instanceof ListenError || error instanceof StoreError || error instanceof PortError) return error.message
  // What the operating system refused: a directory that may not be written, too many open files.
  return error instanceof Error && 'syscall' in error ? error.message : null
}

/** A terminal sends Ctrl-C to us and to the launcher or npm above us, which passes it on: within this time it is one and the same. */
const SAME_SIGNAL_MS = 500

/** How soon a broker started through npm notices that it was left alone. */
const PARENT_CHECK_MS = 500

/** The admin or metrics port cannot be opened. */
class PortError extends Error {
  override readonly name = 'PortError'
}

const NOTHING_YET: ReturnType<RunningBroker['status']> = {
  connections: 0,
  sessions: 0,
  subscriptions: 0,
  retainedMessages: 0,
  publishesReceived: 0,
  publishesSent: 0,
}

/** From the first port to the last: health and admin first, so that a long recovery shows as live and not ready. */
class Program {
  readonly #settings: BrokerSettings
  readonly #log: Log
  readonly #metrics: MetricsRegistry
  readonly #startedMs = systemClock.monotonicMs()
  readonly #stopRequested: Promise<NodeJS.Signals>
  #stopWatching: () => void = () => {}
  #phase: 'starting' | 'serving' | 'draining' = 'starting'
  #broker: RunningBroker | null = null
  #health: HealthServer | null = null
  #admin: AdminServer | null = null

  constructor(settings: BrokerSettings, log: Log, metrics: MetricsRegistry) {
    this.#settings = settings
    this.#log = log
    this.#metrics = metrics
    this.#stopRequested = new Promise(resolve => this.#onSignals(resolve))
  }

  /** Serves until a signal, then drains. */
  async run(): Promise<void> {
    registerProcessMetrics(this.#metrics)
    this.#health = await this.#open('metrics', this.#settings.metrics, address =>
      openHealthServer(address, {
        waitingFor: () => this.#waitingFor(),
        impaired: () => this.#broker?.impaired() ?? [],
        metrics: () => this.#metrics.render(),
        metricsFailed: cause => this.#log.error('metrics_failed', { error: cause instanceof Error ? cause : String(cause) }),
      }),
    )
    this.#admin = await this.#open('admin', this.#settings.admin, address => openAdminServer(address, () => this.#status()))
    const broker = await startStandalone(this.#settings, this.#log, this.#metrics)
    this.#broker = broker
    this.#phase = 'serving'
    this.#log.info('serving', { version: packageJson.version, pid: process.pid })
    this.#greet(broker)
    const signal = await this.#stopRequested
    this.#phase = 'draining'
    this.#log.info('draining', { signal })
    await this.#drain(broker)
    await this.close()
    this.#log.info('stopped')
  }

  async close(): Promise<void> {
    this.#stopWatching()
    await this.#admin?.close()
    await this.#health?.close()
  }

  /** A drain that does not come to its end in time must not keep the process: an orchestrator would kill it without a word. */
  async #drain(broker: RunningBroker): Promise<void> {
    const { drainTimeoutMs } = this.#settings.limits
    const cancel = systemTimers.after(drainTimeoutMs, () => {
      this.#log.error('drain_timeout', { drainTimeoutMs })
      process.exit(ExitCode.Failure)
    })
    await broker.drain()
    cancel()
  }

  #onSignals(stop: (signal: NodeJS.Signals) => void): void {
    let stoppedMs: number | null = null
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        if (stoppedMs !== null) {
          if (systemClock.monotonicMs() - stoppedMs > SAME_SIGNAL_MS) process.exit(ExitCode.Failure)
          return
        }
        // Nothing was acknowledged yet, so nothing can be lost.
        if (this.#phase === 'starting') process.exit(ExitCode.Success)
        stoppedMs = systemClock.monotonicMs()
        stop(signal)
      })
    }
    // The terminal that started us is gone; we are not.
    process.on('SIGHUP', () => undefined)
    if (process.env['npm_lifecycle_event'] !== undefined) this.#watchParent(process.ppid)
  }

  /**
   * Under npm and npx a shell may stand between us and the process that the user sees; it dies of a signal without passing it on. Left
   * alone, we would keep the ports.
   */
  #watchParent(parent: number): void {
    this.#stopWatching = systemTimers.after(PARENT_CHECK_MS, () => {
      if (process.ppid === parent) this.#watchParent(parent)
      else process.kill(process.pid, 'SIGTERM')
    })
  }

  #waitingFor(): readonly string[] {
    if (this.#phase === 'draining') return ['draining']
    return this.#broker === null ? ['starting'] : this.#broker.waitingFor()
  }

  #status(): BrokerStatus {
    return {
      version: packageJson.version,
      uptimeSeconds: (systemClock.monotonicMs() - this.#startedMs) / 1_000,
      waitingFor: this.#waitingFor(),
      listeners: this.#broker?.addresses ?? [],
      residentBytes: process.memoryUsage.rss(),
      ...(this.#broker?.status() ?? NOTHING_YET),
    }
  }

  async #open<T>(what: string, address: Address | null, open: (address: Address) => Promise<T>): Promise<T | null> {
    if (address === null) return null
    try {
      return await open(address)
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      throw new PortError(`${what} on ${addressText(address)}: ${code === 'EADDRINUSE' ? 'the port is in use' : message}`)
    }
  }

  #greet(broker: RunningBroker): void {
    print(`Millrace ${packageJson.version}`)
    for (const { address, protocol, tls, closedReason } of broker.addresses) {
      const speaks = `MQTT${protocol === 'WebSockets' ? ' over WebSocket' : ''}${tls ? ' over TLS' : ''}`
      print(`  ${`${speaks}:`.padEnd(30)}${address}${closedReason === null ? '' : ` closed: ${closedReason}`}`)
    }
    if (this.#admin !== null) print(`  ${'Dashboard and admin API:'.padEnd(30)}http://${addressText(this.#admin.address)}/`)
    if (this.#health !== null) print(`  ${'Metrics and health:'.padEnd(30)}http://${addressText(this.#health.address)}/metrics`)
    const first = broker.addresses.find(({ protocol, tls, closedReason }) => protocol === 'Mqtt' && !tls && closedReason === null)
    const port = first?.address.slice(first.address.lastIndexOf(':') + 1)
    if (port !== undefined) print(`Try:  mosquitto_sub -p ${port} -t 'hello/#' -v &  mosquitto_pub -p ${port} -t hello/world -m hi`)
  }
}
