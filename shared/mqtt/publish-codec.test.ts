import fc from 'fast-check'
import type { IPublishPacket } from 'mqtt-packet'
import { describe, expect, test } from 'vitest'
import { clientPublish, packetId, topicName, u32, userProperties } from './legal-packets.contract.ts'
import { frameEnd } from './framing.ts'
import { Message, newMessage } from './message.ts'
import { generatePacket, parsePacket } from './packet-library.ts'
import type { ProtocolVersion } from './protocol-version.ts'
import { PublishDecoder } from './publish-decoder.ts'
import { encodePublish, encodePublishHead, packetIdOffset, publishFrameBytes, PublishShape } from './publish-encoder.ts'
import { ReasonCode } from './reason-code.ts'
import { TopicCache } from './topic.ts'

const cache = new TopicCache({ topicsMax: 1_000, levelsMax: 128 })
/** Property tests take about a second alone; beside others, on a busy machine, many times that. */
const TIMEOUT_MS = 60_000

const versions = fc.constantFrom<ProtocolVersion>(3, 4, 5)

function shapeOf(values: Partial<PublishShape>): PublishShape {
  return Object.assign(new PublishShape(), values)
}

/** Encodes in the middle of a buffer of rubbish, and shows that nothing else was touched. */
function encode(message: Message, shape: PublishShape, id: number): Buffer {
  const length = publishFrameBytes(message, shape)
  const into = Buffer.alloc(length + 20, 0xee)
  expect(encodePublish(into, 10, message, shape, id)).toBe(10 + length)
  expect(into.subarray(0, 10).every(byte => byte === 0xee) && into.subarray(10 + length).every(byte => byte === 0xee)).toBe(true)
  return into.subarray(10, 10 + length)
}

/** Decodes from the middle of a buffer of rubbish. */
function decode(decoder: PublishDecoder, frame: Buffer, message = new Message()): Message {
  const chunk = Buffer.concat([Buffer.alloc(3, 0xff), frame, Buffer.alloc(3, 0xff)])
  expect(frameEnd(chunk, 3, chunk.length, Infinity)).toBe(3 + frame.length)
  decoder.decode(chunk, 3, 3 + frame.length, message)
  return message
}

const comparable = ({ topic, payload, qos, retain, dup, messageId, properties }: IPublishPacket): unknown => ({
  topic,
  payload: (payload as Buffer).toString('hex'),
  qos,
  retain,
  dup,
  messageId: qos > 0 ? messageId : undefined,
  properties: properties === undefined || Object.keys(properties).length === 0 ? undefined : { ...properties },
})

