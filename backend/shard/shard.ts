import { hash32 } from '#shared/base/hash.ts'
import type { Message } from '#shared/mqtt/message.ts'
import type { Delivery } from '../session/delivery.ts'
import type { Session } from '../session/session.ts'

/** Unit of state and ownership: the sessions whose Client Identifiers hash to it. */
export class Shard {
  readonly number: number
  readonly sessions = new Map<string, Session>()
  /** The same sessions by their number in the journal. */
  readonly byNumber = new Map<number, Session>()
  /** Never used again, so that a record about a session that ended cannot hit a later one. */
  nextSession = 1
  /** Retained Messages of the topics that hash to it, in the order in which they came: what its snapshots hold. */
  readonly retained = new Set<Message>()
  /** Deliveries of the publish being matched that this shard's journal must hold, and their sessions. */
  readonly receivers: Delivery[] = []
  readonly receivingSessions: Session[] = []
  /** Size of the last snapshot, which decides when the log has grown enough for the next. */
  snapshotBytes = 0

  constructor(number: number) {
    this.number = number
  }
}

/** The shard of a Client Identifier or Topic Name. Stable for ever: stored data depends on it. */
export function shardOf(key: string, shards: number): number {
  return hash32(key) % shards
}
