import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { anyOrder, mqttText, topicName, u32, userProperties } from './legal-packets.contract.ts'
import { encodeConnect } from './client-codec.ts'
import { type Connect, ConnectRefusal, decodeConnect, SESSION_NEVER_EXPIRES } from './connect-codec.ts'
import { newMessage } from './message.ts'
import { parsePacket } from './packet-library.ts'
import type { ProtocolVersion } from './protocol-version.ts'
import { encodePublish, publishFrameBytes, PublishShape } from './publish-encoder.ts'
import { ReasonCode } from './reason-code.ts'
import { Topic } from './topic.ts'

function decode(frame: Buffer): Connect {
  const chunk = Buffer.concat([Buffer.alloc(3, 0xff), frame, Buffer.alloc(3, 0xff)])
  const connect = decodeConnect(chunk, 3, 3 + frame.length)
  chunk.fill(0)
  return connect
}

const flatten = (object: Record<string, string | string[]> | undefined): [string, string][] =>
  Object.entries(object ?? {}).flatMap(([name, values]) => [values].flat().map((value): [string, string] => [name, value]))

const binary = fc.uint8Array({ maxLength: 100 }).map(bytes => Buffer.from(bytes))

const willProperties = anyOrder({
  willDelayInterval: u32,
  payloadFormatIndicator: fc.boolean(),
  messageExpiryInterval: u32,
  contentType: mqttText(),
  responseTopic: topicName,
  correlationData: binary,
  userProperties,
})

const connectProperties = anyOrder({
  sessionExpiryInterval: u32,
  receiveMaximum: fc.integer({ min: 1, max: 65_535 }),
  maximumPacketSize: fc.integer({ min: 1, max: 0xffff_ffff }),
  topicAliasMaximum: fc.integer({ min: 0, max: 65_535 }),
  requestResponseInformation: fc.boolean(),
  requestProblemInformation: fc.boolean(),
  authenticationMethod: mqttText(),
  userProperties,
})

/** The properties that travel on with a will, as mqtt-packet reads them out of a PUBLISH. */
function asPublished(properties: Buffer): unknown {
  const message = newMessage(new Topic('t', Buffer.from('t')), Buffer.alloc(0), 0, false, properties)
  const shape = new PublishShape()
  const frame = Buffer.alloc(publishFrameBytes(message, shape))
  encodePublish(frame, 0, message, shape, 0)
  return parsePacket('publish', frame, 5).properties ?? {}
}

// Takes about a second alone, many times that beside others on a busy machine.
test('a CONNECT of mqtt-packet is decoded as meant, in every version', { timeout: 60_000 }, () => {
  const optional = { nil: undefined }
  const packets = fc.record({
    clientId: mqttText({ minLength: 1 }),
    cleanStart: fc.boolean(),
    keepAlive: fc.integer({ min: 0, max: 65_535 }),
    userName: fc.option(mqttText(), optional),
    password: fc.option(binary, optional),
    will: fc.option(
      fc.record({
        topic: topicName,
        payload: binary,
        qos: fc.constantFrom<0 | 1 | 2>(0, 1, 2),
        retain: fc.boolean(),
        properties: willProperties,
      }),
      optional,
    ),
    properties: connectProperties,
    authenticationData: fc.option(binary, optional),
  })
  fc.assert(
    fc.property(fc.constantFrom<ProtocolVersion>(3, 4, 5), packets, (version, packet) => {
      const { clientId, cleanStart, keepAlive, userName, will } = packet
      const password = userName === undefined ? undefined : packet.password
      const hasMethod = packet.properties.authenticationMethod !== undefined
      const authenticationData = hasMethod ? packet.authenticationData : undefined
      const options = {
        cleanStart,
        keepAlive,
        ...(userName !== undefined && { userName }),
        ...(password !== undefined && { password }),
        ...(will !== undefined && { will }),
        properties: { ...packet.properties, ...(authenticationData !== undefined && { authenticationData }) },
      }
      const connect = decode(encodeConnect(version, clientId, options as never))
      const given = version === 5 ? packet.properties : {}
      expect({ ...connect, will: null }).toEqual({
        protocolVersion: version,
        cleanStart,
        keepAlive,
        clientId,
        userName: userName ?? null,
        password: password ?? null,
        will: null,
        sessionExpiry: version !== 5 && !cleanStart ? SESSION_NEVER_EXPIRES : (given.sessionExpiryInterval ?? 0),
        receiveMaximum: given.receiveMaximum ?? 65_535,
        maximumPacketSize: given.maximumPacketSize ?? Infinity,
        topicAliasMaximum: given.topicAliasMaximum ?? 0,
        requestResponseInformation: given.requestResponseInformation ?? false,
        requestProblemInformation: given.requestProblemInformation ?? true,
        authenticationMethod: given.authenticationMethod ?? null,
        authenticationData: version === 5 ? (authenticationData ?? null) : null,
        userProperties: flatten(given.userProperties),
      })
      if (will === undefined) {
        expect(connect.will).toBeNull()
        return
      }
      const { willDelayInterval, messageExpiryInterval, ...travelling } = version === 5 ? will.properties : ({} as typeof will.properties)
      const { properties, ...rest } = connect.will!
      expect(rest).toEqual({
        topic: will.topic,
        payload: will.payload,
        qos: will.qos,
        retain: will.retain,
        expirySeconds: messageExpiryInterval ?? -1,
        delaySeconds: willDelayInterval ?? 0,
      })
      expect(asPublished(properties)).toEqual(travelling)
    }),
    { numRuns: 1_000 },
  )
})

