import { type ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import { Message } from '#shared/mqtt/message.ts'
import { MGET_KEYS_MAX } from '#shared/state-store/command.ts'
import { readAttach, readConnectionEnd, readRights } from './attach-body.ts'
import {
  readBelow,
  readClientId,
  readCount,
  readFlag,
  readId,
  readNonZeroU16,
  readPlainFilter,
  readReason,
  readShard,
  readShards,
} from './body-fields.ts'
import { type DispatchParts, expectEnd } from './dispatch.ts'
import { readHandOverTarget } from './hand-over-body.ts'
import { readMemberChanges, readMemberStates } from './member-body.ts'
import { readMessage } from './message-body.ts'
import { OwnerMethod } from './methods.ts'
import { type OwnerPort, STORE_CALL_ROLES } from './owner-port.ts'
import { PUBLISH_HAS_PUBLISHER, PUBLISH_IS_REFUSABLE } from './publish-flags.ts'
import { readResumedSessions } from './resume-body.ts'
import { Shards } from './shards.ts'
import { checkStoreRequest, readFault } from './store-call.ts'
import { readFilters, readSubscriptions } from './subscription-body.ts'

/** The length of a key. */
const KEY_BYTES_MIN = 1

/**
 * The owner's end of a link: reads the frames that OwnerCalls writes and makes the calls. One for each link. A body is read and checked to
 * its end before the call is made, so a frame is done wholly or not at all.
 */
export class OwnerDispatch {
  readonly #port: OwnerPort
  readonly #parts: DispatchParts
  /** Read into again and again: a message, and shards, are valid only during the call. */
  readonly #message = new Message()
  readonly #shards = new Shards()
  /** Calls that we do not know, of a newer peer. */
  framesSkipped = 0

  constructor(port: OwnerPort, parts: DispatchParts) {
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
      case OwnerMethod.Publish:
        return this.#publish(body)
      case OwnerMethod.Puback:
      case OwnerMethod.Pubcomp:
        return this.#acknowledge(method, body)
      case OwnerMethod.Pubrec:
        return this.#pubrec(body)
      case OwnerMethod.PublishQos2:
        return this.#publishQos2(body)
      case OwnerMethod.Release:
        return this.#release(body)
      case OwnerMethod.Writable:
        return this.#writable(body)
      default:
        return this.#dispatchOfSession(method, body)
    }
  }

  #dispatchOfSession(method: number, body: ByteReader): void {
    switch (method) {
      case OwnerMethod.Attach:
        return this.#attach(body)
      case OwnerMethod.Detach:
        return this.#detach(body)
      case OwnerMethod.Subscribe:
        return this.#subscribe(body)
      case OwnerMethod.Unsubscribe:
        return this.#unsubscribe(body)
      case OwnerMethod.Restrict:
        return this.#restrict(body)
      case OwnerMethod.Resume:
        return this.#resume(body)
      case OwnerMethod.OpenRetained:
        return this.#openRetained(body)
      case OwnerMethod.HandOver:
        return this.#handOver(body)
      case OwnerMethod.Members:
        return this.#members(body)
      case OwnerMethod.MemberStates:
        return this.#memberStates(body)
      case OwnerMethod.AskStore:
        return this.#askStore(body)
      case OwnerMethod.ReadStore:
        return this.#readStore(body)
      case OwnerMethod.Unwatch:
        return this.#unwatch(body)
      default:
        return this.#dispatchOfNumber(method, body)
    }
  }

  /** Calls whose body is one number. */
  #dispatchOfNumber(method: number, body: ByteReader): void {
    switch (method) {
      case OwnerMethod.WantRoutes:
        return this.#port.wantRoutes(this.#onlyShard(method, body))
      case OwnerMethod.RequestShard:
        return this.#port.requestShard(this.#onlyShard(method, body))
      case OwnerMethod.RoutesApplied:
        return this.#port.routesApplied(onlyNumber(method, body))
      case OwnerMethod.MoreRetained:
        return this.#port.moreRetained(onlyNumber(method, body))
      case OwnerMethod.CloseRetained:
        return this.#port.closeRetained(onlyNumber(method, body))
      default:
        if (!this.#parts.isPeerNewer) throw new ByteReaderError(`unknown call ${method} to an owner`)
        this.framesSkipped++
    }
  }

  #publish(body: ByteReader): void {
    const message = this.#message
    const shards = this.#shards
    const sequence = body.varint()
    const connection = readId(body)
    const flags = body.u8()
    if ((flags & ~(PUBLISH_IS_REFUSABLE | PUBLISH_HAS_PUBLISHER)) !== 0) throw new ByteReaderError(`publish with flags ${flags}`)
    const publisher = (flags & PUBLISH_HAS_PUBLISHER) === 0 ? '' : readClientId(body)
    readShards(body, this.#parts.shardCount, shards)
    readMessage(body, this.#parts.topics, message)
    if (message.qos === 2) throw new ByteReaderError('publish with QoS 2')
    expectEnd(OwnerMethod.Publish, body)
    this.#port.publish(sequence, connection, (flags & PUBLISH_IS_REFUSABLE) !== 0, shards, message, publisher)
  }

  #askStore(body: ByteReader): void {
    const message = this.#message
    const shard = readShard(body, this.#parts.shardCount)
    const sequence = body.varint()
    const settledBefore = body.varint()
    const connection = readId(body)
    const clientId = readClientId(body)
    const fault = readFault(body)
    const as = STORE_CALL_ROLES[readBelow(body, STORE_CALL_ROLES.length, 'a role of a request')]!
    readMessage(body, this.#parts.topics, message)
    expectEnd(OwnerMethod.AskStore, body)
    checkStoreRequest(message)
    this.#port.askStore(shard, sequence, settledBefore, connection, { clientId, fault, as, message })
  }

  #readStore(body: ByteReader): void {
    const shard = readShard(body, this.#parts.shardCount)
    const sequence = body.varint()
    const keys: string[] = []
    for (let left = readCount(body, KEY_BYTES_MIN); left > 0; left--) keys.push(body.bytes().toString('latin1'))
    expectEnd(OwnerMethod.ReadStore, body)
    if (keys.length > MGET_KEYS_MAX) throw new ByteReaderError('readStore of more keys than a request may have')
    this.#port.readStore(shard, sequence, keys)
  }

  #unwatch(body: ByteReader): void {
    const shard = readShard(body, this.#parts.shardCount)
    const connection = readId(body)
    expectEnd(OwnerMethod.Unwatch, body)
    this.#port.unwatch(shard, connection)
  }

  #publishQos2(body: ByteReader): void {
    const message = this.#message
    const session = readId(body)
    const connection = readId(body)
    const ticket = body.varint()
    readMessage(body, this.#parts.topics, message)
    if (message.qos !== 2 || message.packetId === 0) throw new ByteReaderError('publishQos2 without QoS 2 or Packet Identifier')
    expectEnd(OwnerMethod.PublishQos2, body)
    this.#port.publishQos2(session, connection, ticket, message)
  }

  #release(body: ByteReader): void {
    const session = readId(body)
    const connection = readId(body)
    const ticket = body.varint()
    const packetId = readNonZeroU16(body)
    const isRetry = readFlag(body)
    expectEnd(OwnerMethod.Release, body)
    this.#port.release(session, connection, ticket, packetId, isRetry)
  }

  #acknowledge(method: typeof OwnerMethod.Puback | typeof OwnerMethod.Pubcomp, body: ByteReader): void {
    const session = readId(body)
    const connection = readId(body)
    const packetId = readNonZeroU16(body)
    expectEnd(method, body)
    if (method === OwnerMethod.Puback) this.#port.puback(session, connection, packetId)
    else this.#port.pubcomp(session, connection, packetId)
  }

  #pubrec(body: ByteReader): void {
    const session = readId(body)
    const connection = readId(body)
    const packetId = readNonZeroU16(body)
    const reason = readReason(body)
    expectEnd(OwnerMethod.Pubrec, body)
    this.#port.pubrec(session, connection, packetId, reason)
  }

  #writable(body: ByteReader): void {
    const session = readId(body)
    const connection = readId(body)
    const isWritable = readFlag(body)
    expectEnd(OwnerMethod.Writable, body)
    this.#port.writable(session, connection, isWritable)
  }

  #attach(body: ByteReader): void {
    const request = body.varint()
    const isRetry = readFlag(body)
    const attach = readAttach(body, this.#parts.topics)
    expectEnd(OwnerMethod.Attach, body)
    this.#port.attach(request, attach, isRetry)
  }

  #detach(body: ByteReader): void {
    const shard = readShard(body, this.#parts.shardCount)
    const clientId = readClientId(body)
    const connection = readId(body)
    const end = readConnectionEnd(body)
    expectEnd(OwnerMethod.Detach, body)
    this.#port.detach(shard, clientId, connection, end)
  }

  #subscribe(body: ByteReader): void {
    const session = readId(body)
    const connection = readId(body)
    const ticket = body.varint()
    const packetId = readNonZeroU16(body)
    const subscriptions = readSubscriptions(body, this.#parts.levelsMax)
    expectEnd(OwnerMethod.Subscribe, body)
    this.#port.subscribe(session, connection, ticket, packetId, subscriptions)
  }

  #unsubscribe(body: ByteReader): void {
    const session = readId(body)
    const connection = readId(body)
    const ticket = body.varint()
    const packetId = readNonZeroU16(body)
    const filters = readFilters(body, this.#parts.levelsMax)
    const isRetry = readFlag(body)
    expectEnd(OwnerMethod.Unsubscribe, body)
    this.#port.unsubscribe(session, connection, ticket, packetId, filters, isRetry)
  }

  #resume(body: ByteReader): void {
    const shard = readShard(body, this.#parts.shardCount)
    const sessions = readResumedSessions(body)
    const isLast = readFlag(body)
    expectEnd(OwnerMethod.Resume, body)
    this.#port.resume(shard, sessions, isLast)
  }

  #restrict(body: ByteReader): void {
    const session = readId(body)
    const connection = readId(body)
    const ticket = body.varint()
    const rights = readRights(body)
    expectEnd(OwnerMethod.Restrict, body)
    this.#port.restrict(session, connection, ticket, rights)
  }

  #openRetained(body: ByteReader): void {
    const query = body.varint()
    const filter = readPlainFilter(body, this.#parts.levelsMax)
    readShards(body, this.#parts.shardCount, this.#shards)
    expectEnd(OwnerMethod.OpenRetained, body)
    this.#port.openRetained(query, filter, this.#shards)
  }

  #handOver(body: ByteReader): void {
    const { shardCount, levelsMax, topics } = this.#parts
    const fromShard = readShard(body, shardCount)
    const sequence = body.varint()
    const target = readHandOverTarget(body, shardCount, levelsMax)
    readMessage(body, topics, this.#message)
    expectEnd(OwnerMethod.HandOver, body)
    this.#port.handOver(fromShard, sequence, target, this.#message)
  }

  #members(body: ByteReader): void {
    const { shardCount, levelsMax } = this.#parts
    const request = body.varint()
    const groupShard = readShard(body, shardCount)
    const memberShard = readShard(body, shardCount)
    const isWhole = readFlag(body)
    const members = readMemberChanges(body, levelsMax)
    expectEnd(OwnerMethod.Members, body)
    this.#port.members(request, groupShard, memberShard, isWhole, members)
  }

  #memberStates(body: ByteReader): void {
    const groupShard = readShard(body, this.#parts.shardCount)
    const memberShard = readShard(body, this.#parts.shardCount)
    const states = readMemberStates(body)
    expectEnd(OwnerMethod.MemberStates, body)
    this.#port.memberStates(groupShard, memberShard, states)
  }

  #onlyShard(method: number, body: ByteReader): number {
    const shard = readShard(body, this.#parts.shardCount)
    expectEnd(method, body)
    return shard
  }
}

function onlyNumber(method: number, body: ByteReader): number {
  const number = body.varint()
  expectEnd(method, body)
  return number
}
