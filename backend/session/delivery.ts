import type { Message } from '#shared/mqtt/message.ts'

/** Where a message came to the session from, when that is a Shared Subscription: who else may get it (§4.8.2). */
export interface SharedOrigin {
  /** ShareName. */
  readonly name: string
  readonly filter: string
}

/** One QoS 1 or 2 message on its way to one session: waiting in its queue or unacknowledged. */
export class Delivery {
  readonly message: Message
  /** Counts up per session; the journal's name for this delivery and the order of resending [MQTT-4.4.0-1]. */
  readonly sequence: number
  readonly qos: 1 | 2
  readonly retain: boolean
  readonly identifiers: readonly number[] | null
  readonly shared: SharedOrigin | null
  /** 0 while it has none. */
  packetId = 0
  /** Was sent at least once: the next time carries DUP [MQTT-3.3.1-1]. */
  sent = false
  /** Takes a place in the window of the present connection's Receive Maximum. */
  inWindow = false
  /** A QoS 2 message of a stored session is sent only after this commit (see Outbox). */
  storedBy = 0

  constructor(
    message: Message,
    sequence: number,
    qos: 1 | 2,
    retain: boolean,
    identifiers: readonly number[] | null,
    shared: SharedOrigin | null,
  ) {
    this.message = message
    this.sequence = sequence
    this.qos = qos
    this.retain = retain
    this.identifiers = identifiers
    this.shared = shared
  }
}
