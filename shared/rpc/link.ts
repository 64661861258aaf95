import type { ByteReader } from '#shared/base/byte-reader.ts'
import type { ByteWriter } from '#shared/base/byte-writer.ts'

export type Role = 'frontend' | 'backend' | 'authsvc'

/** Who is at the other end, as proven by the handshake. */
export interface PeerIdentity {
  readonly role: Role
  /** Stays the same over restarts of a pod: its name. */
  readonly id: string
  /** Of this run of the process; another one has none of the connections and links of the one before. */
  readonly instance: string
  /** Version of the protocol that both understand. */
  readonly protocolVersion: number
}

/**
 * One connection between two services after its handshake: frames in both directions, in order, each handed on once or not at all.
 * Frames appended during an event-loop turn leave together at its end.
 */
export interface Link {
  readonly peer: PeerIdentity
  /** Where to append the body of the next frame; `endFrame` must follow before anything else is done with the link. */
  beginFrame(method: number): ByteWriter
  endFrame(): void
  /**
   * The peer has not taken enough of what was sent (credit, in bytes): send only what answers the peer. Frames are accepted
   * still, up to a hard limit at which the link is closed.
   */
  readonly isCongested: boolean
  /** Monotonic milliseconds when something (heartbeats included) was last received. */
  readonly heardMs: number
  /** Ends the link; `onClosed` follows. */
  close(reason: string): void
}

/** What a service does with its end of a link. */
export interface LinkHandler {
  /** `body` and the bytes under it are valid only during the call. What it throws closes the link and is counted. */
  onFrame(method: number, body: ByteReader): void
  onCongestion(isCongested: boolean): void
  /** Once, whatever ended it. Nothing is received or sent afterwards. */
  onClosed(reason: string): void
}