describe('equal to mqtt-packet', { timeout: TIMEOUT_MS }, () => {
  test('what mqtt-packet encodes is decoded alike, and sent on says the same', () => {
    const message = new Message()
    fc.assert(
      fc.property(clientPublish, versions, (packet, version) => {
        const decoder = new PublishDecoder(cache, version, { topicAliasMaximum: 65_535 })
        const frame = generatePacket(packet, version)
        decode(decoder, frame, message)
        const properties = version === 5 ? packet.properties! : {}
        expect(message.topic.name).toBe(packet.topic)
        expect(message.expirySeconds).toBe(properties.messageExpiryInterval ?? -1)

        const { qos, retain, dup, expirySeconds } = message
        const sent = encode(message, shapeOf({ version, qos, retain, dup, expirySeconds }), message.packetId)
        const { topicAlias: _, ...travelling } = properties
        expect(comparable(parsePacket('publish', sent, version))).toEqual(comparable({ ...packet, properties: travelling }))
        if (version !== 5) expect(sent).toEqual(frame)
      }),
      { numRuns: 3_000 },
    )
  })

  test('what we encode for a receiver is decoded by mqtt-packet as meant', () => {
    const shapes = fc.record({
      version: versions,
      qos: fc.constantFrom(0, 1, 2),
      retain: fc.boolean(),
      dup: fc.boolean(),
      subscriptionIds: fc.option(fc.uniqueArray(fc.integer({ min: 1, max: 268_435_455 }), { minLength: 1, maxLength: 4 })),
      expirySeconds: fc.oneof(fc.constant(-1), u32),
      topicAlias: fc.integer({ min: 0, max: 65_535 }),
      topicMode: fc.constantFrom<'full' | 'aliasOnly'>('full', 'aliasOnly'),
    })
    const lengths = fc.oneof(
      { arbitrary: fc.integer({ min: 0, max: 300 }), weight: 200 },
      { arbitrary: fc.constantFrom(16_300, 2_097_100), weight: 1 },
    )
    fc.assert(
      fc.property(shapes, topicName, lengths, packetId, fc.option(userProperties), (values, name, length, id, user) => {
        const message = newMessage(cache.fromName(name), Buffer.alloc(length, 0x33))
        if (user !== null) {
          const source = decode(
            new PublishDecoder(cache, 5, { topicAliasMaximum: 0 }),
            generatePacket(
              { cmd: 'publish', topic: 'x', qos: 0, retain: false, dup: false, payload: 'p', properties: { userProperties: user } },
              5,
            ),
          )
          message.propertyBytes = source.propertyBytes
          message.propertiesStart = source.propertiesStart
          message.propertiesEnd = source.propertiesEnd
        }
        const shape = shapeOf(values)
        const frame = encode(message, shape, values.qos > 0 ? id : 0)
        const parsed = parsePacket('publish', frame, values.version)
        const isVersion5 = values.version === 5
        const ids = values.subscriptionIds
        const properties = {
          ...(values.expirySeconds >= 0 && { messageExpiryInterval: values.expirySeconds }),
          ...(values.topicAlias > 0 && { topicAlias: values.topicAlias }),
          ...(ids !== null && { subscriptionIdentifier: ids.length === 1 ? ids[0]! : ids }),
          ...(user !== null && { userProperties: user }),
        }
        expect(comparable(parsed)).toEqual(
          comparable({
            ...parsed,
            topic: isVersion5 && values.topicMode === 'aliasOnly' ? '' : name,
            payload: message.payload,
            qos: values.qos as 0 | 1 | 2,
            retain: values.retain,
            dup: values.dup,
            messageId: id,
            properties: isVersion5 ? properties : {},
          }),
        )
        if (values.qos > 0) expect(frame.readUInt16BE(packetIdOffset(frame, 0))).toBe(id)
      }),
      { numRuns: 2_000 },
    )
  })
})

test('a frame is encoded once and patched per receiver', () => {
  const message = newMessage(cache.fromName('a'.repeat(300)), Buffer.alloc(200))
  const shape = shapeOf({ qos: 1 })
  const frame = encode(message, shape, 1)
  frame.writeUInt16BE(0xabcd, packetIdOffset(frame, 0))
  expect(frame).toEqual(encode(message, shape, 0xabcd))
})

test('the head is all but the payload', () => {
  const message = newMessage(cache.fromName('a/b'), Buffer.alloc(20_000, 0x55))
  const shape = shapeOf({ qos: 2, expirySeconds: 5, subscriptionIds: [1, 300] })
  const frame = encode(message, shape, 7)
  const head = Buffer.alloc(100)
  const end = encodePublishHead(head, 3, message, shape, 7)
  expect(Buffer.concat([head.subarray(3, end), message.payload])).toEqual(frame)
  expect(() => encodePublishHead(Buffer.alloc(end - 4), 0, message, shape, 7)).toThrow('room')
})

test('encodePublish does not write over the end of the buffer', () => {
  const message = newMessage(cache.fromName('a'), Buffer.alloc(200))
  expect(() => encodePublish(Buffer.alloc(100), 0, message, new PublishShape(), 0)).toThrow('room')
})

/** PUBLISH with QoS 0 unless `first` says otherwise: topic, then `rest` (Packet Identifier, properties, payload). */
function frameOf(first: number, topic: Buffer | string, rest: string): Buffer {
  const name = Buffer.from(topic as string)
  const body = Buffer.concat([Buffer.from([name.length >> 8, name.length & 0xff]), name, Buffer.from(rest.replaceAll(' ', ''), 'hex')])
  if (body.length > 127) throw new Error('too long for this helper')
  return Buffer.concat([Buffer.from([first, body.length]), body])
}

