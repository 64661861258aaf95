import fc from 'fast-check'
import { ByteWriter } from '#shared/base/byte-writer.ts'
import { Message, newMessage } from '#shared/mqtt/message.ts'
import { writeFieldProperty } from '#shared/mqtt/property-writer.ts'
import { Property } from '#shared/mqtt/property.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { parseTopicFilter, Topic } from '#shared/mqtt/topic.ts'
import { ErrorText } from '#shared/state-store/errors.ts'
import type { CallerPort } from './caller-port.ts'
import { type OwnerPort, STORE_CALL_ROLES } from './owner-port.ts'
import { Recipients } from './recipients.ts'
import { Shards } from './shards.ts'

/** Arguments of every call between callers and owners, as anyone may make them in a cluster of SHARD_COUNT shards. */
export const SHARD_COUNT = 100

export type AnyArguments<Port> = {
  readonly [Name in keyof Port]: Port[Name] extends (...args: infer Args) => void ? fc.Arbitrary<Args> : never
}

const number = fc.oneof(fc.nat(300), fc.maxSafeNat())
/** As a table of `slots` places makes it. */
const id = fc.oneof(
  fc.maxSafeNat(),
  fc.tuple(fc.nat(1_000), fc.nat(5)).map(([slot, use]) => slot + use * 2 ** 24),
  fc.constantFrom(0, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1),
)
const shard = fc.nat(SHARD_COUNT - 1)
const shardList = fc.array(shard, { maxLength: 40 })
const shards = shardList.map(shardsOf)
const reason = fc.constantFrom(...Object.values(ReasonCode))
const packetId = fc.integer({ min: 1, max: 65_535 })
const seconds = fc.oneof(fc.nat(100), fc.constantFrom(0, 0xffff_ffff), fc.integer({ min: 0, max: 0xffff_ffff }))
const identifier = fc.oneof(fc.nat(10), fc.constant(268_435_455))
const text = fc.string({ unit: 'grapheme', maxLength: 30 })
const level = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 10 }).map(each => each.replaceAll(/[/+#\0]/gu, '') || 'x')
const name = fc.array(level, { minLength: 1, maxLength: 5 }).map(levels => levels.join('/'))
const clientId = level
const plainFilter = fc
  .tuple(fc.array(fc.oneof(level, fc.constant('+')), { minLength: 1, maxLength: 4 }), fc.boolean())
  .map(([levels, isTree]) => [...levels, ...(isTree ? ['#'] : [])].join('/'))
  .filter(filter => !filter.startsWith('$share/'))
const filter = fc
  .oneof(
    plainFilter,
    fc.tuple(level, plainFilter).map(([group, shared]) => `$share/${group}/${shared}`),
  )
  .map(each => parseTopicFilter(each))
const group = fc.record({ groupName: level, groupFilter: plainFilter })
const qos = fc.constantFrom<(0 | 1 | 2)[]>(0, 1, 2)
const connectionEnd = fc.record({ discardWill: fc.boolean(), sessionExpirySeconds: fc.option(seconds) })
const version = fc.constantFrom<(3 | 4 | 5)[]>(3, 4, 5)

function shardsOf(numbers: readonly number[]): Shards {
  const into = new Shards()
  for (const each of numbers) into.add(each)
  return into
}

function anyMessage(qosMax: 0 | 1 | 2, qosMin = 0): fc.Arbitrary<Message> {
  return fc
    .record({
      topicName: name,
      payload: fc.uint8Array({ maxLength: 200 }),
      properties: fc.oneof(fc.constant(new Uint8Array(0)), fc.uint8Array({ maxLength: 60 })),
      qos: fc.integer({ min: qosMin, max: qosMax }),
      retain: fc.boolean(),
      dup: fc.boolean(),
      expirySeconds: fc.oneof(fc.constant(-1), seconds),
      anyPacketId: packetId,
    })
    .map(fields => {
      const topic = new Topic(fields.topicName, Buffer.from(fields.topicName))
      const payload = Buffer.from(fields.payload)
      const message = newMessage(topic, payload, fields.qos, fields.retain, Buffer.from(fields.properties))
      message.dup = fields.dup
      message.expirySeconds = fields.expirySeconds
      message.packetId = fields.qos === 0 ? 0 : fields.anyPacketId
      return message
    })
}

const recipients = fc
  .array(
    fc.tuple(
      id,
      fc.nat(15),
      packetId,
      fc.option(
        fc.array(
          identifier.filter(each => each > 0),
          { maxLength: 3 },
        ),
      ),
      number,
    ),
    {
      minLength: 1,
      maxLength: 60,
    },
  )
  .map(all => {
    const into = new Recipients()
    for (const [connection, anyFlags, ownPacketId, identifiers, sequence] of all) {
      const flags = (anyFlags & 3) === 3 ? anyFlags & ~1 : anyFlags
      const isQos0 = (flags & 3) === 0
      into.add(connection, flags, isQos0 ? 0 : ownPacketId, identifiers, isQos0 ? 0 : sequence)
    }
    return into
  })

const rights = fc.record({ permit: bytes(), willGuard: bytes() })

/** As they come out of a frame, so that the two can be compared. */
function bytes(): fc.Arbitrary<Uint8Array> {
  return fc.uint8Array({ maxLength: 60 }).map(each => Buffer.from(each))
}

const attach = fc.record({
  connection: id,
  clientId,
  protocolVersion: version,
  cleanStart: fc.boolean(),
  sessionExpirySeconds: seconds,
  receiveMaximum: packetId,
  will: fc.option(fc.record({ message: anyMessage(2), delaySeconds: seconds })),
  rights: fc.option(rights),
})

const storeCall = fc.record({
  clientId,
  fault: fc.constantFrom(null, ErrorText.Syntax, ErrorText.NotAuthorized),
  as: fc.constantFrom(...STORE_CALL_ROLES),
  message: anyMessage(1, 1).map(message => {
    const properties = new ByteWriter()
    writeFieldProperty(properties, Property.ResponseTopic, Buffer.from('answers/c1'))
    writeFieldProperty(properties, Property.CorrelationData, Buffer.from('x'))
    return newMessage(message.topic, message.payload, 1, false, properties.take())
  }),
})

const subscription = fc.oneof(
  fc.record({
    filter,
    refused: fc.constant(null),
    qos,
    noLocal: fc.boolean(),
    retainAsPublished: fc.boolean(),
    retainHandling: qos,
    identifier,
  }),
  // All that goes over the link of one that the frontend refused already.
  fc.record({
    filter: fc.constant({ text: '', group: null, filter: '' }),
    refused: reason,
    qos: fc.constant(0 as const),
    noLocal: fc.constant(false),
    retainAsPublished: fc.constant(false),
    retainHandling: fc.constant(0 as const),
    identifier: fc.constant(0),
  }),
)

const resumedSession = fc.record({
  connection: id,
  clientId,
  protocolVersion: version,
  receiveMaximum: packetId,
  isWritable: fc.boolean(),
  lastSequence: number,
  outstanding: fc.array(fc.record({ packetId, sequence: number, phase: fc.constantFrom('sent', 'received', 'released') }), {
    maxLength: 4,
  }),
})

const standing = fc.constantFrom('able', 'busy', 'away', 'full')
const memberChange = fc
  .record({ ofGroup: group, clientId, options: fc.option(fc.record({ qos, retainAsPublished: fc.boolean(), identifier })), standing })
  .map(({ ofGroup, ...rest }) => ({ ...ofGroup, ...rest }))

const handOverTarget = fc.oneof(
  fc.record({ is: fc.constant('shards' as const), shards: shardList, origin: fc.oneof(clientId, fc.constant('')) }),
  fc
    .record({ is: fc.constant('member' as const), shard, clientId: fc.oneof(clientId, fc.constant('')), ofGroup: group })
    .map(({ ofGroup, ...rest }) => ({ ...rest, ...ofGroup })),
  fc.record({ is: fc.constant('session' as const), shard, clientId, frontend: text, connection: id }),
)

export const ownerArguments: AnyArguments<OwnerPort> = {
  attach: fc.tuple(number, attach, fc.boolean()),
  detach: fc.tuple(shard, clientId, id, connectionEnd),
  publish: fc.tuple(number, id, fc.boolean(), shards, anyMessage(1), fc.oneof(clientId, fc.constant(''))),
  publishQos2: fc.tuple(id, id, number, anyMessage(2, 2)),
  release: fc.tuple(id, id, number, packetId, fc.boolean()),
  puback: fc.tuple(id, id, packetId),
  pubrec: fc.tuple(id, id, packetId, reason),
  pubcomp: fc.tuple(id, id, packetId),
  subscribe: fc.tuple(id, id, number, packetId, fc.array(subscription, { maxLength: 5 })),
  unsubscribe: fc.tuple(id, id, number, packetId, fc.array(filter, { maxLength: 5 }), fc.boolean()),
  restrict: fc.tuple(id, id, number, rights),
  writable: fc.tuple(id, id, fc.boolean()),
  askStore: fc.tuple(shard, number, number, id, storeCall),
  readStore: fc.tuple(
    shard,
    number,
    fc.array(
      bytes().map(key => Buffer.from(key).toString('latin1')),
      { minLength: 1, maxLength: 9 },
    ),
  ),
  unwatch: fc.tuple(shard, id),
  resume: fc.tuple(shard, fc.array(resumedSession, { maxLength: 5 }), fc.boolean()),
  wantRoutes: fc.tuple(shard),
  routesApplied: fc.tuple(number),
  handOver: fc.tuple(shard, number, handOverTarget, anyMessage(2)),
  openRetained: fc.tuple(number, plainFilter, shards),
  moreRetained: fc.tuple(number),
  closeRetained: fc.tuple(number),
  members: fc.tuple(number, shard, shard, fc.boolean(), fc.array(memberChange, { maxLength: 5 })),
  memberStates: fc.tuple(shard, shard, fc.array(fc.record({ clientId, standing }), { maxLength: 5 })),
  requestShard: fc.tuple(shard),
}

export const callerArguments: AnyArguments<CallerPort> = {
  deliver: fc.tuple(anyMessage(2), recipients),
  acknowledged: fc.tuple(id, number, reason),
  subscribed: fc.tuple(id, number, fc.array(reason, { maxLength: 9 })),
  released: fc.tuple(id, packetId, reason),
  pressure: fc.tuple(fc.boolean()),
  disconnect: fc.tuple(id, reason, text),
  attached: fc.tuple(
    number,
    fc.oneof(
      fc.record({ is: fc.constant('attached' as const), session: id, sessionPresent: fc.boolean() }),
      fc.record({ is: fc.constant('refused' as const), reason, detail: text }),
    ),
  ),
  attachMoved: fc.tuple(number),
  detached: fc.tuple(id),
  published: fc.tuple(number, reason, fc.option(fc.array(shard, { minLength: 1, maxLength: 9 }))),
  storeAsked: fc.tuple(number, reason),
  storeRead: fc.tuple(number, fc.option(fc.array(fc.option(bytes()), { maxLength: 9 }))),
  unwatched: fc.tuple(shard, id),
  resumed: fc.tuple(shard, fc.array(fc.record({ connection: id, session: id }), { maxLength: 9 })),
  owned: fc.tuple(shard, number, number, number),
  allOwned: fc.constant([]),
  lost: fc.tuple(shard),
  routes: fc.tuple(shard, number, fc.boolean(), fc.array(plainFilter, { maxLength: 5 }), fc.array(plainFilter, { maxLength: 5 })),
  handedOver: fc.tuple(shard, number, shardList, fc.constantFrom('done', 'moved')),
  retained: fc.tuple(number, fc.array(anyMessage(2), { maxLength: 4 }), fc.boolean()),
  membersApplied: fc.tuple(number),
  shardReleased: fc.tuple(shard, fc.boolean()),
}

/** A call as a plain value, to be compared: what is valid only during the call is copied. */
export interface SeenCall {
  readonly name: string
  readonly args: readonly unknown[]
}

export function seen(callName: string, args: readonly unknown[]): SeenCall {
  return { name: callName, args: args.map(plain) }
}

function plain(value: unknown): unknown {
  if (value instanceof Message) return plainMessage(value)
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex')
  if (value instanceof Shards) return [...value.numbers.subarray(0, value.count)]
  if (value instanceof Recipients) return plainRecipients(value)
  if (Array.isArray(value)) return value.map(plain)
  if (value instanceof Map) return plain([...(value as ReadonlyMap<unknown, unknown>)])
  if (typeof value === 'object' && value !== null) return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]))
  return value
}

function plainMessage(message: Message): unknown {
  const { qos: ownQos, retain, dup, packetId: ownPacketId, expirySeconds, expiresAtMs, retainedSequence, references } = message
  return {
    topic: message.topic.name,
    properties: message.properties.toString('hex'),
    payload: message.payload.toString('hex'),
    numbers: [ownQos, ownPacketId, expirySeconds, expiresAtMs, retainedSequence, references],
    flags: [retain, dup],
  }
}

function plainRecipients(all: Recipients): unknown {
  return Array.from({ length: all.count }, (_, i) => ({
    connection: all.connections[i],
    flags: all.flags[i],
    packetId: all.packetIds[i],
    sequence: all.sequences[i],
    identifiers: all.identifiers[i],
  }))
}
