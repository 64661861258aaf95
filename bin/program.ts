import packageJson from '../package.json' with { type: 'json' }
import { StoreError } from '../backend/store/shard-store.ts'
import { type AdminServer, openAdminServer } from '../frontend/admin/admin-server.ts'
import type { BrokerStatus } from '../frontend/admin/broker-status.ts'
import { ListenError } from '../frontend/listener/listener.ts'
import { systemClock } from '#shared/base/clock.ts'
import { thrownField } from '#shared/base/thrown.ts'
import { systemTimers } from '#shared/base/timers.ts'
import { type Address, addressText } from '#shared/config/address.ts'
import { type HealthServer, openHealthServer } from '#shared/telemetry/health-server.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { registerProcessMetrics } from '#shared/telemetry/process-metrics.ts'
import { ExitCode } from './command.ts'
import { NO_STATUS, type RunningRole } from './roles/running-role.ts'
import { onStopSignal } from './signals.ts'
import { type Channel, openChannel } from './processes/supervision.ts'

/** A process that serves, as one of the commands makes it. */
export interface ProgramParts {
  /** The command, for messages. */
  readonly name: string
  readonly admin: Address | null
  readonly metrics: Address | null
  /** From the signal to the drain, `/readyz` being off: see the setting. */
  readonly drainDelayMs: number
  readonly drainTimeoutMs: number
  readonly log: Log
  readonly registry: MetricsRegistry
  /** What /metrics answers where it is not the registry alone. */
  readonly renderMetrics?: () => Promise<string>
  /**
   * Sets the process to work. May resolve before it serves, when `waitingFor` of what it gives says what is missing.
   * Rejects with what `operatorText` knows, or with a fault of ours.
   */
  start(): Promise<RunningRole>
  /** Ends the watching of resources, which began before the program and keeps the process alive; the role may have ended it already. */
  stopWatching(): Promise<void>
  /** Told when it runs, with the addresses of its own ports, for what a user reads on standard output. */
  readonly greet?: (role: RunningRole, ports: OwnPorts) => void
}

/** Ports of every process, where it has them. */
export interface OwnPorts {
  readonly admin: Address | null
  readonly metrics: Address | null
}

/** How often a change of readiness is looked for, for the log and for a supervisor. */
const WATCH_MS = 100

/** The admin or metrics port cannot be opened. */
class PortError extends Error {
  override readonly name = 'PortError'
}

/** What stops a program at its start, and its operator can repair: text for standard error. */
export class OperatorError extends Error {
  override readonly name = 'OperatorError'
}

/**
 * Runs until a signal, drains, and answers the exit code. What the operator can repair is one line on standard error and exit code 1; what
 * cannot is thrown.
 */
export async function runProgram(parts: ProgramParts): Promise<number> {
  const { log, name } = parts
  // Node then prints the stack and ends with code 1; the log has the fault as a line like any other.
  process.on('uncaughtExceptionMonitor', error => log.error('uncaught_exception', { error }))
  const program = new Program(parts)
  try {
    await program.run()
    return ExitCode.Success
  } catch (error) {
    const text = operatorText(error)
    if (text === null) throw error
    await program.close()
    process.stderr.write(`millrace ${name}: ${text}\n`)
    return ExitCode.Failure
  }
}

/** Faults that the operator can repair, as one sentence; null for one of ours. */
function operatorText(error: unknown): string | null {
  if (error instanceof ListenError || error instanceof StoreError || error instanceof PortError || error instanceof OperatorError) {
    return error.message
  }
  // What the operating system refused: a directory that may not be written, too many open files.
  return error instanceof Error && 'syscall' in error ? error.message : null
}

/** From the first port to the last: health and admin first, so that a long recovery shows as live and not ready. */
class Program {
  readonly #parts: ProgramParts
  readonly #startedMs = systemClock.monotonicMs()
  readonly #stopRequested: Promise<NodeJS.Signals>
  readonly #channel: Channel | null = openChannel()
  #stopWatchingParent: () => void = () => {}
  #stopWatchingState: () => void = () => {}
  #phase: 'starting' | 'running' | 'draining' = 'starting'
  #role: RunningRole | null = null
  #health: HealthServer | null = null
  #admin: AdminServer | null = null
  /** What was said last in the log. */
  #loggedWaitingFor = ''

