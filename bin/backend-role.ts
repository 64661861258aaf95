import type { BackendRoleSettings } from '#shared/config/role-settings.ts'
import { linkAddressText } from '#shared/rpc/link-address.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { registerMember } from './member-registry.ts'
import { NO_STATUS, type RunningRole } from './running-role.ts'

/** One backend process: the shards that it owns, and links to and from everybody. */
export async function startBackendRole(settings: BackendRoleSettings, log: Log, metrics: MetricsRegistry): Promise<RunningRole> {
  const rpc = linkAddressText(settings.advertise ?? settings.rpc)
  const member = registerMember(settings, 'backend', rpc, log, metrics)
  member.membership.start()
  return {
    addresses: [],
    rpc,
    waitingFor: () => [...member.waitingFor(), 'wiring'],
    impaired: () => [],
    status: () => NO_STATUS,
    drain: () => member.leave(),
  }
}