test('[MQTT-3.1.3-10] User Properties keep their order and repetition, `__proto__` among them', () => {
  const properties = '26000131000161260001620001632600013100016426' + '00095f5f70726f746f5f5f0000'
  expect(decode(connectFrame({ properties })).userProperties).toEqual([
    ['1', 'a'],
    ['b', 'c'],
    ['1', 'd'],
    ['__proto__', ''],
  ])
})

test('an empty Client Identifier is for the caller to judge', () => {
  expect(decode(connectFrame({ clientId: '0000', flags: 0 })).clientId).toBe('')
})

test('[§3.1.2.9] MQTT 5 takes a password without user name', () => {
  expect(decode(connectFrame({ flags: 0x42, rest: '000170' }))).toMatchObject({ userName: null, password: Buffer.from('p') })
})

test('10,000 User Properties, of one name or of many', () => {
  for (const name of [() => 10_000, (i: number) => 10_000 + i]) {
    const properties = Array.from({ length: 10_000 }, (_, i) => `260005${Buffer.from(String(name(i))).toString('hex')}000131`).join('')
    expect(decode(connectFrame({ properties })).userProperties).toHaveLength(10_000)
  }
})

interface Parts {
  name?: string
  level?: number
  flags?: number
  keepAlive?: string
  /** null: no Property Length at all */
  properties?: string | null
  clientId?: string
  rest?: string
  first?: number
}

function variableByteInteger(value: number): Buffer {
  const bytes: number[] = []
  do {
    bytes.push((value & 0x7f) | (value > 127 ? 0x80 : 0))
    value >>>= 7
  } while (value > 0)
  return Buffer.from(bytes)
}

function connectFrame(parts: Parts): Buffer {
  const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')
  const name = Buffer.from(parts.name ?? 'MQTT')
  const level = parts.level ?? 5
  const properties = hex(parts.properties ?? '')
  const hasProperties = parts.properties !== null && (parts.properties !== undefined || level === 5)
  const body = Buffer.concat([
    Buffer.from([0, name.length]),
    name,
    Buffer.from([level, parts.flags ?? 0x02]),
    hex(parts.keepAlive ?? '003c'),
    hasProperties ? Buffer.concat([variableByteInteger(properties.length), properties]) : Buffer.alloc(0),
    hex(parts.clientId ?? '000163'),
    hex(parts.rest ?? ''),
  ])
  return Buffer.concat([Buffer.from([parts.first ?? 0x10]), variableByteInteger(body.length), body])
}

function refusal(frame: Buffer): ConnectRefusal {
  try {
    decode(frame)
  } catch (error) {
    if (error instanceof ConnectRefusal) return error
    throw error
  }
  throw new Error('was accepted')
}

describe('a version that is not supported is told so in the way that its client understands', () => {
  test.each([
    ['MQTT', 0, 4],
    ['MQTT', 3, 4],
    ['MQIsdp', 4, 3],
    ['MQIsdp', 5, 3],
    ['MQTT', 6, 5],
    ['MQTT', 127, 5],
    ['MQTT', 255, 5],
    ['MQTT', 0x84, 4],
    ['MQTT', 0x83, 4],
    ['HTTP', 4, null],
    ['mqtt', 4, null],
    ['MQTT\0', 4, null],
  ])('[MQTT-3.1.2-1], [MQTT-3.1.2-2] %j level %i: CONNACK of level %s', (name, level, answerVersion) => {
    const error = refusal(connectFrame({ name, level, properties: null }))
    expect(error.answerVersion).toBe(answerVersion)
    if (!name.includes('\0')) expect(error.reason).toBe(ReasonCode.UnsupportedProtocolVersion)
  })
})

const M = ReasonCode.MalformedPacket
const P = ReasonCode.ProtocolError

