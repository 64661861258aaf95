import { ByteWriter } from '#shared/base/byte-writer.ts'
import { shardOf, storeShardOf } from '#shared/cluster/shard.ts'
import { EMPTY, hasUserProperty, type Message, newMessage, propertyValue, userProperty } from '#shared/mqtt/message.ts'
import { PERSISTENCE_NAME, PERSISTENCE_VALUE } from '#shared/mqtt/persistence-request.ts'
import { writeFieldProperty, writeUserProperty } from '#shared/mqtt/property-writer.ts'
import { Property } from '#shared/mqtt/property.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { UserProperty } from '#shared/mqtt/strict-properties.ts'
import type { HandOverTarget } from '#shared/rpc/owner-port.ts'
import type { StoreCall } from '#shared/rpc/store-call.ts'
import { errorAnswer } from '#shared/state-store/answer.ts'
import { parseCommand } from '#shared/state-store/command.ts'
import { ErrorText } from '#shared/state-store/errors.ts'
import {
  isSupportedVersion,
  notificationProperties,
  responseProperties,
  StoreProperty,
  unsupportedVersionProperties,
} from '#shared/state-store/properties.ts'
import { notifyTopic } from '#shared/state-store/topics.ts'
import type { Engine } from '../engine.ts'
import { endPublication } from '../publishing/collecting.ts'
import { offer } from '../publishing/offer.ts'
import { expiresAtMs, limitExpiry } from '../publishing/publication.ts'
import { publishOwn } from '../publishing/route.ts'
import type { Session } from '../session/session.ts'
import { writeStore } from '../shard/records.ts'
import type { Shard } from '../shard/shard.ts'
import type { StoreChange } from '../statestore/changes.ts'
import type { KeyStore } from '../statestore/key-store.ts'
import { momentOf } from '../statestore/moment.ts'
import type { RequestOrigin, StoreNotification, WatcherId } from '../statestore/store-request.ts'
import { isHighPriority } from './publish.ts'

/** Entries whose lifetime has ended that one tick removes of one shard; the rest goes with the next. */
const EXPIRED_PER_TICK = 256

type ToWatcher = HandOverTarget & { readonly is: 'session' }

/** BackendPort.askStore, from an attached connection. */
export function onAskStore(engine: Engine, session: Session, ticket: number, call: StoreCall): void {
  const { port } = session.link!
  const { connection, frontend, clientId } = session
  if (isTooFull(engine, call.message)) return port.acknowledged(connection, ticket, ReasonCode.QuotaExceeded)
  askShard(engine, engine.shards[storeShardOf(call.shardKey, engine.shards.length)]!, call, { frontend, connection, clientId }, null)
  // Behind the response, which is published when the change is stored.
  engine.journal.whenStored(() => engine.journal.acknowledgeWhenStored(port, connection, ticket, ReasonCode.Success))
}

/** Memory is short: as other publishes (docs/state-store.md). */
export function isTooFull(engine: Engine, message: Message): boolean {
  if (!engine.isFull || isHighPriority(engine, message)) return false
  engine.counters.refusedMemory++
  return true
}

/**
 * Executes the request and records what it changes. Response and notifications go out when that is stored: nobody may know of a change that
 * a crash could still undo.
 */
export function askShard(
  engine: Engine,
  shard: Shard,
  { fault, message }: Pick<StoreCall, 'fault' | 'message'>,
  watcher: WatcherId,
  origin: RequestOrigin | null,
): void {
  engine.counters.publishesReceived++
  engine.counters.payloadBytesReceived += message.payloadLength
  limitExpiry(engine, message)
  const requested = userProperty(message, StoreProperty.ProtocolVersion) ?? null
  if (!isSupportedVersion(requested)) return respond(engine, shard, message, EMPTY, unsupportedVersionProperties(requested!))
  if (fault === ErrorText.NotAuthorized) countRefused(engine, shard, message)
  const command = fault ?? parseCommand(message.payload)
  if (typeof command === 'string') return respond(engine, shard, message, errorAnswer(command), responseProperties(null))
  const executed = engine.storeOf(shard).execute(
    {
      command,
      timestamp: userProperty(message, StoreProperty.Timestamp) ?? null,
      fencingToken: userProperty(message, StoreProperty.FencingToken) ?? null,
      isPersistent: hasUserProperty(message, PERSISTENCE_NAME) && userProperty(message, PERSISTENCE_NAME) === PERSISTENCE_VALUE,
      watcher,
      origin,
    },
    momentOf(engine.clock),
  )
  // Its response was stored with what it changed: it is on its way.
  if (executed.is !== 'executed') return
  record(engine, shard, executed.changes)
  respond(engine, shard, message, executed.answer, responseProperties(executed.version))
  for (const notification of executed.notifications) notify(engine, shard, notification)
}

