import type { Message } from '#shared/mqtt/message.ts'
import type { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ParsedFilter } from '#shared/mqtt/topic.ts'
import type { AttachRequest, ConnectionEnd, ConnectionId, SessionHandle, SessionRights, SubscriptionRequest } from './backend-port.ts'
import type { Shards } from './shards.ts'
import type { StoreCall } from './store-call.ts'

/**
 * What a frontend, or another backend, asks of a backend over a link: its calls in order, each a frame. Answers are calls of CallerPort.
 * The caller keeps every request until it is answered and makes it again, `isRetry`, to whoever owns the shard by then; so all of them
 * are safe to repeat. A request about a shard that the backend does not own (any more) is not answered, except as said.
 */
export interface OwnerPort {
  /** BackendPort.attach. Answered by `attached`; by `attachMoved` when the session's shard is not here. */
  attach(request: number, attach: RemoteAttach, isRetry: boolean): void
  /** BackendPort.detach. Answered by `detached`, also when there is nothing to do. */
  detach(shard: number, clientId: string, connection: ConnectionId, end: ConnectionEnd): void

  /**
   * An Application Message of QoS 0 or 1 for `shards`, all of which this backend owns as far as the caller knows. Each shard does all
   * that is its own: keeps the Retained Message when it is the topic's, and gives the message to its sessions and groups that match.
   * `sequence` 0: QoS 0, no answer. Else answered by `published`; shards not owned are named there and did nothing.
   * `connection` is the publisher's (No Local), or NO_CONNECTION. What was held or is sent again comes with the publisher's Client
   * Identifier: its connection may be unknown to the owner by now. `message` is valid only during the call.
   */
  publish(sequence: number, connection: ConnectionId, isRefusable: boolean, shards: Shards, message: Message, publisher?: string): void

  /** A QoS 2 PUBLISH, to the publisher's own session. BackendPort.publish; repeated, it is recognised by its Packet Identifier. */
  publishQos2(session: SessionHandle, connection: ConnectionId, ticket: number, message: Message): void
  /** BackendPort.release; a repeated one is answered with Success. */
  release(session: SessionHandle, connection: ConnectionId, ticket: number, packetId: number, isRetry: boolean): void
  puback(session: SessionHandle, connection: ConnectionId, packetId: number): void
  pubrec(session: SessionHandle, connection: ConnectionId, packetId: number, reason: ReasonCode): void
  pubcomp(session: SessionHandle, connection: ConnectionId, packetId: number): void
  subscribe(
    session: SessionHandle,
    connection: ConnectionId,
    ticket: number,
    packetId: number,
    subscriptions: readonly SubscriptionRequest[],
  ): void
  unsubscribe(
    session: SessionHandle,
    connection: ConnectionId,
    ticket: number,
    packetId: number,
    filters: readonly ParsedFilter[],
    isRetry: boolean,
  ): void
  /** BackendPort.restrict; repeated, it finds nothing more to end. Only to a peer of PROTOCOL_VERSION_RIGHTS. */
  restrict(session: SessionHandle, connection: ConnectionId, ticket: number, rights: SessionRights): void
  writable(session: SessionHandle, connection: ConnectionId, isWritable: boolean): void

  /**
   * After `owned`: the caller's connections whose sessions are in `shard`, in as many calls as it takes, the last with `isLast`, also
   * when there are none. Answered by `resumed` and `disconnect`. Sessions of this caller that are in none of the calls have lost their
   * connection.
   */
  resume(shard: number, sessions: readonly ResumedSession[], isLast: boolean): void

  /** Asks for all routes of a shard: the ones that the caller has are not those of `owned`. Answered by `routes` with `isWhole`. */
  wantRoutes(shard: number): void
  /** Everything up to this barrier of `routes` is applied: no publish of the caller misses it any more. */
  routesApplied(barrier: number): void

  /**
   * From another backend: a message that its shard `fromShard` has stored and keeps until this is answered by `handedOver`. Done once
   * for each (fromShard, sequence) and target, however often it comes; from one shard in the order of their sequences. `sequence` 0: a
   * message of QoS 0, not stored and not answered.
   */
  handOver(fromShard: number, sequence: number, target: HandOverTarget, message: Message): void

  /** Reads Retained Messages that match `filter` out of `shards`, a batch with each answer (`retained`). At most one batch is under way. */
  openRetained(query: number, filter: string, shards: Shards): void
  moreRetained(query: number): void
  closeRetained(query: number): void