describe('refused', () => {
  const will = (properties: string, topic = '000177', payload = '0000'): Parts => {
    const length = (properties.replaceAll(' ', '').length / 2).toString(16).padStart(2, '0')
    return { flags: 0x06, rest: length + properties + topic + payload }
  }
  const cases: [clause: string, what: string, parts: Parts, reason: number][] = [
    ['MQTT-3.1.0-1', 'another packet', { first: 0x30 }, P],
    ['MQTT-2.1.3-1', 'reserved flags of the fixed header', { first: 0x11 }, M],
    ['MQTT-3.1.2-3', 'the reserved connect flag', { flags: 0x03 }, M],
    ['MQTT-3.1.2-12', 'Will QoS 3', { flags: 0x1e, rest: '00 000177 0000' }, M],
    ['MQTT-3.1.2-11', 'Will QoS without Will', { flags: 0x0a }, P],
    ['MQTT-3.1.2-13', 'Will Retain without Will', { flags: 0x22 }, P],
    ['§3.1.2.9', 'password without user name, 3.1.1', { level: 4, flags: 0x42, rest: '000170' }, P],
    ['§3.1.2.9', 'password without user name, 3.1', { name: 'MQIsdp', level: 3, flags: 0x42, rest: '000170' }, P],
    ['§4.13.1', 'bytes behind the end', { rest: '00' }, M],
    ['§4.13.1', 'a user name that is announced and absent', { flags: 0x82 }, M],
    ['§4.13.1', 'a password that is announced and absent', { flags: 0xc2, rest: '000175' }, M],
    ['§4.13.1', 'no Client Identifier', { clientId: '' }, M],
    ['§4.13.1', 'a Client Identifier past the end', { clientId: '000963' }, M],
    ['MQTT-1.5.4-1', 'a Client Identifier that is not UTF-8', { clientId: '0001ff' }, M],
    ['MQTT-1.5.4-1', 'a user name with a surrogate', { flags: 0x82, rest: '0003eda080' }, M],
    ['MQTT-1.5.4-1', 'a user name with U+0000', { flags: 0x82, rest: '000100' }, M],
    ['§2.2.2.1', 'a Property Length past the end', { properties: null, clientId: '', rest: '7f' }, M],
    ['§2.2.2.2', 'a property of other packets', { properties: '230001' }, M],
    ['§2.2.2.2', 'a property that is none', { properties: '0000' }, M],
    ['§2.2.2.2', 'Session Expiry Interval twice', { properties: '1100000001 1100000002' }, P],
    ['§2.2.2.2', 'Receive Maximum twice', { properties: '210001 210001' }, P],
    ['§2.2.2.2', 'Authentication Method twice', { properties: '15000161 15000161' }, P],
    ['§3.1.2.11.3', 'Receive Maximum 0', { properties: '210000' }, P],
    ['§3.1.2.11.4', 'Maximum Packet Size 0', { properties: '2700000000' }, P],
    ['§3.1.2.11.6', 'Request Response Information 2', { properties: '1902' }, P],
    ['§3.1.2.11.7', 'Request Problem Information 2', { properties: '1702' }, P],
    ['§3.1.2.11.10', 'Authentication Data without Method', { properties: '16000161' }, P],
    ['§4.13.1', 'a property that runs past the Property Length', { properties: '2100' }, M],
    ['MQTT-4.7.3-1', 'an empty Will Topic', will('', '0000'), P],
    ['MQTT-3.3.2-2', 'a wildcard in the Will Topic', will('', '0003612f23'), ReasonCode.TopicNameInvalid],
    ['MQTT-1.5.4-1', 'a Will Topic that is not UTF-8', will('', '0001ff'), M],
    ['§4.13.1', 'a Will without payload', will('', '000177', ''), M],
    ['§2.2.2.2', 'Will Delay Interval twice', will('1800000001 1800000001'), P],
    ['§3.1.3.2.3', 'a Payload Format Indicator 2 of the will', will('0102'), P],
    ['MQTT-3.3.2-14', 'a wildcard in the Response Topic of the will', will('0800012b'), P],
    ['§2.2.2.2', 'a Topic Alias in the will', will('230001'), M],
  ]
  for (const [clause, what, parts, reason] of cases) {
    test(`[${clause}] ${what}`, () => {
      const error = refusal(connectFrame(parts))
      expect(error).toMatchObject({ reason, clause })
      expect(error.message.endsWith(`[${clause}]`)).toBe(true)
      const isOld = parts.level === 4 || parts.level === 3
      expect(error.answerVersion).toBe(isOld || parts.first !== undefined ? null : 5)
    })
  }

  test('129 levels in the Will Topic', () => {
    const topic = Buffer.concat([Buffer.from([0, 128]), Buffer.alloc(128, '/')]).toString('hex')
    expect(refusal(connectFrame({ flags: 0x06, rest: `00${topic}0000` })).reason).toBe(ReasonCode.TopicNameInvalid)
  })
})
