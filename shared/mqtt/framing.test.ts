import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  bodyStart,
  frameEnd,
  INCOMPLETE,
  VARIABLE_BYTE_INTEGER_MAX,
  variableByteIntegerBytes,
  writeVariableByteInteger,
} from './framing.ts'
import { ProtocolError } from './protocol-error.ts'
import { ReasonCode } from './reason-code.ts'

function frame(length: number): Buffer {
  const bytes = Buffer.alloc(5 + length)
  const at = writeVariableByteInteger(bytes, 1, length)
  return bytes.subarray(0, at + length)
}

describe('frameEnd', () => {
  test('finds the end of a packet, wherever it starts', () => {
    for (const length of [0, 1, 127, 128, 16_383, 16_384, 2_097_151]) {
      const bytes = frame(length)
      expect(frameEnd(bytes, 0, bytes.length, Infinity)).toBe(bytes.length)
      const shifted = Buffer.concat([Buffer.alloc(7, 0xff), bytes, Buffer.alloc(3, 0xff)])
      expect(frameEnd(shifted, 7, shifted.length, Infinity)).toBe(7 + bytes.length)
      expect(bodyStart(shifted, 7, 7 + bytes.length)).toBe(7 + bytes.length - length)
    }
  })

  test('says INCOMPLETE for every true prefix and does not look behind the limit', () => {
    const bytes = frame(200)
    for (let limit = 0; limit < bytes.length; limit++) expect(frameEnd(bytes, 0, limit, 1_000)).toBe(INCOMPLETE)
  })

  test('[§1.5.5] refuses a fifth length byte', () => {
    const bytes = Buffer.from([0x30, 0x80, 0x80, 0x80, 0x80, 0x01])
    expect(() => frameEnd(bytes, 0, bytes.length, Infinity)).toThrow(
      expect.objectContaining({ reason: ReasonCode.MalformedPacket, clause: '§1.5.5' }),
    )
  })

  test.each([['8000'], ['808000'], ['ff00'], ['80808000']])('[MQTT-1.5.5-1] refuses the over-long Remaining Length %s', hex => {
    const bytes = Buffer.from(`c0${hex}`, 'hex')
    const broken = expect.objectContaining({ reason: ReasonCode.MalformedPacket, clause: 'MQTT-1.5.5-1' })
    expect(() => frameEnd(bytes, 0, bytes.length, Infinity)).toThrow(broken)
  })

  test('[MQTT-3.2.2-15] refuses a packet over the maximum before the rest has arrived, header included in its size', () => {
    const bytes = frame(100)
    expect(() => frameEnd(bytes, 0, 2, 101)).toThrow(expect.objectContaining({ reason: ReasonCode.PacketTooLarge }))
    expect(frameEnd(bytes, 0, 2, 102)).toBe(INCOMPLETE)
  })
})

test('a Variable Byte Integer that was written is read back, in as many bytes as announced', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.integer({ min: 0, max: VARIABLE_BYTE_INTEGER_MAX }), fc.constantFrom(0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152)),
      value => {
        const bytes = Buffer.alloc(6)
        const end = writeVariableByteInteger(bytes, 1, value)
        expect(end - 1).toBe(variableByteIntegerBytes(value))
        expect(frameEnd(bytes, 0, bytes.length, Infinity)).toBe(end + value <= bytes.length ? end + value : INCOMPLETE)
      },
    ),
  )
})

test('bodyStart refuses a Remaining Length that is not that of the packet', () => {
  for (const hex of ['3002ff', '30', '3080', '300100ff', '30ffffffff7f']) {
    const bytes = Buffer.from(hex, 'hex')
    expect(() => bodyStart(bytes, 0, bytes.length)).toThrow(ProtocolError)
  }
})
