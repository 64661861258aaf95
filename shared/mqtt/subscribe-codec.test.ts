import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { mqttText, packetId } from './legal-packets.contract.ts'
import { decodeServerPacket, encodeSubscribe, encodeUnsubscribe } from './client-codec.ts'
import { generatePacket } from './packet-library.ts'
import type { ProtocolVersion } from './protocol-version.ts'
import { ReasonCode } from './reason-code.ts'
import type { UserProperty } from './strict-properties.ts'
import { decodeSubscribe, decodeUnsubscribe, encodeSuback, encodeUnsuback, type Subscribe, type Unsubscribe } from './subscribe-codec.ts'

function surrounded<T>(frame: Buffer, decode: (chunk: Buffer, start: number, end: number) => T): T {
  const chunk = Buffer.concat([Buffer.alloc(3, 0xff), frame, Buffer.alloc(3, 0xff)])
  return decode(chunk, 3, 3 + frame.length)
}

const subscribe = (frame: Buffer, version: ProtocolVersion): Subscribe =>
  surrounded(frame, (chunk, start, end) => decodeSubscribe(chunk, start, end, version))
const unsubscribe = (frame: Buffer, version: ProtocolVersion): Unsubscribe =>
  surrounded(frame, (chunk, start, end) => decodeUnsubscribe(chunk, start, end, version))

const versions = fc.constantFrom<ProtocolVersion>(3, 4, 5)
const threeValues = fc.constantFrom<0 | 1 | 2>(0, 1, 2)

test('a SUBSCRIBE of mqtt-packet is decoded as meant', { timeout: 60_000 }, () => {
  const subscriptions = fc.array(
    fc.record({
      filter: mqttText({ minLength: 1 }),
      qos: threeValues,
      noLocal: fc.boolean(),
      retainAsPublished: fc.boolean(),
      retainHandling: threeValues,
    }),
    { minLength: 1, maxLength: 20 },
  )
  const pairs = fc.uniqueArray(fc.tuple(mqttText({ minLength: 1 }), mqttText()), { selector: ([name]) => name, maxLength: 3 })
  fc.assert(
    fc.property(
      versions,
      packetId,
      subscriptions,
      fc.integer({ min: 0, max: 268_435_455 }),
      pairs,
      (version, id, wanted, identifier, user) => {
        const decoded = subscribe(encodeSubscribe(version, id, wanted, identifier, user), version)
        const plain = { noLocal: false, retainAsPublished: false, retainHandling: 0 }
        expect({ ...decoded, userProperties: [...decoded.userProperties].sort() }).toEqual({
          packetId: id,
          subscriptionIdentifier: version === 5 ? identifier : 0,
          subscriptions: version === 5 ? wanted : wanted.map(subscription => ({ ...subscription, ...plain })),
          userProperties: version === 5 ? [...user].sort() : [],
        })
      },
    ),
    { numRuns: 500 },
  )
})

test('an UNSUBSCRIBE of mqtt-packet is decoded as meant', () => {
  fc.assert(
    fc.property(versions, packetId, fc.array(mqttText(), { minLength: 1, maxLength: 20 }), (version, id, filters) => {
      expect(unsubscribe(encodeUnsubscribe(version, id, filters), version)).toEqual({ packetId: id, filters, userProperties: [] })
    }),
    { numRuns: 300 },
  )
})

test('10,000 filters in one packet', () => {
  const filters = Array.from({ length: 10_000 }, (_, i) => `filter/${i}/__proto__`)
  expect(
    subscribe(
      encodeSubscribe(
        5,
        1,
        filters.map(filter => ({ filter })),
      ),
      5,
    ).subscriptions.map(({ filter }) => filter),
  ).toEqual(filters)
  expect(unsubscribe(encodeUnsubscribe(4, 1, filters), 4).filters).toEqual(filters)
})

test('MQTT 3.1 may repeat SUBSCRIBE and UNSUBSCRIBE with DUP', () => {
  expect(subscribe(Buffer.from('8a06000100016101', 'hex'), 3).subscriptions).toHaveLength(1)
  expect(unsubscribe(Buffer.from('aa050001000161', 'hex'), 3).filters).toEqual(['a'])
})

test('Topic Filters are not judged here: a bad one is answered in SUBACK', () => {
  expect(subscribe(Buffer.from('8209000100046123622300', 'hex'), 4).subscriptions[0]!.filter).toBe('a#b#')
  expect(subscribe(Buffer.from('82050001000000', 'hex'), 4).subscriptions[0]!.filter).toBe('')
})

const M = ReasonCode.MalformedPacket
const P = ReasonCode.ProtocolError

