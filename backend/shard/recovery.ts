import { ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import { Message } from '#shared/mqtt/message.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { parseTopicFilter } from '#shared/mqtt/topic.ts'
import { HandOver } from '../cluster/hand-over.ts'
import type { Engine } from '../engine.ts'
import { forget, remember } from '../session/subscriptions.ts'
import { putRetained, removeRetained } from '../queue/retained-store.ts'
import { Delivery } from '../session/delivery.ts'
import { endSession, scheduleExpiry } from '../session/ending.ts'
import { Outbox } from '../session/outbox.ts'
import { AWAITING_PUBACK, AWAITING_PUBCOMP, AWAITING_PUBREC } from '../session/packet-identifiers.ts'
import { noteCrowded } from '../session/queue-limits.ts'
import { hasExpired, Session, type Will } from '../session/session.ts'
import { connectionWillDue, putWillGuard, setWill } from '../session/will.ts'
import { readStoreChange } from '../statestore/changes.ts'
import { momentOf } from '../statestore/moment.ts'
import { StoreError } from '../store/shard-store.ts'
import { ENTRY_FORMAT, ENTRY_FORMAT_MIN } from './journal.ts'
import { Record, readAttachment, readMember, readMessage, readReceiver, readTarget, type ReceiverRecord, writeDetached } from './records.ts'
import type { Shard } from './shard.ts'

/** More than a session gets while nothing is stored; 2^53 is enough for as many takeovers as anybody lives to see. */
const SEQUENCES_PER_EPOCH = 2 ** 24

/** What a session's deliveries look like while the records are being read: by sequence, so that records replay in any state. */
type Deliveries = Map<number, { readonly message: Message; record: ReceiverRecord }>

/**
 * Reads one shard back into memory: its snapshot, then the log (backend/shard/records.ts). Records of sessions that a later
 * record ends are passed over; what was connected when the process died counts as disconnected now.
 * @throws {StoreError} corrupt, newerFormat: the message names the shard
 */
export async function recoverShard(engine: Engine, shard: Shard): Promise<void> {
  const reading = new ShardRecovery(engine, shard)
  await engine.store.recover(shard.number, (_kind, bytes) => reading.apply(bytes))
  reading.finish()
}

/** Applies what is read of a shard, in any number of steps, to the engine's memory. */
export class ShardRecovery {
  readonly #engine: Engine
  readonly #shard: Shard
  readonly #deliveries = new Map<number, Deliveries>()
  /** Messages of the snapshot by their number in it. */
  readonly #shared = new Map<number, Message>()

  constructor(engine: Engine, shard: Shard) {
    this.#engine = engine
    this.#shard = shard
  }

  apply(bytes: Uint8Array): void {
    const reader = new ByteReader(bytes)
    try {
      this.#checkFormat(reader.u8())
      while (!reader.done) this.#applyRecord(reader)
    } catch (error) {
      if (!(error instanceof ByteReaderError || error instanceof ProtocolError)) throw error
      throw new StoreError(
        'corrupt',
        `an entry of shard ${this.#shard.number} cannot be read (${error.message}): restore the data directory from a backup or move it aside`,
        { cause: error },
      )
    }
  }

  #checkFormat(format: number): void {
    if (format >= ENTRY_FORMAT_MIN && format <= ENTRY_FORMAT) return
    throw new StoreError(
      'newerFormat',
      `shard ${this.#shard.number} holds entries of format ${format}, this version reads up to ${ENTRY_FORMAT}: run the version that wrote it`,
    )
  }

  #applyRecord(reader: ByteReader): void {
    const tag = reader.u8()
    switch (tag) {
      case Record.Session:
        return this.#onSession(reader)
      case Record.Detached:
        return this.#onDetached(reader)
      case Record.SessionEnded:
        return this.#onSessionEnded(reader.varint())
      case Record.Subscribed:
        return this.#onSubscribed(reader)
      case Record.Unsubscribed:
        return this.#onUnsubscribed(reader)
      case Record.Enqueued:
        return this.#onEnqueued(reader)
      case Record.Identified:
        return this.#onIdentified(reader)
      case Record.Done:
        return this.#onDone(reader.varint(), reader.varint())
      case Record.Received:
        return this.#onReceived(reader)
      case Record.Qos2Held:
        return this.#onQos2(reader, true)
      case Record.Qos2Released:
        return this.#onQos2(reader, false)
      case Record.Retained:
        return this.#onRetained(reader)
      case Record.RetainedGone:
        return void removeRetained(this.#engine, reader.text())
      case Record.WillGone:
        return this.#onWillGone(reader.varint())
      case Record.WillGuard:
        return this.#onWillGuard(reader)
      case Record.Message:
        return this.#onShared(reader)
      case Record.Held:
        return this.#onHeld(reader)
      case Record.Counters:
        return this.#sawSession(reader.varint() - 1)
      case Record.HandOver:
        return this.#onHandOver(reader)
      case Record.HandedOver:
        return this.#onHandedOver(reader.varint())
      case Record.Seen:
        return this.#onSeen(reader.varint(), reader.varint())
      case Record.Store:
        return this.#engine.storeOf(this.#shard).apply(readStoreChange(reader), momentOf(this.#engine.clock))
      case Record.Member:
        return this.#onMember(reader)
      case Record.Run:
        this.#shard.runId = reader.text()
        return
      case Record.NextHandOver:
        return this.#sawHandOver(reader.varint() - 1)
      default:
        throw new ByteReaderError(`unknown record ${tag}`)
    }
  }

  #onSession(reader: ByteReader): void {
    const number = reader.varint()
    const clientId = reader.text()
    this.#sawSession(number)
    let session = this.#shard.byNumber.get(number)
    if (session === undefined) {
      const other = this.#shard.sessions.get(clientId)
      if (other !== undefined) this.#onSessionEnded(other.number)
      session = new Session(clientId, this.#shard.number, number, this.#engine.cluster !== null)
      this.#engine.admit(session)
    }
    session.protocolVersion = reader.u8() as 3 | 4 | 5
    session.expirySeconds = reader.varint()
    session.disconnectedAtMs = reader.f64()
    session.nextSequence = Math.max(session.nextSequence, reader.varint())
    session.isRecorded = this.#engine.journal.isDurable
    const { hasWill, isNew, isPersistenceRequested, frontend, connection } = readAttachment(reader)
    session.isNew = isNew
    session.isPersistenceRequested = isPersistenceRequested
    session.frontend = frontend
    session.connection = connection
    setWill(this.#engine, session, hasWill ? this.#will(reader) : null)
  }

  #will(reader: ByteReader): Will {
    const delaySeconds = reader.varint()
    const expirySeconds = reader.varint() - 1
    const message = this.#message(reader)
    message.expirySeconds = expirySeconds
    return { message, delaySeconds, guard: null }
  }

  #onDetached(reader: ByteReader): void {
    const session = this.#shard.byNumber.get(reader.varint())
    const expirySeconds = reader.varint()
    const atMs = reader.f64()
    if (session === undefined) return
    session.expirySeconds = expirySeconds
    session.disconnectedAtMs = atMs
  }

  #onSessionEnded(number: number): void {
    const session = this.#shard.byNumber.get(number)
    this.#deliveries.delete(number)
    if (session === undefined) return
    setWill(this.#engine, session, null)
    // Nothing is to be written again or sent: the records of its end are the ones being read.
    session.isRecorded = false
    endSession(this.#engine, session)
  }

  #onSubscribed(reader: ByteReader): void {
    const session = this.#shard.byNumber.get(reader.varint())
    const filter = parseTopicFilter(reader.text())
    const options = reader.u8()
    const identifier = reader.varint()
    if (session === undefined) return
    remember(this.#engine, session, {
      filter,
      qos: (options & 3) as 0 | 1 | 2,
      noLocal: (options & 4) !== 0,
      retainAsPublished: (options & 8) !== 0,
      identifier,
    })
  }

  #onUnsubscribed(reader: ByteReader): void {
    const session = this.#shard.byNumber.get(reader.varint())
    const filter = parseTopicFilter(reader.text())
    if (session !== undefined) forget(this.#engine, session, filter)
  }

  #onEnqueued(reader: ByteReader): void {
    const message = this.#message(reader)
    for (let record = readReceiver(reader); record !== null; record = readReceiver(reader)) this.#remember(message, record)
  }

  #onShared(reader: ByteReader): void {
    const index = reader.varint()
    this.#shared.set(index, this.#message(reader))
  }

  #onHeld(reader: ByteReader): void {
    const message = this.#shared.get(reader.varint())
    const record = readReceiver(reader)
    if (message === undefined || record === null) throw new ByteReaderError('a delivery without message or session')
    this.#remember(message, record)
  }

  #remember(message: Message, record: ReceiverRecord): void {
    const session = this.#shard.byNumber.get(record.session)
    if (session === undefined) return
    session.nextSequence = Math.max(session.nextSequence, record.sequence + 1)
    let deliveries = this.#deliveries.get(record.session)
    if (deliveries === undefined) this.#deliveries.set(record.session, (deliveries = new Map()))
    deliveries.set(record.sequence, { message, record })
  }

  #onDone(session: number, sequence: number): void {
    this.#deliveries.get(session)?.delete(sequence)
  }

  #delivery(session: number, sequence: number): { readonly message: Message; record: ReceiverRecord } | undefined {
    return this.#deliveries.get(session)?.get(sequence)
  }

  #onIdentified(reader: ByteReader): void {
    const found = this.#delivery(reader.varint(), reader.varint())
    const packetId = reader.varint()
    if (found !== undefined) found.record = { ...found.record, packetId, sent: true }
  }

  #onReceived(reader: ByteReader): void {
    const found = this.#delivery(reader.varint(), reader.varint())
    if (found !== undefined) found.record = { ...found.record, isReceived: true }
  }

  #onQos2(reader: ByteReader, isHeld: boolean): void {
    const session = this.#shard.byNumber.get(reader.varint())
    const packetId = reader.varint()
    if (session === undefined) return
    session.receivedQos2 ??= new Set()
    if (isHeld) session.receivedQos2.add(packetId)
    else session.receivedQos2.delete(packetId)
  }

  #onRetained(reader: ByteReader): void {
    putRetained(this.#engine, this.#message(reader))
  }

  #onHandOver(reader: ByteReader): void {
    const sequence = reader.varint()
    const target = readTarget(reader)
    const message = this.#message(reader)
    this.#sawHandOver(sequence)
    // Of before this snapshot began, read again: it is there, or was handed over.
    if (this.#shard.handOvers.has(sequence)) return
    this.#engine.hold(message)
    this.#shard.handOvers.set(sequence, new HandOver(sequence, target, message))
  }

  #onHandedOver(sequence: number): void {
    const handOver = this.#shard.handOvers.get(sequence)
    if (handOver === undefined) return
    this.#engine.letGo(handOver.message)
    this.#shard.handOvers.delete(sequence)
  }

  #onSeen(fromShard: number, sequence: number): void {
    this.#shard.seen.set(fromShard, Math.max(sequence, this.#shard.seen.get(fromShard) ?? 0))
  }

  #onMember(reader: ByteReader): void {
    const { shard, clientId, groupName, groupFilter, options } = readMember(reader)
    this.#engine.cluster?.groups.put(this.#shard.number, shard, clientId, groupName, groupFilter, options)
  }

  #sawHandOver(sequence: number): void {
    this.#shard.nextHandOver = Math.max(this.#shard.nextHandOver, sequence + 1)
  }

  #onWillGone(number: number): void {
    const session = this.#shard.byNumber.get(number)
    if (session !== undefined) setWill(this.#engine, session, null)
  }

  #onWillGuard(reader: ByteReader): void {
    const session = this.#shard.byNumber.get(reader.varint())
    const guard = Buffer.from(reader.bytes())
    if (session !== undefined) putWillGuard(this.#engine, session, guard)
  }

  #sawSession(number: number): void {
    this.#shard.nextSession = Math.max(this.#shard.nextSession, number + 1)
  }

  #message(reader: ByteReader): Message {
    const stored = readMessage(reader)
    const message = new Message()
    message.topic = this.#engine.topics.get(stored.topicUtf8, 0, stored.topicUtf8.length)
    message.qos = stored.qos
    message.retain = stored.retain
    message.propertyBytes = stored.properties
    message.propertiesEnd = stored.properties.length
    message.payloadBytes = stored.payload
    message.payloadEnd = stored.payload.length
    const kept = message.keepApart()
    kept.expiresAtMs = stored.expiresAtMs
    return kept
  }

  /** All records are read: queues are built. */
  finish(): void {
    for (const session of this.#shard.sessions.values()) {
      this.#rebuildOutbox(session)
      if (session.isInCluster) skipSequences(session, this.#shard.epoch)
    }
  }

  #rebuildOutbox(session: Session): void {
    const deliveries = this.#deliveries.get(session.number)
    // A session that ended with its connection wrote no more records of them: what looks unsent here may have arrived, and must not
    // be handed on to others.
    if (deliveries === undefined || deliveries.size === 0 || !session.keepsMessages) return
    const outbox = (session.outbox = new Outbox())
    for (const sequence of [...deliveries.keys()].sort((a, b) => a - b)) {
      const { message, record } = deliveries.get(sequence)!
      const delivery = new Delivery(message, sequence, record.qos, record.retain, record.identifiers, record.shared)
      this.#engine.hold(message)
      delivery.packetId = record.packetId
      delivery.sent = record.sent
      if (record.packetId === 0) {
        outbox.enqueue(delivery)
        this.#engine.counters.queuedMessages++
        continue
      }
      const sentPhase = record.qos === 1 ? AWAITING_PUBACK : AWAITING_PUBREC
      outbox.ids.restore(record.packetId, record.isReceived ? AWAITING_PUBCOMP : sentPhase, delivery)
    }
    noteCrowded(this.#engine, session, outbox)
  }
}

