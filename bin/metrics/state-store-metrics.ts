import type { Engine } from '../../backend/engine.ts'
import type { KeyStore } from '../../backend/statestore/key-store.ts'
import type { Frontend } from '../../frontend/frontend.ts'
import type { Router } from '../../frontend/routing/router.ts'
import type { MetricsRegistry } from '#shared/telemetry/metrics.ts'

/** What a backend counts of the state store: attempts, refused ones included (spec state-store.md 15), and what its shards hold. */
export function registerStateStoreMetrics(metrics: MetricsRegistry, engine: Engine): void {
  const { counters, storeCounters } = engine
  metrics.counterFrom('aio_broker_state_store_insertions', 'SET of a key that was not there', () => storeCounters.insertions)
  metrics.counterFrom('aio_broker_state_store_modifications', 'SET of a key that was there', () => storeCounters.modifications)
  metrics.counterFrom('aio_broker_state_store_deletions', 'DEL and VDEL', () => storeCounters.deletions)
  metrics.counterFrom('aio_broker_state_store_retrievals', 'GET', () => storeCounters.retrievals)
  metrics.counterFrom('aio_broker_state_store_keynotify_requests', 'KEYNOTIFY, to begin and to stop', () => storeCounters.keynotifyRequests)
  metrics.counterFrom(
    'aio_broker_state_store_notifications_sent',
    'Notifications, one for each watcher of each change',
    () => storeCounters.notifications,
  )
  metrics.counterFrom(
    'millrace_state_store_notifications_dropped_total',
    'Notifications for a connection that was gone',
    () => counters.notificationsDropped,
  )
  metrics.counterFrom('millrace_state_store_expirations_total', 'Keys whose lifetime was over', () => storeCounters.expirations)
  metrics.counterFrom(
    'millrace_state_store_repeats_total',
    'Requests that had been executed before they came again, after a failover',
    () => storeCounters.repeats,
  )
  metrics.counterFrom(
    'millrace_state_store_answers_forgotten_total',
    'Answers that were forgotten before their frontend had them, because it had asked too much at once',
    () => storeCounters.answersForgotten,
  )
  metrics.counterFrom(
    'millrace_state_store_keys_not_persisted_total',
    'Keys dropped after a stop because the persistence policy does not choose them',
    () => counters.keysNotPersisted,
  )
  metrics.gauge('millrace_state_store_keys', 'Keys of the state store', () => sum(engine, ({ keys }) => keys))
  metrics.gauge('millrace_state_store_bytes', 'Bytes of keys and values of the state store, 250 for each included', () =>
    sum(engine, ({ bytes }) => bytes),
  )
  metrics.gauge('millrace_state_store_watches', 'Keys that clients watch', () => sum(engine, ({ watches }) => watches))
  metrics.gauge('millrace_state_store_watches_away', 'Of those, watches with KEEP whose client has no connection', () =>
    sum(engine, ({ watchesAway }) => watchesAway),
  )
  metrics.gauge('millrace_state_store_kept_bytes', 'Bytes of the changes that are remembered for watches with KEEP', () =>
    sum(engine, ({ pastBytes }) => pastBytes),
  )
  metrics.counterFrom(
    'millrace_state_store_watches_resumed_total',
    'KEYNOTIFY with SINCE that went on without a gap',
    () => storeCounters.resumed,
  )
  metrics.counterFrom('millrace_state_store_watch_gaps_total', 'The same with one: its client reads the key', () => storeCounters.gaps)
}

/** Of shards that are served: what is read ahead of another one's would count twice. */
function sum({ shards }: Engine, of: (store: KeyStore) => number): number {
  let total = 0
  for (const { isServing, store } of shards) if (isServing && store !== null) total += of(store)
  return total
}

/** What a frontend lets nobody answer. */
export function registerStoreRequestMetrics(metrics: MetricsRegistry, { counters }: Frontend): void {
  metrics.counterFrom(
    'millrace_state_store_requests_dropped_total',
    'Requests to the state store that no answer can be given to',
    () => counters.storeRequestsDropped,
  )
}

/** What a frontend of a cluster asks again. */
export function registerStoreRoutingMetrics(metrics: MetricsRegistry, { counters }: Router): void {
  metrics.counterFrom(
    'millrace_router_state_store_requests_repeated_total',
    'Requests to the state store that were asked of the next owner',
    () => counters.storeRequestsRepeated,
  )
}
