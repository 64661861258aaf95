import { AskerLinks } from '../../authsvc/asker-links.ts'
import { registerAuthenticationMetrics } from '../metrics/auth-metrics.ts'
import { systemTimers } from '#shared/base/timers.ts'
import type { ClusterSecret } from '#shared/cluster/cluster-secret.ts'
import type { AuthsvcRoleSettings } from '#shared/config/role-settings.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { adoptLimits } from '#shared/config/adopt-limits.ts'
import type { LiveSettings } from '#shared/config/live-settings.ts'
import { LinkedProcess } from './linked-process.ts'
import type { RegisteredMember } from './member-registry.ts'
import { openClusterSecret } from './open-cluster-secret.ts'
import { openAuthentication, type OwnAuthentication } from './own-authentication.ts'
import { NO_STATUS, type RoleStatus, type RunningRole } from './running-role.ts'
import { started } from './started.ts'
import { reportAuthentications } from './status-reports.ts'
import { Ticker } from './ticker.ts'

/** Ticks without an open request before the links of a process that drains are closed: what was on its way when it said so has come. */
const IDLE_TICKS = 3

/** One authentication service process: links of frontends, and the resources that say whom to let in. */
export async function startAuthsvcRole(live: LiveSettings<AuthsvcRoleSettings>, log: Log, metrics: MetricsRegistry): Promise<RunningRole> {
  return started(new AuthsvcRole(live, log, metrics))
}

/** What there is once the secret of the cluster is known. */
interface Serving {
  readonly authentication: OwnAuthentication
  readonly askers: AskerLinks
}

class AuthsvcRole implements RunningRole {
  readonly addresses = []
  readonly #live: LiveSettings<AuthsvcRoleSettings>
  readonly #settings: AuthsvcRoleSettings
  readonly #metrics: MetricsRegistry
  readonly #process: LinkedProcess
  readonly #ticker: Ticker
  #member: RegisteredMember | null = null
  #secret: ClusterSecret | null = null
  #serving: Serving | null = null
  #isDraining = false
  #idleTicks = 0
  #onIdle: (() => void) | null = null
  #drained: Promise<void> | null = null

  constructor(live: LiveSettings<AuthsvcRoleSettings>, log: Log, metrics: MetricsRegistry) {
    const { settings } = live
    this.#live = live
    this.#settings = settings
    this.#metrics = metrics
    this.#process = new LinkedProcess('authsvc', settings, log, metrics)
    this.#ticker = new Ticker(systemTimers, { tick: () => this.#tick(), everySecond: () => undefined })
  }

  /** @throws what keeps the port from being opened. The secret may take its time: `waitingFor` says so meanwhile */
  async start(): Promise<void> {
    this.#member = await this.#process.open(link => this.#serving?.askers.accept(link) ?? { declined: 'starting' })
    this.#live.listen(({ limits }) => {
      adoptLimits(this.#settings.limits, limits, this.#process.log)
      this.#apply()
    })
    this.#secret = openClusterSecret(this.#settings, secret => this.#onSecret(secret))
  }

  get rpc(): string | null {
    return this.#process.rpc
  }

  waitingFor(): readonly string[] {
    if (this.#isDraining) return ['draining']
    if (this.#serving === null) return [`secret of the cluster: ${this.#secret?.waitingFor ?? 'starting'}`]
    return this.#member!.waitingFor()
  }

  impaired(): readonly string[] {
    return [...this.#live.impaired(), ...(this.#serving?.authentication.service.impaired() ?? [])]
  }

  status(): RoleStatus {
    return NO_STATUS
  }

  drain(): Promise<void> {
    this.#drained ??= this.#drain()
    return this.#drained
  }

  /** Ends at once: what was asked and not answered is asked of another service. */
  async close(): Promise<void> {
    this.#isDraining = true
    await this.#live.stop()
    this.#secret?.close()
    await this.#process.closeLinks()
    this.#ticker.stop()
    await this.#serving?.authentication.close()
    await this.#process.leave()
  }

  /** First frontends learn to ask others, then what they have asked is answered. */
  async #drain(): Promise<void> {
    this.#isDraining = true
    this.#serving?.askers.leave()
    if (this.#serving !== null && this.#serving.askers.count > 0) await new Promise<void>(resolve => (this.#onIdle = resolve))
    await this.close()
  }

  /** The first one begins the service; a member is who can be asked. */
  #onSecret(secret: Uint8Array): void {
    if (this.#isDraining) return
    if (this.#serving !== null) return this.#serving.authentication.service.useSecret(secret)
    const authentication = openAuthentication(this.#settings.limits, secret, this.#live.kubernetes, this.#process.log)
    this.#serving = { authentication, askers: new AskerLinks(authentication.service) }
    registerAuthenticationMetrics(this.#metrics, authentication.service, () => authentication.workerFigures())
    this.#apply()
    this.#member!.membership.start()
  }

  #apply(): void {
    const { snapshot } = this.#live
    if (this.#serving === null || snapshot === null) return
    this.#serving.authentication.service.apply(snapshot)
    this.#serving.askers.onApplied()
    reportAuthentications(this.#live, this.#serving.authentication)
  }

  #tick(): void {
    this.#process.hub.tick()
    if (this.#onIdle === null) return
    this.#idleTicks = this.#serving!.authentication.service.openCount === 0 ? this.#idleTicks + 1 : 0
    if (this.#idleTicks >= IDLE_TICKS) this.#onIdle()
  }
}
