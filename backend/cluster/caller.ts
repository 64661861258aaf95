import type { Message } from '#shared/mqtt/message.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ParsedFilter } from '#shared/mqtt/topic.ts'
import type { ConnectionEnd, ConnectionId, SessionHandle, SessionRights, SubscriptionRequest } from '#shared/rpc/backend-port.ts'
import type { CallerPort } from '#shared/rpc/caller-port.ts'
import type { PeerIdentity } from '#shared/rpc/link.ts'
import {
  type HandOverTarget,
  type MemberChange,
  type MemberStanding,
  NO_CONNECTION,
  type OwnerPort,
  type RemoteAttach,
  type RemoteStoreCall,
  type ResumedSession,
} from '#shared/rpc/owner-port.ts'
import type { Shards } from '#shared/rpc/shards.ts'
import type { Engine } from '../engine.ts'
import { onPuback, onPubcomp, onPubrec } from '../handlers/acknowledge.ts'
import { askShard, isTooFull, readShard, watchShard } from '../handlers/ask-store.ts'
import { forgetFormer, onAttach, onDetach, onOpened } from '../handlers/attach.ts'
import { onRestrict } from '../handlers/restrict.ts'
import { onSubscribe, onUnsubscribe } from '../handlers/subscribe.ts'
import { FrontendLink } from '../session/frontend-link.ts'
import { pump } from '../session/sending.ts'
import type { Session } from '../session/session.ts'
import type { Acknowledger } from '../shard/journal.ts'
import type { Shard } from '../shard/shard.ts'
import { record } from '../shard/store-upkeep.ts'
import { momentOf } from '../statestore/moment.ts'
import type { RouteFollower } from './announcements.ts'
import type { ClusterNode } from './cluster-node.ts'
import { takeHandOver } from './hand-over-taking.ts'
import { releaseFromLink } from './releases.ts'
import { RetainedQueries } from './retained-queries.ts'
import { resumeSession } from './resuming.ts'
import { publishFromLink, publishQos2FromLink, type PublishOrigin } from './routed-publish.ts'

/** What a caller asks that is not the engine's to answer. */
export interface CallerParts {
  readonly peer: PeerIdentity
  readonly calls: CallerPort
  /** Of the link: Link.heardMs. */
  readonly heardMs: () => number
  /** Of the link: Link.isCongested, which `onCongestion` tells later. */
  readonly isCongested: () => boolean
  /** OwnerPort.requestShard: true once it is let go. */
  readonly onRequestShard: (memberId: string, shard: number) => Promise<boolean>
  /** Ends the link. */
  readonly close: (reason: string) => void
}

/** The name by which sessions and routes know one instance of a process. */
export function callerKey(peer: { readonly id: string; readonly instance: string }): string {
  return `${peer.id}/${peer.instance}`
}

/** A frontend or another backend at the other end of a link: its calls, and what this backend tells it. */
export class Caller implements OwnerPort, RouteFollower {
  readonly key: string
  readonly peer: PeerIdentity
  readonly calls: CallerPort
  readonly link: FrontendLink
  applied: number
  readonly #engine: Engine
  readonly #node: ClusterNode
  readonly #parts: CallerParts
  readonly #retained: RetainedQueries
  readonly #origin: PublishOrigin
  isOpen = true

