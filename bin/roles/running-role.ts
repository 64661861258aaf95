import type { BrokerStatus, ListenerStatus } from '../../frontend/admin/broker-status.ts'

/** What a process does besides being watched and stopped: a standalone broker or one role of a cluster. */
export interface RunningRole {
  /** Ports for clients, open ones first, then those that stay closed. May change while it runs; empty for roles without any. */
  readonly addresses: readonly ListenerStatus[]
  /** Where it takes links of other processes, as it registers it; null for roles that take none. */
  readonly rpc: string | null
  /** What keeps it from serving, one short text each; empty while it serves. */
  waitingFor(): readonly string[]
  /** What it cannot serve while it serves the rest: ports that stay closed (docs/listeners.md). */
  impaired(): readonly string[]
  status(): RoleStatus
  /** Stops accepting, disconnects the clients, hands over what it owns, flushes. Resolves when nothing is left to do. */
  drain(): Promise<void>
}

/** Its share of what the status page shows. */
export type RoleStatus = Omit<BrokerStatus, 'version' | 'uptimeSeconds' | 'waitingFor' | 'listeners' | 'residentBytes'>

export const NO_STATUS: RoleStatus = {
  connections: 0,
  sessions: 0,
  subscriptions: 0,
  retainedMessages: 0,
  publishesReceived: 0,
  publishesSent: 0,
}
