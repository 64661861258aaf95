import type { Message } from '#shared/mqtt/message.ts'
import type { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ParsedFilter } from '#shared/mqtt/topic.ts'
import type {
  AttachReply,
  AttachRequest,
  ConnectionEnd,
  ConnectionId,
  SessionHandle,
  SessionRights,
  SubscriptionRequest,
} from '#shared/rpc/backend-port.ts'
import type { ResumedSession } from '#shared/rpc/owner-port.ts'
import type { Outstanding } from './outstanding.ts'
import type { OwnerLink } from './owner-link.ts'

/**
 *   attaching ─attached→ bound ─shard lost, link closed→ waiting ─shard owned: resume→ resuming ─resumed→ bound
 *       └─refused, timed out, never again                   ↑─────────shard lost───────────┘
 */
export type SessionPhase = 'attaching' | 'waiting' | 'resuming' | 'bound'

/** An `attach` that is not answered. */
export interface PendingAttach {
  readonly request: AttachRequest
  readonly answer: (reply: AttachReply) => void
  readonly deadlineMs: number
  /** By which its answer is known; another one each time it is asked. 0: not asked yet. */
  number: number
}

/** A request with a ticket that is not answered; kept to be made again. */
export type WaitingRequest = {
  readonly sinceMs: number
  /** A backend may have seen it. */
  wasSent: boolean
} & (
  | { readonly is: 'publish'; readonly message: Message; readonly bytes: number; readonly expiresAtMs: number }
  | { readonly is: 'release'; readonly packetId: number }
  | { readonly is: 'subscribe'; readonly packetId: number; readonly subscriptions: readonly SubscriptionRequest[] }
  | { readonly is: 'unsubscribe'; readonly packetId: number; readonly filters: readonly ParsedFilter[] }
  | { readonly is: 'restrict'; readonly rights: SessionRights }
)

/** What the client acknowledged after `resume` had said where it stands. */
export interface LateAcknowledgement {
  readonly is: 'puback' | 'pubrec' | 'pubcomp'
  readonly packetId: number
  readonly reason: ReasonCode
}

/** What this frontend knows of one connection's session, so that another backend can go on with it. */
export class SessionRoute {
  readonly connection: ConnectionId
  readonly clientId: string
  readonly protocolVersion: 3 | 4 | 5
  readonly #receiveMaximum: number
  readonly shard: number
  phase: SessionPhase = 'attaching'
  attach: PendingAttach | null = null
  /** Whom it is bound to, or who was asked to bind it. */
  owner: OwnerLink | null = null
  /** The owner's name of it, while it is bound. */
  remote: SessionHandle = -1
  isWritable = false
  /** What the owner was told of `isWritable`. */
  isToldWritable = false
  /** See ResumedSession. */
  lastSequence = 0
  outstanding: Outstanding | null = null
  /** By ticket, in the order in which they were made. */
  requests: Map<number, WaitingRequest> | null = null
  late: LateAcknowledgement[] | null = null
  /** Place in the list of its shard. */
  place = -1

  constructor(request: AttachRequest, shard: number) {
    this.connection = request.connection
    this.clientId = request.clientId
    this.protocolVersion = request.protocolVersion
    this.#receiveMaximum = request.receiveMaximum
    this.shard = shard
  }

  get resumed(): ResumedSession {
    return {
      connection: this.connection,
      clientId: this.clientId,
      protocolVersion: this.protocolVersion,
      receiveMaximum: this.#receiveMaximum,
      isWritable: this.isWritable,
      lastSequence: this.lastSequence,
      outstanding: this.outstanding?.list() ?? [],
    }
  }
}

/** Whether its client can be told that a publish was not taken; older ones have no Reason Code for it. */
export function isRefusable(route: SessionRoute | null): boolean {
  return route !== null && route.protocolVersion === 5
}

/** A connection that is gone, until a backend has confirmed that it knows. */
export interface PendingDetach {
  readonly shard: number
  readonly clientId: string
  readonly end: ConnectionEnd
}

/** As ConnectionTable makes ConnectionIds: the slot, and above it how often that was used. */
const SLOTS = 2 ** 24

/** The session routes of all connections, by connection and by shard. */
export class SessionRoutes {
  readonly #slots: (SessionRoute | null)[] = []
  readonly #byShard: SessionRoute[][]

  constructor(shardCount: number) {
    this.#byShard = Array.from({ length: shardCount }, () => [])
  }

  /** Null when there is none, whoever has its slot now. */
  get(connection: ConnectionId): SessionRoute | null {
    const route = this.#slots[slotOf(connection)]
    return route && route.connection === connection ? route : null
  }

  /** In no particular order; not while routes are added or removed. */
  ofShard(shard: number): readonly SessionRoute[] {
    return this.#byShard[shard]!
  }

  add(route: SessionRoute): SessionHandle {
    const slot = slotOf(route.connection)
    // One by one: an array that is written far beyond its end becomes a slow one.
    while (this.#slots.length <= slot) this.#slots.push(null)
    this.#slots[slot] = route
    route.place = this.#byShard[route.shard]!.push(route) - 1
    return slot
  }

  remove(route: SessionRoute): void {
    if (route.place === -1) return
    const slot = slotOf(route.connection)
    if (this.#slots[slot] === route) this.#slots[slot] = null
    const routes = this.#byShard[route.shard]!
    const last = routes.pop()!
    if (last !== route) {
      routes[route.place] = last
      last.place = route.place
    }
    route.place = -1
  }
}

export function slotOf(connection: ConnectionId): number {
  return (connection >>> 0) & (SLOTS - 1)
}
