/** What a Router may hold and how long it waits. */
export interface RouterLimits {
  /**
   * Bytes of all publishes that are not answered, held ones among them. Beyond: pressure, MQTT 5 publishes are refused with QuotaExceeded,
   * QoS 0 to shards that are not fresh is dropped. Beyond twice as much every QoS 1 or 2 publish is refused.
   */
  readonly pendingBytesMax: number
  /** Bytes sent to a link since it is congested. Beyond: QoS 0 for it is dropped, QoS 1 refused with QuotaExceeded. */
  readonly congestedBytesMax: number
  /** A QoS 1 publish unanswered for so long is refused with QuotaExceeded; a held QoS 0 one is dropped; a request without backend ends its connection. */
  readonly publishWaitMs: number
  /** A CONNECT unanswered for so long is refused with ServerUnavailable. */
  readonly attachTimeoutMs: number
  /** Ended connections that no backend has confirmed. Beyond, the oldest is forgotten: its backend takes it for lost, with its Will. */
  readonly detachesMax: number
  /** Bytes of held messages sent to one link in a turn; the rest goes on in the next. */
  readonly flushBytesPerTurn: number
}

export const ROUTER_LIMITS: RouterLimits = {
  pendingBytesMax: 64 * 1024 * 1024,
  congestedBytesMax: 4 * 1024 * 1024,
  publishWaitMs: 20_000,
  attachTimeoutMs: 10_000,
  detachesMax: 1_000_000,
  flushBytesPerTurn: 4 * 1024 * 1024,
}
