import type { ClusterNode } from '../../backend/cluster/cluster-node.ts'
import type { ShardOwnership } from '../../backend/ownership/shard-ownership.ts'
import type { Router } from '../../frontend/routing/router.ts'
import type { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { registerStoreRoutingMetrics } from './state-store-metrics.ts'

/** Which shards a backend has, and how it came to them. */
export function registerOwnershipMetrics(metrics: MetricsRegistry, ownership: ShardOwnership, node: ClusterNode): void {
  const { counters } = ownership
  metrics.gauge('millrace_shards_owned', 'Shards that this backend owns', () => ownership.owned().length)
  metrics.counterFrom('millrace_shard_changes_total', 'Shards that came or went', () => [
    { labels: [['change', 'moved here']], value: counters.moves },
    { labels: [['change', 'failed over']], value: counters.failovers },
    { labels: [['change', 'claimed']], value: counters.claims },
    { labels: [['change', 'released']], value: counters.released },
    { labels: [['change', 'fenced']], value: counters.fenced },
  ])
  metrics.counterFrom('millrace_shard_failures_total', 'Shards that could not be read or let go', () => counters.failures)
  metrics.gauge('millrace_callers', 'Processes with a link to this backend', () => node.callers.size)
}

/** How a frontend finds backends, and what waits while it cannot. */
export function registerRouterMetrics(metrics: MetricsRegistry, router: Router): void {
  const { counters } = router
  metrics.gauge('millrace_router_pending_bytes', 'Bytes of publishes that backends have not answered', () => router.pendingBytes)
  metrics.counterFrom('millrace_router_publishes_held_total', 'Publishes that waited for a shard', () => counters.publishesHeld)
  metrics.counterFrom('millrace_router_publishes_resent_total', 'Publishes sent again to a new owner', () => counters.publishesResent)
  metrics.counterFrom('millrace_router_publishes_refused_total', 'Publishes refused because no backend could take them', () => [
    { labels: [['limit', 'time']], value: counters.publishesRefusedLate },
    { labels: [['limit', 'bytes']], value: counters.publishesRefusedFull },
  ])
  metrics.counterFrom('millrace_router_qos0_dropped_total', 'QoS 0 publishes dropped on the way to a backend', () => [
    { labels: [['reason', 'no owner']], value: counters.qos0DroppedNotFresh },
    { labels: [['reason', 'congestion']], value: counters.qos0DroppedCongested },
  ])
  metrics.counterFrom('millrace_router_sessions_resumed_total', 'Sessions that went on with another link', () => counters.sessionsResumed)
  metrics.counterFrom(
    'millrace_router_rights_not_understood_total',
    'Connections refused or ended as a backend of an older version cannot be told what they may do',
    () => counters.rightsNotUnderstood,
  )
  metrics.counterFrom('millrace_router_sessions_given_up_total', 'Connections ended for want of a session', () => counters.sessionsGivenUp)
  registerStoreRoutingMetrics(metrics, router)
}
