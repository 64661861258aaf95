import type { Directory } from '#shared/cluster/directory.ts'
import { shardOf } from '#shared/cluster/shard.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { AttachReply, AttachRequest, ConnectionEnd, ConnectionId } from '#shared/rpc/backend-port.ts'
import type { BoundSession } from '#shared/rpc/caller-port.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import type { ResumedSession } from '#shared/rpc/owner-port.ts'
import type { RouterLimits } from './limits.ts'
import type { OwnerLink } from './owner-link.ts'
import type { RouterCounters } from './router-counters.ts'
import { tellLate } from './session-notes.ts'
import type { SessionRequests } from './session-requests.ts'
import { type PendingDetach, SessionRoute, type SessionRoutes } from './session-routes.ts'

/** Sessions in one call of `resume`. */
const RESUMED_PER_CALL = 256

/** A client that never saw its CONNACK: as the frontend core ends one that it refuses. */
const REFUSED: ConnectionEnd = { discardWill: true, sessionExpirySeconds: null }

const NOT_SERVED = 'the session cannot be served now'

interface SessionRoutingParts {
  readonly shardCount: number
  readonly directory: Directory<OwnerLink>
  readonly limits: RouterLimits
  readonly counters: RouterCounters
  readonly routes: SessionRoutes
  readonly requests: SessionRequests
}

/** Binds connections to their sessions, and again wherever the sessions go. */
export class SessionRouting {
  readonly #parts: SessionRoutingParts
  readonly #attaches = new Map<number, SessionRoute>()
  readonly #attaching = new Set<SessionRoute>()
  readonly #detaches = new Map<ConnectionId, PendingDetach>()
  #attachNumber = 0
  #frontend: FrontendPort | null = null

  constructor(parts: SessionRoutingParts) {
    this.#parts = parts
  }

  bind(frontend: FrontendPort): void {
    this.#frontend = frontend
  }

  /** BackendPort.attach; refused with ServerUnavailable when nobody has answered after `attachTimeoutMs`. */
  attach(request: AttachRequest, nowMs: number): Promise<AttachReply> {
    const { directory, routes, limits, shardCount } = this.#parts
    const route = new SessionRoute(request, shardOf(request.clientId, shardCount))
    const deadlineMs = nowMs + limits.attachTimeoutMs
    return new Promise(answer => {
      route.attach = { request, answer, deadlineMs, number: 0 }
      routes.add(route)
      this.#attaching.add(route)
      const owner = directory.ownerOf(route.shard)
      if (owner !== null) this.#askAttach(route, owner)
    })
  }

  /** BackendPort.detach: repeated until a backend has answered. */
  detach(connection: ConnectionId, end: ConnectionEnd): void {
    const route = this.#parts.routes.get(connection)
    if (route !== null) this.#remove(route, end)
  }

  /** CallerPort.attached. */
  attached(owner: OwnerLink, number: number, reply: AttachReply): void {
    const route = this.#takeAttach(owner, number)
    if (route === null) return
    const { answer } = route.attach!
    route.attach = null
    this.#attaching.delete(route)
    if (reply.is === 'refused') {
      this.#parts.routes.remove(route)
      return answer(reply)
    }
    route.phase = 'bound'
    route.remote = reply.session
    answer({ is: 'attached', session: route.connection, sessionPresent: reply.sessionPresent })
  }

  /** CallerPort.attachMoved. Only of the newest question, so the directory knew no better than to ask there. */
  attachMoved(owner: OwnerLink, number: number): void {
    const route = this.#takeAttach(owner, number)
    if (route === null) return
    route.owner = null
    this.#parts.directory.lost(owner, route.shard)
  }

  /** CallerPort.detached. */
  detached(connection: ConnectionId): void {
    this.#detaches.delete(connection)
  }

  /** Whether what `owner` says about the connection counts: a former owner may not know that it is one. */
  isServedBy(owner: OwnerLink, connection: ConnectionId): boolean {
    return this.#parts.routes.get(connection)?.owner === owner
  }

  /** The owner learns of all connections in the shard: those that are gone first, as it takes whoever is not resumed for lost. */
  onOwned(shard: number, owner: OwnerLink): void {
    for (const [connection, detach] of this.#detaches) {
      if (detach.shard === shard) owner.calls.detach(shard, detach.clientId, connection, detach.end)
    }
    const attaching: SessionRoute[] = []
    let sessions: ResumedSession[] = []
    for (const route of this.#parts.routes.ofShard(shard)) {
      unbind(route)
      if (route.phase === 'attaching') {
        attaching.push(route)
        continue
      }
      if (sessions.length === RESUMED_PER_CALL) {
        owner.calls.resume(shard, sessions, false)
        sessions = []
      }
      route.phase = 'resuming'
      route.owner = owner
      route.isToldWritable = route.isWritable
      sessions.push(route.resumed)
    }
    owner.calls.resume(shard, sessions, true)
    for (const route of attaching) this.#askAttach(route, owner)
  }

