import { storeShardOf } from '#shared/cluster/shard.ts'
import { EMPTY, type Message } from '#shared/mqtt/message.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { Topic } from '#shared/mqtt/topic.ts'
import type { StoreCallRole } from '#shared/rpc/owner-port.ts'
import { type StoreCall, storeCallShard } from '#shared/rpc/store-call.ts'
import { errorAnswer, valuesAnswer } from '#shared/state-store/answer.ts'
import { type ExtendedCommand, MGET_BYTES_MAX, type MgetCommand, parseCommand, parseExtendedCommand } from '#shared/state-store/command.ts'
import { ErrorText } from '#shared/state-store/errors.ts'
import { isSupportedVersion, unsupportedVersionProperties } from '#shared/state-store/properties.ts'
import { RequestProperties } from '#shared/state-store/request-properties.ts'
import type { StoredBytes } from '#shared/state-store/stored-bytes.ts'
import type { Engine } from '../engine.ts'
import { notify } from '../publishing/key-notifications.ts'
import { ownMessage } from '../publishing/own-message.ts'
import { limitExpiry } from '../publishing/publication.ts'
import { type Address, type Outcome, responseOf } from '../publishing/store-answers.ts'
import type { Session } from '../session/session.ts'
import type { Shard } from '../shard/shard.ts'
import { record } from '../shard/store-upkeep.ts'
import { momentOf } from '../statestore/moment.ts'
import type { RequestOrigin, StoreCommand, StoreNotification, WatcherId } from '../statestore/store-request.ts'
import { isHighPriority } from './publish.ts'
import { watchAll, watchIn } from './watch-prefix.ts'

/** BackendPort.askStore, from an attached connection. */
export function onAskStore(engine: Engine, session: Session, ticket: number, call: StoreCall): void {
  const { port } = session.link!
  const { connection, frontend, clientId } = session
  if (isTooFull(engine, call.message)) return port.acknowledged(connection, ticket, ReasonCode.QuotaExceeded)
  const shard = engine.shards[storeCallShard(call, engine.shards.length)]!
  const owed = executeOn(engine, shard, call, { frontend, connection, clientId }, null)
  if (owed === null) return port.acknowledged(connection, ticket, ReasonCode.TopicNameInvalid)
  engine.storeAnswers.add(owed, port, connection, ticket)
}

/** Memory is short: as other publishes (docs/state-store.md). */
export function isTooFull(engine: Engine, message: Message): boolean {
  if (!engine.isFull || isHighPriority(engine, message)) return false
  engine.counters.refusedMemory++
  return true
}

/**
 * Executes the request and records what it changes, with response and notifications for whoever takes them on: nobody may know of a change that
 * a crash could still undo.
 * @returns for PUBACK: Success, or TopicNameInvalid when nobody could be answered, and nothing was done
 */
export function askShard(engine: Engine, shard: Shard, call: Request, watcher: WatcherId, origin: RequestOrigin): ReasonCode {
  const owed = executeOn(engine, shard, call, watcher, origin)
  if (owed === null) return ReasonCode.TopicNameInvalid
  const response = responseOf(engine, owed)
  if (response !== null) engine.cluster!.handOvers.add(shard, { is: 'shards', shards: [], origin: '' }, response)
  for (const notification of owed.notifications) notify(engine, shard, notification)
  return ReasonCode.Success
}

type Request = Pick<StoreCall, 'fault' | 'message' | 'command' | 'properties' | 'responseTopic'> & { readonly as?: StoreCallRole }

const NOTHING: readonly StoreNotification[] = []

/** One for all requests that were not read before: each use is over before the next begins. */
const ownProperties = new RequestProperties()

/** Null: it could not be answered. */
function executeOn(engine: Engine, shard: Shard, call: Request, watcher: WatcherId, origin: RequestOrigin | null): Outcome | null {
  const { message } = call
  engine.counters.publishesReceived++
  engine.counters.payloadBytesReceived += message.payloadLength
  limitExpiry(engine, message)
  const properties = call.properties ?? readOf(message)
  const topic = call.responseTopic ?? responseTopicOf(engine, message, properties)
  if (topic === null) return null
  const address = { request: message, properties, topic }
  if (!isSupportedVersion(properties.protocolVersion)) return outcome(address, unsupported(address))
  if (call.fault === ErrorText.NotAuthorized) countRefused(engine, shard, call)
  const command = commandOf(engine, shard, call, properties, watcher)
  if (typeof command === 'string') return outcome(address, { version: null, value: null, answer: errorAnswer(command) })
  const { timestamp, fencingToken, isPersistent } = properties
  const done = engine.storeOf(shard).execute({ command, timestamp, fencingToken, isPersistent, watcher, origin }, momentOf(engine.clock))
  // Its response was stored with what it changed: it is on its way.
  if (done.is !== 'executed') return outcome(address, null)
  record(engine, shard, done.changes)
  return outcome(address, done.reply, done.notifications)
}

function readOf(message: Message): RequestProperties {
  ownProperties.read(message)
  return ownProperties
}