describe('refused', () => {
  const cases: [clause: string, what: string, frame: Buffer, reason: number, versions?: ProtocolVersion[]][] = [
    ['MQTT-3.3.1-4', 'QoS 3', frameOf(0x36, 'a', '0001 00'), ReasonCode.MalformedPacket, [3, 4, 5]],
    ['MQTT-3.3.1-2', 'DUP with QoS 0', frameOf(0x38, 'a', '00'), ReasonCode.ProtocolError, [3, 4, 5]],
    ['MQTT-2.2.1-3', 'Packet Identifier 0', frameOf(0x32, 'a', '0000 00'), ReasonCode.ProtocolError, [3, 4, 5]],
    ['§3.3.2.2', 'no Packet Identifier', frameOf(0x32, 'a', '00'), ReasonCode.MalformedPacket, [3, 4, 5]],
    ['MQTT-3.3.2-2', 'a wildcard in the Topic Name', frameOf(0x30, 'a/+', '00'), ReasonCode.TopicNameInvalid, [3, 4, 5]],
    ['MQTT-4.7.3-1', 'an empty Topic Name before MQTT 5', frameOf(0x30, '', ''), ReasonCode.ProtocolError, [3, 4]],
    ['MQTT-1.5.4-1', 'U+0000 in the Topic Name', frameOf(0x30, 'a\0', '00'), ReasonCode.MalformedPacket, [3, 4, 5]],
    [
      'MQTT-1.5.4-1',
      'a surrogate in the Topic Name',
      frameOf(0x30, Buffer.from('eda080', 'hex'), '00'),
      ReasonCode.MalformedPacket,
      [3, 4, 5],
    ],
    ['§4.7.3', '129 levels', frameOf(0x30, '/'.repeat(120), ''), ReasonCode.TopicNameInvalid, [4]],
    ['§4.13.1', 'a Topic Name past the end', Buffer.from('3003000561', 'hex'), ReasonCode.MalformedPacket, [3, 4, 5]],
    ['§4.13.1', 'one byte', Buffer.from('300100', 'hex'), ReasonCode.MalformedPacket, [3, 4, 5]],
    [
      '§2.1.4',
      'a Remaining Length that is not that of the packet',
      Buffer.from('300500016100', 'hex'),
      ReasonCode.MalformedPacket,
      [3, 4, 5],
    ],
    ['§2.2.2.1', 'no Property Length', frameOf(0x30, 'a', ''), ReasonCode.MalformedPacket],
    ['§2.2.2.1', 'a Property Length past the end', frameOf(0x30, 'a', '05 0101'), ReasonCode.MalformedPacket],
    ['MQTT-1.5.5-1', 'an over-long Property Length', frameOf(0x30, 'a', '8000'), ReasonCode.MalformedPacket],
    ['§2.2.2.1', 'a Property Length of five bytes', frameOf(0x30, 'a', '8080808001'), ReasonCode.MalformedPacket],
    ['§3.3.2.1', 'neither topic nor alias', frameOf(0x30, '', '00'), ReasonCode.ProtocolError],
    ['§3.3.2.3.4', 'an alias that was not set', frameOf(0x30, '', '03 230005'), ReasonCode.ProtocolError],
    ['MQTT-3.3.2-8', 'Topic Alias 0', frameOf(0x30, 'a', '03 230000'), ReasonCode.TopicAliasInvalid],
    ['MQTT-3.3.2-9', 'an alias over the maximum', frameOf(0x30, 'a', '03 23000b'), ReasonCode.TopicAliasInvalid],
    ['MQTT-3.3.4-6', 'a Subscription Identifier', frameOf(0x30, 'a', '02 0b01'), ReasonCode.ProtocolError],
    ['MQTT-3.3.2-14', 'a wildcard in the Response Topic', frameOf(0x30, 'a', '06 08 0003 622f23'), ReasonCode.ProtocolError],
    ['MQTT-4.7.3-1', 'an empty Response Topic', frameOf(0x30, 'a', '03 08 0000'), ReasonCode.ProtocolError],
    ['§3.3.2.3.2', 'Payload Format Indicator 2', frameOf(0x30, 'a', '02 0102'), ReasonCode.ProtocolError],
    ['§3.3.2.3', 'Payload Format Indicator twice', frameOf(0x30, 'a', '04 0101 0101'), ReasonCode.ProtocolError],
    ['§3.3.2.3', 'Message Expiry Interval twice', frameOf(0x30, 'a', '0a 0200000001 0200000001'), ReasonCode.ProtocolError],
    ['§3.3.2.3', 'Topic Alias twice', frameOf(0x30, 'a', '06 230001 230001'), ReasonCode.ProtocolError],
    ['§3.3.2.3', 'Response Topic twice', frameOf(0x30, 'a', '08 08000162 08000162'), ReasonCode.ProtocolError],
    ['§3.3.2.3', 'Correlation Data twice', frameOf(0x30, 'a', '08 09000162 09000162'), ReasonCode.ProtocolError],
    ['§3.3.2.3', 'Content Type twice', frameOf(0x30, 'a', '08 03000162 03000162'), ReasonCode.ProtocolError],
    ['§2.2.2.2', 'a property of other packets', frameOf(0x30, 'a', '05 1100000001'), ReasonCode.MalformedPacket],
    ['§2.2.2.2', 'an unknown property', frameOf(0x30, 'a', '02 0401'), ReasonCode.MalformedPacket],
    ['§2.2.2.2', 'a property identifier of two bytes', frameOf(0x30, 'a', '03 810001'), ReasonCode.MalformedPacket],
    ['§4.13.1', 'a property that is cut off by the Property Length', frameOf(0x30, 'a', '03 020000 0001'), ReasonCode.MalformedPacket],
    ['§4.13.1', 'a User Property that reaches into the payload', frameOf(0x30, 'a', '05 2600016100 0162'), ReasonCode.MalformedPacket],
    ['§4.13.1', 'a User Property name that reaches into the payload', frameOf(0x30, 'a', '03 260001 61000162'), ReasonCode.MalformedPacket],
    ['§4.13.1', 'a Content Type that reaches into the payload', frameOf(0x30, 'a', '03 030001 61'), ReasonCode.MalformedPacket],
    ['§4.13.1', 'Correlation Data that reaches into the payload', frameOf(0x30, 'a', '03 090001 61'), ReasonCode.MalformedPacket],
    ['§4.13.1', 'a Response Topic that reaches into the payload', frameOf(0x30, 'a', '03 080001 61'), ReasonCode.MalformedPacket],
    ['§4.13.1', 'a Topic Alias that reaches into the payload', frameOf(0x30, 'a', '02 2300 01'), ReasonCode.MalformedPacket],
    ['§4.13.1', 'a Payload Format Indicator that reaches into the payload', frameOf(0x30, 'a', '01 01 01'), ReasonCode.MalformedPacket],
    ['§4.13.1', 'a User Property without value', frameOf(0x30, 'a', '04 26000161'), ReasonCode.MalformedPacket],
    ['MQTT-1.5.4-1', 'a User Property that is not UTF-8', frameOf(0x30, 'a', '07 260001ff 000161'), ReasonCode.MalformedPacket],
    ['MQTT-1.5.4-1', 'a User Property value with U+0000', frameOf(0x30, 'a', '07 26000161 000100'), ReasonCode.MalformedPacket],
    ['MQTT-1.5.4-1', 'a Content Type that is not UTF-8', frameOf(0x30, 'a', '04 030001c3'), ReasonCode.MalformedPacket],
  ]

  for (const [clause, what, frame, reason, refusing = [5]] of cases) {
    for (const version of refusing as ProtocolVersion[]) {
      test(`[${clause}] ${what} (MQTT level ${version})`, () => {
        const levels = clause === '§4.7.3' ? new TopicCache({ topicsMax: 10, levelsMax: 100 }) : cache
        const decoder = new PublishDecoder(levels, version, { topicAliasMaximum: 10 })
        expect(() => decoder.decode(frame, 0, frame.length, new Message())).toThrow(expect.objectContaining({ reason, clause }))
      })
    }
  }

  test('[§3.3.2.3.2] a payload that is not UTF-8 although it says so, when asked to look', () => {
    const frame = frameOf(0x30, 'a', '02 0101 ff')
    expect(decode(new PublishDecoder(cache, 5, { topicAliasMaximum: 0 }), frame).payload).toEqual(Buffer.from([0xff]))
    const checking = new PublishDecoder(cache, 5, { topicAliasMaximum: 0, checkPayloadFormat: true })
    expect(() => decode(checking, frame)).toThrow(expect.objectContaining({ reason: ReasonCode.PayloadFormatInvalid }))
    expect(decode(checking, frameOf(0x30, 'a', '02 0101 c3a400')).payloadLength).toBe(3)
    expect(decode(checking, frameOf(0x30, 'a', '02 0100 ff')).payloadLength).toBe(1)
  })
})

