import type { Message } from '#shared/mqtt/message.ts'
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
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ClusterNode, ClusterParts } from './cluster/cluster-node.ts'
import { Hosting } from './cluster/hosting.ts'
import { Engine, type EngineParts } from './engine.ts'
import { onPuback, onPubcomp, onPubrec } from './handlers/acknowledge.ts'
import { onAskStore } from './handlers/ask-store.ts'
import { onAttach, onDetach, onOpened } from './handlers/attach.ts'
import { onPublish, onRelease } from './handlers/publish.ts'
import { onRestrict } from './handlers/restrict.ts'
import { onSubscribe, onUnsubscribe } from './handlers/subscribe.ts'
import { goOnNotifying } from './publishing/key-notifications.ts'
import { runReplays } from './queue/retained-replay.ts'
import { dropUnchosen, type PersistencePolicy } from './shard/persistence.ts'
import { finishRecovery, recoverShard } from './shard/recovery.ts'
import { Snapshotter } from './shard/snapshotter.ts'
import { expireEntries, forgetAllWatchers } from './shard/store-upkeep.ts'

/**
 * Owns shards and answers frontends: all shards of its store, by function calls (`open`), or those that it is given, over links (`join`). Calls for a session that the
 * connection does not hold (any more) do nothing.
 */
export class Backend implements BackendPort {
  readonly engine: Engine
  readonly #snapshotter: Snapshotter
  #failure: Error | null = null

