import type { Publish as Received } from '../conformance/decode.ts'

/** What to do with a PUBLISH: hand it to the application, or only acknowledge it again. */
export type Reception = 'deliver' | 'repeat'

/**
 * Receiver side of a client's QoS 1 and 2 messages (§4.3.2, §4.3.3), with what it may hold the broker to: Receive
 * Maximum, Packet Identifiers that are never used twice at once, DUP on what is sent again.
 */
export class Incoming {
  readonly #receiveMaximum: number
  readonly #violation: (what: string) => void
  /** QoS 2 messages received and not released, by Packet Identifier; outlives connections [MQTT-4.3.3-10]. */
  readonly #held = new Map<number, string>()
  /** Packet Identifiers that this connection was sent and has not answered to the end. */
  readonly #open = new Set<number>()

  constructor(receiveMaximum: number, violation: (what: string) => void) {
    this.#receiveMaximum = receiveMaximum
    this.#violation = violation
  }

  /** QoS 2 exchanges that wait for PUBREL. */
  get held(): number {
    return this.#held.size
  }

  /** A new connection. */
  restart(isResumed: boolean): void {
    this.#open.clear()
    if (!isResumed) this.#held.clear()
  }

  onPublish(packet: Received, content: string): Reception {
    const { packetId, qos, dup } = packet
    if (this.#open.has(packetId)) this.#violation(`Packet Identifier ${packetId} was sent again before it was acknowledged`)
    this.#open.add(packetId)
    if (this.#open.size > this.#receiveMaximum)
      this.#violation(`${this.#open.size} unacknowledged messages, Receive Maximum ${this.#receiveMaximum}`)
    const held = this.#held.get(packetId)
    if (held === undefined) {
      if (qos === 2) this.#held.set(packetId, content)
      return 'deliver'
    }
    if (held !== content || qos !== 2)
      this.#violation(`Packet Identifier ${packetId} means ${content} (QoS ${qos}) while it still means ${held}`)
    else if (!dup) this.#violation(`${content} was sent again without DUP`)
    return 'repeat'
  }

  /** PUBREL: true when the identifier was held. */
  onPubrel(packetId: number): boolean {
    return this.#held.delete(packetId)
  }

  /** PUBACK or PUBCOMP goes out now. */
  finished(packetId: number): void {
    this.#open.delete(packetId)
  }
}
