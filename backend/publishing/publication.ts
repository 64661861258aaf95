import { Message } from '#shared/mqtt/message.ts'
import type { Engine } from '../engine.ts'

/**
 * One publish on its way through the engine: the message as received, and its copy once somebody keeps it. The engine
 * has a single one and uses it again for each publish; publishes do not nest.
 */
export class Publication {
  message = new Message()
  /**
   * Queues were found to have room before it began. It is then taken whole, and its publisher told so: where several copies go to one
   * session (by Shared Subscriptions), the last of them may put a queue over its limit.
   */
  isAdmitted = false
  #kept: Message | null = null

  /** A message whose bytes are valid only now. */
  begin(message: Message): void {
    this.message = message
    this.isAdmitted = true
    this.#kept = null
  }

  /** One of the broker's own, whose bytes are valid only now: nobody is refused it before. */
  beginBorrowed(message: Message): void {
    this.message = message
    this.isAdmitted = false
    this.#kept = null
  }

  /** A message that owns its bytes already: retained, a Will, one that is handed on. */
  beginKept(message: Message): void {
    this.message = message
    this.isAdmitted = false
    this.#kept = message
  }

  /** The same message in memory of its own; made at most once for a publish. */
  kept(engine: Engine): Message {
    if (this.#kept !== null) return this.#kept
    // What stays for long must not pin a shared pool of small buffers.
    const kept = this.message.retain ? this.message.keepApart() : this.message.keep()
    kept.expiresAtMs = expiresAtMs(engine, this.message)
    this.#kept = kept
    return kept
  }
}

/** The configured ceiling, imposed on a client's message when it comes in: whoever gets it at once or later sees the same interval. */
export function limitExpiry(engine: Engine, message: Message): void {
  const ceiling = engine.settings.maxMessageExpirySeconds
  if (ceiling !== null && (message.expirySeconds < 0 || message.expirySeconds > ceiling)) message.expirySeconds = ceiling
}

/** Wall time at which a message that came now expires (§3.3.2.3.3); Infinity for never. */
export function expiresAtMs(engine: Engine, message: Message): number {
  return message.expirySeconds < 0 ? Infinity : engine.clock.wallMs() + message.expirySeconds * 1_000
}

/** The Message Expiry Interval to send now: what was received less the time it waited [MQTT-3.3.2-6]. */
export function setRemainingExpiry(message: Message, nowMs: number): void {
  message.expirySeconds = message.expiresAtMs === Infinity ? -1 : Math.max(0, Math.ceil((message.expiresAtMs - nowMs) / 1_000))
}