  /** Who was bound there waits for the next owner. */
  onLost(shard: number, owner: OwnerLink): void {
    for (const route of this.#parts.routes.ofShard(shard)) if (route.owner === owner) unbind(route)
  }

  /** CallerPort.resumed. */
  resumed(owner: OwnerLink, sessions: readonly BoundSession[], nowMs: number): void {
    const { routes, counters, requests } = this.#parts
    for (const { connection, session } of sessions) {
      const route = routes.get(connection)
      if (route === null || route.owner !== owner || route.phase !== 'resuming') continue
      route.phase = 'bound'
      route.remote = session
      counters.sessionsResumed++
      tellLate(route, owner)
      if (route.isWritable !== route.isToldWritable) owner.calls.writable(session, connection, route.isWritable)
      route.isToldWritable = route.isWritable
      requests.repeat(route, owner, nowMs)
    }
  }

  /** A few times a second: what has waited for too long. */
  tick(nowMs: number): void {
    for (const route of this.#attaching) {
      // The oldest come first.
      if (route.attach!.deadlineMs > nowMs) break
      this.#giveUpAttach(route)
    }
  }

  /** Connections with requests that no backend takes: their clients may find a better frontend. Once a second is enough. */
  endUnserved(nowMs: number): void {
    const sinceMs = nowMs - this.#parts.limits.publishWaitMs
    const late: SessionRoute[] = []
    for (let shard = 0; shard < this.#parts.shardCount; shard++) {
      for (const route of this.#parts.routes.ofShard(shard)) if (this.#parts.requests.isLate(route, sinceMs)) late.push(route)
    }
    for (const route of late) {
      this.#parts.counters.sessionsGivenUp++
      // DISCONNECT has no code for `unavailable` (§3.14.2.1).
      this.#frontend!.disconnect(route.connection, ReasonCode.ServerBusy, NOT_SERVED)
    }
  }

  #askAttach(route: SessionRoute, owner: OwnerLink): void {
    const attach = route.attach!
    if (attach.request.rights !== null && !owner.knowsRights) {
      this.#parts.counters.rightsNotUnderstood++
      return this.#refuseAttach(route, 'a backend of an older version cannot be told what it may do')
    }
    const isRetry = attach.number !== 0
    // The answer to an earlier question says nothing about this one.
    this.#attaches.delete(attach.number)
    attach.number = ++this.#attachNumber
    this.#attaches.set(attach.number, route)
    route.owner = owner
    owner.calls.attach(attach.number, attach.request, isRetry)
  }

  #takeAttach(owner: OwnerLink, number: number): SessionRoute | null {
    const route = this.#attaches.get(number)
    if (route === undefined || route.owner !== owner) return null
    this.#attaches.delete(number)
    return route
  }

  #giveUpAttach(route: SessionRoute): void {
    this.#parts.counters.attachesTimedOut++
    this.#refuseAttach(route, NOT_SERVED)
  }

  #refuseAttach(route: SessionRoute, detail: string): void {
    const { answer } = route.attach!
    this.#remove(route, REFUSED)
    answer({ is: 'refused', reason: ReasonCode.ServerUnavailable, detail })
  }

  #remove(route: SessionRoute, end: ConnectionEnd): void {
    const { routes, requests, directory } = this.#parts
    const wasNeverAsked = route.attach !== null && route.attach.number === 0
    if (route.attach !== null) {
      this.#attaches.delete(route.attach.number)
      this.#attaching.delete(route)
      route.attach = null
    }
    routes.remove(route)
    requests.forget(route)
    if (wasNeverAsked) return
    this.#keepDetach(route, end)
    directory.ownerOf(route.shard)?.calls.detach(route.shard, route.clientId, route.connection, end)
  }

  #keepDetach(route: SessionRoute, end: ConnectionEnd): void {
    if (this.#detaches.size >= this.#parts.limits.detachesMax) {
      for (const oldest of this.#detaches.keys()) {
        this.#detaches.delete(oldest)
        break
      }
    }
    this.#detaches.set(route.connection, { shard: route.shard, clientId: route.clientId, end })
  }
}

function unbind(route: SessionRoute): void {
  if (route.phase !== 'attaching') route.phase = 'waiting'
  route.owner = null
  route.remote = -1
  route.late = null
}
