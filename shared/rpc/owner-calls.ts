import type { Message } from '#shared/mqtt/message.ts'
import type { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ParsedFilter } from '#shared/mqtt/topic.ts'
import { writeAttach, writeConnectionEnd, writeRights } from './attach-body.ts'
import type { ConnectionEnd, ConnectionId, SessionHandle, SessionRights, SubscriptionRequest } from './backend-port.ts'
import { writeFlag, writeId, writeShard, writeShards } from './body-fields.ts'
import { writeHandOverTarget } from './hand-over-body.ts'
import type { Link } from './link.ts'
import { writeMemberChanges, writeMemberStates } from './member-body.ts'
import { writeMessage } from './message-body.ts'
import { OwnerMethod } from './methods.ts'
import {
  type HandOverTarget,
  type MemberChange,
  type MemberStanding,
  type OwnerPort,
  type RemoteAttach,
  type RemoteStoreCall,
  type ResumedSession,
  STORE_CALL_ROLES,
} from './owner-port.ts'
import { PUBLISH_HAS_PUBLISHER, PUBLISH_IS_REFUSABLE } from './publish-flags.ts'
import { writeResumedSessions } from './resume-body.ts'
import type { Shards } from './shards.ts'
import { writeFilters, writeSubscriptions } from './subscription-body.ts'

/** The owner at the other end of a link: each call is a frame. Read by OwnerDispatch. Nothing is checked here, everything there. */
export class OwnerCalls implements OwnerPort {
  readonly #link: Link

  constructor(link: Link) {
    this.#link = link
  }

  attach(request: number, attach: RemoteAttach, isRetry: boolean): void {
    const writer = this.#link.beginFrame(OwnerMethod.Attach)
    writer.varint(request)
    writeFlag(writer, isRetry)
    writeAttach(writer, attach)
    this.#link.endFrame()
  }

  detach(shard: number, clientId: string, connection: ConnectionId, end: ConnectionEnd): void {
    const writer = this.#link.beginFrame(OwnerMethod.Detach)
    writeShard(writer, shard)
    writer.text(clientId)
    writeId(writer, connection)
    writeConnectionEnd(writer, end)
    this.#link.endFrame()
  }

  publish(sequence: number, connection: ConnectionId, isRefusable: boolean, shards: Shards, message: Message, publisher = ''): void {
    const writer = this.#link.beginFrame(OwnerMethod.Publish)
    writer.varint(sequence)
    writeId(writer, connection)
    writer.u8((isRefusable ? PUBLISH_IS_REFUSABLE : 0) | (publisher === '' ? 0 : PUBLISH_HAS_PUBLISHER))
    if (publisher !== '') writer.text(publisher)
    writeShards(writer, shards)
    writeMessage(writer, message)
    this.#link.endFrame()
  }

  publishQos2(session: SessionHandle, connection: ConnectionId, ticket: number, message: Message): void {
    const writer = this.#link.beginFrame(OwnerMethod.PublishQos2)
    writeId(writer, session)
    writeId(writer, connection)
    writer.varint(ticket)
    writeMessage(writer, message)
    this.#link.endFrame()
  }

  release(session: SessionHandle, connection: ConnectionId, ticket: number, packetId: number, isRetry: boolean): void {
    const writer = this.#link.beginFrame(OwnerMethod.Release)
    writeId(writer, session)
    writeId(writer, connection)
    writer.varint(ticket)
    writer.u16(packetId)
    writeFlag(writer, isRetry)
    this.#link.endFrame()
  }

  puback(session: SessionHandle, connection: ConnectionId, packetId: number): void {
    const writer = this.#link.beginFrame(OwnerMethod.Puback)
    writeId(writer, session)
    writeId(writer, connection)
    writer.u16(packetId)
    this.#link.endFrame()
  }

  pubrec(session: SessionHandle, connection: ConnectionId, packetId: number, reason: ReasonCode): void {
    const writer = this.#link.beginFrame(OwnerMethod.Pubrec)
    writeId(writer, session)
    writeId(writer, connection)
    writer.u16(packetId)
    writer.u8(reason)
    this.#link.endFrame()
  }

  pubcomp(session: SessionHandle, connection: ConnectionId, packetId: number): void {
    const writer = this.#link.beginFrame(OwnerMethod.Pubcomp)
    writeId(writer, session)
    writeId(writer, connection)
    writer.u16(packetId)
    this.#link.endFrame()
  }

  subscribe(
    session: SessionHandle,
    connection: ConnectionId,
    ticket: number,
    packetId: number,
    subscriptions: readonly SubscriptionRequest[],
  ): void {
    const writer = this.#link.beginFrame(OwnerMethod.Subscribe)
    writeId(writer, session)
    writeId(writer, connection)
    writer.varint(ticket)
    writer.u16(packetId)
    writeSubscriptions(writer, subscriptions)
    this.#link.endFrame()
  }

