import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import { ByteWriter } from '#shared/base/byte-writer.ts'
import { newMessage, type Message } from '#shared/mqtt/message.ts'
import { Topic } from '#shared/mqtt/topic.ts'
import { openKeepingStore } from '../store/memory/memory-store.ts'
import { StoreError } from '../store/shard-store.ts'
import { BackendRig, NEVER, rightsTo } from '../backend-rig.contract.ts'
import { stateDump } from '../state-dump.contract.ts'
import { ENTRY_FORMAT, ENTRY_FORMAT_PLAIN } from './journal.ts'
import {
  beginEnqueued,
  endReceivers,
  readMessage,
  readReceiver,
  Record,
  writeReceiver,
  writeRetained,
  writeSession,
  writeSubscribed,
  type ReceiverRecord,
} from './records.ts'

const message: fc.Arbitrary<Message> = fc
  .record({
    topic: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 30 }),
    payload: fc.uint8Array({ maxLength: 300 }),
    properties: fc.uint8Array({ maxLength: 60 }),
    qos: fc.constantFrom(0, 1, 2),
    retain: fc.boolean(),
    expiresAtMs: fc.oneof(fc.constant(Infinity), fc.maxSafeNat()),
    // What is stored is a range of a larger buffer, as after decoding.
    around: fc.nat({ max: 8 }),
  })
  .map(({ topic, payload, properties, qos, retain, expiresAtMs, around }) => {
    const made = newMessage(new Topic(topic, Buffer.from(topic)), Buffer.from(payload), qos, retain)
    const padding = Buffer.alloc(around, 0xee)
    made.payloadBytes = Buffer.concat([padding, Buffer.from(payload), padding])
    made.payloadStart = around
    made.payloadEnd = around + payload.length
    made.propertyBytes = Buffer.concat([padding, Buffer.from(properties), padding])
    made.propertiesStart = around
    made.propertiesEnd = around + properties.length
    made.expiresAtMs = expiresAtMs
    return made
  })

const receiver: fc.Arbitrary<ReceiverRecord> = fc.record({
  session: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  sequence: fc.maxSafeNat(),
  qos: fc.constantFrom(1, 2),
  retain: fc.boolean(),
  sent: fc.boolean(),
  isReceived: fc.boolean(),
  packetId: fc.integer({ min: 0, max: 65_535 }),
  identifiers: fc.option(fc.array(fc.integer({ min: 1, max: 268_435_455 }), { maxLength: 5 })),
  shared: fc.option(fc.record({ name: fc.string({ unit: 'grapheme' }), filter: fc.string({ unit: 'grapheme' }) })),
})

function expectMessage(reader: ByteReader, from: Message): void {
  const read = readMessage(reader)
  expect([read.topicUtf8.toString(), read.qos, read.retain, read.expiresAtMs]).toEqual([
    from.topic.name,
    from.qos,
    from.retain,
    from.expiresAtMs,
  ])
  expect(read.payload.equals(from.payload)).toBe(true)
  expect(read.properties.equals(from.properties)).toBe(true)
}

describe('records', () => {
  test('a message and its receivers read back as they were written', () => {
    fc.assert(
      fc.property(message, fc.array(receiver, { maxLength: 6 }), (from, receivers) => {
        const writer = new ByteWriter()
        beginEnqueued(writer, from)
        for (const each of receivers) writeReceiver(writer, each)
        endReceivers(writer)
        writeRetained(writer, from)
        const reader = new ByteReader(writer.take())
        expect(reader.u8()).toBe(Record.Enqueued)
        expectMessage(reader, from)
        for (const each of receivers) expect(readReceiver(reader)).toEqual(each)
        expect(readReceiver(reader)).toBeNull()
        expect(reader.u8()).toBe(Record.Retained)
        expectMessage(reader, from)
        expect(reader.done).toBe(true)
      }),
    )
  })

  test('cut anywhere, they end in a ByteReaderError', () => {
    fc.assert(
      fc.property(message, receiver, fc.nat(), (from, each, cutAt) => {
        const writer = new ByteWriter()
        beginEnqueued(writer, from)
        writeReceiver(writer, each)
        endReceivers(writer)
        const bytes = writer.take()
        const reader = new ByteReader(bytes.subarray(0, cutAt % bytes.length))
        expect(() => {
          reader.u8()
          readMessage(reader)
          while (readReceiver(reader) !== null);
        }).toThrow(ByteReaderError)
      }),
    )
  })
})

/** Opens a backend on a store that holds this one entry. */
async function openOn(entry: Uint8Array): Promise<BackendRig> {
  const store = openKeepingStore({ shardCount: 1 })
  await store.commit([{ shard: 0, bytes: entry }])
  return BackendRig.open({ store })
}

