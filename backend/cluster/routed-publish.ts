import type { Message } from '#shared/mqtt/message.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ConnectionId } from '#shared/rpc/backend-port.ts'
import type { CallerPort } from '#shared/rpc/caller-port.ts'
import { NO_CONNECTION } from '#shared/rpc/owner-port.ts'
import type { Shards } from '#shared/rpc/shards.ts'
import type { Engine } from '../engine.ts'
import { isHighPriority } from '../handlers/publish.ts'
import { endPublication } from '../publishing/collecting.ts'
import { limitExpiry } from '../publishing/publication.ts'
import { findsQueueFull, matchOf, offerToAll } from '../publishing/route.ts'
import { keepRetained, wouldExceedRetained } from '../queue/retained-store.ts'
import type { FrontendLink } from '../session/frontend-link.ts'
import type { Session } from '../session/session.ts'
import type { Acknowledger } from '../shard/journal.ts'
import { Record, writeNumbered } from '../shard/records.ts'
import type { MatchResult } from '../subscription/match-cache.ts'
import type { ClusterNode } from './cluster-node.ts'
import type { Group } from './groups.ts'
import { noteHandOver } from './releases.ts'

/** Where a publish came from, and where its answer goes. */
export interface PublishOrigin {
  readonly link: FrontendLink
  readonly answers: Acknowledger
  readonly calls: CallerPort
  /** By shard: the epoch of ours that the caller has resumed its connections for. */
  readonly resumed: Float64Array
  /** Of the publish that is under way: the publisher's connection, or NO_CONNECTION, and its Client Identifier where the caller has said it. */
  connection: ConnectionId
  publisher: string
}

/** OwnerPort.publish: QoS 0 and 1, for the addressed shards alone. */
export function publishFromLink(
  engine: Engine,
  node: ClusterNode,
  origin: PublishOrigin,
  sequence: number,
  isRefusable: boolean,
  shards: Shards,
  message: Message,
): void {
  engine.counters.publishesReceived++
  engine.counters.payloadBytesReceived += message.payloadLength
  limitExpiry(engine, message)
  const moved = engine.addressShards(shards, origin.resumed)
  const result = matchOf(engine, message)
  const groups = node.groups.matching(message)
  const refused = refusal(engine, node, message, result, groups, isRefusable)
  if (refused !== null) {
    engine.addressAll()
    if (sequence === 0) engine.counters.qos0DroppedIncoming++
    else origin.calls.published(sequence, refused, moved)
    return
  }
  const recordsBefore = engine.journal.records
  engine.publication.begin(message)
  const isKept = message.retain && engine.isAddressed(engine.shardFor(message.topic.name).number)
  if (isKept && !(message.qos === 0 && wouldExceedRetained(engine, message))) keepRetained(engine, engine.publication)
  const publisher = origin.connection === NO_CONNECTION ? null : sessionOf(origin, result)
  const receivers = offerToAll(engine, publisher, result)
  if (message.retain) node.noteRetained(message.topic.name, result.recipients)
  const members = node.groups.offer(groups, message)
  endPublication(engine)
  engine.addressAll()
  if (sequence === 0) return
  const reason = receivers + members === 0 ? ReasonCode.NoMatchingSubscribers : ReasonCode.Success
  const waits = engine.journal.records !== recordsBefore || isKept
  if (moved !== null) answerWhenStored(engine, origin, sequence, reason, moved)
  else if (waits) engine.journal.acknowledgeWhenStored(origin.answers, NO_CONNECTION, sequence, reason)
  else origin.answers.acknowledged(NO_CONNECTION, sequence, reason)
}

/** OwnerPort.publishQos2: kept in the session's shard with its identifier until all shards that it concerns have it (HandOvers). */
export function publishQos2FromLink(engine: Engine, node: ClusterNode, session: Session, ticket: number, message: Message): void {
  engine.counters.publishesReceived++
  engine.counters.payloadBytesReceived += message.payloadLength
  limitExpiry(engine, message)
  const { port } = session.link!
  if (session.receivedQos2?.has(message.packetId) === true) {
    return engine.journal.acknowledgeWhenStored(port, session.connection, ticket, ReasonCode.Success)
  }
  const isFull = engine.isFull && session.protocolVersion === 5 && !isHighPriority(engine, message)
  const refused = isFull ? 'refusedMemory' : qos2Refusal(engine, message)
  if (refused !== null) {
    engine.counters[refused]++
    return port.acknowledged(session.connection, ticket, ReasonCode.QuotaExceeded)
  }
  session.receivedQos2 ??= new Set()
  session.receivedQos2.add(message.packetId)
  const shard = engine.shards[session.shard]!
  if (session.isJournalled) writeNumbered(engine.journal.writer(shard.number), Record.Qos2Held, session.number, message.packetId)
  engine.publication.begin(message)
  const sequence = node.handOvers.add(shard, { is: 'shards', shards: [], origin: session.clientId }, engine.publication.kept(engine))
  noteHandOver(session, message.packetId, sequence)
  engine.journal.acknowledgeWhenStored(port, session.connection, ticket, ReasonCode.Success)
}

/** What is full of our own, so that the message would be dropped when it is handed over. Others cannot be asked before PUBREC. */
function qos2Refusal(engine: Engine, message: Message): 'refusedQueueFull' | 'refusedRetainedFull' | null {
  if (findsQueueFull(engine, message, matchOf(engine, message))) return 'refusedQueueFull'
  const keepsRetained = message.retain && engine.shardFor(message.topic.name).isServing
  return keepsRetained && wouldExceedRetained(engine, message) ? 'refusedRetainedFull' : null
}

function answerWhenStored(engine: Engine, { calls }: PublishOrigin, sequence: number, reason: ReasonCode, moved: readonly number[]): void {
  engine.journal.whenStored(() => calls.published(sequence, reason, moved))
}

/** The publisher's own session, when it is here and among those who match: it may have asked not to get its own messages (No Local). */
function sessionOf(origin: PublishOrigin, result: MatchResult<Session>): Session | null {
  for (const recipient of result.recipients) {
    const { subscriber, own } = recipient
    if (own !== recipient && isPublisher(subscriber, origin)) return subscriber
  }
  return null
}

/** [MQTT-3.8.3-3] speaks of the Client Identifier: the client may have another connection by now. */
function isPublisher(session: Session, { link: { frontend }, connection, publisher }: PublishOrigin): boolean {
  if (publisher !== '') return session.clientId === publisher
  if (session.connection === connection && session.frontend === frontend) return true
  return session.formers?.some(former => former.connection === connection && former.frontend === frontend) === true
}

function refusal(
  engine: Engine,
  node: ClusterNode,
  message: Message,
  result: MatchResult<Session>,
  groups: readonly Group[],
  isRefusable: boolean,
): ReasonCode | null {
  // Older clients have no code for it: frontends stop reading them instead (FrontendPort.pressure).
  if (engine.isFull && (isRefusable || message.qos === 0) && !isHighPriority(engine, message)) {
    engine.counters.refusedMemory += message.qos === 0 ? 0 : 1
    return ReasonCode.QuotaExceeded
  }
  if (message.qos === 0) return null
  if (findsQueueFull(engine, message, result) || node.groups.lackRoom(groups)) {
    engine.counters.refusedQueueFull++
    return ReasonCode.QuotaExceeded
  }
  if (message.retain && engine.isAddressed(engine.shardFor(message.topic.name).number) && wouldExceedRetained(engine, message)) {
    engine.counters.refusedRetainedFull++
    return ReasonCode.QuotaExceeded
  }
  return null
}
