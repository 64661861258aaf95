import type { Clock } from '#shared/base/clock.ts'
import type { Turn } from '#shared/base/turn.ts'
import { Directory } from '#shared/cluster/directory.ts'
import { RouteTable } from '#shared/cluster/route-table.ts'
import type { Message } from '#shared/mqtt/message.ts'
import type { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ParsedFilter } from '#shared/mqtt/topic.ts'
import type {
  AttachReply,
  AttachRequest,
  BackendPort,
  ConnectionEnd,
  ConnectionId,
  SessionHandle,
  SessionRights,
  SubscriptionRequest,
} from '#shared/rpc/backend-port.ts'
import type { StoreCall } from '#shared/rpc/store-call.ts'
import type { CallerPort } from '#shared/rpc/caller-port.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import type { Link } from '#shared/rpc/link.ts'
import type { OwnerPort } from '#shared/rpc/owner-port.ts'
import type { Log } from '#shared/telemetry/log.ts'
import { ROUTER_LIMITS, type RouterLimits } from './limits.ts'
import { LinkCalls } from './link-calls.ts'
import { OwnerLink } from './owner-link.ts'
import { Pressure } from './pressure.ts'
import { Publishing } from './publishing.ts'
import { RouterCounters } from './router-counters.ts'
import { SessionNotes } from './session-notes.ts'
import { SessionRequests } from './session-requests.ts'
import { SessionRoutes } from './session-routes.ts'
import { SessionRouting } from './session-routing.ts'
import { StoreRouting } from './store-routing.ts'

/** Silent links are looked for at least so often while there is anything to do. */
const FRESHNESS_CHECK_MS = 100
const UNSERVED_CHECK_MS = 1_000

export interface RouterParts {
  readonly shardCount: number
  readonly clock: Clock
  /** `endTurn` must be a step of it, before the one that sends what the links have gathered. */
  readonly turn: Turn
  readonly log: Log
  readonly limits?: Partial<RouterLimits>
}

/**
 * All backends of the cluster as one BackendPort: finds the owners of shards, and keeps clients connected while shards move and backends
 * come and go. SessionHandles towards the core are names of its own; requests are recognised by their ConnectionId alone.
 */
export class Router implements BackendPort {
  readonly counters = new RouterCounters()
  readonly #clock: Clock
  readonly #turn: Turn
  readonly #log: Log
  readonly #pressure: Pressure
  readonly #directory: Directory<OwnerLink>
  readonly #publishing: Publishing
  readonly #routes: SessionRoutes
  readonly #notes: SessionNotes
  readonly #requests: SessionRequests
  readonly #sessions: SessionRouting
  readonly #store: StoreRouting
  readonly #links = new Map<Link, OwnerLink>()
  /** The clock was read in this turn, and links that have gone silent were noticed. */
  #isTurnChecked = false
  #nowMs: number
  #checkedMs = -Infinity
  #unservedMs = -Infinity
  #frontend: FrontendPort | null = null

