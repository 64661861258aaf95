import type { FrontendRoleSettings } from '#shared/config/role-settings.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { registerMember } from './member-registry.ts'
import { NO_STATUS, type RunningRole } from './running-role.ts'

/** One frontend process: the connections of its clients, and links to all backends. */
export async function startFrontendRole(settings: FrontendRoleSettings, log: Log, metrics: MetricsRegistry): Promise<RunningRole> {
  const member = registerMember(settings, 'frontend', '', log, metrics)
  member.membership.start()
  return {
    addresses: [],
    rpc: null,
    waitingFor: () => [...member.waitingFor(), 'wiring'],
    impaired: () => settings.closedListeners.map(({ name, reason }) => `${name}: ${reason}`),
    status: () => NO_STATUS,
    drain: () => member.leave(),
  }
}
