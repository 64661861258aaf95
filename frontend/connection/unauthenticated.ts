import type { FrontendSettings } from '../config.ts'
import type { Transport } from '../listener/transport.ts'
import type { Connection } from './connection.ts'

/** In Connection.countedBytes: the connection is a client or gone. */
const NOT_COUNTED = -1

/** One that holds no more than this is not closed for the total, which a few that hold much must not be able to use up for everybody. */
const SMALL_BYTES = 8 * 1024

/** Connections whose CONNECT has not been accepted yet, and what they make us hold: bounded as a whole and by address. */
export class Unauthenticated {
  readonly #settings: FrontendSettings
  #connections = 0
  #bytes = 0
  readonly #byAddress = new Map<string, number>()

  constructor(settings: FrontendSettings) {
    this.#settings = settings
  }

  hasRoomFor(transport: Transport): boolean {
    const { remoteAddress } = transport
    const shownBytes = shownBytesOf(transport)
    if (!this.#hasRoomForBytes(shownBytes, this.#bytes + shownBytes)) return false
    const { unauthenticatedConnectionsMax, unauthenticatedPerAddressMax } = this.#settings
    return this.#connections < unauthenticatedConnectionsMax && (this.#byAddress.get(remoteAddress) ?? 0) < unauthenticatedPerAddressMax
  }

  add(connection: Connection): void {
    const { remoteAddress } = connection.transport
    this.#connections++
    connection.countedBytes = shownBytesOf(connection.transport)
    this.#bytes += connection.countedBytes
    this.#byAddress.set(remoteAddress, (this.#byAddress.get(remoteAddress) ?? 0) + 1)
  }

  /** The connection makes us hold `heldBytes` now, besides its certificates. False: over its limit or that of all of them. */
  hold(connection: Connection, heldBytes: number): boolean {
    const countedBytes = heldBytes + shownBytesOf(connection.transport)
    this.#bytes += countedBytes - connection.countedBytes
    connection.countedBytes = countedBytes
    return heldBytes <= this.#settings.unauthenticatedBytesPerConnection && this.#hasRoomForBytes(countedBytes, this.#bytes)
  }

  #hasRoomForBytes(ofOne: number, ofAll: number): boolean {
    return ofOne <= SMALL_BYTES || ofAll <= this.#settings.unauthenticatedBytesTotal
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

/** Certificates come before anything is known of the client, and TLS lets it send some 100 KiB of them. */
function shownBytesOf({ peerCertificates }: Transport): number {
  return peerCertificates?.reduce((sum, { length }) => sum + length, 0) ?? 0
}
