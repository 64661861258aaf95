/** What the status page and `/api/v1/status` show. Counters are totals since the start; whoever reads twice has a rate. */
export interface BrokerStatus {
  readonly version: string
  readonly uptimeSeconds: number
  /** What keeps the broker from serving; empty when it serves. */
  readonly waitingFor: readonly string[]
  readonly listeners: readonly ListenerStatus[]
  readonly connections: number
  readonly sessions: number
  readonly subscriptions: number
  readonly retainedMessages: number
  readonly publishesReceived: number
  readonly publishesSent: number
  readonly residentBytes: number
}

export interface ListenerStatus {
  readonly name: string
  /** `127.0.0.1:1883`, with the port that the system chose when 0 was asked for. */
  readonly address: string
  readonly protocol: 'Mqtt' | 'WebSockets'
  readonly tls: boolean
  /** `net`, `tls`, `ws` or `uws`; null when the port is closed. */
  readonly engine: string | null
  /** Why the port is closed; null when it is open. */
  readonly closedReason: string | null
}
