import { randomBytes } from 'node:crypto'
import packageJson from '../../package.json' with { type: 'json' }
import { Backend } from '../../backend/backend.ts'
import { engineFigures, publishSysTopics } from '../../backend/sys-topics.ts'
import { openLmdbStore } from '../../backend/store/lmdb/lmdb-store.ts'
import { openMemoryStore } from '../../backend/store/memory/memory-store.ts'
import type { ShardStore } from '../../backend/store/shard-store.ts'
import { AuditedAuthenticationPort } from '../../frontend/authentication/audited-authentication.ts'
import { drainConnections } from '../../frontend/draining.ts'
import { Frontend } from '../../frontend/frontend.ts'
import { registerAuthenticationMetrics } from '../metrics/auth-metrics.ts'
import { ClientPorts } from '../../frontend/client-ports.ts'
import { persistencePolicyOf } from '../../backend/shard/persistence-policy.ts'
import { registerBrokerMetrics, registerListenerMetrics } from '../metrics/broker-metrics.ts'
import { noAuthentication } from '#shared/rpc/no-authentication.ts'
import { systemClock } from '#shared/base/clock.ts'
import { systemRandom } from '#shared/base/random.ts'
import { sumOfFigures } from '#shared/cluster/figures.ts'
import { systemTimers } from '#shared/base/timers.ts'
import { ImmediateTurn } from '#shared/base/turn.ts'
import type { BrokerSettings } from '#shared/config/broker-settings.ts'
import type { ResourceSnapshot } from '#shared/resources/resource-snapshot.ts'
import type { Audit } from '#shared/telemetry/audit.ts'
import type { Log } from '#shared/telemetry/log.ts'
import { MemoryWatch, processMemory, type WatchedMemory } from '#shared/telemetry/memory-watch.ts'
import type { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { RateLimitedLog } from '#shared/telemetry/rate-limited-log.ts'
import { adoptLimits } from '#shared/config/adopt-limits.ts'
import type { LiveSettings } from '#shared/config/live-settings.ts'
import { closedByFault } from '#shared/config/closed-by-fault.ts'
import { openAuthentication, type OwnAuthentication } from './own-authentication.ts'
import { auditChanges, openAudit } from './open-audit.ts'
import type { RunningRole } from './running-role.ts'
import { listenerStatus, reportAuthentications } from './status-reports.ts'
import { Ticker } from './ticker.ts'
import { openTopicCache } from './topic-cache.ts'
import { willJudgeOf } from './will-judging.ts'

/** What is sealed is given to clients of this process alone, and is worth nothing when it ends. */
const SEALING_SECRET_BYTES = 32

/**
 * One process: frontend, backend, authentication and store wired by function calls.
 * @throws {ListenError} a port cannot be opened
 * @throws {StoreError} the store cannot be used
 */
export async function startStandalone(live: LiveSettings<BrokerSettings>, log: Log, metrics: MetricsRegistry): Promise<RunningRole> {
  const standalone = await Standalone.open(live, log)
  try {
    await standalone.listen()
  } catch (error) {
    await standalone.drain()
    throw error
  }
  registerBrokerMetrics(metrics, standalone.backend.engine, standalone.frontend)
  registerListenerMetrics(metrics, () => standalone.addresses)
  standalone.registerAuthentication(metrics)
  return standalone
}

async function openStore(settings: BrokerSettings): Promise<ShardStore> {
  const shardCount = settings.limits.shards
  if (settings.store === 'memory') return openMemoryStore({ shardCount })
  return openLmdbStore({ directory: settings.dataDirectory, shardCount, clusterName: 'standalone', level: settings.durability })
}

/** What a standalone broker is put together from. */
interface Parts {
  readonly live: LiveSettings<BrokerSettings>
  readonly log: RateLimitedLog
  readonly audit: Audit
  readonly backend: Backend
  readonly frontend: Frontend
  /** Null without resources: nothing could ask for it. */
  readonly authentication: OwnAuthentication | null
  readonly memory: WatchedMemory
}

class Standalone implements RunningRole {
  readonly backend: Backend
  readonly frontend: Frontend
  /** No other process has anything to say to this one. */
  readonly rpc = null
  readonly #live: LiveSettings<BrokerSettings>
  readonly #settings: BrokerSettings
  readonly #log: RateLimitedLog
  readonly #audit: Audit
  readonly #authentication: OwnAuthentication | null
  readonly #ports: ClientPorts
  readonly #startedMs = systemClock.wallMs()
  readonly #memoryWatch: MemoryWatch
  readonly #ticker: Ticker
  #sinceSysTopicsSeconds = 0

  private constructor({ live, log, audit, backend, frontend, authentication, memory }: Parts) {
    this.#audit = audit
    this.#live = live
    this.#settings = live.settings
    this.#log = log
    this.backend = backend
    this.frontend = frontend
    this.#authentication = authentication
    this.#ports = new ClientPorts({
      frontend,
      limits: live.settings.limits,
      timers: systemTimers,
      log,
      reusePort: false,
      ticketKeys: () => null,
      onChanged: () => this.#report(),
    })
    this.#memoryWatch = new MemoryWatch(backend.engine.watermarkBytes, memory)
    this.#ticker = this.#startTicking()
  }

  static async open(live: LiveSettings<BrokerSettings>, log: Log): Promise<Standalone> {
    const { settings } = live
    const clientLog = new RateLimitedLog(log, settings.logLinesPerSecond, systemClock, systemTimers)
    const topics = openTopicCache(settings.limits)
    const steps: (() => void)[] = []
    const turn = new ImmediateTurn(steps)
    // Before the store maps its file.
    const memory = processMemory()
    const store = await openStore(settings)
    const backend = await Backend.open({
      settings: settings.limits,
      clock: systemClock,
      turn,
      store,
      topics,
      log: clientLog,
      onFailure: error => log.error('store_failed', { error }),
      willJudge: willJudgeOf(live),
      persistence: persistencePolicyOf(live.snapshot),
    }).catch(async (error: unknown) => {
      await store.close()
      throw error
    })
    const authentication =
      live.snapshot === null ? null : openAuthentication(settings.limits, randomBytes(SEALING_SECRET_BYTES), live.kubernetes, clientLog)
    const audit = openAudit(log, settings.logLinesPerSecond)
    live.listen((_, changed, before) => auditChanges(audit, before, changed))
    const frontend = new Frontend({
      settings: settings.limits,
      backend,
      authentication: new AuditedAuthenticationPort(authentication?.service ?? noAuthentication, audit),
      audit,
      clock: systemClock,
      random: systemRandom,
      turn,
      topics,
      log: clientLog,
    })
    steps.push(backend.endTurn, frontend.endTurn)
    return new Standalone({ live, log: clientLog, audit, backend, frontend, authentication, memory })
  }

  async listen(): Promise<void> {
    const { snapshot, settings } = this.#live
    if (snapshot !== null) this.#authentication?.service.apply(snapshot)
    const opened = this.#ports.open(this.#usable(settings))
    // Before they are open: a change that came in between would be heard by nobody.
    this.#live.listen((changed, next) => this.#onChange(changed, next))
    await opened
    void this.#live.keepCertificates()
    if (this.#settings.limits.sysTopicIntervalSeconds > 0) this.#publishSysTopics()
  }

  registerAuthentication(metrics: MetricsRegistry): void {
    const own = this.#authentication
    if (own !== null) registerAuthenticationMetrics(metrics, own.service, () => own.workerFigures())
  }

  get addresses(): RunningRole['addresses'] {
    return this.#ports.addresses
  }

  waitingFor(): readonly string[] {
    return this.backend.failure === null ? [] : [`store: ${this.backend.failure.message}`]
  }

  impaired(): readonly string[] {
    return [...this.#live.impaired(), ...(this.#authentication?.service.impaired() ?? []), ...this.#ports.impaired()]
  }

  status(): ReturnType<RunningRole['status']> {
    const { engine } = this.backend
    return {
      connections: this.frontend.counters.connectionsOpen,
      sessions: engine.counters.sessionsTotal,
      subscriptions: engine.index.subscriptionCount + engine.index.sharedSubscriptionCount,
      retainedMessages: engine.counters.retainedMessages,
      publishesReceived: engine.counters.publishesReceived,
      publishesSent: engine.counters.publishesSent,
    }
  }

  async drain(): Promise<void> {
    await this.#live.stop()
    await this.#ports.stopAccepting()
    const { drainDisconnectsPerSecond, drainTimeoutMs } = this.#settings.limits
    await drainConnections(this.frontend, { perSecond: drainDisconnectsPerSecond, withinMs: drainTimeoutMs }, systemTimers)
    this.#ticker.stop()
    await this.#ports.close()
    await this.#authentication?.close()
    await this.backend.close()
    this.#audit.flush()
    this.#log.flush()
  }

  /** Who judges comes first: a port that opens must find its methods. */
  #onChange(settings: BrokerSettings, snapshot: ResourceSnapshot): void {
    this.#authentication?.service.apply(snapshot)
    adoptLimits(this.#settings.limits, settings.limits, this.#log)
    void this.#ports.apply(this.#usable(settings))
  }

  #report(): void {
    for (const [name, faults] of this.#ports.faultsByResource()) this.#live.report(listenerStatus(name, faults))
    reportAuthentications(this.#live, this.#authentication)
  }

  #usable({ ports }: BrokerSettings): BrokerSettings['ports'] {
    return closedByFault(ports, name => this.#authentication?.service.faultOf(name) ?? null)
  }

  #startTicking(): Ticker {
    return new Ticker(systemTimers, {
      tick: () => {
        this.backend.tick()
        this.frontend.deadlines.tick()
      },
      everySecond: () => {
        this.backend.engine.isUnderPressure = this.#memoryWatch.check()
        this.#sinceSysTopicsSeconds++
        const { sysTopicIntervalSeconds } = this.#settings.limits
        if (sysTopicIntervalSeconds > 0 && this.#sinceSysTopicsSeconds >= sysTopicIntervalSeconds) this.#publishSysTopics()
      },
    })
  }

  #publishSysTopics(): void {
    this.#sinceSysTopicsSeconds = 0
    const { engine } = this.backend
    const figures = sumOfFigures([engineFigures(engine), this.frontend.figures])
    publishSysTopics(engine, packageJson.version, this.#startedMs, figures)
  }
}
