import type { AuthsvcRoleSettings } from '#shared/config/role-settings.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { registerMember } from './member-registry.ts'
import { NO_STATUS, type RunningRole } from './running-role.ts'

/** A member that decides nothing yet. */
export async function startAuthsvcRole(settings: AuthsvcRoleSettings, log: Log, metrics: MetricsRegistry): Promise<RunningRole> {
  const member = registerMember(settings, 'authsvc', '', log, metrics)
  member.membership.start()
  return {
    addresses: [],
    rpc: null,
    waitingFor: () => member.waitingFor(),
    impaired: () => [],
    status: () => NO_STATUS,
    drain: () => member.leave(),
  }
}