  private constructor(parts: EngineParts) {
    this.engine = new Engine({ ...parts, onFailure: error => this.#fail(error, parts.onFailure) })
    this.#snapshotter = new Snapshotter(this.engine)
  }

  /**
   * Reads every shard back and takes them over. What `persistence` does not choose is dropped; without it all is kept.
   * @throws {StoreError} corrupt, newerFormat
   */
  static async open(parts: EngineParts & { readonly persistence?: PersistencePolicy | null }): Promise<Backend> {
    const backend = new Backend(parts)
    for (const shard of backend.engine.shards) shard.phase = 'serving'
    await Promise.all(backend.engine.shards.map(shard => recoverShard(backend.engine, shard)))
    // Before Wills become due: what they leave is of this run.
    if (parts.persistence) dropUnchosen(backend.engine, backend.engine.shards, parts.persistence)
    finishRecovery(backend.engine)
    forgetAllWatchers(backend.engine)
    await backend.engine.journal.settled()
    return backend
  }

  /** One of several: owns nothing yet. @param mayServe ShardOwnership.mayServe */
  static join(parts: EngineParts & { readonly cluster: ClusterParts }, mayServe: (shard: number) => boolean): ClusterBackend {
    const backend = new Backend(parts)
    const node = backend.engine.cluster!
    const hosting = new Hosting(backend.engine, node, backend.#snapshotter, mayServe)
    parts.cluster.store.onIncomplete = number => {
      const shard = backend.engine.shards[number]!
      // Ours by what the store remembers alone: nobody here knows it whole, not even who reads ahead to take it from another one.
      if (shard.phase === 'absent' || (shard.phase === 'preparing' && !mayServe(number))) return backend.#snapshotter.forget(shard)
      backend.engine.log.warn('shard_written_again', { shard: number })
      backend.#snapshotter.mend(shard)
    }
    return { backend, node, hosting }
  }

  /** Why it serves nobody any more, or null. */
  get failure(): Error | null {
    return this.#failure
  }

  async attach(request: AttachRequest): Promise<AttachReply> {
    if (this.#failure !== null) return { is: 'refused', reason: ReasonCode.ServerUnavailable, detail: 'the store failed' }
    return onAttach(this.engine, request, this.engine.link(request.frontend), false)
  }

  detach(handle: SessionHandle, connection: ConnectionId, end: ConnectionEnd): void {
    const session = this.engine.attached(handle, connection)
    if (session !== null) onDetach(this.engine, session, end)
  }

  publish(handle: SessionHandle, connection: ConnectionId, ticket: number, message: Message): void {
    const session = this.engine.attached(handle, connection)
    if (session !== null) onPublish(this.engine, session, ticket, message)
  }

  release(handle: SessionHandle, connection: ConnectionId, ticket: number, packetId: number): void {
    const session = this.engine.attached(handle, connection)
    if (session !== null) onRelease(this.engine, session, ticket, packetId, false)
  }

  puback(handle: SessionHandle, connection: ConnectionId, packetId: number): void {
    const session = this.engine.attached(handle, connection)
    if (session !== null) onPuback(this.engine, session, packetId)
  }

  pubrec(handle: SessionHandle, connection: ConnectionId, packetId: number, reason: ReasonCode): void {
    const session = this.engine.attached(handle, connection)
    if (session !== null) onPubrec(this.engine, session, packetId, reason)
  }

  pubcomp(handle: SessionHandle, connection: ConnectionId, packetId: number): void {
    const session = this.engine.attached(handle, connection)
    if (session !== null) onPubcomp(this.engine, session, packetId)
  }

  subscribe(
    handle: SessionHandle,
    connection: ConnectionId,
    ticket: number,
    packetId: number,
    subscriptions: readonly SubscriptionRequest[],
  ): void {
    const session = this.engine.attached(handle, connection)
    if (session !== null) onSubscribe(this.engine, session, ticket, packetId, subscriptions)
  }

  restrict(handle: SessionHandle, connection: ConnectionId, ticket: number, rights: SessionRights): void {
    const session = this.engine.attached(handle, connection)
    if (session !== null) onRestrict(this.engine, session, ticket, rights)
  }

  askStore(handle: SessionHandle, connection: ConnectionId, ticket: number, call: StoreCall): void {
    const session = this.engine.attached(handle, connection)
    if (session !== null) onAskStore(this.engine, session, ticket, call)
  }

  unsubscribe(handle: SessionHandle, connection: ConnectionId, ticket: number, packetId: number, filters: readonly ParsedFilter[]): void {
    const session = this.engine.attached(handle, connection)
    if (session !== null) onUnsubscribe(this.engine, session, ticket, packetId, filters, false)
  }

  writable(handle: SessionHandle, connection: ConnectionId, isWritable: boolean): void {
    const session = this.engine.attached(handle, connection)
    if (session === null) return
    if (isWritable) onOpened(this.engine, session)
    else session.isWritable = false
  }

  /** End of an event-loop turn: what was collected goes on. The first step of the Turn, before the frontend's. */
  readonly endTurn = (): void => {
    this.engine.catchUp()
    if (this.engine.isExpiryBehind) expireEntries(this.engine)
    runReplays(this.engine)
    goOnNotifying(this.engine)
    this.engine.cluster?.endTurn()
    this.engine.journal.flush()
  }

  /** A few times a second: whatever is due by the clock. */
  tick(): void {
    this.engine.turnWheel()
    expireEntries(this.engine)
    this.engine.cluster?.tick()
    this.#snapshotter.check()
    const isFull = this.engine.isFull
    for (const link of this.engine.links) link.tellPressure(isFull)
  }

  /** Everything acknowledged is stored already; this stores the rest and lets the store go. */
  async close(): Promise<void> {
    await this.#snapshotter.close()
    await this.engine.journal.settled()
    await this.engine.store.close()
  }

  /** Fails closed: no client may go on believing that what it sends is taken (docs/durability.md). */
  #fail(error: Error, onFailure: (error: Error) => void): void {
    this.#failure = error
    onFailure(error)
    for (const shard of this.engine.shards) {
      for (const { link, connection } of shard.sessions.values())
        link?.port.disconnect(connection, ReasonCode.ServerBusy, 'the store failed')
    }
  }
}

/** A backend of a cluster: its engine, what it shares with the others, and how shards come and go. */
export interface ClusterBackend {
  readonly backend: Backend
  readonly node: ClusterNode
  readonly hosting: Hosting
}
