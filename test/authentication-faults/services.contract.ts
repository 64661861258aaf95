import { AskerLinks } from '../../authsvc/asker-links.ts'
import type { AuthenticationServiceParts } from '../../authsvc/authentication-service.ts'
import { type Resources, ServiceRig } from '../../authsvc/service-rig.contract.ts'
import { AuthenticationCalls, type AuthenticationCallsLimits } from '../../frontend/authentication/authentication-calls.ts'
import { systemClock } from '#shared/base/clock.ts'
import { systemTimers } from '#shared/base/timers.ts'
import { ImmediateTurn } from '#shared/base/turn.ts'
import { AuthServiceCalls } from '#shared/rpc/auth-calls.ts'
import { AuthAskerDispatch } from '#shared/rpc/auth-dispatch.ts'
import { LinkDialer } from '#shared/rpc/link-dialer.ts'
import { LinkHub } from '#shared/rpc/link-hub.ts'
import { type LinkListener, listenLinks } from '#shared/rpc/link-listener.ts'
import type { LinkSettings } from '#shared/rpc/link-settings.ts'
import type { Role } from '#shared/rpc/link.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import { until } from '#shared/testing/redis-server.ts'

const KEY = Buffer.from('a key for tests, long enough')

function settings(role: Role, id: string): LinkSettings {
  return { self: { cluster: 'test', shards: 8, role, id, instance: `${id}-1` }, proof: { is: 'key', key: KEY }, tls: null }
}

function openHub(): LinkHub {
  const hub: LinkHub = new LinkHub({ turn: new ImmediateTurn([() => hub.endTurn()]), timers: systemTimers, log: new RecordingLog() })
  return hub
}

/** An authentication service that takes links on a port of its own. */
export class LinkedService {
  readonly rig: ServiceRig
  readonly askers: AskerLinks
  readonly hub = openHub()
  listener: LinkListener | null = null

  constructor(more: Partial<AuthenticationServiceParts> = {}) {
    this.rig = new ServiceRig({ clock: systemClock, timers: systemTimers, ...more })
    this.askers = new AskerLinks(this.rig.service)
  }

  apply(all: Resources): void {
    this.rig.apply(all)
    this.askers.onApplied()
  }

  async listen(): Promise<void> {
    const at = { host: '127.0.0.1', port: 0 }
    this.listener = await listenLinks(at, settings('authsvc', 'a'), this.hub, link => this.askers.accept(link))
  }

  /** As a process that is killed: links end, nothing is answered any more. */
  async kill(): Promise<void> {
    await this.listener?.close()
    this.hub.closeAll('killed')
  }
}

/** A frontend with links to services, over sockets. */
export class LinkedFrontend {
  readonly hub = openHub()
  readonly calls: AuthenticationCalls
  readonly #dialers: LinkDialer[] = []
  readonly #services: LinkedService[] = []

  constructor(limits: Partial<AuthenticationCallsLimits> = {}) {
    this.calls = new AuthenticationCalls(systemTimers, limits)
  }

  /** One more service, and a link to it that stands. */
  async link(service = new LinkedService()): Promise<LinkedService> {
    this.#services.push(service)
    await service.listen()
    const { calls } = this
    const before = calls.linkCount
    const dialer = new LinkDialer({
      hub: this.hub,
      address: service.listener!.address,
      settings: settings('frontend', 'f'),
      random: { fraction: () => 0 },
      owner: {
        onRefused: () => undefined,
        onOpen: link => {
          const dispatch = new AuthAskerDispatch(calls.onLinkOpen(link, new AuthServiceCalls(link)), false)
          return {
            onFrame: (method, body) => dispatch.dispatch(method, body),
            onCongestion: isCongested => calls.onCongestion(link, isCongested),
            onClosed: () => calls.onLinkClosed(link),
          }
        },
      },
    })
    this.#dialers.push(dialer)
    dialer.start()
    await until(() => calls.linkCount > before, 'the link stands')
    return service
  }

  async close(): Promise<void> {
    this.calls.close()
    for (const dialer of this.#dialers) dialer.stop('end of test')
    this.hub.closeAll('end of test')
    for (const service of this.#services) {
      await service.kill()
      service.rig.service.close()
    }
  }
}