describe('Topic Aliases', () => {
  test('[MQTT-3.3.2-10] name a topic on this connection alone, and are set anew', () => {
    const decoder = new PublishDecoder(cache, 5, { topicAliasMaximum: 65_535 })
    decode(decoder, frameOf(0x30, 'one', '03 230001'))
    decode(decoder, frameOf(0x30, 'last', '03 23ffff'))
    expect(decode(decoder, frameOf(0x30, '', '03 230001')).topic.name).toBe('one')
    expect(decode(decoder, frameOf(0x30, '', '03 23ffff')).topic.name).toBe('last')
    decode(decoder, frameOf(0x30, 'two', '03 230001'))
    expect(decode(decoder, frameOf(0x30, '', '03 230001')).topic.name).toBe('two')
    expect(() => decode(new PublishDecoder(cache, 5, { topicAliasMaximum: 65_535 }), frameOf(0x30, '', '03 230001'))).toThrow('not set')
  })

  test('is not set by a packet that is refused', () => {
    const decoder = new PublishDecoder(cache, 5, { topicAliasMaximum: 10 })
    expect(() => decode(decoder, frameOf(0x30, 'a', '05 230001 0102'))).toThrow('Payload Format')
    expect(() => decode(decoder, frameOf(0x30, '', '03 230001'))).toThrow('not set')
  })
})