  /**
   * From the backend that owns `memberShard`: members of the Shared Subscriptions whose group is in `groupShard`. With `isWhole` this
   * is all there are, and others of that shard are forgotten. Answered by `membersApplied` once stored and once publishes find the group.
   */
  members(request: number, groupShard: number, memberShard: number, isWhole: boolean, members: readonly MemberChange[]): void
  /** How members stand: no answer, no store, the newest counts. */
  memberStates(groupShard: number, memberShard: number, states: readonly MemberStanding[]): void

  /**
   * BackendPort.askStore, to the owner of the key's shard. Answered by `storeAsked`, or as a `part` by `storeRead`. `sequence` grows over all requests of this caller, and a
   * repeat keeps its own; those below `settledBefore` are not repeated any more.
   */
  askStore(shard: number, sequence: number, settledBefore: number, connection: ConnectionId, call: RemoteStoreCall): void
  /**
   * Values of keys of that shard (MGET, 1 to MGET_KEYS_MAX of them), which the caller joins with those of others: `askStore` as `answer`.
   * Answered by `storeRead`, or by `storeAsked` when it is refused. The keys have a character for each byte.
   */
  readStore(shard: number, sequence: number, keys: readonly string[]): void
  /** The connection is gone: it watches nothing in that shard. Answered by `unwatched`. */
  unwatch(shard: number, connection: ConnectionId): void

  /** From another backend that has prepared to own `shard` and asks its owner to let it go. Answered by `shardReleased`. */
  requestShard(shard: number): void
}

/** A message that comes from no connection. */
export const NO_CONNECTION = 0

/** In the order of their numbers on the wire. */
export const STORE_CALL_ROLES = ['request', 'answer', 'part'] as const
export type StoreCallRole = (typeof STORE_CALL_ROLES)[number]

/** The shard is named beside it. */
export type RemoteStoreCall = Omit<StoreCall, 'shardKey' | 'shard' | 'isWatch' | 'command' | 'properties' | 'responseTopic'> & {
  /**
   * `request`: to be executed and answered. `part`: WATCH, to be executed and not answered; what the answer would be comes back by `storeRead`, and the
   * caller joins it with those of other shards. `answer`: the payload of `message` is not the request any more, but that joined answer.
   */
  readonly as: StoreCallRole
}

/** With `rights`, only to a peer of PROTOCOL_VERSION_RIGHTS. */
export interface RemoteAttach extends Omit<AttachRequest, 'frontend' | 'isPersistenceRequested'> {}

/** What a frontend knows of a connected session; see `OwnerPort.resume`. */
export interface ResumedSession {
  readonly connection: ConnectionId
  readonly clientId: string
  readonly protocolVersion: 3 | 4 | 5
  readonly receiveMaximum: number
  readonly isWritable: boolean
  /** Of the last QoS 1 or 2 message passed on to the client on this connection (Recipients.sequences); 0: none. */
  readonly lastSequence: number
  /** QoS 1 and 2 messages that the client has and has not finished acknowledging. Those up to `lastSequence` that are not here are finished. */
  readonly outstanding: readonly OutstandingDelivery[]
}

export interface OutstandingDelivery {
  readonly packetId: number
  /** Of Recipients.sequences: the message that the identifier stands for. */
  readonly sequence: number
  /** sent: waits for PUBACK or PUBREC. received: PUBREC has come, PUBREL has not gone. released: PUBREL has gone. */
  readonly phase: 'sent' | 'received' | 'released'
}

/** Whom a handed-over message is for. */
export type HandOverTarget =
  /** As for `publish`: whoever matches in these shards. `origin`: Client Identifier of the publisher (No Local), empty for none. */
  | { readonly is: 'shards'; readonly shards: readonly number[]; readonly origin: string }
  /** One member that a group chose; with an empty Client Identifier, the group itself in its own shard: it chooses (again). */
  | {
      readonly is: 'member'
      readonly shard: number
      readonly clientId: string
      readonly groupName: string
      readonly groupFilter: string
    }
  /** The client of a connection, past its Subscriptions: a notification of the state store. */
  | {
      readonly is: 'session'
      readonly shard: number
      readonly clientId: string
      readonly frontend: string
      readonly connection: ConnectionId
    }

export interface MemberChange {
  readonly groupName: string
  readonly groupFilter: string
  readonly clientId: string
  /** Null: it is no member any more. */
  readonly options: MemberOptions | null
  readonly standing: Standing
}

export interface MemberOptions {
  readonly qos: 0 | 1 | 2
  readonly retainAsPublished: boolean
  readonly identifier: number
}

/** able: takes a message now. busy: connected, with more waiting than it takes. away: not connected; its queue holds. full: its queue takes no more. */
export type Standing = 'able' | 'busy' | 'away' | 'full'

export interface MemberStanding {
  readonly clientId: string
  readonly standing: Standing
}
