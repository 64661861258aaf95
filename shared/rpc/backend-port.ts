import type { Message } from '#shared/mqtt/message.ts'
import type { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ParsedFilter } from '#shared/mqtt/topic.ts'
import type { FrontendPort } from './frontend-port.ts'
import type { StoreCall } from './store-call.ts'

/**
 * What a frontend may ask of a backend: the only way from one to the other (ARCHITECTURE.md). In the standalone shape
 * these are function calls; over a link each becomes a frame. Hence values that can be written down, no callbacks into state;
 * `frontend` in AttachRequest is the link itself.
 *
 * Answers come as calls of FrontendPort with the `ticket` of the request. Tickets of one connection count up from 0 and
 * share one sequence, so that the frontend can send acknowledgements in the order of the requests [MQTT-4.6.0-2]. QoS 0 has none.
 */
export interface BackendPort {
  /** Binds a connection to the session of `clientId`, taking it over from an older connection [MQTT-3.1.4-3]. Answers once stored. */
  attach(request: AttachRequest): Promise<AttachReply>

  /** The Network Connection is gone or is about to be closed. A stale `connection` (already taken over) is ignored. */
  detach(session: SessionHandle, connection: ConnectionId, end: ConnectionEnd): void

  /**
   * An Application Message (§3.3). `message` and its bytes are valid only during the call. QoS 0: no answer. QoS 1, 2:
   * `acknowledged` with Success, NoMatchingSubscribers or a failure, once stored for every persistent session that gets it.
   */
  publish(session: SessionHandle, connection: ConnectionId, ticket: number, message: Message): void

  /** PUBREL of a QoS 2 publish (§3.6): answered by `acknowledged` (Success or PacketIdentifierNotFound) once stored. */
  release(session: SessionHandle, connection: ConnectionId, ticket: number, packetId: number): void

  /** PUBACK (§3.4) for a message delivered. One for a Packet Identifier that is not in use that way is ignored. */
  puback(session: SessionHandle, connection: ConnectionId, packetId: number): void
  /** PUBREC (§3.5). A failure reason ends the delivery; otherwise `released` follows when PUBREL may be sent. */
  pubrec(session: SessionHandle, connection: ConnectionId, packetId: number, reason: ReasonCode): void
  /** PUBCOMP (§3.7); ignored as PUBACK is. */
  pubcomp(session: SessionHandle, connection: ConnectionId, packetId: number): void

  /**
   * §3.8. Answered by `subscribed` with one reason for each filter, once stored; Retained Messages follow. PacketIdentifierInUse for all
   * when a QoS 2 exchange of the session holds `packetId`.
   */
  subscribe(
    session: SessionHandle,
    connection: ConnectionId,
    ticket: number,
    packetId: number,
    subscriptions: readonly SubscriptionRequest[],
  ): void
  /** §3.10. Answered by `subscribed` with one reason for each filter, once stored; `packetId` as for `subscribe`. */
  unsubscribe(session: SessionHandle, connection: ConnectionId, ticket: number, packetId: number, filters: readonly ParsedFilter[]): void

  /**
   * What the client may do has changed. Subscriptions that `rights` does not allow end, and with them what waits in the session because
   * of them alone; its Will is judged by `rights` from now on. Answered by `subscribed` with no reasons, once stored. What had been sent
   * before then stays with the client, and is on its way to it perhaps: whoever must not pass that on keeps it back himself.
   */
  restrict(session: SessionHandle, connection: ConnectionId, ticket: number, rights: SessionRights): void

  /**
   * A request to the state store. Answered by `acknowledged` with Success once the change, the response and the notifications are stored,
   * or with QuotaExceeded when nothing was done. `call.message` is valid only during the call.
   */
  askStore(session: SessionHandle, connection: ConnectionId, ticket: number, call: StoreCall): void

  /** The socket is behind (false) or has caught up (true). While behind, QoS 1 and 2 stay in the session's queue. */
  writable(session: SessionHandle, connection: ConnectionId, isWritable: boolean): void
}

/** Which connection of a frontend; never used again for another one while anybody may remember it. */
export type ConnectionId = number
/** Which session of a backend, as given by `attach`; valid together with the connection that attached. */
export type SessionHandle = number

export interface AttachRequest {
  readonly frontend: FrontendPort
  readonly connection: ConnectionId
  readonly clientId: string
  readonly protocolVersion: 3 | 4 | 5
  readonly cleanStart: boolean
  /** Seconds; 0 ends with the connection, 0xffffffff never ends (§3.1.2.11.2). */
  readonly sessionExpirySeconds: number
  /** Unacknowledged QoS 1 and 2 deliveries that the client takes, ours already applied (§3.1.2.11.3). */
  readonly receiveMaximum: number
  readonly will: WillRequest | null
  /** Null: it may do everything. Subscriptions that the session has and that are not allowed any more end before anything is sent. */
  readonly rights: SessionRights | null
  /**
   * It asks for its queue to outlive the process (User Property `aio-persistence: true` of CONNECT); the session remembers that to its
   * end. Of meaning to a broker in one process alone: it does not go over a link.
   */
  readonly isPersistenceRequested?: boolean
}

/** What a client may do, as far as its session outlives the connection. */
export interface SessionRights {
  /** A Permit (shared/authorization/permit.ts). */
  readonly permit: Uint8Array
  /** Who judges the Will when it is due, by the policies of that moment (shared/authorization/will-guard.ts); stored with the Will. */
  readonly willGuard: Uint8Array
}

export interface WillRequest {
  /** Kept by the backend: owns its bytes. */
  readonly message: Message
  readonly delaySeconds: number
}

export type AttachReply =
  | { readonly is: 'attached'; readonly session: SessionHandle; readonly sessionPresent: boolean }
  | { readonly is: 'refused'; readonly reason: ReasonCode; readonly detail: string }

/** How a connection ended (§3.1.2.5, §3.14): a Will is published unless it was discarded by a normal DISCONNECT. */
export interface ConnectionEnd {
  readonly discardWill: boolean
  /** New Session Expiry Interval of a DISCONNECT in seconds, or null to keep the one in force. */
  readonly sessionExpirySeconds: number | null
}

export interface SubscriptionRequest {
  readonly filter: ParsedFilter
  /** Refusal decided by the frontend (authorization, limits); null to subscribe. */
  readonly refused: ReasonCode | null
  readonly qos: 0 | 1 | 2
  readonly noLocal: boolean
  readonly retainAsPublished: boolean
  readonly retainHandling: 0 | 1 | 2
  /** Subscription Identifier, 0 for none. */
  readonly identifier: number
}
