import type { BrokerStatus } from '../frontend/admin/broker-status.ts'
import type { BrokerSettings } from '#shared/config/broker-settings.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { MetricsRegistry } from '#shared/telemetry/metrics.ts'

/** A broker that serves. */
export interface RunningBroker {
  /** Open ports first, then those that stay closed. */
  readonly addresses: BrokerStatus['listeners']
  /** What keeps it from serving all that it should, one short text each. */
  waitingFor(): readonly string[]
  status(): Omit<BrokerStatus, 'version' | 'uptimeSeconds' | 'waitingFor' | 'listeners' | 'residentBytes'>
  /** Stops accepting, disconnects the clients, flushes and closes the store. Resolves when nothing is left to do. */
  drain(): Promise<void>
}

/**
 * One process: frontend, backend and store wired by function calls.
 * @throws {ListenError} a port cannot be opened
 * @throws {StoreError} the store cannot be used
 */
export function startStandalone(_settings: BrokerSettings, _log: Log, _metrics: MetricsRegistry): Promise<RunningBroker> {
  return Promise.reject(new Error('the broker is not in this version'))
}
