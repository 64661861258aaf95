import { systemRandom } from '#shared/base/random.ts'
import { systemTimers } from '#shared/base/timers.ts'
import { Membership } from '#shared/cluster/membership.ts'
import type { RedisTls } from '#shared/cluster/redis-connection.ts'
import type { RunRegistry } from '#shared/cluster/cluster-run.ts'
import { RedisRegistry } from '#shared/cluster/redis-registry.ts'
import { redisUrlText } from '#shared/config/redis-url.ts'
import type { MemberSettings, RedisTlsFiles, RpcTls } from '#shared/config/role-settings.ts'
import type { Role } from '#shared/rpc/link.ts'
import type { LinkSettings } from '#shared/rpc/link-settings.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { MetricsRegistry } from '#shared/telemetry/metrics.ts'

/** This process in the registry of its cluster. */
export interface RegisteredMember {
  readonly membership: Membership
  readonly registry: RunRegistry
  /** Of this run of the process. */
  readonly instance: string
  /** Why it is no member at this moment; empty when it is one. */
  waitingFor(): readonly string[]
  /** Takes it out of the registry, does `then`, and ends the connection. */
  leave(then?: () => Promise<void> | undefined): Promise<void>
}

/**
 * Makes the membership; `start` begins it. Does not wait for Redis: as long as that is away, `waitingFor` says so.
 * @param address where it takes links, as others dial it; empty for roles that take none
 */
export function registerMember(
  settings: MemberSettings,
  role: Role,
  address: string,
  log: Log,
  metrics: MetricsRegistry,
  options: { readonly instance?: string; readonly figures?: () => ReadonlyMap<string, number> } = {},
): RegisteredMember {
  const registry = new RedisRegistry({ url: settings.redis, tls: redisTls(settings.redisTls), clusterName: settings.clusterName, log })
  const { instance = systemRandom.uuid(), figures } = options
  const self = { role, id: settings.id, instance, address }
  const membership = new Membership({ self, registry, timers: systemTimers, log, ...(figures !== undefined && { figures }) })
  metrics.gauge('millrace_members', 'Living members of the cluster that this process knows', () =>
    (['frontend', 'backend', 'authsvc'] as const).map(of => ({ labels: [['role', of]], value: membership.membersOf(of).length })),
  )
  metrics.counterFrom('millrace_heartbeats_failed_total', 'Heartbeats that Redis did not answer', () => membership.heartbeatsFailed)
  metrics.counterFrom('millrace_lease_lapses_total', 'Leases that ended before they were renewed', () => membership.lapses)
  return {
    membership,
    registry,
    instance,
    waitingFor: () =>
      membership.isAlive ? [] : [`redis: no lease from ${redisUrlText(settings.redis)}: ${registry.fault || 'connecting'}`],
    leave: async then => {
      await membership.leave()
      await then?.()
      registry.close()
    },
  }
}

/** How this process presents itself on links. */
export function linkSettings(settings: MemberSettings, role: Role, instance: string): LinkSettings {
  const { clusterName, clusterKey, rpcTls, id, limits } = settings
  return {
    self: { cluster: clusterName, shards: limits.shards, role, id, instance },
    proof: clusterKey === null ? { is: 'mtls' } : { is: 'key', key: Buffer.from(clusterKey) },
    tls: rpcTls === null ? null : linkTls(rpcTls),
  }
}

function linkTls({ cert, key, ca, serverName }: RpcTls): NonNullable<LinkSettings['tls']> {
  return { cert: Buffer.from(cert), key: Buffer.from(key), ca: Buffer.from(ca), ...(serverName !== '' && { serverName }) }
}

/** What is given of it; the client wants no keys without a value. */
export function redisTls({ ca, cert, key }: RedisTlsFiles): RedisTls {
  return {
    ...(ca !== null && { ca: Buffer.from(ca) }),
    ...(cert !== null && { cert: Buffer.from(cert) }),
    ...(key !== null && { key: Buffer.from(key) }),
  }
}
