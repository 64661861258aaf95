import type { ConnectionId } from './backend-port.ts'

const INITIAL = 16

/** Bits of `flags`: QoS in the lowest two, as in a PUBLISH header's meaning, not its layout. */
export const RECIPIENT_QOS = 0b0011
export const RECIPIENT_RETAIN = 0b0100
export const RECIPIENT_DUP = 0b1000

/**
 * Who gets one message, as parallel arrays so that a publish to 500 connections allocates nothing. Filled and emptied
 * by the backend; the frontend only reads it.
 */
export class Recipients {
  count = 0
  connections: Float64Array = new Float64Array(INITIAL)
  packetIds: Uint16Array = new Uint16Array(INITIAL)
  /** Number of the delivery within its session, growing with each QoS 1 and 2 message; 0: it is not told apart (QoS 0). */
  sequences: Float64Array = new Float64Array(INITIAL)
  flags: Uint8Array = new Uint8Array(INITIAL)
  /** Subscription Identifiers of the matching subscriptions (§3.3.2.3.8), null for none. */
  readonly identifiers: (readonly number[] | null)[] = []

  add(connection: ConnectionId, flags: number, packetId: number, identifiers: readonly number[] | null, sequence = 0): void {
    const at = this.count++
    if (at === this.connections.length) this.#grow()
    this.connections[at] = connection
    this.flags[at] = flags
    this.packetIds[at] = packetId
    this.sequences[at] = sequence
    this.identifiers[at] = identifiers
  }

  clear(): void {
    this.count = 0
  }

  #grow(): void {
    const size = this.connections.length * 2
    const connections = new Float64Array(size)
    connections.set(this.connections)
    this.connections = connections
    const packetIds = new Uint16Array(size)
    packetIds.set(this.packetIds)
    this.packetIds = packetIds
    const sequences = new Float64Array(size)
    sequences.set(this.sequences)
    this.sequences = sequences
    const flags = new Uint8Array(size)
    flags.set(this.flags)
    this.flags = flags
  }
}
