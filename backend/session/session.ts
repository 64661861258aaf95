import type { TimerHandle } from '#shared/base/timer-wheel.ts'
import type { Message } from '#shared/mqtt/message.ts'
import type { ParsedFilter } from '#shared/mqtt/topic.ts'
import type { ConnectionId } from '#shared/rpc/backend-port.ts'
import type { FrontendLink } from './frontend-link.ts'
import type { Outbox } from './outbox.ts'
import type { RetainedReplay } from '../queue/retained-replay.ts'

/** §3.1.2.11.2: this Session Expiry Interval never ends. */
export const NEVER_EXPIRES = 0xffff_ffff

/** Nobody has been connected for as long as the session outlives its connection (§3.1.2.11.2). */
export function hasExpired(session: Session, nowMs: number): boolean {
  return (
    session.link === null && session.expirySeconds !== NEVER_EXPIRES && session.disconnectedAtMs + session.expirySeconds * 1_000 <= nowMs
  )
}

/** A Subscription as the session remembers it (§3.8.3.1). */
export interface SessionSubscription {
  readonly filter: ParsedFilter
  readonly qos: 0 | 1 | 2
  readonly noLocal: boolean
  readonly retainAsPublished: boolean
  readonly identifier: number
}

export interface Will {
  readonly message: Message
  readonly delaySeconds: number
  /** Who judges it when it is due (SessionRights.willGuard); null: it goes unjudged. */
  readonly guard: Uint8Array | null
}

/** A connection that another one has taken the session from. */
export interface FormerConnection {
  readonly frontend: string
  readonly connection: ConnectionId
}

/**
 * Session State of one Client Identifier (§4.1). Kept small: 100,000 idle ones must be cheap, so what only some sessions
 * need is null until they need it.
 */
export class Session {
  readonly clientId: string
  readonly shard: number
  /** The journal's name for this session: unique in its shard, never used again. */
  readonly number: number
  /** Its connection outlives this process: a frontend holds it. */
  readonly isInCluster: boolean
  /** Place in the backend's table of sessions; what frontends call it by. */
  handle = -1
  protocolVersion: 3 | 4 | 5 = 5

  /** The frontend of the present connection, null while there is none. */
  link: FrontendLink | null = null
  connection: ConnectionId = 0
  /** In a cluster: the instance of the frontend that has the present connection, or had the last one; empty before. */
  frontend = ''
  /** Connections before it whose publishes may still come, as their frontends have not said that they are gone. Kept in a cluster. */
  formers: readonly FormerConnection[] | null = null
  /** The attach of the present connection found no session: what a repeated attach must be told again (§3.2.2.1.1). */
  isNew = false
  /** False while the socket is behind: QoS 1 and 2 then wait in the queue. */
  isWritable = false
  receiveMaximum = 0

  /** Session Expiry Interval in seconds; 0: the session ends with its connection. */
  expirySeconds = 0
  /** Wall time, 0 while connected. */
  disconnectedAtMs = 0
  /** The journal knows it: it outlives its connection, or its Will must outlive the process. */
  isRecorded = false
  /** It has asked for its queue to outlive the process, since it began. */
  isPersistenceRequested = false
  hasEnded = false
  timer: TimerHandle | null = null
  willTimer: TimerHandle | null = null
  will: Will | null = null

  subscriptions: Map<string, SessionSubscription> | null = null
  /** Shared ones among them. Kept in a cluster. */
  groupCount = 0
  outbox: Outbox | null = null
  nextSequence = 1
  /** Packet Identifiers of QoS 2 messages received and not yet released (§4.3.3). */
  receivedQos2: Set<number> | null = null
  /** By those Packet Identifiers: the hand-overs in charge of the messages (backend/cluster/releases.ts). */
  handOvers: Map<number, number> | null = null
  /** Those that came with the shard, of unknown Packet Identifiers. */
  recoveredHandOvers: number[] | null = null
  /** Retained Messages still to be sent, by the text of the Topic Filter. */
  replays: Map<string, RetainedReplay> | null = null

  constructor(clientId: string, shard: number, number: number, isInCluster: boolean) {
    this.clientId = clientId
    this.shard = shard
    this.number = number
    this.isInCluster = isInCluster
  }

  /** A message may go to its connection now. */
  get takesMessages(): boolean {
    return this.link !== null && this.isWritable && !this.link.isCongested
  }

  /** It has a connection as far as anybody knows, though perhaps no link to its frontend. */
  get isConnected(): boolean {
    return this.disconnectedAtMs === 0
  }

  /** It outlives its connection. */
  get isPersistent(): boolean {
    return this.expirySeconds > 0
  }

  /** What it has not acknowledged may have to be sent again: on another connection, or by another backend on this one. */
  get keepsMessages(): boolean {
    return this.isInCluster || this.expirySeconds > 0
  }

  /** Its messages, Subscriptions and QoS 2 identifiers are journalled, not its Will alone. */
  get isJournalled(): boolean {
    return this.isRecorded && this.keepsMessages
  }
}
