import type { ConnectionId } from '#shared/rpc/backend-port.ts'

/**
 * Connections of which a QoS 1 publish was refused after waiting for too long. Should such a connection end before its client has read that,
 * the client sends the publish again, by another frontend perhaps, and with it all that it published afterwards. What is still held here of
 * the connection must then go nowhere: it would come before the older one [MQTT-4.6.0-6].
 */
export class RefusedLate {
  readonly #open = new Set<ConnectionId>()
  readonly #ended = new Set<ConnectionId>()

  add(connection: ConnectionId, isOpen: boolean): void {
    if (isOpen) this.#open.add(connection)
    else this.#ended.add(connection)
  }

  /** The connection is gone. */
  end(connection: ConnectionId): void {
    if (this.#open.delete(connection)) this.#ended.add(connection)
  }

  /** Whether what is held of the connection must go nowhere. */
  hasEnded(connection: ConnectionId): boolean {
    return this.#ended.size > 0 && this.#ended.has(connection)
  }

  /** Nothing is held any more. */
  clear(): void {
    if (this.#open.size + this.#ended.size === 0) return
    this.#open.clear()
    this.#ended.clear()
  }
}
