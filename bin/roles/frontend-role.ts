import { AuthenticationCalls } from '../../frontend/authentication/authentication-calls.ts'
import { AuditedAuthenticationPort } from '../../frontend/authentication/audited-authentication.ts'
import { drainConnections } from '../../frontend/draining.ts'
import { Frontend } from '../../frontend/frontend.ts'
import { Router } from '../../frontend/routing/router.ts'
import { AuthDialers } from '../../frontend/authentication/auth-dialers.ts'
import { registerAuthenticationCallsMetrics } from '../metrics/auth-metrics.ts'
import { registerFrontendMetrics, registerListenerMetrics } from '../metrics/broker-metrics.ts'
import { ClientPorts } from '../../frontend/client-ports.ts'
import { registerRouterMetrics } from '../metrics/cluster-metrics.ts'
import { TicketKeys } from '../../frontend/listener/ticket-keys.ts'
import { systemClock } from '#shared/base/clock.ts'
import { systemRandom } from '#shared/base/random.ts'
import { thrownField, thrownText } from '#shared/base/thrown.ts'
import { systemTimers } from '#shared/base/timers.ts'
import { ImmediateTurn } from '#shared/base/turn.ts'
import type { ClusterSecret } from '#shared/cluster/cluster-secret.ts'
import { closedByFault } from '#shared/config/closed-by-fault.ts'
import type { FrontendRoleSettings } from '#shared/config/role-settings.ts'
import { missingForMethods } from '#shared/resources/missing-references.ts'
import { registerLinkMetrics } from '#shared/rpc/link-counters.ts'
import { LinkHub } from '#shared/rpc/link-hub.ts'
import { METHOD_NAMES } from '#shared/rpc/methods.ts'
import type { Audit } from '#shared/telemetry/audit.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { RateLimitedLog } from '#shared/telemetry/rate-limited-log.ts'
import { adoptLimits } from '#shared/config/adopt-limits.ts'
import { BackendDialers } from '#shared/cluster/backend-dialers.ts'
import { linkDialers } from '#shared/cluster/member-dialers.ts'
import type { LiveSettings } from '#shared/config/live-settings.ts'
import { linkSettings, registerMember, type RegisteredMember } from './member-registry.ts'
import { openClusterSecret } from './open-cluster-secret.ts'
import { auditChanges, openAudit } from './open-audit.ts'
import { NO_STATUS, type RoleStatus, type RunningRole } from './running-role.ts'
import { listenerStatus } from './status-reports.ts'
import { Ticker } from './ticker.ts'
import { openTopicCache } from './topic-cache.ts'

/** One frontend process: the connections of its clients, and links to all backends. Its ports open once every shard has an owner. */
export async function startFrontendRole(
  live: LiveSettings<FrontendRoleSettings>,
  log: Log,
  metrics: MetricsRegistry,
): Promise<RunningRole> {
  const role = new FrontendRole(live, log, metrics)
  role.start()
  return Promise.resolve(role)
}

class FrontendRole implements RunningRole {
  readonly rpc = null
  readonly #live: LiveSettings<FrontendRoleSettings>
  readonly #settings: FrontendRoleSettings
  readonly #log: RateLimitedLog
  readonly #hub: LinkHub
  readonly #router: Router
  readonly #frontend: Frontend
  readonly #ports: ClientPorts
  readonly #member: RegisteredMember
  readonly #dialers: BackendDialers
  readonly #authentication = new AuthenticationCalls(systemTimers)
  readonly #authDialers: AuthDialers
  readonly #audit: Audit
  readonly #ticketKeys: TicketKeys
  readonly #secret: ClusterSecret | null
  #ticker: Ticker | null = null
  #phase: 'waiting' | 'opening' | 'serving' | 'failed' | 'draining' = 'waiting'
  #failure = ''
  #drained: Promise<void> | null = null

