/** Methods of calls are 0 to this; those above belong to the link itself. */
export const CALL_METHOD_MAX = 239

/** Frames of the link itself. */
export const LinkMethod = {
  /** First frame of each side: who it is. Only in the handshake, as the three that follow. */
  Hello: 250,
  /** Dialer: that it knows the key. */
  Proof: 251,
  /** Listener: that it knows the key, and that calls may begin. */
  Ready: 252,
  /** Why not; the connection ends after it. */
  Refused: 253,
  /** Nothing, said in order to be heard. */
  Heartbeat: 254,
  /** How many bytes of frames of calls (headers included) were taken since the last one: varint. */
  Credit: 255,
} as const