  constructor(engine: Engine, node: ClusterNode, parts: CallerParts) {
    this.#engine = engine
    this.#node = node
    this.#parts = parts
    this.peer = parts.peer
    this.key = callerKey(parts.peer)
    this.calls = parts.calls
    this.link = new FrontendLink(parts.calls, this.key)
    // It is told everything anew, and takes no shard for fresh until it knows its routes.
    this.applied = node.announcements.barrier
    this.#origin = {
      link: this.link,
      answers: new PublishAnswers(parts.calls),
      calls: parts.calls,
      resumed: new Float64Array(engine.shards.length),
      connection: NO_CONNECTION,
      publisher: '',
    }
    this.#retained = new RetainedQueries(engine, parts.calls)
  }

  get heardMs(): number {
    return this.#parts.heardMs()
  }

  /** The link is open: what we own. */
  open(): void {
    this.#engine.addLink(this.link)
    this.#node.callers.add(this)
    for (const shard of this.#engine.shards) {
      if (shard.isServing) this.#node.announcements.announceOwned(this.calls, shard.number, shard.epoch)
    }
    this.calls.allOwned()
    this.#node.announcements.check()
  }

  /** The link is closed. The connections of a frontend may come back with it on another one. */
  closed(): void {
    this.isOpen = false
    this.#node.callers.delete(this)
    this.#node.announcements.onClosed(this.key)
    this.#engine.removeLink(this.link)
    this.#retained.closeAll()
    this.#node.awaiting.linksLost(this.link.sessions)
    this.#node.announcements.check()
  }

  /** Ends the link from our side: whatever was not answered is asked again of whoever owns the shard. */
  close(reason: string): void {
    this.#parts.close(reason)
  }

  onCongestion(isCongested: boolean): void {
    this.link.isCongested = isCongested
    if (isCongested) return
    for (const session of this.link.sessions) {
      pump(this.#engine, session)
      this.#engine.resumeReplays(session)
    }
  }

  attach(request: number, attach: RemoteAttach, isRetry: boolean): void {
    const shard = this.#engine.shardFor(attach.clientId)
    if (!shard.isServing) return this.calls.attachMoved(request)
    const { epoch } = shard
    const { port, frontend } = this.link
    void onAttach(this.#engine, { ...attach, frontend: port }, this.link, isRetry && frontend !== '').then(reply => {
      // If the shard has gone meanwhile, its next owner is asked.
      if (this.isOpen && shard.isServing && shard.epoch === epoch) this.calls.attached(request, reply)
    })
  }

  detach(shardNumber: number, clientId: string, connection: ConnectionId, end: ConnectionEnd): void {
    const shard = this.#engine.shards[shardNumber]
    if (shard === undefined || !shard.isServing) return
    const session = shard.sessions.get(clientId)
    const isIts = session !== undefined && session.isConnected && session.frontend === this.key && session.connection === connection
    if (isIts) onDetach(this.#engine, session, end)
    // What it published has come before.
    else if (session !== undefined) forgetFormer(session, this.key, connection)
    this.#engine.journal.whenStored(() => this.calls.detached(connection))
  }

  publish(sequence: number, connection: ConnectionId, isRefusable: boolean, shards: Shards, message: Message, publisher = ''): void {
    const origin = this.#origin
    origin.connection = connection
    origin.publisher = publisher
    publishFromLink(this.#engine, this.#node, origin, sequence, isRefusable, shards, message)
  }

  publishQos2(handle: SessionHandle, connection: ConnectionId, ticket: number, message: Message): void {
    const session = this.#engine.attached(handle, connection)
    if (session !== null) publishQos2FromLink(this.#engine, this.#node, session, ticket, message)
  }

  release(handle: SessionHandle, connection: ConnectionId, ticket: number, packetId: number, isRetry: boolean): void {
    const session = this.#engine.attached(handle, connection)
    if (session !== null) releaseFromLink(this.#engine, session, ticket, packetId, isRetry)
  }

  puback(handle: SessionHandle, connection: ConnectionId, packetId: number): void {
    const session = this.#engine.attached(handle, connection)
    if (session !== null) onPuback(this.#engine, session, packetId)
  }

  pubrec(handle: SessionHandle, connection: ConnectionId, packetId: number, reason: ReasonCode): void {
    const session = this.#engine.attached(handle, connection)
    if (session !== null) onPubrec(this.#engine, session, packetId, reason)
  }

  pubcomp(handle: SessionHandle, connection: ConnectionId, packetId: number): void {
    const session = this.#engine.attached(handle, connection)
    if (session !== null) onPubcomp(this.#engine, session, packetId)
  }

  subscribe(
    handle: SessionHandle,
    connection: ConnectionId,
    ticket: number,
    packetId: number,
    subscriptions: readonly SubscriptionRequest[],
  ): void {
    const session = this.#engine.attached(handle, connection)
    if (session !== null) onSubscribe(this.#engine, session, ticket, packetId, subscriptions)
  }

  unsubscribe(
    handle: SessionHandle,
    connection: ConnectionId,
    ticket: number,
    packetId: number,
    filters: readonly ParsedFilter[],
    isRetry: boolean,
  ): void {
    const session = this.#engine.attached(handle, connection)
    if (session !== null) onUnsubscribe(this.#engine, session, ticket, packetId, filters, isRetry)
  }

  restrict(handle: SessionHandle, connection: ConnectionId, ticket: number, rights: SessionRights): void {
    const session = this.#engine.attached(handle, connection)
    if (session !== null) onRestrict(this.#engine, session, ticket, rights)
  }

  writable(handle: SessionHandle, connection: ConnectionId, isWritable: boolean): void {
    const session = this.#engine.attached(handle, connection)
    if (session === null) return
    if (isWritable) return onOpened(this.#engine, session)
    session.isWritable = false
    this.#node.noteStanding(session)
  }

  resume(shardNumber: number, sessions: readonly ResumedSession[], isLast: boolean): void {
    const shard = this.#engine.shards[shardNumber]
    if (shard === undefined || !shard.isServing) return
    const bound: { session: Session; resumed: ResumedSession }[] = []
    for (const resumed of sessions) {
      const session = resumeSession(this.#engine, shard, this.link, resumed)
      if (session !== null) bound.push({ session, resumed })
      else this.#refuseResumed(resumed, shard.sessions.get(resumed.clientId))
    }
    this.calls.resumed(
      shardNumber,
      bound.map(({ session }) => ({ connection: session.connection, session: session.handle })),
    )
    for (const { session, resumed } of bound) if (resumed.isWritable) onOpened(this.#engine, session)
    if (!isLast) return
    this.#origin.resumed[shardNumber] = shard.epoch
    this.#node.awaiting.resumedBy(shard, this.key)
  }

  /** The session has a later connection, or was given up while this frontend was out of reach. */
  #refuseResumed({ connection }: ResumedSession, session: Session | undefined): void {
    const isTaken = session?.isConnected === true
    const reason = isTaken ? ReasonCode.SessionTakenOver : ReasonCode.ServerBusy
    this.calls.disconnect(connection, reason, isTaken ? 'another connection uses the Client Identifier' : 'the session was given up')
  }

  wantRoutes(shard: number): void {
    if (this.#engine.shards[shard]?.isServing === true) this.#node.announcements.announceAll(this.calls, shard)
  }

  routesApplied(barrier: number): void {
    this.#node.announcements.onApplied(this, barrier)
  }

  handOver(fromShard: number, sequence: number, target: HandOverTarget, message: Message): void {
    takeHandOver(this.#engine, this.#isResumed, fromShard, sequence, target, message, (shards, outcome) =>
      this.calls.handedOver(fromShard, sequence, shards, outcome),
    )
  }

  askStore(shardNumber: number, sequence: number, settledBefore: number, connection: ConnectionId, call: RemoteStoreCall): void {
    const engine = this.#engine
    const shard = engine.shards[shardNumber]
    // Whoever owns it next is asked again.
    if (shard === undefined || !this.#isResumed(shard)) return
    if (this.#node.storeTurns.mustWait(shardNumber)) {
      const kept = { ...call, message: call.message.keep() }
      return this.#later(shard, () => this.askStore(shardNumber, sequence, settledBefore, connection, kept))
    }
    const frontend = this.key
    const origin = { frontend, sequence, settledBefore }
    const watcher = { frontend, connection, clientId: call.clientId }
    if (call.as === 'part') {
      const answer = watchShard(engine, shard, call, watcher, origin)
      const isDone = typeof answer !== 'number'
      return this.#whenStored(shard, () => (isDone ? this.calls.storeRead(sequence, [answer]) : this.calls.storeAsked(sequence, answer)))
    }
    // What was done is not refused, be it in other shards.
    const isDone = call.as === 'answer' || shard.store?.isRepeat(origin) === true
    if (!isDone && isTooFull(engine, call.message)) return this.calls.storeAsked(sequence, ReasonCode.QuotaExceeded)
    const reason = askShard(engine, shard, call, watcher, origin)
    this.#whenStored(shard, () => this.calls.storeAsked(sequence, reason))
  }

  readStore(shardNumber: number, sequence: number, keys: readonly string[]): void {
    const engine = this.#engine
    const shard = engine.shards[shardNumber]
    if (shard === undefined || !this.#isResumed(shard)) return
    if (this.#node.storeTurns.mustWait(shardNumber)) return this.#later(shard, () => this.readStore(shardNumber, sequence, keys))
    if (engine.isFull) return this.#refuseRead(sequence)
    const values = readShard(engine, shard, keys)
    this.#whenStored(shard, () => {
      // Values are not deliveries, which wait while the link is congested.
      if (this.#parts.isCongested()) this.#refuseRead(sequence)
      else this.calls.storeRead(sequence, values)
    })
  }

  #refuseRead(sequence: number): void {
    this.#engine.counters.refusedMemory++
    this.calls.storeAsked(sequence, ReasonCode.QuotaExceeded)
  }

  unwatch(shardNumber: number, connection: ConnectionId): void {
    const shard = this.#engine.shards[shardNumber]
    if (shard === undefined || !this.#isResumed(shard)) return
    if (this.#node.storeTurns.mustWait(shardNumber)) return this.#later(shard, () => this.unwatch(shardNumber, connection))
    if (shard.store !== null) record(this.#engine, shard, shard.store.forget(this.key, connection, momentOf(this.#engine.clock)))
    this.#whenStored(shard, () => this.calls.unwatched(shardNumber, connection))
  }

  /** Nothing if the shard has gone meanwhile: whoever had it then may have done it, and was asked again. */
  #later(shard: Shard, again: () => void): void {
    const { epoch } = shard
    this.#node.storeTurns.wait(shard.number, () => {
      if (this.isOpen && shard.epoch === epoch) again()
    })
  }

  /** Nothing if the shard has gone meanwhile: its records may have been refused, and its next owner is asked again. */
  #whenStored(shard: Shard, answer: () => void): void {
    const { epoch } = shard
    this.#engine.journal.whenStored(() => {
      if (this.isOpen && isKept(shard) && shard.epoch === epoch) answer()
    })
  }

  openRetained(query: number, filter: string, shards: Shards): void {
    this.#retained.open(query, filter, shards)
  }

  moreRetained(query: number): void {
    this.#retained.more(query)
  }

  closeRetained(query: number): void {
    this.#retained.close(query)
  }

  members(request: number, groupShard: number, memberShard: number, isWhole: boolean, members: readonly MemberChange[]): void {
    const shard: Shard | undefined = this.#engine.shards[groupShard]
    if (shard === undefined || !shard.isServing) return
    this.#node.groups.change(shard, memberShard, isWhole, members)
    this.#engine.journal.whenStored(() => this.#node.announcements.whenApplied(() => this.calls.membersApplied(request)))
  }

  memberStates(groupShard: number, memberShard: number, states: readonly MemberStanding[]): void {
    if (this.#engine.shards[groupShard]?.isServing === true) this.#node.groups.stand(memberShard, states)
  }

  /** It knows our present ownership of the shard: what it sent before may have been overtaken by what it has sent to others since. */
  readonly #isResumed = (shard: Shard): boolean => shard.isServing && this.#origin.resumed[shard.number] === shard.epoch

  requestShard(shard: number): void {
    void this.#parts.onRequestShard(this.peer.id, shard).then(
      isReleased => this.isOpen && this.calls.shardReleased(shard, isReleased),
      () => this.isOpen && this.calls.shardReleased(shard, false),
    )
  }
}

/** Still in our memory, whole. */
function isKept({ phase }: Shard): boolean {
  return phase === 'serving' || phase === 'leaving'
}

/** The journal acknowledges to a FrontendPort: here the ticket is the sequence of a `publish`. */
class PublishAnswers implements Acknowledger {
  readonly #calls: CallerPort

  constructor(calls: CallerPort) {
    this.#calls = calls
  }

  acknowledged(_connection: ConnectionId, sequence: number, reason: ReasonCode): void {
    this.#calls.published(sequence, reason, null)
  }
}
