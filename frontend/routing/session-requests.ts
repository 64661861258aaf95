import type { Message } from '#shared/mqtt/message.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ConnectionId } from '#shared/rpc/backend-port.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import type { RouterLimits } from './limits.ts'
import type { OwnerLink } from './owner-link.ts'
import type { Pressure } from './pressure.ts'
import type { RouterCounters } from './router-counters.ts'
import { isRefusable, type SessionRoute, type SessionRoutes, type WaitingRequest } from './session-routes.ts'

interface RequestsParts {
  readonly routes: SessionRoutes
  readonly pressure: Pressure
  readonly counters: RouterCounters
  readonly limits: RouterLimits
}

/**
 * SUBSCRIBE, UNSUBSCRIBE, QoS 2 PUBLISH and PUBREL of clients, and what they may do, to the owners of their sessions: each is kept until it is answered, and made
 * again in its order when the session has moved. The core bounds how many one client may have (PENDING_ANSWERS_MAX).
 */
export class SessionRequests {
  readonly #parts: RequestsParts
  #frontend: FrontendPort | null = null

  constructor(parts: RequestsParts) {
    this.#parts = parts
  }

  bind(frontend: FrontendPort): void {
    this.#frontend = frontend
  }

  /** BackendPort.publish for QoS 2. */
  publish(connection: ConnectionId, ticket: number, message: Message, nowMs: number): void {
    const { routes, pressure, counters } = this.#parts
    const route = routes.get(connection)
    if (route === null) return
    if (pressure.refuses(isRefusable(route))) {
      counters.publishesRefusedFull++
      return this.#frontend!.acknowledged(connection, ticket, ReasonCode.QuotaExceeded)
    }
    const expiresAtMs = message.expirySeconds < 0 ? Infinity : nowMs + message.expirySeconds * 1_000
    const kept = message.keep()
    const bytes = kept.storedBytes
    pressure.add(bytes)
    this.make(route, ticket, { is: 'publish', message: kept, bytes, expiresAtMs, sinceMs: nowMs, wasSent: false })
  }

  /** Keeps the request and makes it, if the session is bound. */
  make(route: SessionRoute, ticket: number, request: WaitingRequest): void {
    route.requests ??= new Map()
    route.requests.set(ticket, request)
    if (route.phase === 'bound') this.#send(route, route.owner!, ticket, request)
  }

  /** The owner has answered. Answers of former owners are of no use: the request is made again. */
  answered(owner: OwnerLink, connection: ConnectionId, ticket: number): boolean {
    const route = this.#parts.routes.get(connection)
    const request = route !== null && route.owner === owner ? route.requests?.get(ticket) : undefined
    if (request === undefined) return false
    route!.requests!.delete(ticket)
    if (request.is === 'publish') this.#parts.pressure.remove(request.bytes)
    return true
  }

  /** The session is bound again. What its client asks for meanwhile is made at once, behind these. */
  repeat(route: SessionRoute, owner: OwnerLink, nowMs: number): void {
    if (route.requests === null) return
    let left = route.requests.size
    for (const [ticket, request] of route.requests) {
      // Its connection may be ended by one of them.
      if (left-- === 0 || route.owner !== owner || route.requests === null) return
      // A QoS 2 message needs its PUBREC even when it has expired: it is left a last second.
      if (request.is === 'publish' && request.expiresAtMs !== Infinity)
        request.message.expirySeconds = Math.max(1, Math.ceil((request.expiresAtMs - nowMs) / 1_000))
      this.#send(route, owner, ticket, request)
    }
  }

  forget(route: SessionRoute): void {
    if (route.requests === null) return
    for (const request of route.requests.values()) if (request.is === 'publish') this.#parts.pressure.remove(request.bytes)
    route.requests = null
  }

  /**
   * Whether the connection must end because nobody takes what it asks for. Publishes that no backend has seen are refused instead: of
   * others nobody knows whether they took place, so their identifiers must not be free for other messages.
   */
  isLate(route: SessionRoute, sinceMs: number): boolean {
    if (route.requests === null || route.phase === 'bound') return false
    for (const [ticket, request] of route.requests) {
      if (request.sinceMs > sinceMs) return false
      if (request.is !== 'publish' || request.wasSent) return true
      route.requests.delete(ticket)
      this.#parts.counters.publishesRefusedLate++
      this.#parts.pressure.remove(request.bytes)
      this.#frontend!.acknowledged(route.connection, ticket, ReasonCode.QuotaExceeded)
    }
    return false
  }

  /** An older backend would go on by the rights of before: the connection must not. */
  #send(route: SessionRoute, owner: OwnerLink, ticket: number, request: WaitingRequest): void {
    if (request.is !== 'restrict' || owner.knowsRights) return send(route, owner, ticket, request)
    this.#parts.counters.rightsNotUnderstood++
    this.#frontend!.disconnect(route.connection, ReasonCode.ServerBusy, 'a backend of an older version cannot restrict it')
  }
}

function send(route: SessionRoute, owner: OwnerLink, ticket: number, request: WaitingRequest): void {
  const { remote, connection } = route
  const isRetry = request.wasSent
  request.wasSent = true
  switch (request.is) {
    case 'publish':
      return owner.calls.publishQos2(remote, connection, ticket, request.message)
    case 'release':
      return owner.calls.release(remote, connection, ticket, request.packetId, isRetry)
    case 'subscribe':
      return owner.calls.subscribe(remote, connection, ticket, request.packetId, request.subscriptions)
    case 'restrict':
      return owner.calls.restrict(remote, connection, ticket, request.rights)
    case 'unsubscribe':
      return owner.calls.unsubscribe(remote, connection, ticket, request.packetId, request.filters, isRetry)
  }
}
