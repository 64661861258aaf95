import { type ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import type { ByteWriter } from '#shared/base/byte-writer.ts'
import type { Message } from '#shared/mqtt/message.ts'
import type { HandOverTarget, MemberOptions } from '#shared/rpc/owner-port.ts'
import { type StoreChange, writeStoreChange } from '../statestore/changes.ts'
import { markEntry } from './journal.ts'

/**
 * The layout of journal entries and snapshot chunks. An entry is its format and then records, each a tag and its
 * fields. Records are absolute, so that a replay over a state that includes them already changes nothing.
 *
 * A new field or tag that an older reader must not pass over needs a new ENTRY_FORMAT, which only entries that have it need to carry.
 */
export const Record = {
  Session: 1,
  Detached: 2,
  SessionEnded: 3,
  Subscribed: 4,
  Unsubscribed: 5,
  Enqueued: 6,
  Identified: 7,
  Done: 8,
  Received: 9,
  Qos2Held: 10,
  Qos2Released: 11,
  Retained: 12,
  RetainedGone: 13,
  WillGone: 14,
  Counters: 15,
  /** In snapshots alone: a message by a number, then who holds it. Many sessions may hold one message. */
  Message: 16,
  Held: 17,
  /** Since format 2: what only a shard of a cluster has to remember. */
  HandOver: 18,
  HandedOver: 19,
  Seen: 20,
  Member: 21,
  NextHandOver: 22,
  /** Since format 3: who judges the Will of the Session record before it. An older version would publish the Will unjudged: it must refuse it. */
  WillGuard: 23,
  /** A change of the state store (backend/statestore/changes.ts). An older version would lose it. */
  Store: 24,
  /** Of which run of the cluster the state is. An older version would let a later one drop what is of its own. */
  Run: 25,
} as const

/** Ends the list of receivers of an Enqueued record: no session has number 0. */
export const NO_SESSION = 0

export interface SessionRecord {
  readonly number: number
  readonly clientId: string
  readonly protocolVersion: 3 | 4 | 5
  readonly expirySeconds: number
  /** 0: connected. */
  readonly disconnectedAtMs: number
  readonly nextSequence: number
  readonly will: { readonly message: Message; readonly delaySeconds: number; readonly guard: Uint8Array | null } | null
  /** Who has its connection, empty outside a cluster; and whether that connection found no session. */
  readonly frontend: string
  readonly connection: number
  readonly isNew: boolean
  readonly isPersistenceRequested: boolean
}

/** A message on its way to other shards: kept until all have it. */
export interface HandOverRecord {
  readonly sequence: number
  readonly target: HandOverTarget
  readonly message: Message
}

/** A member of a Shared Subscription as the group's shard knows it. */
export interface MemberRecord {
  readonly shard: number
  readonly clientId: string
  readonly groupName: string
  readonly groupFilter: string
  /** Null: it is none any more. */
  readonly options: MemberOptions | null
}

export interface SubscriptionRecord {
  readonly session: number
  readonly text: string
  readonly qos: 0 | 1 | 2
  readonly noLocal: boolean
  readonly retainAsPublished: boolean
  readonly identifier: number
}

export interface ReceiverRecord {
  readonly session: number
  readonly sequence: number
  readonly qos: 1 | 2
  readonly retain: boolean
  readonly sent: boolean
  /** PUBREC has come: only the identifier is still held. */
  readonly isReceived: boolean
  readonly packetId: number
  readonly identifiers: readonly number[] | null
  readonly shared: { readonly name: string; readonly filter: string } | null
}

const PACKET_ID_MAX = 65_535

const SESSION_HAS_WILL = 1
const SESSION_IS_NEW = 2
const SESSION_HAS_FRONTEND = 4
/** Versions before that one pass over it: they keep every queue. */
const SESSION_ASKS_PERSISTENCE = 8

const TARGET_SHARDS = 0
const TARGET_MEMBER = 1
/** Since format 3. */
const TARGET_SESSION = 2

const FLAG_QOS2 = 1
const FLAG_RETAIN = 2
const FLAG_SENT = 4
const FLAG_RECEIVED = 8
const FLAG_IDENTIFIERS = 16
const FLAG_SHARED = 32

export function writeSession(writer: ByteWriter, session: SessionRecord): void {
  writer.u8(Record.Session)
  writer.varint(session.number)
  writer.text(session.clientId)
  writer.u8(session.protocolVersion)
  writer.varint(session.expirySeconds)
  writer.f64(session.disconnectedAtMs)
  writer.varint(session.nextSequence)
  writer.u8(
    (session.will === null ? 0 : SESSION_HAS_WILL) |
      (session.isNew ? SESSION_IS_NEW : 0) |
      (session.frontend === '' ? 0 : SESSION_HAS_FRONTEND) |
      (session.isPersistenceRequested ? SESSION_ASKS_PERSISTENCE : 0),
  )
  if (session.frontend !== '') {
    writer.text(session.frontend)
    writer.varint(session.connection)
  }
  if (session.will === null) return
  writer.varint(session.will.delaySeconds)
  // A Will's Message Expiry Interval counts from its publication, so it has no time of expiry yet. None (-1) is 0.
  writer.varint(session.will.message.expirySeconds + 1)
  writeMessage(writer, session.will.message)
  if (session.will.guard !== null) writeWillGuard(writer, session.number, session.will.guard)
}

/** `writer` holds an entry: its format becomes the newest. */
export function writeWillGuard(writer: ByteWriter, session: number, guard: Uint8Array): void {
  markEntry(writer)
  writer.u8(Record.WillGuard)
  writer.varint(session)
  writer.bytes(guard)
}

export function writeDetached(writer: ByteWriter, session: number, expirySeconds: number, atMs: number): void {
  writer.u8(Record.Detached)
  writer.varint(session)
  writer.varint(expirySeconds)
  writer.f64(atMs)
}

/** Any record that is a tag and the session's number: SessionEnded, WillGone. */
export function writeOfSession(writer: ByteWriter, tag: number, session: number): void {
  writer.u8(tag)
  writer.varint(session)
}

/** Any record that is a tag, the session's number and one more: Done, Received (sequence), Qos2Held, Qos2Released (Packet Identifier). */
export function writeNumbered(writer: ByteWriter, tag: number, session: number, number: number): void {
  writer.u8(tag)
  writer.varint(session)
  writer.varint(number)
}

export function writeSubscribed(writer: ByteWriter, subscription: SubscriptionRecord): void {
  writer.u8(Record.Subscribed)
  writer.varint(subscription.session)
  writer.text(subscription.text)
  writer.u8(subscription.qos | (subscription.noLocal ? 4 : 0) | (subscription.retainAsPublished ? 8 : 0))
  writer.varint(subscription.identifier)
}

export function writeUnsubscribed(writer: ByteWriter, session: number, text: string): void {
  writer.u8(Record.Unsubscribed)
  writer.varint(session)
  writer.text(text)
}

/** Starts an Enqueued record: the message once, then `writeReceiver` for each session of this shard, then `endReceivers`. */
export function beginEnqueued(writer: ByteWriter, message: Message): void {
  writer.u8(Record.Enqueued)
  writeMessage(writer, message)
}

export function writeReceiver(writer: ByteWriter, receiver: ReceiverRecord): void {
  writer.varint(receiver.session)
  writer.varint(receiver.sequence)
  writer.u8(
    (receiver.qos === 2 ? FLAG_QOS2 : 0) |
      (receiver.retain ? FLAG_RETAIN : 0) |
      (receiver.sent ? FLAG_SENT : 0) |
      (receiver.isReceived ? FLAG_RECEIVED : 0) |
      (receiver.identifiers === null ? 0 : FLAG_IDENTIFIERS) |
      (receiver.shared === null ? 0 : FLAG_SHARED),
  )
  writer.varint(receiver.packetId)
  if (receiver.identifiers !== null) {
    writer.varint(receiver.identifiers.length)
    for (const identifier of receiver.identifiers) writer.varint(identifier)
  }
  if (receiver.shared !== null) {
    writer.text(receiver.shared.name)
    writer.text(receiver.shared.filter)
  }
}

export function endReceivers(writer: ByteWriter): void {
  writer.varint(NO_SESSION)
}

/** The delivery has this Packet Identifier from now on. */
export function writeIdentified(writer: ByteWriter, session: number, sequence: number, packetId: number): void {
  writer.u8(Record.Identified)
  writer.varint(session)
  writer.varint(sequence)
  writer.varint(packetId)
}

export function writeRetained(writer: ByteWriter, message: Message): void {
  writer.u8(Record.Retained)
  writeMessage(writer, message)
}

export function writeRetainedGone(writer: ByteWriter, topicUtf8: Uint8Array): void {
  writer.u8(Record.RetainedGone)
  writer.bytes(topicUtf8)
}

export function writeCounters(writer: ByteWriter, nextSession: number): void {
  writer.u8(Record.Counters)
  writer.varint(nextSession)
}

/** A message that Held records of the same snapshot name by `index`. */
export function writeShared(writer: ByteWriter, index: number, message: Message): void {
  writer.u8(Record.Message)
  writer.varint(index)
  writeMessage(writer, message)
}

export function writeHeld(writer: ByteWriter, index: number, receiver: ReceiverRecord): void {
  writer.u8(Record.Held)
  writer.varint(index)
  writeReceiver(writer, receiver)
}

export function writeHandOver(writer: ByteWriter, { sequence, target, message }: HandOverRecord): void {
  writer.u8(Record.HandOver)
  writer.varint(sequence)
  if (target.is === 'shards') {
    writer.u8(TARGET_SHARDS)
    writer.text(target.origin)
  } else if (target.is === 'session') {
    markEntry(writer)
    writer.u8(TARGET_SESSION)
    writer.varint(target.shard)
    writer.text(target.clientId)
    writer.text(target.frontend)
    writer.varint(target.connection)
  } else {
    writer.u8(TARGET_MEMBER)
    writer.varint(target.shard)
    writer.text(target.clientId)
    writer.text(target.groupName)
    writer.text(target.groupFilter)
  }
  writeMessage(writer, message)
}

/** Every shard that was to have it has it. */
export function writeHandedOver(writer: ByteWriter, sequence: number): void {
  writer.u8(Record.HandedOver)
  writer.varint(sequence)
}

/** Hand-overs of `fromShard` up to `sequence` have been taken. */
export function writeSeen(writer: ByteWriter, fromShard: number, sequence: number): void {
  writer.u8(Record.Seen)
  writer.varint(fromShard)
  writer.varint(sequence)
}

export function writeNextHandOver(writer: ByteWriter, next: number): void {
  writer.u8(Record.NextHandOver)
  writer.varint(next)
}

export function writeStore(writer: ByteWriter, change: StoreChange): void {
  markEntry(writer)
  writer.u8(Record.Store)
  writeStoreChange(writer, change)
}

/** Empty: it does not matter any more. */
export function writeRun(writer: ByteWriter, runId: string): void {
  markEntry(writer)
  writer.u8(Record.Run)
  writer.text(runId)
}

const NO_MEMBER = 0xff

export function writeMember(writer: ByteWriter, member: MemberRecord): void {
  const { options } = member
  writer.u8(Record.Member)
  writer.varint(member.shard)
  writer.text(member.clientId)
  writer.text(member.groupName)
  writer.text(member.groupFilter)
  writer.u8(options === null ? NO_MEMBER : options.qos | (options.retainAsPublished ? 8 : 0))
  writer.varint(options?.identifier ?? 0)
}

export function readMember(reader: ByteReader): MemberRecord {
  const shard = reader.varint()
  const clientId = reader.text()
  const groupName = reader.text()
  const groupFilter = reader.text()
  const packed = reader.u8()
  const identifier = reader.varint()
  const options = packed === NO_MEMBER ? null : { qos: (packed & 3) as 0 | 1 | 2, retainAsPublished: (packed & 8) !== 0, identifier }
  return { shard, clientId, groupName, groupFilter, options }
}

/** The target of a HandOver record: what stands between its sequence and its message. */
export function readTarget(reader: ByteReader): HandOverTarget {
  const kind = reader.u8()
  if (kind === TARGET_SHARDS) return { is: 'shards', shards: [], origin: reader.text() }
  if (kind === TARGET_SESSION)
    return { is: 'session', shard: reader.varint(), clientId: reader.text(), frontend: reader.text(), connection: reader.varint() }
  if (kind !== TARGET_MEMBER) throw new ByteReaderError(`target ${kind} of a hand-over`)
  return { is: 'member', shard: reader.varint(), clientId: reader.text(), groupName: reader.text(), groupFilter: reader.text() }
}

type AttachmentRecord = Pick<SessionRecord, 'isNew' | 'isPersistenceRequested' | 'frontend' | 'connection'> & { readonly hasWill: boolean }

/** What follows the next sequence of a Session record. */
export function readAttachment(reader: ByteReader): AttachmentRecord {
  const flags = reader.u8()
  const hasFrontend = (flags & SESSION_HAS_FRONTEND) !== 0
  return {
    hasWill: (flags & SESSION_HAS_WILL) !== 0,
    isNew: (flags & SESSION_IS_NEW) !== 0,
    isPersistenceRequested: (flags & SESSION_ASKS_PERSISTENCE) !== 0,
    frontend: hasFrontend ? reader.text() : '',
    connection: hasFrontend ? reader.varint() : 0,
  }
}

function writeMessage(writer: ByteWriter, message: Message): void {
  writer.bytes(message.topic.utf8)
  writer.u8(message.qos | (message.retain ? 4 : 0))
  writer.f64(message.expiresAtMs)
  writer.bytes(message.propertyBytes, message.propertiesStart, message.propertiesEnd)
  writer.bytes(message.payloadBytes, message.payloadStart, message.payloadEnd)
}

/** Fields of a message as stored; the views are valid as long as the entry they were read from. */
export interface MessageRecord {
  readonly topicUtf8: Buffer
  readonly qos: number
  readonly retain: boolean
  readonly expiresAtMs: number
  readonly properties: Buffer
  readonly payload: Buffer
}

export function readMessage(reader: ByteReader): MessageRecord {
  const topicUtf8 = reader.bytes()
  const flags = reader.u8()
  return {
    topicUtf8,
    qos: flags & 3,
    retain: (flags & 4) !== 0,
    expiresAtMs: reader.f64(),
    properties: reader.bytes(),
    payload: reader.bytes(),
  }
}

/** Null at the end of the list. */
export function readReceiver(reader: ByteReader): ReceiverRecord | null {
  const session = reader.varint()
  if (session === NO_SESSION) return null
  const sequence = reader.varint()
  const flags = reader.u8()
  const packetId = reader.varint()
  if (packetId > PACKET_ID_MAX) throw new ByteReaderError(`Packet Identifier ${packetId}`)
  let identifiers: number[] | null = null
  if (flags & FLAG_IDENTIFIERS) {
    identifiers = []
    for (let left = reader.varint(); left > 0; left--) identifiers.push(reader.varint())
  }
  const shared = flags & FLAG_SHARED ? { name: reader.text(), filter: reader.text() } : null
  return {
    session,
    sequence,
    qos: flags & FLAG_QOS2 ? 2 : 1,
    retain: (flags & FLAG_RETAIN) !== 0,
    sent: (flags & FLAG_SENT) !== 0,
    isReceived: (flags & FLAG_RECEIVED) !== 0,
    packetId,
    identifiers,
    shared,
  }
}
