import { systemClock } from '#shared/base/clock.ts'
import { systemRandom } from '#shared/base/random.ts'
import { systemTimers } from '#shared/base/timers.ts'
import { ImmediateTurn } from '#shared/base/turn.ts'
import type { MemberSettings, RpcSettings } from '#shared/config/role-settings.ts'
import { advertisedAddress } from '#shared/rpc/advertised-address.ts'
import { linkAddressText } from '#shared/rpc/link-address.ts'
import type { AcceptLink } from '#shared/rpc/link-arrival.ts'
import { registerLinkMetrics } from '#shared/rpc/link-counters.ts'
import { LinkHub } from '#shared/rpc/link-hub.ts'
import { type LinkListener, listenLinks } from '#shared/rpc/link-listener.ts'
import type { LinkSettings } from '#shared/rpc/link-settings.ts'
import type { Role } from '#shared/rpc/link.ts'
import { METHOD_NAMES } from '#shared/rpc/methods.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { RateLimitedLog } from '#shared/telemetry/rate-limited-log.ts'
import { linkSettings, registerMember, type RegisteredMember } from './member-registry.ts'

/** What every process has that others of its cluster dial: links, a port for them, and its entry in the registry, which says where that is. */
export class LinkedProcess {
  readonly log: RateLimitedLog
  readonly turn: ImmediateTurn
  readonly hub: LinkHub
  /** How it presents itself to whom it dials, as to whom it answers. */
  readonly linkSettings: LinkSettings
  readonly #role: Exclude<Role, 'frontend'>
  readonly #settings: MemberSettings & RpcSettings
  readonly #metrics: MetricsRegistry
  readonly #instance = systemRandom.uuid()
  #listener: LinkListener | null = null
  #member: RegisteredMember | null = null
  #rpc: string | null = null

  /** @param steps at the end of a turn, before what was said on links is sent; the caller may add to them */
  constructor(
    role: Exclude<Role, 'frontend'>,
    settings: MemberSettings & RpcSettings,
    log: Log,
    metrics: MetricsRegistry,
    steps: readonly (() => void)[] = [],
  ) {
    this.#role = role
    this.#settings = settings
    this.#metrics = metrics
    this.log = new RateLimitedLog(log, settings.logLinesPerSecond, systemClock, systemTimers)
    this.turn = new ImmediateTurn([
      () => {
        for (const step of steps) step()
      },
      () => this.hub.endTurn(),
    ])
    this.hub = new LinkHub({ turn: this.turn, timers: systemTimers, log: this.log })
    this.linkSettings = linkSettings(settings, role, this.#instance)
  }

  /**
   * Opens the port and makes the entry; a member it is once its `membership` is started. Does not wait for Redis.
   * @param accept takes links from now on, before there is an entry
   * @param figures what the others are told of it
   * @throws what keeps the port from being opened
   */
  async open(accept: AcceptLink, figures?: () => ReadonlyMap<string, number>): Promise<RegisteredMember> {
    const { rpc, advertise } = this.#settings
    this.#listener = await listenLinks(rpc, this.linkSettings, this.hub, accept)
    this.#rpc = linkAddressText(advertisedAddress(advertise, this.#listener.address))
    this.#member = registerMember(this.#settings, this.#role, this.#rpc, this.log, this.#metrics, {
      instance: this.#instance,
      ...(figures !== undefined && { figures }),
    })
    registerLinkMetrics(this.#metrics, this.hub, METHOD_NAMES)
    return this.#member
  }

  /** Where others dial it; null until it is open. */
  get rpc(): string | null {
    return this.#rpc
  }

  /** Nobody is linked to it any more, nor can be. */
  async closeLinks(): Promise<void> {
    await this.#listener?.close()
    this.hub.closeAll('this process stops')
  }

  /** The last of a process: its entry goes, `then` is done, and what its log held back is written. */
  async leave(then?: () => Promise<void> | undefined): Promise<void> {
    await this.#member?.leave(then)
    this.log.flush()
  }
}