  constructor(live: LiveSettings<FrontendRoleSettings>, log: Log, metrics: MetricsRegistry) {
    const { settings } = live
    const { limits } = settings
    this.#live = live
    this.#settings = settings
    this.#log = new RateLimitedLog(log, settings.logLinesPerSecond, systemClock, systemTimers)
    this.#audit = openAudit(log, settings.logLinesPerSecond)
    live.listen((_, changed, before) => auditChanges(this.#audit, before, changed))
    const steps: (() => void)[] = []
    const turn = new ImmediateTurn(steps)
    const topics = openTopicCache(limits)
    this.#hub = new LinkHub({ turn, timers: systemTimers, log: this.#log })
    this.#router = new Router({ shardCount: limits.shards, clock: systemClock, turn, log: this.#log })
    this.#frontend = new Frontend({
      settings: limits,
      backend: this.#router,
      authentication: new AuditedAuthenticationPort(this.#authentication, this.#audit),
      audit: this.#audit,
      clock: systemClock,
      random: systemRandom,
      turn,
      topics,
      log: this.#log,
      holdsPublishesForSubscribe: true,
    })
    this.#router.bind(this.#frontend)
    steps.push(this.#frontend.endTurn, this.#router.endTurn, () => this.#hub.endTurn())
    this.#ports = new ClientPorts({
      frontend: this.#frontend,
      limits,
      timers: systemTimers,
      log: this.#log,
      reusePort: settings.reusePort,
      ticketKeys: () => this.#ticketKeys.current,
      onChanged: () => this.#report(),
    })
    this.#ticketKeys = new TicketKeys(systemClock, keys => this.#ports.setTicketKeys(keys))
    this.#secret = openClusterSecret(settings, secret => this.#ticketKeys.useSecret(secret))
    this.#member = registerMember(settings, 'frontend', '', this.#log, metrics, { figures: () => this.#frontend.figures })
    const dialerTo = linkDialers(this.#hub, linkSettings(settings, 'frontend', this.#member.instance))
    const { membership } = this.#member
    this.#authDialers = new AuthDialers({ membership, dialerTo, log: this.#log, calls: this.#authentication })
    this.#dialers = new BackendDialers({
      membership,
      dialerTo,
      topics,
      topicLevelsMax: limits.topicLevelsMax,
      shardCount: limits.shards,
      caller: this.#router,
      log: this.#log,
    })
    registerFrontendMetrics(metrics, this.#frontend)
    registerRouterMetrics(metrics, this.#router)
    registerAuthenticationCallsMetrics(metrics, this.#authentication)
    registerLinkMetrics(metrics, this.#hub, METHOD_NAMES)
    // Port by port: what was opened is asked at each scrape.
    registerListenerMetrics(metrics, () => this.addresses)
  }

  start(): void {
    this.#ticker = new Ticker(systemTimers, { tick: () => this.#tick(), everySecond: () => this.#ticketKeys.tick() })
    this.#member.membership.start()
    void this.#live.keepCertificates()
  }

  get addresses(): RunningRole['addresses'] {
    return this.#ports.addresses
  }

  waitingFor(): readonly string[] {
    if (this.#phase === 'draining') return ['draining']
    if (this.#phase === 'failed') return [this.#failure]
    return [...this.#member.waitingFor(), ...this.#router.waitingFor(), ...(this.#phase === 'serving' ? [] : ['ports: not open yet'])]
  }

  impaired(): readonly string[] {
    const isMissed = this.#authentication.linkCount === 0 && this.#asksForAuthentication
    return [...this.#live.impaired(), ...(isMissed ? ['authentication: no service is in reach'] : []), ...this.#ports.impaired()]
  }

  status(): RoleStatus {
    return { ...NO_STATUS, connections: this.#frontend.counters.connectionsOpen }
  }

  drain(): Promise<void> {
    this.#drained ??= this.#drain()
    return this.#drained
  }

  get #asksForAuthentication(): boolean {
    return this.#live.settings.ports.some(({ rules }) => rules.policy !== null)
  }

  #report(): void {
    for (const [name, faults] of this.#ports.faultsByResource()) this.#live.report(listenerStatus(name, faults))
  }

  #onSettings({ ports, limits }: FrontendRoleSettings): void {
    adoptLimits(this.#settings.limits, limits, this.#log)
    void this.#ports.apply(this.#usable(ports))
  }

  /** Decision of the service that judges, for what can be seen from here: without what its methods need it lets nobody in. */
  #usable(ports: FrontendRoleSettings['ports']): FrontendRoleSettings['ports'] {
    const { snapshot } = this.#live
    return snapshot === null ? ports : closedByFault(ports, name => missingForMethods(snapshot, name))
  }

  async #drain(): Promise<void> {
    this.#phase = 'draining'
    await this.#live.stop()
    await this.#ports.stopAccepting()
    const { drainDisconnectsPerSecond, drainTimeoutMs } = this.#settings.limits
    await drainConnections(this.#frontend, { perSecond: drainDisconnectsPerSecond, withinMs: drainTimeoutMs }, systemTimers)
    await this.#ports.close()
    this.#dialers.stop()
    this.#authDialers.stop()
    this.#secret?.close()
    this.#hub.closeAll('this process stops')
    this.#ticker?.stop()
    await this.#member.leave()
    this.#audit.flush()
    this.#log.flush()
  }

  #tick(): void {
    this.#hub.tick()
    this.#router.tick()
    this.#frontend.deadlines.tick()
    if (this.#phase === 'waiting' && this.#member.membership.isAlive && this.#router.waitingFor().length === 0) void this.#openPorts()
  }

  async #openPorts(): Promise<void> {
    this.#phase = 'opening'
    try {
      const opened = this.#ports.open(this.#usable(this.#live.settings.ports))
      // Before they are open: a change that came in between would be heard by nobody.
      this.#live.listen(settings => this.#onSettings(settings))
      await opened
      if (this.#phase === 'opening') this.#phase = 'serving'
    } catch (error) {
      this.#phase = 'failed'
      this.#failure = thrownText(error)
      this.#log.error('ports_failed', { error: thrownField(error) })
    }
  }
}