  unsubscribe(
    session: SessionHandle,
    connection: ConnectionId,
    ticket: number,
    packetId: number,
    filters: readonly ParsedFilter[],
    isRetry: boolean,
  ): void {
    const writer = this.#link.beginFrame(OwnerMethod.Unsubscribe)
    writeId(writer, session)
    writeId(writer, connection)
    writer.varint(ticket)
    writer.u16(packetId)
    writeFilters(writer, filters)
    writeFlag(writer, isRetry)
    this.#link.endFrame()
  }

  restrict(session: SessionHandle, connection: ConnectionId, ticket: number, rights: SessionRights): void {
    const writer = this.#link.beginFrame(OwnerMethod.Restrict)
    writeId(writer, session)
    writeId(writer, connection)
    writer.varint(ticket)
    writeRights(writer, rights)
    this.#link.endFrame()
  }

  writable(session: SessionHandle, connection: ConnectionId, isWritable: boolean): void {
    const writer = this.#link.beginFrame(OwnerMethod.Writable)
    writeId(writer, session)
    writeId(writer, connection)
    writeFlag(writer, isWritable)
    this.#link.endFrame()
  }

  resume(shard: number, sessions: readonly ResumedSession[], isLast: boolean): void {
    const writer = this.#link.beginFrame(OwnerMethod.Resume)
    writeShard(writer, shard)
    writeResumedSessions(writer, sessions)
    writeFlag(writer, isLast)
    this.#link.endFrame()
  }

  wantRoutes(shard: number): void {
    writeShard(this.#link.beginFrame(OwnerMethod.WantRoutes), shard)
    this.#link.endFrame()
  }

  routesApplied(barrier: number): void {
    this.#link.beginFrame(OwnerMethod.RoutesApplied).varint(barrier)
    this.#link.endFrame()
  }

  handOver(fromShard: number, sequence: number, target: HandOverTarget, message: Message): void {
    const writer = this.#link.beginFrame(OwnerMethod.HandOver)
    writeShard(writer, fromShard)
    writer.varint(sequence)
    writeHandOverTarget(writer, target)
    writeMessage(writer, message)
    this.#link.endFrame()
  }

  openRetained(query: number, filter: string, shards: Shards): void {
    const writer = this.#link.beginFrame(OwnerMethod.OpenRetained)
    writer.varint(query)
    writer.text(filter)
    writeShards(writer, shards)
    this.#link.endFrame()
  }

  moreRetained(query: number): void {
    this.#link.beginFrame(OwnerMethod.MoreRetained).varint(query)
    this.#link.endFrame()
  }

  closeRetained(query: number): void {
    this.#link.beginFrame(OwnerMethod.CloseRetained).varint(query)
    this.#link.endFrame()
  }

  members(request: number, groupShard: number, memberShard: number, isWhole: boolean, members: readonly MemberChange[]): void {
    const writer = this.#link.beginFrame(OwnerMethod.Members)
    writer.varint(request)
    writeShard(writer, groupShard)
    writeShard(writer, memberShard)
    writeFlag(writer, isWhole)
    writeMemberChanges(writer, members)
    this.#link.endFrame()
  }

  memberStates(groupShard: number, memberShard: number, states: readonly MemberStanding[]): void {
    const writer = this.#link.beginFrame(OwnerMethod.MemberStates)
    writeShard(writer, groupShard)
    writeShard(writer, memberShard)
    writeMemberStates(writer, states)
    this.#link.endFrame()
  }

  askStore(shard: number, sequence: number, settledBefore: number, connection: ConnectionId, call: RemoteStoreCall): void {
    const writer = this.#link.beginFrame(OwnerMethod.AskStore)
    writeShard(writer, shard)
    writer.varint(sequence)
    writer.varint(settledBefore)
    writeId(writer, connection)
    writer.text(call.clientId)
    writer.text(call.fault ?? '')
    writer.u8(STORE_CALL_ROLES.indexOf(call.as))
    writeMessage(writer, call.message)
    this.#link.endFrame()
  }

  readStore(shard: number, sequence: number, keys: readonly string[]): void {
    const writer = this.#link.beginFrame(OwnerMethod.ReadStore)
    writeShard(writer, shard)
    writer.varint(sequence)
    writer.varint(keys.length)
    for (const key of keys) writer.bytes(Buffer.from(key, 'latin1'))
    this.#link.endFrame()
  }

  unwatch(shard: number, connection: ConnectionId): void {
    const writer = this.#link.beginFrame(OwnerMethod.Unwatch)
    writeShard(writer, shard)
    writeId(writer, connection)
    this.#link.endFrame()
  }

  requestShard(shard: number): void {
    writeShard(this.#link.beginFrame(OwnerMethod.RequestShard), shard)
    this.#link.endFrame()
  }
}
