/** One port of a BrokerListener, as the socket layer needs it. */
export interface ListenerSettings {
  /** For logs and errors, e.g. `default:1883`. */
  readonly name: string
  /** Address or host name to bind. */
  readonly host: string
  /** 0 lets the operating system choose; `Listener.address` tells what it chose. */
  readonly port: number
  readonly protocol: 'Mqtt' | 'WebSockets'
  readonly tls: TlsSettings | null
  /** Non-null: every connection begins with a PROXY protocol header (version 1 or 2) and comes from one of these CIDRs. */
  readonly proxyProtocol: { readonly trustedSources: readonly string[] } | null
  /** `auto` takes uWebSockets.js where it loads natively and the port uses neither TLS nor the PROXY protocol, else `ws`. */
  readonly websocketEngine: 'auto' | 'uws' | 'ws'
  /** Maximum Packet Size of the port, bytes; a WebSocket message may be little larger than this. */
  readonly packetBytesMax: number
  /** Several processes share the port, the kernel spreads connections over them. */
  readonly reusePort?: boolean
}

export interface TlsSettings {
  /** Certificate chain, PEM, leaf first. */
  readonly cert: string | Buffer
  /** Private key, PEM. */
  readonly key: string | Buffer
  /** Trust anchors for client certificates, PEM. */
  readonly clientCa: string | Buffer | null
  /**
   * `require`: no connection without a certificate that chains to `clientCa`. `request`: a client may send none, but one that it
   * sends must chain to `clientCa`; with `clientCa` null it is handed on unverified.
   */
  readonly clientCertificate: 'none' | 'request' | 'require'
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