describe('SUBSCRIBE refused', () => {
  const shared = Buffer.from('$share/g/a').toString('hex')
  const cases: [clause: string, what: string, hex: string, reason: number, versions: ProtocolVersion[]][] = [
    ['MQTT-2.1.3-1', 'flags 0', '8006000100016101', M, [3, 4]],
    ['MQTT-2.1.3-1', 'DUP', '8a06000100016101', M, [4, 5]],
    ['MQTT-2.2.1-3', 'Packet Identifier 0', '8206000000016101', P, [3, 4]],
    ['MQTT-2.2.1-3', 'Packet Identifier 0', '820700000000016101', P, [5]],
    ['§4.13.1', 'nothing at all', '8200', M, [3, 4, 5]],
    ['MQTT-3.8.3-2', 'no subscription', '82020001', P, [3, 4]],
    ['MQTT-3.8.3-2', 'no subscription', '8203000100', P, [5]],
    ['§4.13.1', 'a filter without options', '82050001000161', M, [3, 4]],
    ['§4.13.1', 'a filter past the end', '8206000100096101', M, [3, 4]],
    ['MQTT-1.5.4-1', 'a filter that is not UTF-8', '820600010001ff01', M, [3, 4]],
    ['MQTT-1.5.4-1', 'a filter with U+0000', '8206000100010001', M, [3, 4]],
    ['MQTT-3.8.3-5', 'reserved bits', '8206000100016104', M, [3, 4]],
    ['MQTT-3.8.3-5', 'reserved bits', '820700010000016140', M, [5]],
    ['§3.8.3.1', 'QoS 3', '8206000100016103', P, [3, 4]],
    ['§3.8.3.1', 'QoS 3', '820700010000016103', P, [5]],
    ['§3.8.3.1', 'Retain Handling 3', '820700010000016130', P, [5]],
    ['MQTT-3.8.3-4', 'No Local on a Shared Subscription', `8210000100000a${shared}04`, P, [5]],
    ['§3.8.2.1.2', 'Subscription Identifier 0', '82090001020b0000016100', P, [5]],
    ['§2.2.2.2', 'Subscription Identifier twice', '820b0001040b010b0100016100', P, [5]],
    ['§2.2.2.2', 'a property of other packets', '820a00010321000100016100', M, [5]],
    ['§1.5.5', 'a Subscription Identifier of five bytes', '820d0001060b808080800100016100', M, [5]],
    ['§2.2.2.1', 'a Property Length past the end', '820400017f00', M, [5]],
  ]
  for (const [clause, what, hex, reason, refusing] of cases) {
    for (const version of refusing) {
      test(`[${clause}] ${what} (MQTT level ${version})`, () => {
        expect(() => subscribe(Buffer.from(hex, 'hex'), version)).toThrow(expect.objectContaining({ reason, clause }))
      })
    }
  }
})

describe('UNSUBSCRIBE refused', () => {
  const cases: [clause: string, what: string, hex: string, reason: number, versions: ProtocolVersion[]][] = [
    ['MQTT-2.1.3-1', 'flags 0', 'a0050001000161', M, [3, 4]],
    ['MQTT-2.2.1-3', 'Packet Identifier 0', 'a2050000000161', P, [3, 4]],
    ['MQTT-3.10.3-2', 'no Topic Filter', 'a2020001', P, [3, 4]],
    ['MQTT-3.10.3-2', 'no Topic Filter', 'a203000100', P, [5]],
    ['§4.13.1', 'a filter past the end', 'a2050001000961', M, [3, 4]],
    ['MQTT-1.5.4-1', 'a filter that is not UTF-8', 'a20500010001ff', M, [3, 4]],
    ['§2.2.2.2', 'a Subscription Identifier', 'a2080001020b01000161', M, [5]],
  ]
  for (const [clause, what, hex, reason, refusing] of cases) {
    for (const version of refusing) {
      test(`[${clause}] ${what} (MQTT level ${version})`, () => {
        expect(() => unsubscribe(Buffer.from(hex, 'hex'), version)).toThrow(expect.objectContaining({ reason, clause }))
      })
    }
  }
})

describe('SUBACK and UNSUBACK', () => {
  const reasons = [ReasonCode.Success, ReasonCode.GrantedQoS2, ReasonCode.NotAuthorized]

  test('[MQTT-3.9.3-1], [MQTT-3.11.3-1] carry one reason for each filter, in order', () => {
    const suback = encodeSuback(7, reasons, 5, { reasonString: 'r', userProperties: [['a', 'b']] })
    expect(decodeServerPacket(suback, 0, suback.length, 5)).toMatchObject({
      messageId: 7,
      granted: reasons,
      properties: { reasonString: 'r' },
    })
    const unsuback = encodeUnsuback(7, [ReasonCode.Success, ReasonCode.NoSubscriptionExisted], 5)
    expect(decodeServerPacket(unsuback, 0, unsuback.length, 5)).toMatchObject({ messageId: 7, granted: [0, 0x11] })
  })

  test('before MQTT 5 a refusal is 0x80 and UNSUBACK says nothing', () => {
    for (const version of [3, 4] as const) {
      expect(encodeSuback(0x1234, reasons, version, { reasonString: 'r' }).toString('hex')).toBe('90051234000280')
      expect(encodeUnsuback(0x1234, reasons, version).toString('hex')).toBe('b0021234')
    }
  })

  test('[MQTT-3.9.2-1], [MQTT-3.9.2-2], [MQTT-3.11.2-1], [MQTT-3.11.2-2] leave text out that would exceed the Maximum Packet Size', () => {
    const text = { reasonString: 'reason', userProperties: [['a', 'b']] as UserProperty[] }
    for (const encode of [encodeSuback, encodeUnsuback]) {
      const bare = encode(1, [0], 5)
      const whole = encode(1, [0], 5, text)
      expect(encode(1, [0], 5, text, whole.length)).toEqual(whole)
      expect(encode(1, [0], 5, text, whole.length - 1)).toEqual(encode(1, [0], 5, { reasonString: 'reason' }))
      expect(encode(1, [0], 5, text, bare.length)).toEqual(bare)
    }
  })
})

test('what mqtt-packet encodes with properties that SUBSCRIBE has not is refused, not passed on', () => {
  const frame = generatePacket(
    { cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'a', qos: 0 }], properties: { reasonString: 'x' } },
    5,
  )
  expect(() => subscribe(frame, 5)).toThrow(expect.objectContaining({ reason: M }))
})
