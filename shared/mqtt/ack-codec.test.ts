import fc from 'fast-check'
import type { IPubackPacket } from 'mqtt-packet'
import { describe, expect, test } from 'vitest'
import { Ack, type AckType, ackFrameBytes, decodeAck, encodeAck } from './ack-codec.ts'
import { mqttText, packetId, userProperties } from './legal-packets.contract.ts'
import { generatePacket, parsePacket } from './packet-library.ts'
import { PacketType } from './packet-type.ts'
import type { ProtocolVersion } from './protocol-version.ts'
import { ReasonCode } from './reason-code.ts'

const COMMAND = { 4: 'puback', 5: 'pubrec', 6: 'pubrel', 7: 'pubcomp' } as const
const PUBLISH_REASONS: ReasonCode[] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]
const RELEASE_REASONS: ReasonCode[] = [0x00, 0x92]

const acks = fc
  .constantFrom<AckType>(PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP)
  .chain(type =>
    fc.record({ type: fc.constant(type), reason: fc.constantFrom(...(type <= PacketType.PUBREC ? PUBLISH_REASONS : RELEASE_REASONS)) }),
  )

function encode(type: AckType, id: number, version: ProtocolVersion, reason: ReasonCode, text: string | null): Buffer {
  const length = ackFrameBytes(version, reason, text)
  const into = Buffer.alloc(length + 8, 0xee)
  expect(encodeAck(into, 4, type, id, version, reason, text)).toBe(4 + length)
  expect(into.readUInt32BE(0) === 0xeeeeeeee && into.readUInt32BE(4 + length) === 0xeeeeeeee).toBe(true)
  return into.subarray(4, 4 + length)
}

function decode(frame: Buffer, version: ProtocolVersion): Ack {
  const chunk = Buffer.concat([Buffer.alloc(2, 0xff), frame, Buffer.alloc(2, 0xff)])
  const ack = new Ack()
  decodeAck(chunk, 2, 2 + frame.length, version, ack)
  return ack
}

describe('equal to mqtt-packet', { timeout: 60_000 }, () => {
  test('what we encode, mqtt-packet decodes as meant', () => {
    const texts = fc.option(
      fc.oneof(
        mqttText(),
        fc.integer({ min: 100, max: 20_000 }).map(length => 'ä'.repeat(length)),
      ),
    )
    fc.assert(
      fc.property(acks, packetId, fc.constantFrom<ProtocolVersion>(3, 4, 5), texts, ({ type, reason }, id, version, text) => {
        const frame = encode(type, id, version, reason, text)
        const packet = parsePacket(COMMAND[type], frame, version) as IPubackPacket
        expect(packet.messageId).toBe(id)
        if (version === 5) {
          expect(packet.reasonCode).toBe(reason)
          expect(packet.properties?.reasonString).toBe(text ?? undefined)
        } else expect(frame).toEqual(generatePacket({ cmd: COMMAND[type], messageId: id }, version))
        expect(decode(frame, version)).toEqual({ packetId: id, reason: version === 5 ? reason : ReasonCode.Success })
      }),
      { numRuns: 1_000 },
    )
  })

  test('what mqtt-packet encodes, we decode as meant', () => {
    const properties = fc.record({ reasonString: mqttText(), userProperties }, { requiredKeys: [] })
    fc.assert(
      fc.property(acks, packetId, fc.constantFrom<ProtocolVersion>(4, 5), properties, ({ type, reason }, id, version, given) => {
        const frame = generatePacket({ cmd: COMMAND[type], messageId: id, reasonCode: reason, properties: given }, version)
        expect(decode(frame, version)).toEqual({ packetId: id, reason: version === 5 ? reason : ReasonCode.Success })
      }),
      { numRuns: 1_000 },
    )
  })
})

test('[§3.4.2.1] the shortest form: four bytes for Success, five for another reason', () => {
  expect(encode(PacketType.PUBACK, 0x1234, 5, ReasonCode.Success, null).toString('hex')).toBe('40021234')
  expect(encode(PacketType.PUBREL, 1, 5, ReasonCode.Success, null).toString('hex')).toBe('62020001')
  expect(encode(PacketType.PUBACK, 1, 5, ReasonCode.NoMatchingSubscribers, null).toString('hex')).toBe('4003000110')
})

describe('decodeAck refuses', () => {
  const cases: [clause: string, what: string, hex: string, reason: number, versions: ProtocolVersion[]][] = [
    ['MQTT-2.1.3-1', 'PUBACK with a flag', '41020001', ReasonCode.MalformedPacket, [3, 4, 5]],
    ['MQTT-2.1.3-1', 'PUBREL without its flag', '60020001', ReasonCode.MalformedPacket, [3, 4, 5]],
    ['MQTT-2.1.3-1', 'PUBREL with DUP', '6a020001', ReasonCode.MalformedPacket, [4, 5]],
    ['MQTT-2.2.1-3', 'Packet Identifier 0', '40020000', ReasonCode.ProtocolError, [3, 4, 5]],
    ['§3.4.2', 'no content', '4000', ReasonCode.MalformedPacket, [3, 4, 5]],
    ['§3.4.2', 'half a Packet Identifier', '400101', ReasonCode.MalformedPacket, [3, 4, 5]],
    ['§3.4.2', 'three bytes before MQTT 5', '4003000100', ReasonCode.MalformedPacket, [3, 4]],
    ['MQTT-3.4.2-1', 'PUBACK with the reason of a PUBREL', '4003000192', ReasonCode.MalformedPacket, [5]],
    ['MQTT-3.5.2-1', 'PUBREC with a reason of none', '5003000101', ReasonCode.MalformedPacket, [5]],
    ['MQTT-3.6.2-1', 'PUBREL with the reason of a PUBACK', '6203000110', ReasonCode.MalformedPacket, [5]],
    ['MQTT-3.7.2-1', 'PUBCOMP with an unknown reason', '70030001ff', ReasonCode.MalformedPacket, [5]],
    ['§2.2.2.1', 'a Property Length past the end', '400400010001', ReasonCode.MalformedPacket, [5]],
    ['§2.2.2.1', 'bytes behind the properties', '40050001000000', ReasonCode.MalformedPacket, [5]],
    ['MQTT-1.5.5-1', 'an over-long Property Length', '40050001008000', ReasonCode.MalformedPacket, [5]],
    ['§3.4.2.2.2', 'two Reason Strings', '400c000100081f0001611f000162', ReasonCode.ProtocolError, [5]],
    ['§2.2.2.2', 'a property of other packets', '4006000100020101', ReasonCode.MalformedPacket, [5]],
    ['MQTT-1.5.4-1', 'a Reason String that is not UTF-8', '4008000100041f0001ff', ReasonCode.MalformedPacket, [5]],
    ['§4.13.1', 'a User Property without value', '40080001000426000161', ReasonCode.MalformedPacket, [5]],
  ]
  for (const [clause, what, hex, reason, versions] of cases) {
    for (const version of versions) {
      test(`[${clause}] ${what} (MQTT level ${version})`, () => {
        expect(() => decode(Buffer.from(hex, 'hex'), version)).toThrow(expect.objectContaining({ reason, clause }))
      })
    }
  }

  test('but not the DUP flag that a PUBREL of MQTT 3.1 may carry', () => {
    expect(decode(Buffer.from('6a020007', 'hex'), 3).packetId).toBe(7)
  })
})
