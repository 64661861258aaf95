import { type ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import { Message } from '#shared/mqtt/message.ts'
import type { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { readAttachReply } from './attach-body.ts'
import {
  readCount,
  readFlag,
  readId,
  readNonZeroU16,
  readPlainFilters,
  readReason,
  readShard,
  readShardList,
  readText,
} from './body-fields.ts'
import type { CallerPort } from './caller-port.ts'
import { type DispatchParts, expectEnd } from './dispatch.ts'
import { readOutcome } from './hand-over-body.ts'
import { MESSAGE_BYTES_MIN, readMessage } from './message-body.ts'
import { CallerMethod } from './methods.ts'
import { readRecipients } from './recipients-body.ts'
import { Recipients } from './recipients.ts'
import { readBoundSessions } from './resume-body.ts'

/** Of each value: whether there is one. */
const VALUE_BYTES_MIN = 1

/** The caller's end of a link: reads the frames that CallerCalls writes and makes the calls. See OwnerDispatch. */
export class CallerDispatch {
  readonly #port: CallerPort
  readonly #parts: DispatchParts
  /** Read into again and again: a message, and recipients, are valid only during the call. */
  readonly #message = new Message()
  readonly #recipients = new Recipients()
  /** Calls that we do not know, of a newer peer. */
  framesSkipped = 0

  constructor(port: CallerPort, parts: DispatchParts) {
    this.#port = port
    this.#parts = parts
  }

  /**
   * As LinkHandler.onFrame.
   * @throws {ByteReaderError} the body is not what the method's layout says, or the method is unknown
   * @throws {ProtocolError} a Topic Name or Topic Filter is none
   */
  dispatch(method: number, body: ByteReader): void {
    switch (method) {
      case CallerMethod.Deliver:
        return this.#deliver(body)
      case CallerMethod.Published:
        return this.#published(body)
      case CallerMethod.Acknowledged:
        return this.#acknowledged(body)
      case CallerMethod.Released:
        return this.#released(body)
      case CallerMethod.Subscribed:
        return this.#subscribed(body)
      case CallerMethod.Disconnect:
        return this.#disconnect(body)
      case CallerMethod.Attached:
        return this.#attached(body)
      case CallerMethod.AttachMoved:
        return this.#attachMoved(body)
      case CallerMethod.Detached:
        return this.#detached(body)
      case CallerMethod.Pressure:
        return this.#pressure(body)
      default:
        return this.#dispatchOfShards(method, body)
    }
  }

  #dispatchOfShards(method: number, body: ByteReader): void {
    switch (method) {
      case CallerMethod.Resumed:
        return this.#resumed(body)
      case CallerMethod.Owned:
        return this.#owned(body)
      case CallerMethod.AllOwned:
        expectEnd(method, body)
        return this.#port.allOwned()
      case CallerMethod.Lost:
        return this.#lost(body)
      case CallerMethod.Routes:
        return this.#routes(body)
      case CallerMethod.HandedOver:
        return this.#handedOver(body)
      case CallerMethod.Retained:
        return this.#retained(body)
      case CallerMethod.MembersApplied:
        return this.#membersApplied(body)
      case CallerMethod.ShardReleased:
        return this.#shardReleased(body)
      case CallerMethod.StoreAsked:
        return this.#storeAsked(body)
      case CallerMethod.StoreRead:
        return this.#storeRead(body)
      case CallerMethod.Unwatched:
        return this.#unwatched(body)
      default:
        if (!this.#parts.isPeerNewer) throw new ByteReaderError(`unknown call ${method} to a caller`)
        this.framesSkipped++
    }
  }

  #deliver(body: ByteReader): void {
    readMessage(body, this.#parts.topics, this.#message)
    readRecipients(body, this.#recipients)
    expectEnd(CallerMethod.Deliver, body)
    this.#port.deliver(this.#message, this.#recipients)
  }

  #published(body: ByteReader): void {
    const sequence = body.varint()
    const reason = readReason(body)
    const moved = readShardList(body, this.#parts.shardCount)
    expectEnd(CallerMethod.Published, body)
    this.#port.published(sequence, reason, moved)
  }

  #acknowledged(body: ByteReader): void {
    const connection = readId(body)
    const ticket = body.varint()
    const reason = readReason(body)
    expectEnd(CallerMethod.Acknowledged, body)
    this.#port.acknowledged(connection, ticket, reason)
  }

  #released(body: ByteReader): void {
    const connection = readId(body)
    const packetId = readNonZeroU16(body)
    const reason = readReason(body)
    expectEnd(CallerMethod.Released, body)
    this.#port.released(connection, packetId, reason)
  }

  #subscribed(body: ByteReader): void {
    const connection = readId(body)
    const ticket = body.varint()
    const reasons: ReasonCode[] = []
    for (let left = readCount(body, 1); left > 0; left--) reasons.push(readReason(body))
    expectEnd(CallerMethod.Subscribed, body)
    this.#port.subscribed(connection, ticket, reasons)
  }

  #disconnect(body: ByteReader): void {
    const connection = readId(body)
    const reason = readReason(body)
    const detail = readText(body)
    expectEnd(CallerMethod.Disconnect, body)
    this.#port.disconnect(connection, reason, detail)
  }

  #attached(body: ByteReader): void {
    const request = body.varint()
    const reply = readAttachReply(body)
    expectEnd(CallerMethod.Attached, body)
    this.#port.attached(request, reply)
  }

  #attachMoved(body: ByteReader): void {
    const request = body.varint()
    expectEnd(CallerMethod.AttachMoved, body)
    this.#port.attachMoved(request)
  }

  #detached(body: ByteReader): void {
    const connection = readId(body)
    expectEnd(CallerMethod.Detached, body)
    this.#port.detached(connection)
  }

  #pressure(body: ByteReader): void {
    const isFull = readFlag(body)
    expectEnd(CallerMethod.Pressure, body)
    this.#port.pressure(isFull)
  }

  #resumed(body: ByteReader): void {
    const shard = readShard(body, this.#parts.shardCount)
    const sessions = readBoundSessions(body)
    expectEnd(CallerMethod.Resumed, body)
    this.#port.resumed(shard, sessions)
  }

  #owned(body: ByteReader): void {
    const shard = readShard(body, this.#parts.shardCount)
    const epoch = body.varint()
    const routes = body.varint()
    const routesDigest = body.varint()
    expectEnd(CallerMethod.Owned, body)
    this.#port.owned(shard, epoch, routes, routesDigest)
  }

  #lost(body: ByteReader): void {
    const shard = readShard(body, this.#parts.shardCount)
    expectEnd(CallerMethod.Lost, body)
    this.#port.lost(shard)
  }

  #routes(body: ByteReader): void {
    const { shardCount, levelsMax } = this.#parts
    const shard = readShard(body, shardCount)
    const barrier = body.varint()
    const isWhole = readFlag(body)
    const added = readPlainFilters(body, levelsMax)
    const removed = readPlainFilters(body, levelsMax)
    expectEnd(CallerMethod.Routes, body)
    this.#port.routes(shard, barrier, isWhole, added, removed)
  }

  #handedOver(body: ByteReader): void {
    const fromShard = readShard(body, this.#parts.shardCount)
    const sequence = body.varint()
    const shards = readShardList(body, this.#parts.shardCount) ?? []
    const outcome = readOutcome(body)
    expectEnd(CallerMethod.HandedOver, body)
    this.#port.handedOver(fromShard, sequence, shards, outcome)
  }

  #retained(body: ByteReader): void {
    const query = body.varint()
    const isDone = readFlag(body)
    const messages: Message[] = []
    for (let left = readCount(body, MESSAGE_BYTES_MIN); left > 0; left--) {
      const message = new Message()
      readMessage(body, this.#parts.topics, message)
      messages.push(message)
    }
    expectEnd(CallerMethod.Retained, body)
    this.#port.retained(query, messages, isDone)
  }

  #membersApplied(body: ByteReader): void {
    const request = body.varint()
    expectEnd(CallerMethod.MembersApplied, body)
    this.#port.membersApplied(request)
  }

  #storeAsked(body: ByteReader): void {
    const sequence = body.varint()
    const reason = readReason(body)
    expectEnd(CallerMethod.StoreAsked, body)
    this.#port.storeAsked(sequence, reason)
  }

  #storeRead(body: ByteReader): void {
    const sequence = body.varint()
    const values: (Buffer | null)[] | null = readFlag(body) ? [] : null
    if (values !== null) {
      for (let left = readCount(body, VALUE_BYTES_MIN); left > 0; left--) values.push(readFlag(body) ? body.bytes() : null)
    }
    expectEnd(CallerMethod.StoreRead, body)
    this.#port.storeRead(sequence, values)
  }

  #unwatched(body: ByteReader): void {
    const shard = readShard(body, this.#parts.shardCount)
    const connection = readId(body)
    expectEnd(CallerMethod.Unwatched, body)
    this.#port.unwatched(shard, connection)
  }

  #shardReleased(body: ByteReader): void {
    const shard = readShard(body, this.#parts.shardCount)
    const isReleased = readFlag(body)
    expectEnd(CallerMethod.ShardReleased, body)
    this.#port.shardReleased(shard, isReleased)
  }
}
