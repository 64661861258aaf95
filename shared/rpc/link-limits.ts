/** What links may hold, and when they give up. */
export interface LinkLimits {
  /** Bytes sent and not taken by the peer from which on a link is congested; it no longer is below half of them. */
  readonly windowBytes: number
  /** The same at which it is closed: somebody did not heed the congestion. */
  readonly hardLimitBytes: number
  /** Largest frame, method and body. Received: the link is closed before it is gathered. Sent: FrameTooLargeError. */
  readonly frameBytesMax: number
  /** A heartbeat goes out when nothing else did for this long. */
  readonly heartbeatMs: number
  /** A link on which nothing was heard for this long is closed. */
  readonly silenceMs: number
  /** From accept, or from connected, to the end of the handshake; TLS included. */
  readonly handshakeMs: number
  /** From dialing to connected, TLS included. */
  readonly connectMs: number
  /** Connections of one listener that have not finished the handshake; one more is closed. */
  readonly unauthenticatedMax: number
}

export const DEFAULT_LINK_LIMITS: LinkLimits = {
  windowBytes: 16 * 2 ** 20,
  hardLimitBytes: 512 * 2 ** 20,
  // A packet of 256 MiB, the largest of MQTT, and what its call says beside it.
  frameBytesMax: 300 * 2 ** 20,
  heartbeatMs: 200,
  silenceMs: 3_000,
  handshakeMs: 5_000,
  connectMs: 2_000,
  unauthenticatedMax: 256,
}