/**
 * Messages of QoS 1 go to clients before they are stored. What the last owner sent so, no journal tells, but the client's frontend counts it
 * by its number (ResumedSession.lastSequence): given to another message, that one would be taken for delivered.
 */
function skipSequences(session: Session, epoch: number): void {
  session.nextSequence = Math.max(epoch * SEQUENCES_PER_EPOCH, session.nextSequence + SEQUENCES_PER_EPOCH)
}

/**
 * Once every shard is back: timers start, Wills of connections that the process took with it become due, and sessions end
 * that should have ended meanwhile, before anybody can resume them.
 */
export function finishRecovery(engine: Engine): void {
  const nowMs = engine.clock.wallMs()
  const sessions = engine.shards.flatMap(shard => [...shard.sessions.values()])
  for (const session of sessions) if (session.disconnectedAtMs === 0) noteDisconnected(engine, session, nowMs)
  for (const session of sessions) connectionWillDue(engine, session)
  for (const session of sessions) {
    if (hasExpired(session, nowMs)) endSession(engine, session)
    else scheduleExpiry(engine, session)
  }
}

/** Its connection went with the process. Stored, or every further restart would begin its Session Expiry Interval anew. */
function noteDisconnected(engine: Engine, session: Session, nowMs: number): void {
  session.disconnectedAtMs = nowMs
  if (session.isPersistent) writeDetached(engine.journal.writer(session.shard), session.number, session.expirySeconds, nowMs)
}