  constructor(parts: ProgramParts) {
    this.#parts = parts
    this.#stopRequested = new Promise(resolve => {
      // Nothing was acknowledged before it runs, so nothing can be lost.
      this.#stopWatchingParent = onStopSignal(resolve, () => this.#phase === 'starting')
    })
  }

  /** Serves until a signal, then drains. */
  async run(): Promise<void> {
    const { log, registry } = this.#parts
    registerProcessMetrics(registry)
    const renderMetrics = this.#parts.renderMetrics ?? (() => registry.render())
    this.#channel?.serveMetrics(renderMetrics)
    this.#health = await this.#open('metrics', this.#parts.metrics, address =>
      openHealthServer(address, {
        waitingFor: () => this.#waitingFor(),
        impaired: () => this.#role?.impaired() ?? [],
        metrics: renderMetrics,
        metricsFailed: cause => log.error('metrics_failed', { error: thrownField(cause) }),
      }),
    )
    this.#admin = await this.#open('admin', this.#parts.admin, address => openAdminServer(address, () => this.#status()))
    const role = await this.#parts.start()
    this.#role = role
    this.#phase = 'running'
    this.#watchState()
    this.#parts.greet?.(role, { admin: this.#admin?.address ?? null, metrics: this.#health?.address ?? null })
    const signal = await this.#stopRequested
    this.#phase = 'draining'
    this.#report()
    const { drainDelayMs } = this.#parts
    log.info('draining', { signal, ...(drainDelayMs > 0 && { drainDelayMs }) })
    if (drainDelayMs > 0) await new Promise<void>(resolve => systemTimers.after(drainDelayMs, resolve))
    await this.#drain(role)
    await this.close()
    log.info('stopped')
  }

  async close(): Promise<void> {
    this.#stopWatchingParent()
    this.#stopWatchingState()
    await this.#admin?.close()
    await this.#health?.close()
    await this.#parts.stopWatching()
  }

  /** A drain that does not come to its end in time must not keep the process: an orchestrator would kill it without a word. */
  async #drain(role: RunningRole): Promise<void> {
    const { drainTimeoutMs, log } = this.#parts
    const cancel = systemTimers.after(drainTimeoutMs, () => {
      log.error('drain_timeout', { drainTimeoutMs })
      process.exit(ExitCode.Failure)
    })
    await role.drain()
    cancel()
  }

  /** Readiness that comes or goes is one line; a supervisor hears of every change. */
  #watchState(): void {
    const waitingFor = this.#waitingFor()
    const text = waitingFor.join('; ')
    const { log } = this.#parts
    if (text === '') {
      if (this.#loggedWaitingFor !== 'none') log.info('serving', { version: packageJson.version, pid: process.pid })
      this.#loggedWaitingFor = 'none'
    } else if (text !== this.#loggedWaitingFor) {
      log.warn('not_ready', { waitingFor })
      this.#loggedWaitingFor = text
    }
    this.#report()
    this.#stopWatchingState = systemTimers.after(WATCH_MS, () => {
      if (this.#phase === 'running') this.#watchState()
    })
  }

  #report(): void {
    if (this.#channel === null) return
    const { listeners, waitingFor, residentBytes, version: _version, uptimeSeconds: _uptimeSeconds, ...status } = this.#status()
    this.#channel.report({
      waitingFor,
      impaired: this.#role?.impaired() ?? [],
      listeners,
      rpc: this.#role?.rpc ?? null,
      admin: this.#admin === null ? null : addressText(this.#admin.address),
      metrics: this.#health === null ? null : addressText(this.#health.address),
      status,
      residentBytes,
    })
  }

  #waitingFor(): readonly string[] {
    if (this.#phase === 'draining') return ['draining']
    return this.#role === null ? ['starting'] : this.#role.waitingFor()
  }

  #status(): BrokerStatus {
    return {
      version: packageJson.version,
      uptimeSeconds: (systemClock.monotonicMs() - this.#startedMs) / 1_000,
      waitingFor: this.#waitingFor(),
      listeners: this.#role?.addresses ?? [],
      residentBytes: process.memoryUsage.rss(),
      ...(this.#role?.status() ?? NO_STATUS),
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
}