/** Null: it is no Topic Name of at most topicLevelsMax levels. Its frontend has looked, but by its own settings. */
function responseTopicOf(engine: Engine, request: Message, { topicStart, topicEnd }: RequestProperties): Topic | null {
  try {
    return engine.topics.get(request.propertyBytes, topicStart, topicEnd)
  } catch (error) {
    if (error instanceof ProtocolError) return null
    throw error
  }
}

/** What the shard's store is to execute. */
function commandOf(
  engine: Engine,
  shard: Shard,
  { fault, as, command, message }: Request,
  properties: RequestProperties,
  watcher: WatcherId,
): StoreCommand | ErrorText {
  if (fault !== null) return fault
  if (as === 'answer') return { is: 'joined', answer: message.payload }
  const parsed: ExtendedCommand | ErrorText =
    command ?? parseExtendedCommand(message.payloadBytes, message.payloadStart, message.payloadEnd)
  if (typeof parsed === 'string') return parsed
  if (parsed.is === 'scan') return { ...parsed, shard: shard.number, shardCount: engine.shards.length }
  if (parsed.is === 'watch') {
    // In a cluster its frontend asks all shards.
    return engine.cluster === null ? { is: 'joined', answer: watchAll(engine, parsed, properties, watcher) } : ErrorText.Syntax
  }
  return parsed.is === 'mget' ? readMany(engine, shard, parsed) : parsed
}

/** MGET, as far as this backend has its keys. */
function readMany(engine: Engine, shard: Shard, { keys }: MgetCommand): StoreCommand | ErrorText {
  const shards = keys.map(key => engine.shards[storeShardOf(key, engine.shards.length)]!)
  // In a cluster its frontend asks for those of other shards, which may be another backend's.
  if (engine.cluster !== null && shards.some(each => each !== shard)) return ErrorText.Syntax
  const values = readKeys(engine, keys, shards)
  return values === null ? ErrorText.QuotaExceeded : { is: 'joined', answer: valuesAnswer(values) }
}

/** OwnerPort.askStore, as a `part`: what this shard answers to WATCH (watchIn); or, for PUBACK, why nothing was done. */
export function watchShard(
  engine: Engine,
  shard: Shard,
  { message }: Request,
  watcher: WatcherId,
  origin: RequestOrigin,
): Buffer | ReasonCode {
  const command = parseExtendedCommand(message.payloadBytes, message.payloadStart, message.payloadEnd)
  if (typeof command === 'string' || command.is !== 'watch') return errorAnswer(ErrorText.Syntax)
  const properties = readOf(message)
  if (responseTopicOf(engine, message, properties) === null) return ReasonCode.TopicNameInvalid
  const store = engine.storeOf(shard)
  // What gives memory back, or takes none, is not refused.
  const isFree = command.isStop || store.isRepeat(origin) || store.watchesUnder(command.prefix, watcher)
  if (!isFree && isTooFull(engine, message)) return ReasonCode.QuotaExceeded
  return watchIn(engine, shard, command, properties, watcher, origin)
}

/** OwnerPort.readStore: null for a key that is not there, and instead of all when the values are longer than MGET_BYTES_MAX. */
export function readShard(engine: Engine, shard: Shard, keys: readonly string[]): (Buffer | null)[] | null {
  const values = readKeys(engine, keys, Array<Shard>(keys.length).fill(shard))
  // Written before it is answered: a backend that has lost the shard, and does not know, cannot.
  record(engine, shard, [{ is: 'clock', clock: engine.storeOf(shard).clock }])
  return values?.map(value => (typeof value === 'string' ? Buffer.from(value, 'latin1') : value)) ?? null
}

/** Of each key in the shard of the same index. */
function readKeys(engine: Engine, keys: readonly string[], shards: readonly Shard[]): (StoredBytes | null)[] | null {
  const values: (StoredBytes | null)[] = []
  let bytes = 0
  for (const [index, key] of keys.entries()) {
    const shard = shards[index]!
    const read = engine.storeOf(shard).read(key, momentOf(engine.clock))
    record(engine, shard, read.changes)
    for (const notification of read.notifications) notify(engine, shard, notification)
    values.push(read.value)
    bytes += read.value?.length ?? 0
    if (bytes > MGET_BYTES_MAX) return null
  }
  return values
}

/** It is an attempt all the same (spec state-store.md 15), of a command whose key decided the shard. */
function countRefused(engine: Engine, shard: Shard, { command, message }: Request): void {
  const read = command ?? parseCommand(message.payloadBytes, message.payloadStart, message.payloadEnd)
  if (typeof read === 'string' || read.is === 'scan' || read.is === 'mget' || read.is === 'watch' || read.is === 'keep') return
  engine.storeOf(shard).countRefused(read, momentOf(engine.clock))
}

function unsupported({ request, properties, topic }: Address): Message {
  const correlation = request.propertyBytes.subarray(properties.correlationStart, properties.correlationEnd)
  return ownMessage(topic, EMPTY, unsupportedVersionProperties(properties.protocolVersion!), correlation)
}

function outcome(address: Address, response: Outcome['response'], notifications = NOTHING): Outcome {
  return { address, response, notifications }
}