test('an entry is of the format of the version before, which reads it, unless a Will has a guard that it would pass over', async () => {
  for (const rights of [null, rightsTo([], 'guard')]) {
    const will = { message: newMessage(new Topic('will', Buffer.from('will')), Buffer.from('gone')), delaySeconds: 5 }
    const rig = await BackendRig.open({ shards: 1, willJudge: () => true })
    await rig.connect('c', { expirySeconds: NEVER, will, rights })
    rig.store.snapshotDue = 0
    await rig.advance(100)
    await rig.connect('d', { expirySeconds: NEVER, will, rights })
    const formats: string[] = []
    await rig.store.crash().recover(0, (kind, bytes) => formats.push(`${kind} ${bytes[0]}`))
    const format = rights === null ? ENTRY_FORMAT_PLAIN : ENTRY_FORMAT
    expect([ENTRY_FORMAT_PLAIN, new Set(formats)]).toEqual([2, new Set([`snapshot ${format}`, `log ${format}`])])
  }
})

test('an entry of the older format is read', async () => {
  const writer = new ByteWriter()
  writer.u8(1)
  writeSession(writer, {
    number: 7,
    clientId: 'c',
    protocolVersion: 5,
    expirySeconds: 0xffff_ffff,
    disconnectedAtMs: 5,
    nextSequence: 3,
    will: null,
    frontend: '',
    connection: 0,
    isNew: false,
    isPersistenceRequested: false,
  })
  writeSubscribed(writer, { session: 7, text: 'x', qos: 1, noLocal: false, retainAsPublished: false, identifier: 0 })
  const { engine } = await openOn(writer.take())
  const session = engine.shards[0]!.sessions.get('c')!
  expect([session.number, session.nextSequence, session.subscriptions?.size, engine.shards[0]!.nextSession]).toEqual([7, 3, 1, 8])
})

describe('entries that nobody wrote', () => {
  test('a newer format is refused by name, with what to do', async () => {
    await expect(openOn(Buffer.from([ENTRY_FORMAT + 1]))).rejects.toThrow(
      `holds entries of format ${ENTRY_FORMAT + 1}, this version reads up to ${ENTRY_FORMAT}: run the version`,
    )
    await expect(openOn(Buffer.from([ENTRY_FORMAT + 1]))).rejects.toMatchObject({ fault: 'newerFormat' })
  })

  test.each([
    ['an unknown record', [ENTRY_FORMAT, 0xfe]],
    ['a record cut short', [ENTRY_FORMAT, Record.Session, 5]],
    ['an entry without a format', []],
  ])('%s is corruption, and says which shard', async (_, bytes) => {
    await expect(openOn(Buffer.from(bytes))).rejects.toMatchObject({ fault: 'corrupt' })
    await expect(openOn(Buffer.from(bytes))).rejects.toThrow(/shard 0 .*backup/)
  })

  test('any bytes are refused as a StoreError, or read', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 80 }), fc.constantFrom(...Object.values(Record)), async (bytes, tag) => {
        try {
          stateDump((await openOn(Buffer.from([ENTRY_FORMAT, tag, ...bytes]))).engine)
        } catch (error) {
          expect(error).toBeInstanceOf(StoreError)
        }
      }),
      { numRuns: 300 },
    )
  })

  test('a real log in which some bytes were changed is refused as a StoreError, or read', async () => {
    const entries = await realLog()
    const change = fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }))
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async changes => {
        const log = Buffer.concat(entries)
        for (const [at, value] of changes) log[1 + (at % (log.length - 1))] = value
        try {
          stateDump((await openOn(log)).engine)
        } catch (error) {
          expect(error).toBeInstanceOf(StoreError)
        }
      }),
      { numRuns: 300 },
    )
  })
})

/** The records of a shard that saw a bit of everything, without the formats between them. */
async function realLog(): Promise<Uint8Array[]> {
  const rig = await BackendRig.open({ shards: 1 })
  const will = { message: rig.message('will', 'gone', { qos: 1 }), delaySeconds: 9 }
  const client = await rig.connect('client', { expirySeconds: NEVER, will })
  client.subscribeAll([
    ['a/+', { identifier: 7 }],
    ['$share/g/a/b', {}],
    ['b', { qos: 1, noLocal: true }],
  ])
  client.unsubscribe('b')
  for (const qos of [1, 2, 2] as const) client.publish('a/b', `QoS ${qos}`, { qos, retain: qos === 2, userProperties: [['name', 'value']] })
  await rig.settle()
  for (const { qos, packetId } of client.takeSent().slice(1)) {
    if (qos === 1) client.puback(packetId)
    else client.pubrec(packetId)
  }
  client.publish('a/b', '', { retain: true })
  client.release(2)
  client.detach()
  await rig.settle()
  const entries: Uint8Array[] = []
  await rig.store.recover(0, (_, bytes) => entries.push(entries.length === 0 ? bytes : bytes.subarray(1)))
  return entries
}
