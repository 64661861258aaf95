import type { Directory } from '#shared/cluster/directory.ts'
import type { Message } from '#shared/mqtt/message.ts'
import type { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { AttachReply, ConnectionId } from '#shared/rpc/backend-port.ts'
import type { BoundSession, CallerPort } from '#shared/rpc/caller-port.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import type { Recipients } from '#shared/rpc/recipients.ts'
import type { OwnerLink } from './owner-link.ts'
import type { Pressure } from './pressure.ts'
import type { Publishing } from './publishing.ts'
import type { SessionNotes } from './session-notes.ts'
import type { SessionRequests } from './session-requests.ts'
import type { SessionRouting } from './session-routing.ts'
import type { StoreRouting } from './store-routing.ts'

interface LinkCallsParts {
  readonly owner: OwnerLink
  readonly frontend: FrontendPort
  readonly directory: Directory<OwnerLink>
  readonly publishing: Publishing
  readonly sessions: SessionRouting
  readonly notes: SessionNotes
  readonly requests: SessionRequests
  readonly store: StoreRouting
  readonly pressure: Pressure
}

/** What one backend says, to the part of the Router that it concerns. */
export class LinkCalls implements CallerPort {
  readonly #parts: LinkCallsParts
  readonly #owner: OwnerLink

  constructor(parts: LinkCallsParts) {
    this.#parts = parts
    this.#owner = parts.owner
  }

  deliver(message: Message, recipients: Recipients): void {
    this.#parts.notes.deliver(this.#owner, message, recipients)
  }

  acknowledged(connection: ConnectionId, ticket: number, reason: ReasonCode): void {
    if (this.#parts.requests.answered(this.#owner, connection, ticket)) this.#parts.frontend.acknowledged(connection, ticket, reason)
  }

  subscribed(connection: ConnectionId, ticket: number, reasons: readonly ReasonCode[]): void {
    if (this.#parts.requests.answered(this.#owner, connection, ticket)) this.#parts.frontend.subscribed(connection, ticket, reasons)
  }

  released(connection: ConnectionId, packetId: number, reason: ReasonCode): void {
    this.#parts.notes.released(this.#owner, connection, packetId, reason)
  }

  pressure(isFull: boolean): void {
    if (this.#owner.isFull === isFull) return
    this.#owner.isFull = isFull
    this.#parts.pressure.addOther(isFull ? 1 : -1)
  }

  /** The core answers with `detach`. */
  disconnect(connection: ConnectionId, reason: ReasonCode, detail: string): void {
    if (this.#parts.sessions.isServedBy(this.#owner, connection)) this.#parts.frontend.disconnect(connection, reason, detail)
  }

  attached(request: number, reply: AttachReply): void {
    this.#parts.sessions.attached(this.#owner, request, reply)
  }

  attachMoved(request: number): void {
    this.#parts.sessions.attachMoved(this.#owner, request)
  }

  detached(connection: ConnectionId): void {
    this.#parts.sessions.detached(connection)
  }

  published(sequence: number, reason: ReasonCode, moved: readonly number[] | null): void {
    this.#parts.publishing.published(this.#owner, sequence, reason, moved)
  }

  storeAsked(sequence: number, reason: ReasonCode): void {
    this.#parts.store.answered(this.#owner, sequence, reason, this.#parts.publishing.nowMs)
  }

  storeRead(sequence: number, values: readonly (Uint8Array | null)[] | null): void {
    this.#parts.store.read(this.#owner, sequence, values, this.#parts.publishing.nowMs)
  }

  unwatched(shard: number, connection: ConnectionId): void {
    this.#parts.store.unwatched(shard, connection)
  }

  resumed(_shard: number, sessions: readonly BoundSession[]): void {
    this.#parts.sessions.resumed(this.#owner, sessions, this.#parts.publishing.nowMs)
  }

  owned(shard: number, epoch: number, routes: number, routesDigest: number): void {
    this.#parts.directory.owned(this.#owner, shard, epoch, routes, routesDigest)
  }

  allOwned(): void {
    // Who owns nothing says nothing: there is nothing to wait for.
  }

  lost(shard: number): void {
    this.#parts.directory.lost(this.#owner, shard)
  }

  routes(shard: number, barrier: number, isWhole: boolean, added: readonly string[], removed: readonly string[]): void {
    this.#parts.directory.routes(this.#owner, shard, barrier, isWhole, added, removed)
  }

  handedOver(): void {
    // Frontends hand nothing over.
  }

  retained(): void {
    // They read no Retained Messages.
  }

  membersApplied(): void {
    // They know no groups.
  }

  shardReleased(): void {
    // They own no shards.
  }
}
