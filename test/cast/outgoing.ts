import { ack, publish, type Publish, type Version } from '../conformance/packets.ts'

/** How a publish ended: its reason code, or that nobody can know because the session ended with its connection. */
export type PublishOutcome = number | 'unknown'

interface Exchange {
  readonly packet: Publish
  isReleased: boolean
  readonly done: (outcome: PublishOutcome) => void
}

/**
 * Sender side of a client's QoS 1 and 2 messages (§4.3), kept across its connections as MQTT demands of a client:
 * what is unfinished is sent again in its first order, PUBLISH with DUP, PUBREL once PUBREC was received [MQTT-4.4.0-1].
 */
export class Outgoing {
  readonly #version: Version
  readonly #exchanges = new Map<number, Exchange>()
  #lastId = 0

  constructor(version: Version) {
    this.#version = version
  }

  get size(): number {
    return this.#exchanges.size
  }

  nextId(): number {
    do this.#lastId = this.#lastId === 65_535 ? 1 : this.#lastId + 1
    while (this.#exchanges.has(this.#lastId))
    return this.#lastId
  }

  /** Answers the bytes to send first. */
  begin(packet: Publish, done: (outcome: PublishOutcome) => void): Buffer {
    const packetId = this.nextId()
    this.#exchanges.set(packetId, { packet: { ...packet, packetId }, isReleased: false, done })
    return publish({ ...packet, packetId }, this.#version)
  }

  /** Bytes that a connection which resumes the session starts with. */
  resumed(): Buffer[] {
    return [...this.#exchanges].map(([packetId, { packet, isReleased }]) =>
      isReleased ? ack('pubrel', packetId) : publish({ ...packet, dup: true }, this.#version),
    )
  }

  /** The session is gone. */
  forget(): void {
    for (const { done } of this.#exchanges.values()) done('unknown')
    this.#exchanges.clear()
  }

  /** PUBACK. False when it answers nothing. */
  onPuback(packetId: number, reason: number): boolean {
    const exchange = this.#exchanges.get(packetId)
    if (exchange?.packet.qos !== 1) return false
    this.#finish(packetId, exchange, reason)
    return true
  }

  /** PUBREC. Answers the PUBREL to send, null after a failure, or false when it answers nothing. */
  onPubrec(packetId: number, reason: number): Buffer | null | false {
    const exchange = this.#exchanges.get(packetId)
    if (exchange?.packet.qos !== 2) return false
    if (reason >= 0x80) {
      this.#finish(packetId, exchange, reason)
      return null
    }
    exchange.isReleased = true
    return ack('pubrel', packetId)
  }

  /** PUBCOMP; 0x92 is right when the broker had it already, before a crash. False when it answers nothing. */
  onPubcomp(packetId: number): boolean {
    const exchange = this.#exchanges.get(packetId)
    if (exchange === undefined || !exchange.isReleased) return false
    this.#finish(packetId, exchange, 0)
    return true
  }

  #finish(packetId: number, exchange: Exchange, reason: number): void {
    this.#exchanges.delete(packetId)
    exchange.done(reason)
  }
}
