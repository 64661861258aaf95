import type { Engine } from '../../backend/engine.ts'
import type { CountedByCategory } from '../../frontend/categories.ts'
import type { ListenerStatus } from '../../frontend/admin/broker-status.ts'
import type { Frontend } from '../../frontend/frontend.ts'
import type { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { registerStateStoreMetrics, registerStoreRequestMetrics } from './state-store-metrics.ts'

/** The standalone broker's metrics, under the original's names (operations guide) where it has one, else `millrace_*`. Read on scrape only. */
export function registerBrokerMetrics(metrics: MetricsRegistry, engine: Engine, frontend: Frontend): void {
  registerEngineMetrics(metrics, engine, frontend)
  registerConnections(metrics, frontend)
}

/** What a backend counts; in the process of a frontend, which counts what it drops itself, that too. */
export function registerEngineMetrics(metrics: MetricsRegistry, engine: Engine, frontend: Frontend | null): void {
  registerTraffic(metrics, engine, frontend)
  registerStore(metrics, engine)
  registerStateStoreMetrics(metrics, engine)
}

/** What a frontend counts, without a backend in its process. */
export function registerFrontendMetrics(metrics: MetricsRegistry, frontend: Frontend): void {
  registerConnections(metrics, frontend)
  metrics.counterFrom('aio_broker_qos0_messages_dropped', 'QoS 0 messages dropped', () => [
    { labels: [['direction', 'outgoing']], value: frontend.counters.qos0DroppedOutgoing },
  ])
}

function registerTraffic(metrics: MetricsRegistry, engine: Engine, frontend: Frontend | null): void {
  const { counters } = engine
  metrics.counterFrom('aio_broker_publishes_received', 'PUBLISH packets received', () => counters.publishesReceived)
  metrics.counterFrom('aio_broker_publishes_sent', 'PUBLISH packets sent, each delivery counted', () => counters.publishesSent)
  metrics.counterFrom('aio_broker_payload_bytes_received', 'Payload bytes received', () => counters.payloadBytesReceived)
  metrics.counterFrom('aio_broker_payload_bytes_sent', 'Payload bytes sent', () => counters.payloadBytesSent)
  metrics.counterFrom('aio_broker_qos0_messages_dropped', 'QoS 0 messages dropped', () => [
    { labels: [['direction', 'incoming']], value: counters.qos0DroppedIncoming },
    { labels: [['direction', 'outgoing']], value: counters.qos0DroppedOutgoing + (frontend?.counters.qos0DroppedOutgoing ?? 0) },
  ])
  metrics.counterFrom(
    'aio_broker_backpressure_packets_rejected_memory',
    'PUBLISH packets refused at the memory watermark',
    () => counters.refusedMemory,
  )
  metrics.counterFrom('millrace_publishes_refused_total', 'PUBLISH packets refused with QuotaExceeded at a limit other than memory', () => [
    { labels: [['limit', 'queue']], value: counters.refusedQueueFull },
    { labels: [['limit', 'retained']], value: counters.refusedRetainedFull },
  ])
  metrics.counterFrom('millrace_queue_messages_dropped_total', 'Messages dropped because a queue was full', () => counters.queueDropped)
}

function registerStore(metrics: MetricsRegistry, engine: Engine): void {
  const { counters, journal, index } = engine
  metrics.gauge('aio_broker_store_retained_messages', 'Retained Messages', () => counters.retainedMessages)
  metrics.gauge('aio_broker_store_retained_bytes', 'Bytes of Retained Messages', () => counters.retainedBytes)
  metrics.gauge('aio_broker_store_will_messages', 'Will Messages', () => counters.willMessages)
  metrics.gauge('aio_broker_store_will_bytes', 'Bytes of Will Messages', () => counters.willBytes)
  metrics.counterFrom('aio_broker_store_expired_messages', 'Messages that expired', () => counters.expiredMessages)
  metrics.counterFrom(
    'millrace_withdrawn_subscriptions_total',
    'Subscriptions that ended because their client may not have them any more',
    () => counters.withdrawnSubscriptions,
  )
  metrics.counterFrom(
    'millrace_withdrawn_messages_total',
    'Messages dropped from sessions because their client may not have them any more',
    () => counters.withdrawnMessages,
  )
  metrics.counterFrom(
    'millrace_wills_refused_total',
    'Wills that were due and that their client may not publish',
    () => counters.willsRefused,
  )
  metrics.counterFrom(
    'millrace_not_persisted_messages_total',
    'Messages dropped after a stop because the persistence policy does not choose them',
    () => counters.notPersisted,
  )
  metrics.gauge('aio_broker_store_total_sessions', 'Sessions', () => counters.sessionsTotal)
  metrics.gauge('aio_broker_store_connected_sessions', 'Sessions with a connection', () => counters.sessionsConnected)
  metrics.gauge('aio_broker_store_subscriptions', 'Subscriptions, of offline sessions too', () => index.subscriptionCount)
  metrics.gauge(
    'aio_broker_store_shared_subscriptions',
    'Shared Subscriptions, of offline sessions too',
    () => index.sharedSubscriptionCount,
  )
  metrics.gauge('millrace_queued_messages', 'Messages waiting in sessions', () => counters.queuedMessages)
  metrics.gauge('millrace_message_bytes', 'Bytes of messages that are queued, in flight or retained', () => counters.messageBytes)
  metrics.gauge('millrace_session_bytes', 'Bytes of sessions and their Subscriptions, without messages', () => counters.sessionBytes)
  metrics.gauge('millrace_journal_pending_bytes', 'Bytes of journal records not stored yet', () => journal.pendingBytes)
  metrics.counterFrom('millrace_journal_commits_total', 'Group commits', () => journal.commits)
  metrics.counterFrom('millrace_journal_records_total', 'Journal records', () => journal.records)
  metrics.counterFrom('millrace_snapshots_total', 'Snapshots of shards finished', () => counters.snapshots)
  metrics.counterFrom('millrace_takeovers_total', 'Sessions taken over by a newer connection', () => counters.takeovers)
}

function registerConnections(metrics: MetricsRegistry, frontend: Frontend): void {
  const { counters } = frontend
  metrics.counterFrom(
    'millrace_too_large_dropped_total',
    "Messages larger than the client's Maximum Packet Size",
    () => counters.tooLargeDropped,
  )
  metrics.gauge('millrace_connections', 'Network Connections', () => counters.connectionsOpen)
  metrics.counterFrom('millrace_connections_total', 'Network Connections accepted', () => counters.connectionsTotal)
  metrics.counterFrom('millrace_connections_refused_total', 'Connections refused before or in CONNECT', () => counters.connectionsRefused)
  metrics.counterFrom('millrace_received_bytes_total', 'Bytes received', () => counters.bytesReceived)
  metrics.counterFrom('millrace_sent_bytes_total', 'Bytes sent', () => counters.bytesSent)
  metrics.counterFrom('millrace_protocol_errors_total', 'Connections ended for breaking the protocol', () => counters.protocolErrors)
  metrics.counterFrom('millrace_keep_alive_timeouts_total', 'Connections ended by Keep Alive', () => counters.keepAliveTimeouts)
  registerDecisions(metrics, frontend)
  registerStoreRequestMetrics(metrics, frontend)
}

/** What authentication and authorization decided, by the category that a client gives itself. */
function registerDecisions(metrics: MetricsRegistry, { counters }: Frontend): void {
  const byCategory = (name: string, help: string, counted: CountedByCategory): void => {
    metrics.counterFrom(name, help, () => counters.categories.samples(counted))
  }
  byCategory('aio_broker_authentication_successes', 'Clients authenticated', 'authenticationSuccesses')
  byCategory('aio_broker_authentication_deny', 'Clients refused by authentication', 'authenticationDenied')
  byCategory('aio_broker_authentication_failures', 'Authentications that could not be decided', 'authenticationFailures')
  byCategory('aio_broker_authorization_allow', 'Requests allowed by authorization', 'authorizationAllowed')
  byCategory('aio_broker_authorization_deny', 'Requests refused by authorization', 'authorizationDenied')
  byCategory('aio_broker_authorization_failures', 'Requests refused because the check failed', 'authorizationFailures')
  metrics.counterFrom('millrace_credentials_expired_total', 'Connections ended with their credential', () => counters.credentialsExpired)
  metrics.counterFrom('millrace_connections_ended_by_change_total', 'Connections ended by a change of rules', () => counters.endedByChange)
}

/** Which engine serves which port: the WebSocket one depends on what loads. */
export function registerListenerMetrics(metrics: MetricsRegistry, listeners: () => readonly ListenerStatus[]): void {
  metrics.gauge('millrace_listener_open', 'Ports of the broker: 1 open, 0 closed', () =>
    listeners().map(({ name, engine }) => ({
      labels: [
        ['listener', name],
        ['engine', engine ?? 'none'],
      ] as const,
      value: engine === null ? 0 : 1,
    })),
  )
}