test('Message Expiry Interval and Topic Alias are left out wherever they stand, and all else stays in order', () => {
  const expiry = '0200000007'
  const alias = '230003'
  const [a, b, c] = ['26000161000131', '03000178', '26000161000132']
  for (const order of [
    [expiry, a, b, c],
    [a, expiry, b, c],
    [a, b, c, expiry, alias],
    [alias, a, expiry, b, c],
    [expiry, alias, a, b, c],
    [a, alias, b, expiry, c],
    [a, expiry, alias, b, c],
    [expiry, a, b, c, alias],
    [expiry, alias, a],
  ]) {
    const properties = order.join('')
    const message = decode(
      new PublishDecoder(cache, 5, { topicAliasMaximum: 10 }),
      frameOf(0x30, 't', (properties.length / 2).toString(16).padStart(2, '0') + properties + 'aabb'),
    )
    expect(message.properties.toString('hex')).toBe(order.filter(part => part !== expiry && part !== alias).join(''))
    expect(message.expirySeconds).toBe(order.includes(expiry) ? 7 : -1)
    expect(message.payload.toString('hex')).toBe('aabb')
  }
})

test('a Message that is used again keeps nothing of the packet before', () => {
  const decoder = new PublishDecoder(cache, 5, { topicAliasMaximum: 10 })
  const message = decode(decoder, frameOf(0x3d, 'a', '0007 0c 0200000007 26000161000131 ff'))
  message.expiresAtMs = 5
  decode(decoder, frameOf(0x30, 'b', '00'), message)
  expect({ ...message, topic: message.topic.name, payloadBytes: 0, propertyBytes: 0 }).toMatchObject({
    topic: 'b',
    qos: 0,
    retain: false,
    dup: false,
    packetId: 0,
    expirySeconds: -1,
    expiresAtMs: Infinity,
  })
  expect(message.payloadLength + message.propertiesLength).toBe(0)
})

test('10,000 User Properties pass through verbatim', () => {
  const pair = Buffer.from('26000161000131', 'hex')
  const properties = Buffer.concat(Array.from({ length: 10_000 }, () => pair))
  const frame = encode(newMessage(cache.fromName('t'), Buffer.from('p'), 0, false, properties), new PublishShape(), 0)
  expect(decode(new PublishDecoder(cache, 5, { topicAliasMaximum: 0 }), frame).properties.equals(properties)).toBe(true)
})
