/**
 * What every listener engine turns a client's Network Connection into: one ordered byte stream each way (§4.2).
 * TCP, TLS, WebSocket and WebSocket over TLS look the same from here on; one contract suite holds for all engines.
 */
export interface Transport {
  readonly kind: TransportKind
  /** The client's address: the PROXY protocol header's when the port takes one, else the socket's. IPv4-mapped IPv6 is written as IPv4. */
  readonly remoteAddress: string
  readonly remotePort: number
  /** Certificate chain as the client presented it, leaf first, DER. Null when none was asked for or sent. */
  readonly peerCertificates: readonly Uint8Array[] | null
  /** Server name of the TLS handshake or of the PROXY header; null when there was none. */
  readonly serverName: string | null
  /**
   * Queues bytes. The caller may overwrite `bytes` as soon as `bufferedBytes` is 0 after the call; otherwise never again.
   * Silently does nothing on a closed transport.
   */
  write(bytes: Uint8Array): void
  /** Bytes that were written and that the operating system has not taken yet. `onDrain` follows when this falls back to 0. */
  readonly bufferedBytes: number
  /** Stops reading (the TCP window closes); bytes already read may still arrive once. */
  pause(): void
  resume(): void
  /** Writes out what is buffered, then closes; destroyed after `LINGER_MS` when the peer does not take it. `onClose` follows. */
  end(): void
  /** Closes at once and drops what is buffered. `onClose` follows, never from inside this call. */
  destroy(): void
}

export type TransportKind = 'tcp' | 'tls' | 'ws' | 'wss'

/** How long `end` waits for a peer that does not read before it destroys the socket. */
export const LINGER_MS = 2_000

/** The other side of a Transport: called from the event loop, one call at a time. */
export interface TransportHandler {
  /** `bytes` is valid only during the call; copy what is kept. */
  onBytes(bytes: Buffer): void
  onDrain(): void
  /** Once, last. `error` is a short text for the log, null after an orderly close. */
  onClose(error: string | null): void
}

/** Given a fresh Transport, answers its handler, or null to refuse it (the listener then destroys it). */
export type OnTransport = (transport: Transport) => TransportHandler | null
