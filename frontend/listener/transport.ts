/**
 * What every listener engine turns a client's Network Connection into: one ordered byte stream each way (§4.2).
 * TCP, TLS, WebSocket and WebSocket over TLS look the same from here on; one contract suite holds for all engines.
 */
export interface Transport {
  readonly kind: TransportKind
  /** The client's address: the PROXY protocol header's when the port takes one, else the socket's. IPv4-mapped IPv6 is written as IPv4. */
  readonly remoteAddress: string
  /** 0 where the engine cannot tell (uWebSockets.js). */
  readonly remotePort: number
  /** Certificate chain as the client presented it, leaf first, DER. Null when none was asked for or sent. */
  readonly peerCertificates: readonly Uint8Array[] | null
  /** When the connection was accepted, by the monotonic clock: the time a client has for CONNECT includes its handshakes. */
  readonly acceptedMs: number
  /** Server name of the TLS handshake or of the PROXY header; null when there was none. */
  readonly serverName: string | null
  /**
   * Queues bytes. The caller may overwrite `bytes` as soon as `bufferedBytes` is 0 after the call; otherwise never again.
   * Silently does nothing on a closed transport, nor after `end`. Call it once per turn and connection: on WebSocket a call is one
   * binary message, everywhere it is a system call or a TLS record.
   */
  write(bytes: Uint8Array): void
  /**
   * Bytes that were written and that the operating system has not taken yet, framing and TLS included as far as the engine counts them.
   * `onDrain` follows when this falls back to 0. TLS hands bytes on a moment later: there it is hardly ever 0 right after a `write`.
   */
  readonly bufferedBytes: number
  /**
   * Stops reading (the TCP window closes); bytes already read may still arrive once. Nothing is lost: a client that leaves meanwhile is
   * noticed after `resume`, behind what it sent. uWebSockets.js goes on reading and closes the connection at PAUSED_BYTES_MAX.
   */
  pause(): void
  resume(): void
  /**
   * Writes out what is buffered, then closes; destroyed after `LINGER_MS` when the peer does not take it. `onClose` follows; what the
   * client still sends is dropped.
   */
  end(): void
  /** Closes at once and drops what is buffered. `onClose` follows, never from inside this call. */
  destroy(): void
}

export type TransportKind = 'tcp' | 'tls' | 'ws' | 'wss'

/** How long `end` waits for a peer that does not read before it destroys the socket. */
export const LINGER_MS = 2_000

/**
 * The other side of a Transport: called from the event loop, one call at a time. One that throws loses its connection and is reported.
 */
export interface TransportHandler {
  /** `bytes` is valid only during the call; copy what is kept. */
  onBytes(bytes: Buffer): void
  onDrain(): void
  /** Once, last, never from inside a call of ours. `error` is a short text for the log, null after an orderly close or our own. */
  onClose(error: string | null): void
}

/** Given a fresh Transport, answers its handler, or null to refuse it (the listener then destroys it). */
export type OnTransport = (transport: Transport) => TransportHandler | null
