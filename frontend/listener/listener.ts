import type { PortSettings, TlsSettings } from '#shared/config/port-settings.ts'

/** One port as the socket layer needs it. */
export interface ListenerSettings extends PortSettings {
  /** Maximum Packet Size of the port, bytes; a WebSocket message may be little larger than this. */
  readonly packetBytesMax: number
  /** Several processes share the port, the kernel spreads connections over them. */
  readonly reusePort?: boolean
  /** 48 bytes that all frontends of a cluster share: a TLS session begun with one is resumed with any. Unset: keys of this process. */
  readonly ticketKeys?: Buffer
}

/** What one port admits. Each refusal is told through `OnRefused`. */
export interface ListenerLimits {
  /** Connections of this port at a time, those still in a handshake included; one more is closed at once. */
  readonly connectionsMax: number
  /**
   * Connections of one client address that are between accept and Transport (TLS handshake, HTTP upgrade); one more is closed.
   * Counted from when the client's address is known, that is after the PROXY protocol header. Unset: no such limit.
   */
  readonly unauthenticatedPerAddressMax?: number
  /** From accept until PROXY protocol header, TLS handshake and HTTP upgrade are done, milliseconds; then the connection is closed. */
  readonly upgradeDeadlineMs: number
}

export const REFUSAL_REASONS = [
  'acceptFailed',
  'connectionsMax',
  'unauthenticatedPerAddressMax',
  'upgradeDeadline',
  'closedEarly',
  'proxySource',
  'proxyHeader',
  'tlsHandshake',
  'clientCertificate',
  'httpRequest',
  'subprotocol',
  'handlerRefused',
  'fault',
] as const

/**
 * Why a connection did not become, or did not stay, a Transport. `acceptFailed`: out of file descriptors or the like. `closedEarly`: the client left before it was one. `proxySource`: not a
 * trusted source of PROXY headers. `fault`: our own handler threw; the only reason that may follow a Transport.
 */
export type RefusalReason = (typeof REFUSAL_REASONS)[number]

export interface Refusal {
  readonly reason: RefusalReason
  /** The client's address as far as it was known: before the PROXY protocol header it is the balancer's. */
  readonly remoteAddress: string | null
  /** For the log. Never holds bytes that the client sent as content. */
  readonly detail: string
}

export type OnRefused = (refusal: Refusal) => void

/** A port that listens. */
export interface Listener {
  readonly name: string
  readonly address: { readonly host: string; readonly port: number }
  readonly engine: 'net' | 'tls' | 'ws' | 'uws'
  /** Frees the port; connections that are there stay. */
  stopAccepting(): Promise<void>
  /**
   * Handshakes that begin from now on use these; connections that are there stay, resumption of older TLS sessions ends.
   * Only on a TLS port.
   * @throws {ListenError} certificate or key is not usable; what was in use stays in use
   */
  setSecureContext?(tls: TlsSettings): void
  /** New keys for TLS session tickets: sessions that were begun under older ones take a full handshake. Only on a TLS port. */
  setTicketKeys?(keys: Buffer): void
  /** Frees the port and destroys every connection; done when all Transports have had their `onClose`. */
  close(): Promise<void>
}

/** A port cannot be opened, or its new certificate cannot be used: the operator's to repair. */
export class ListenError extends Error {
  override readonly name = 'ListenError'
  readonly listener: string
  /** Error code of the operating system, such as `EADDRINUSE`; null when it was not the one to refuse. */
  readonly code: string | null

  constructor(settings: Pick<ListenerSettings, 'name' | 'host' | 'port'>, detail: string, code: string | null = null) {
    super(`Listener ${settings.name} on ${hostAndPort(settings.host, settings.port)}: ${detail}`)
    this.listener = settings.name
    this.code = code
  }
}

/** `host:port`, with brackets around an IPv6 address. */
export function hostAndPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