/** It is an attempt all the same (spec state-store.md 15), of a command whose key decided the shard. */
function countRefused(engine: Engine, shard: Shard, message: Message): void {
  const command = parseCommand(message.payload)
  if (typeof command !== 'string') engine.storeOf(shard).countRefused(command, momentOf(engine.clock))
}

/** Connection and session have parted: it watches nothing any more. */
export function forgetWatcher(engine: Engine, frontend: string, connection: number): void {
  for (const shard of engine.shards) {
    if (shard.store !== null && shard.isServing) record(engine, shard, shard.store.forget(frontend, connection))
  }
}

/** The process was stopped: no connection of before exists. */
export function forgetAllWatchers(engine: Engine): void {
  for (const shard of engine.shards) if (shard.store !== null) record(engine, shard, shard.store.forgetWatchers())
}

/** A few times a second: what has lived its time. */
export function expireEntries(engine: Engine): void {
  let bytes = 0
  for (const shard of engine.shards) {
    if (shard.store === null) continue
    if (shard.isServing) expire(engine, shard, shard.store)
    bytes += shard.store.bytes
  }
  engine.counters.storeBytes = bytes
}

/** Records changes of a shard's store. */
export function record(engine: Engine, shard: Shard, changes: readonly StoreChange[]): void {
  if (!engine.journal.isDurable) return
  for (const change of changes) writeStore(engine.journal.writer(shard.number), change)
}

function expire(engine: Engine, shard: Shard, store: KeyStore): void {
  const { changes, notifications } = store.due(momentOf(engine.clock), EXPIRED_PER_TICK)
  record(engine, shard, changes)
  for (const notification of notifications) notify(engine, shard, notification)
}

/** From no client, so that No Local does not hold it back (spec state-store.md 3). */
function respond(engine: Engine, shard: Shard, request: Message, payload: Buffer, properties: readonly UserProperty[]): void {
  const responseTopic = propertyValue(request, Property.ResponseTopic)!.toString('utf8')
  const message = ownMessage(engine, responseTopic, payload, properties, propertyValue(request, Property.CorrelationData))
  message.expirySeconds = request.expirySeconds
  message.expiresAtMs = expiresAtMs(engine, message)
  if (engine.cluster === null) engine.journal.whenStored(() => publishOwn(engine, message))
  else engine.cluster.handOvers.add(shard, { is: 'shards', shards: [], origin: '' }, message)
}

function notify(engine: Engine, shard: Shard, { key, payload, clock, watchers }: StoreNotification): void {
  const bytes = Buffer.from(key, 'latin1')
  for (const { clientId, frontend, connection } of watchers) {
    const topic = notifyTopic(clientId, bytes)
    if (topic === null) continue
    const message = ownMessage(engine, topic, payload, notificationProperties(clock))
    limitExpiry(engine, message)
    message.expiresAtMs = expiresAtMs(engine, message)
    const target = { is: 'session', shard: shardOf(clientId, engine.shards.length), clientId, frontend, connection } as const
    if (engine.cluster === null) engine.journal.whenStored(() => publishToWatcher(engine, target, message))
    else engine.cluster.handOvers.add(shard, target, message)
  }
}

function publishToWatcher(engine: Engine, target: ToWatcher, message: Message): void {
  engine.publication.beginKept(message)
  offerToWatcher(engine, target)
  endPublication(engine)
}

/** The publication that is under way, to the client that asked for it, whatever its Subscriptions are; to nobody when it has another connection by now. */
export function offerToWatcher(engine: Engine, { shard, clientId, frontend, connection }: ToWatcher): void {
  const session = engine.shards[shard]!.sessions.get(clientId)
  const isIts = session !== undefined && session.isConnected && session.frontend === frontend && session.connection === connection
  if (isIts) offer(engine, session, 1, false, null, null)
  else engine.counters.notificationsDropped++
}

function ownMessage(engine: Engine, topic: string, payload: Buffer, properties: readonly UserProperty[], correlation?: Buffer): Message {
  const writer = new ByteWriter()
  if (correlation !== undefined) writeFieldProperty(writer, Property.CorrelationData, correlation)
  for (const [name, value] of properties) writeUserProperty(writer, name, value)
  return newMessage(engine.topics.fromName(topic), payload, 1, false, writer.written()).keep()
}
