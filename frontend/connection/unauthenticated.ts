import type { FrontendSettings } from '../config.ts'
import type { Connection } from './connection.ts'

/** In Connection.countedBytes: the connection is a client or gone. */
const NOT_COUNTED = -1

/** Connections whose CONNECT has not been accepted yet, and what they make us hold: bounded as a whole and by address. */
export class Unauthenticated {
  readonly #settings: FrontendSettings
  #connections = 0
  #bytes = 0
  readonly #byAddress = new Map<string, number>()

  constructor(settings: FrontendSettings) {
    this.#settings = settings
  }

  hasRoomFor(remoteAddress: string): boolean {
    const { unauthenticatedConnectionsMax, unauthenticatedPerAddressMax } = this.#settings
    return this.#connections < unauthenticatedConnectionsMax && (this.#byAddress.get(remoteAddress) ?? 0) < unauthenticatedPerAddressMax
  }

  add({ transport: { remoteAddress } }: Connection): void {
    this.#connections++
    this.#byAddress.set(remoteAddress, (this.#byAddress.get(remoteAddress) ?? 0) + 1)
  }

  /** The connection makes us hold `heldBytes` now. False: over its limit or that of all of them. */
  hold(connection: Connection, heldBytes: number): boolean {
    this.#bytes += heldBytes - connection.countedBytes
    connection.countedBytes = heldBytes
    return heldBytes <= this.#settings.unauthenticatedBytesPerConnection && this.#bytes <= this.#settings.unauthenticatedBytesTotal
  }

  /** It became a client or ends. May be called again. */
  remove(connection: Connection): void {
    if (connection.countedBytes === NOT_COUNTED) return
    this.#bytes -= connection.countedBytes
    connection.countedBytes = NOT_COUNTED
    this.#connections--
    const { remoteAddress } = connection.transport
    const left = (this.#byAddress.get(remoteAddress) ?? 1) - 1
    if (left === 0) this.#byAddress.delete(remoteAddress)
    else this.#byAddress.set(remoteAddress, left)
  }
}