  constructor(parts: RouterParts) {
    const { shardCount, clock } = parts
    const { counters } = this
    const limits = { ...ROUTER_LIMITS, ...parts.limits }
    this.#clock = clock
    this.#turn = parts.turn
    this.#log = parts.log
    this.#nowMs = clock.monotonicMs()
    const pressure = new Pressure(limits.pendingBytesMax)
    this.#pressure = pressure
    const routes = new RouteTable(shardCount)
    const directory = new Directory<OwnerLink>({ shardCount, clock, routes, listener: this.#listener })
    this.#directory = directory
    const requestTurn = (): void => this.#turn.request()
    const sessions = new SessionRoutes(shardCount)
    this.#routes = sessions
    const isConnected = (connection: ConnectionId): boolean => sessions.get(connection) !== null
    this.#publishing = new Publishing({ shardCount, routes, directory, limits, counters, pressure, isConnected, requestTurn })
    this.#notes = new SessionNotes(this.#routes, counters)
    this.#requests = new SessionRequests({ routes: this.#routes, pressure, counters, limits })
    this.#sessions = new SessionRouting({ shardCount, directory, limits, counters, routes: this.#routes, requests: this.#requests })
    this.#store = new StoreRouting({ shardCount, directory, limits, counters, pressure })
  }

  readonly #listener = {
    onOwned: (shard: number, owner: OwnerLink): void => {
      this.#sessions.onOwned(shard, owner)
      this.#readClock()
      this.#store.onOwned(shard, owner, this.#nowMs)
    },
    onFresh: (shard: number): void => this.#publishing.onFresh(shard),
    onUnfresh: (shard: number): void => this.#publishing.onUnfresh(shard),
    onLost: (shard: number, owner: OwnerLink): void => {
      this.#sessions.onLost(shard, owner)
      this.#store.onLost(shard)
    },
  }

  /** The core that gets what backends say. Before any connection and any link. */
  bind(frontend: FrontendPort): void {
    this.#frontend = frontend
    this.#pressure.bind(frontend)
    this.#publishing.bind(frontend)
    this.#notes.bind(frontend)
    this.#requests.bind(frontend)
    this.#sessions.bind(frontend)
    this.#store.bind(frontend)
  }

  /** A link to a backend has passed its handshake. Answers what the backend's calls go to. */
  onLinkOpen(link: Link, calls: OwnerPort): CallerPort {
    const owner = new OwnerLink(link, calls)
    this.#links.set(link, owner)
    this.#directory.opened(owner)
    return new LinkCalls({
      owner,
      frontend: this.#frontend!,
      directory: this.#directory,
      publishing: this.#publishing,
      sessions: this.#sessions,
      notes: this.#notes,
      requests: this.#requests,
      store: this.#store,
      pressure: this.#pressure,
    })
  }

  onLinkClosed(link: Link): void {
    const owner = this.#links.get(link)
    if (owner === undefined) return
    this.#links.delete(link)
    this.#log.info('backend_link_lost', { backend: link.peer.id, unanswered: owner.parts.span })
    this.#readClock()
    this.#directory.closed(owner)
    this.#publishing.onLinkClosed(owner)
    if (owner.isFull) this.#pressure.addOther(-1)
    owner.isFull = false
  }

  onCongestion(link: Link, isCongested: boolean): void {
    const owner = this.#links.get(link)
    if (owner !== undefined) this.#publishing.onCongestion(owner, isCongested)
  }

  /** A step of the Turn: shards that have become fresh get what was held for them. */
  readonly endTurn = (): void => {
    this.#readClock()
    this.#publishing.endTurn()
    this.#isTurnChecked = false
  }

  /** Every 100 ms or so: silent links, and all that has waited for too long. */
  tick(): void {
    this.#readClock()
    this.#checkFreshness()
    this.#publishing.tick()
    this.#sessions.tick(this.#nowMs)
    this.#store.tick(this.#nowMs)
    if (this.#nowMs - this.#unservedMs < UNSERVED_CHECK_MS) return
    this.#unservedMs = this.#nowMs
    this.#sessions.endUnserved(this.#nowMs)
  }

  /** The shards that nobody is known to own: until there are none, this frontend is not ready. */
  waitingFor(): string[] {
    return this.#directory.waitingFor()
  }

  /** Bytes of all publishes that are not answered. */
  get pendingBytes(): number {
    return this.#pressure.bytes
  }

  attach(request: AttachRequest): Promise<AttachReply> {
    this.#readClock()
    return this.#sessions.attach(request, this.#nowMs)
  }

  detach(_session: SessionHandle, connection: ConnectionId, end: ConnectionEnd): void {
    this.#sessions.detach(connection, end)
    this.#publishing.detached(connection)
    this.#store.detached(connection)
  }

  publish(_session: SessionHandle, connection: ConnectionId, ticket: number, message: Message): void {
    if (!this.#isTurnChecked) this.#checkTurn()
    if (message.qos === 2) return this.#requests.publish(connection, ticket, message, this.#nowMs)
    this.#publishing.publish(connection, ticket, this.#routes.get(connection), message)
  }

  release(_session: SessionHandle, connection: ConnectionId, ticket: number, packetId: number): void {
    const route = this.#routes.get(connection)
    if (route !== null) this.#requests.make(route, ticket, { is: 'release', packetId, sinceMs: this.#nowMs, wasSent: false })
  }

  puback(_session: SessionHandle, connection: ConnectionId, packetId: number): void {
    this.#notes.puback(connection, packetId)
  }

  pubrec(_session: SessionHandle, connection: ConnectionId, packetId: number, reason: ReasonCode): void {
    this.#notes.pubrec(connection, packetId, reason)
  }

  pubcomp(_session: SessionHandle, connection: ConnectionId, packetId: number): void {
    this.#notes.pubcomp(connection, packetId)
  }

  subscribe(
    _session: SessionHandle,
    connection: ConnectionId,
    ticket: number,
    packetId: number,
    subscriptions: readonly SubscriptionRequest[],
  ): void {
    const route = this.#routes.get(connection)
    if (route === null) return
    this.#requests.make(route, ticket, { is: 'subscribe', packetId, subscriptions, sinceMs: this.#nowMs, wasSent: false })
  }

  restrict(_session: SessionHandle, connection: ConnectionId, ticket: number, rights: SessionRights): void {
    const route = this.#routes.get(connection)
    if (route !== null) this.#requests.make(route, ticket, { is: 'restrict', rights, sinceMs: this.#nowMs, wasSent: false })
  }

  askStore(_session: SessionHandle, connection: ConnectionId, ticket: number, call: StoreCall): void {
    if (!this.#isTurnChecked) this.#checkTurn()
    this.#store.ask(connection, ticket, call, this.#nowMs)
  }

  unsubscribe(_session: SessionHandle, connection: ConnectionId, ticket: number, packetId: number, filters: readonly ParsedFilter[]): void {
    const route = this.#routes.get(connection)
    if (route !== null) this.#requests.make(route, ticket, { is: 'unsubscribe', packetId, filters, sinceMs: this.#nowMs, wasSent: false })
  }

  writable(_session: SessionHandle, connection: ConnectionId, isWritable: boolean): void {
    this.#notes.writable(connection, isWritable)
  }

  /** Once in a turn with publishes. After a pause of this process a link may have been silent for long: nobody may be sent to meanwhile. */
  #checkTurn(): void {
    this.#isTurnChecked = true
    this.#turn.request()
    this.#readClock()
    if (this.#nowMs - this.#checkedMs >= FRESHNESS_CHECK_MS) this.#checkFreshness()
  }

  #checkFreshness(): void {
    this.#checkedMs = this.#nowMs
    this.#directory.tick()
  }

  #readClock(): void {
    this.#nowMs = this.#clock.monotonicMs()
    this.#publishing.nowMs = this.#nowMs
  }
}
