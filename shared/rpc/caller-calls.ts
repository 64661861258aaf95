import type { Message } from '#shared/mqtt/message.ts'
import type { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { writeAttachReply } from './attach-body.ts'
import type { AttachReply, ConnectionId } from './backend-port.ts'
import { writeFlag, writeId, writeShard, writeShardList, writeTexts } from './body-fields.ts'
import type { BoundSession, CallerPort } from './caller-port.ts'
import { writeOutcome } from './hand-over-body.ts'
import type { Link } from './link.ts'
import { writeMessage } from './message-body.ts'
import { CallerMethod } from './methods.ts'
import { RECIPIENTS_MAX, writeRecipients } from './recipients-body.ts'
import type { Recipients } from './recipients.ts'
import { writeBoundSessions } from './resume-body.ts'

/** The caller at the other end of a link: each call is a frame. Read by CallerDispatch. Nothing is checked here, everything there. */
export class CallerCalls implements CallerPort {
  readonly #link: Link

  constructor(link: Link) {
    this.#link = link
  }

  /** As many frames as RECIPIENTS_MAX makes of it. */
  deliver(message: Message, recipients: Recipients): void {
    const { count } = recipients
    for (let start = 0; start < count; start += RECIPIENTS_MAX) {
      const writer = this.#link.beginFrame(CallerMethod.Deliver)
      writeMessage(writer, message)
      writeRecipients(writer, recipients, start, Math.min(count, start + RECIPIENTS_MAX))
      this.#link.endFrame()
    }
  }

  acknowledged(connection: ConnectionId, ticket: number, reason: ReasonCode): void {
    const writer = this.#link.beginFrame(CallerMethod.Acknowledged)
    writeId(writer, connection)
    writer.varint(ticket)
    writer.u8(reason)
    this.#link.endFrame()
  }

  subscribed(connection: ConnectionId, ticket: number, reasons: readonly ReasonCode[]): void {
    const writer = this.#link.beginFrame(CallerMethod.Subscribed)
    writeId(writer, connection)
    writer.varint(ticket)
    writer.varint(reasons.length)
    for (const reason of reasons) writer.u8(reason)
    this.#link.endFrame()
  }

  released(connection: ConnectionId, packetId: number, reason: ReasonCode): void {
    const writer = this.#link.beginFrame(CallerMethod.Released)
    writeId(writer, connection)
    writer.u16(packetId)
    writer.u8(reason)
    this.#link.endFrame()
  }

  pressure(isFull: boolean): void {
    writeFlag(this.#link.beginFrame(CallerMethod.Pressure), isFull)
    this.#link.endFrame()
  }

  disconnect(connection: ConnectionId, reason: ReasonCode, detail: string): void {
    const writer = this.#link.beginFrame(CallerMethod.Disconnect)
    writeId(writer, connection)
    writer.u8(reason)
    writer.text(detail)
    this.#link.endFrame()
  }

  attached(request: number, reply: AttachReply): void {
    const writer = this.#link.beginFrame(CallerMethod.Attached)
    writer.varint(request)
    writeAttachReply(writer, reply)
    this.#link.endFrame()
  }

  attachMoved(request: number): void {
    this.#link.beginFrame(CallerMethod.AttachMoved).varint(request)
    this.#link.endFrame()
  }

  detached(connection: ConnectionId): void {
    writeId(this.#link.beginFrame(CallerMethod.Detached), connection)
    this.#link.endFrame()
  }

  published(sequence: number, reason: ReasonCode, moved: readonly number[] | null): void {
    const writer = this.#link.beginFrame(CallerMethod.Published)
    writer.varint(sequence)
    writer.u8(reason)
    writeShardList(writer, moved)
    this.#link.endFrame()
  }

  resumed(shard: number, sessions: readonly BoundSession[]): void {
    const writer = this.#link.beginFrame(CallerMethod.Resumed)
    writeShard(writer, shard)
    writeBoundSessions(writer, sessions)
    this.#link.endFrame()
  }

  owned(shard: number, epoch: number, routes: number, routesDigest: number): void {
    const writer = this.#link.beginFrame(CallerMethod.Owned)
    writeShard(writer, shard)
    writer.varint(epoch)
    writer.varint(routes)
    writer.varint(routesDigest)
    this.#link.endFrame()
  }

  allOwned(): void {
    this.#link.beginFrame(CallerMethod.AllOwned)
    this.#link.endFrame()
  }

  lost(shard: number): void {
    writeShard(this.#link.beginFrame(CallerMethod.Lost), shard)
    this.#link.endFrame()
  }

  routes(shard: number, barrier: number, isWhole: boolean, added: readonly string[], removed: readonly string[]): void {
    const writer = this.#link.beginFrame(CallerMethod.Routes)
    writeShard(writer, shard)
    writer.varint(barrier)
    writeFlag(writer, isWhole)
    writeTexts(writer, added)
    writeTexts(writer, removed)
    this.#link.endFrame()
  }

  handedOver(fromShard: number, sequence: number, shards: readonly number[], outcome: 'done' | 'moved'): void {
    const writer = this.#link.beginFrame(CallerMethod.HandedOver)
    writeShard(writer, fromShard)
    writer.varint(sequence)
    writeShardList(writer, shards)
    writeOutcome(writer, outcome)
    this.#link.endFrame()
  }

  retained(query: number, messages: readonly Message[], isDone: boolean): void {
    const writer = this.#link.beginFrame(CallerMethod.Retained)
    writer.varint(query)
    writeFlag(writer, isDone)
    writer.varint(messages.length)
    for (const message of messages) writeMessage(writer, message)
    this.#link.endFrame()
  }

  membersApplied(request: number): void {
    this.#link.beginFrame(CallerMethod.MembersApplied).varint(request)
    this.#link.endFrame()
  }

  storeAsked(sequence: number, reason: ReasonCode): void {
    const writer = this.#link.beginFrame(CallerMethod.StoreAsked)
    writer.varint(sequence)
    writer.u8(reason)
    this.#link.endFrame()
  }

  storeRead(sequence: number, values: readonly (Uint8Array | null)[] | null): void {
    const writer = this.#link.beginFrame(CallerMethod.StoreRead)
    writer.varint(sequence)
    writeFlag(writer, values !== null)
    if (values !== null) {
      writer.varint(values.length)
      for (const value of values) {
        writeFlag(writer, value !== null)
        if (value !== null) writer.bytes(value)
      }
    }
    this.#link.endFrame()
  }

  unwatched(shard: number, connection: ConnectionId): void {
    const writer = this.#link.beginFrame(CallerMethod.Unwatched)
    writeShard(writer, shard)
    writeId(writer, connection)
    this.#link.endFrame()
  }

  shardReleased(shard: number, isReleased: boolean): void {
    const writer = this.#link.beginFrame(CallerMethod.ShardReleased)
    writeShard(writer, shard)
    writeFlag(writer, isReleased)
    this.#link.endFrame()
  }
}
