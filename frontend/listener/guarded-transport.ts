import type { OnRefused } from './listener.ts'
import type { OnTransport, Transport, TransportHandler, TransportKind } from './transport.ts'

/** What is known of a connection before its byte stream begins. */
export type TransportFacts = Pick<Transport, 'kind' | 'remoteAddress' | 'remotePort' | 'peerCertificates' | 'serverName' | 'acceptedMs'>

/** The listener's side of a Transport. */
export interface TransportHome {
  readonly onRefused: OnRefused
  /** From here on the listener closes the connection through `transport`. */
  entered(transport: Transport): void
  /** The Transport has had its `onClose`. */
  left(): void
}

/**
 * What all engines' Transports share: facts, phase, and the way to the handler. A handler that throws is our bug, on one connection:
 * it loses that connection and is reported, it does not take the process and every other client with it.
 *   open ─end→ ending ─→ closed      open ─destroy→ closing ─→ closed; `onBytes` and `onDrain` only while open
 */
export abstract class GuardedTransport implements Transport {
  readonly kind: TransportKind
  readonly remoteAddress: string
  readonly remotePort: number
  readonly peerCertificates: readonly Uint8Array[] | null
  readonly serverName: string | null
  readonly acceptedMs: number
  protected phase: 'open' | 'ending' | 'closing' | 'closed' = 'open'
  #handler: TransportHandler | null = null
  readonly #home: TransportHome

  constructor(facts: TransportFacts, home: TransportHome) {
    this.kind = facts.kind
    this.remoteAddress = facts.remoteAddress
    this.remotePort = facts.remotePort
    this.peerCertificates = facts.peerCertificates
    this.serverName = facts.serverName
    this.acceptedMs = facts.acceptedMs
    this.#home = home
  }

  abstract write(bytes: Uint8Array): void
  abstract readonly bufferedBytes: number
  abstract pause(): void
  abstract resume(): void
  abstract end(): void
  abstract destroy(): void

  /** Asks for the handler; before the event loop can bring the first bytes, so that none is lost. */
  introduce(onTransport: OnTransport): void {
    this.#home.entered(this)
    try {
      this.#handler = onTransport(this)
    } catch (error) {
      return this.#fault(error)
    }
    if (this.#handler !== null) return
    this.destroy()
    this.#home.onRefused({ reason: 'handlerRefused', remoteAddress: this.remoteAddress, detail: 'not taken' })
  }

  protected deliver(bytes: Buffer): void {
    if (this.phase !== 'open' || this.#handler === null) return
    try {
      this.#handler.onBytes(bytes)
    } catch (error) {
      this.#fault(error)
    }
  }

  protected drained(): void {
    if (this.phase !== 'open' || this.#handler === null) return
    try {
      this.#handler.onDrain()
    } catch (error) {
      this.#fault(error)
    }
  }

  /**
   * The connection is gone, for whatever reason; the second and later calls do nothing.
   * @param error what the engine says; left out when the close was our own doing
   */
  protected closed(error: string | null): void {
    if (this.phase === 'closed') return
    const isOurs = this.phase === 'closing'
    this.phase = 'closed'
    try {
      this.#handler?.onClose(isOurs ? null : error)
    } catch (fault) {
      this.#fault(fault)
    }
    this.#home.left()
  }

  #fault(error: unknown): void {
    this.destroy()
    const detail = error instanceof Error ? (error.stack ?? error.message) : String(error)
    this.#home.onRefused({ reason: 'fault', remoteAddress: this.remoteAddress, detail })
  }
}
