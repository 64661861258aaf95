import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ReasonCode } from './reason-code.ts'
import { binaryDataEnd, isMqttUtf8, utf8StringEnd } from './utf8.ts'

function decoderAccepts(bytes: Uint8Array): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    return !bytes.includes(0)
  } catch {
    return false
  }
}

describe('isMqttUtf8', () => {
  const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')

  test.each([
    ['[MQTT-1.5.4-1] lowest surrogate', 'eda080'],
    ['[MQTT-1.5.4-1] highest surrogate', 'edbfbf'],
    ['[MQTT-1.5.4-1] a pair of surrogates', 'eda081edb080'],
    ['[MQTT-1.5.4-2] U+0000', '610061'],
    ['[MQTT-1.5.4-2] U+0000 after a multi-byte character', 'c3a400'],
    ['overlong U+0000', 'c080'],
    ['overlong slash, two bytes', 'c0af'],
    ['overlong slash, three bytes', 'e080af'],
    ['overlong, four bytes', 'f08080af'],
    ['above U+10FFFF', 'f4908080'],
    ['a lead byte that no sequence has', 'f5808080'],
    ['a continuation alone', '80'],
    ['a sequence cut off', 'e282'],
    ['a sequence cut off by ASCII', 'e28241'],
    ['Latin-1', 'e4'],
  ])('refuses %s', (_, bytes) => {
    expect(isMqttUtf8(hex(bytes), 0, hex(bytes).length)).toBe(false)
  })

  test.each([
    ['nothing', ''],
    ['[MQTT-1.5.4-3] a byte order mark', 'efbbbf61'],
    ['last before the surrogates', 'ed9fbf'],
    ['first after the surrogates', 'ee8080'],
    ['U+10FFFF', 'f48fbfbf'],
    ['U+FFFF', 'efbfbf'],
    ['control characters, which it may refuse but need not', '01 1f 7f c280'],
  ])('accepts %s', (_, bytes) => {
    expect(isMqttUtf8(hex(bytes), 0, hex(bytes).length)).toBe(true)
  })

  test('judges as a strict decoder does', () => {
    const lively = fc.array(
      fc.constantFrom(
        0x00,
        0x41,
        0x7f,
        0x80,
        0x8f,
        0x90,
        0x9f,
        0xa0,
        0xbf,
        0xc1,
        0xc2,
        0xdf,
        0xe0,
        0xe1,
        0xed,
        0xee,
        0xf0,
        0xf1,
        0xf4,
        0xf5,
        0xff,
      ),
      {
        maxLength: 6,
      },
    )
    fc.assert(
      fc.property(fc.oneof(lively, fc.array(fc.nat(255), { maxLength: 8 })), values => {
        const bytes = Buffer.from(values)
        const surrounded = Buffer.concat([Buffer.from([0xe2]), bytes, Buffer.from([0x80, 0x80])])
        expect(isMqttUtf8(surrounded, 1, 1 + bytes.length)).toBe(decoderAccepts(bytes))
      }),
      { numRuns: 5_000 },
    )
  })
})

test('a length-prefixed field must end within the packet', () => {
  const bytes = Buffer.from([0, 2, 0x61, 0x62, 0x63])
  expect(utf8StringEnd(bytes, 0, 5)).toBe(4)
  expect(binaryDataEnd(bytes, 0, 4)).toBe(4)
  for (const end of [0, 1, 2, 3]) {
    expect(() => binaryDataEnd(bytes, 0, end)).toThrow(expect.objectContaining({ reason: ReasonCode.MalformedPacket }))
  }
})
