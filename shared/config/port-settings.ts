import type { PortRules } from '../rpc/port-rules.ts'

/** PEM texts. */
export interface TlsSettings {
  /** Certificate chain, leaf first. */
  readonly cert: string
  readonly key: string
  /** Trust anchors for client certificates, roots or intermediates. */
  readonly clientCa: string | null
  /**
   * `require`: no connection without a certificate that chains to `clientCa`. `request`: a client may send none, but one that it
   * sends must chain to `clientCa`; with `clientCa` null it is handed on unverified.
   */
  readonly clientCertificate: 'none' | 'request' | 'require'
}

/** A port for clients, with BrokerListener's names. */
export interface PortSettings {
  /** For logs, audit and status: `--mqtt` or the name of the BrokerListener, then the port. */
  readonly name: string
  /** Address or host name to bind. */
  readonly host: string
  /** 0 lets the operating system choose. */
  readonly port: number
  readonly protocol: 'Mqtt' | 'WebSockets'
  readonly tls: TlsSettings | null
  /** Non-null: every connection begins with a PROXY protocol header (version 1 or 2) and comes from one of these networks. */
  readonly proxyProtocol: { readonly trustedSources: readonly string[] } | null
  /** `auto` takes uWebSockets.js where it loads natively and the port uses neither TLS nor the PROXY protocol, else `ws`. */
  readonly websocketEngine: 'auto' | 'uws' | 'ws'
}

/** A port that is asked for: open, or closed with the reason for log, status and `/readyz`. */
export interface PlannedPort extends PortSettings {
  /** Name of the BrokerListener that asks for it; null: a flag does. */
  readonly resource: string | null
  readonly rules: PortRules
  readonly closed: PortClosed | null
}

export interface PortClosed {
  readonly reason: string
  /**
   * `certificate`: the certificate of the port is missing or cannot be used; one that it has already goes on. `policy`: nobody could be
   * judged as the resources demand; a port that is open closes.
   */
  readonly because: 'certificate' | 'policy'
  readonly isTls: boolean
}
