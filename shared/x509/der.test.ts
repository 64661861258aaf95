import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DerError, DerReader, readBoolean, readNamedBits, readOid, readSmallInteger, readText, readTime } from './der.ts'

function bytes(hex: string): Buffer {
  return Buffer.from(hex.replaceAll(' ', ''), 'hex')
}

describe('elements', () => {
  test('are read one after the other, each level by a reader of its own', () => {
    const reader = DerReader.only(bytes('30 08 02 01 05 30 03 01 01 ff'))
    expect(readSmallInteger(reader.content(0x02))).toBe(5)
    expect(reader.optional(0x05)).toBeNull()
    const inner = reader.enter()
    expect(readBoolean(inner.content(0x01))).toBe(true)
    inner.finish()
    reader.finish()
    expect(reader.tag).toBe(-1)
  })

  test.each([
    ['a length in more octets than it needs', '04 81 01 00'],
    ['the same with a leading zero', `04 82 00 81 ${'00'.repeat(0x81)}`],
    ['an indefinite length', '30 80 00 00'],
    ['a length over 32 bits', '04 85 01 00 00 00 00'],
    ['more than there is', '04 02 00'],
    ['no length', '04'],
    ['a length cut short', '04 82 01'],
    ['nothing', ''],
    ['a tag of several octets', '1f 81 01 00'],
  ])('%s is refused', (_name, hex) => {
    expect(() => new DerReader(bytes(hex)).next()).toThrow(DerError)
  })

  test('bytes behind what is due are refused', () => {
    expect(() => DerReader.only(bytes('30 00 00'))).toThrow('more than is due')
  })

  test('a length of several octets', () => {
    expect(new DerReader(Buffer.concat([bytes('04 82 01 00'), Buffer.alloc(256)])).content(0x04)).toHaveLength(256)
  })
})

describe('values', () => {
  test.each([
    ['2a 86 48 86 f7 0d 01 01 0b', '1.2.840.113549.1.1.11'],
    ['55 04 03', '2.5.4.3'],
    ['27', '0.39'],
    ['28', '1.0'],
    ['88 37', '2.999'],
  ])('object identifier %s is %s', (hex, oid) => {
    expect(readOid(bytes(hex))).toBe(oid)
  })

  test.each(['', '80 01', '2a 86', '2a 80 01', 'ff'.repeat(20), '2a'.repeat(65)])('object identifier %s is refused', hex => {
    expect(() => readOid(bytes(hex))).toThrow(DerError)
  })

  test.each([
    [0x17, '491231235959Z', '2049-12-31T23:59:59.000Z'],
    [0x17, '500101000000Z', '1950-01-01T00:00:00.000Z'],
    [0x18, '20500228000000Z', '2050-02-28T00:00:00.000Z'],
    [0x18, '99991231235959Z', '9999-12-31T23:59:59.000Z'],
    [0x18, '00500101000000Z', '0050-01-01T00:00:00.000Z'],
  ])('time %i %s is %s', (tag, text, time) => {
    const content = Buffer.from(text)
    expect(new Date(readTime({ tag, content, whole: content })).toISOString()).toBe(time)
  })

  test.each([
    [0x17, '4912312359Z'],
    [0x17, '491231235959+0000'],
    [0x17, '490229000000Z'],
    [0x17, '491301000000Z'],
    [0x17, '490100000000Z'],
    [0x17, '490101240000Z'],
    [0x17, '490101006000Z'],
    [0x17, '490101000060Z'],
    [0x18, '20500101000000.5Z'],
    [0x18, '491231235959Z'],
    [0x04, '491231235959Z'],
  ])('time %i %s is refused', (tag, text) => {
    const content = Buffer.from(text)
    expect(() => readTime({ tag, content, whole: content })).toThrow(DerError)
  })

  test.each([
    [0x0c, 'c3bc', 'ü'],
    [0x13, '6162', 'ab'],
    [0x14, 'fc', 'ü'],
    [0x1e, '00fc', 'ü'],
    [0x1c, '0001f600', '😀'],
    [0x0c, 'efbbbf61', '\ufeffa'],
    [0x04, '61', null],
  ])('text %i %s', (tag, hex, text) => {
    expect(readText({ tag, content: bytes(hex), whole: bytes(hex) })).toBe(text)
  })

  test.each([
    [0x0c, 'ff'],
    [0x0c, '6100'],
    [0x13, 'fc'],
    [0x1e, 'd800'],
    [0x1e, '00'],
    [0x1c, '0000d800'],
    [0x1c, '00110000'],
    [0x1c, '0000'],
    [0x16, '00'],
  ])('text %i %s is refused', (tag, hex) => {
    expect(() => readText({ tag, content: bytes(hex), whole: bytes(hex) })).toThrow(DerError)
  })

  test('named bits', () => {
    expect(readNamedBits(bytes('02 04'))).toBe(1 << 5)
    expect(readNamedBits(bytes('07 80'))).toBe(1 << 0)
    expect(readNamedBits(bytes('07 00 80'))).toBe(1 << 8)
    expect(readNamedBits(bytes('00'))).toBe(0)
    for (const hex of ['', '08 00', '01', '02 07', '00 00 00 00']) expect(() => readNamedBits(bytes(hex)), hex).toThrow(DerError)
  })

  test('booleans and integers are of one form', () => {
    for (const hex of ['01', '', 'ffff']) expect(() => readBoolean(bytes(hex))).toThrow(DerError)
    for (const hex of ['', '0001', 'ff80', '80', '7fffffffff']) expect(() => readSmallInteger(bytes(hex))).toThrow(DerError)
    expect(readSmallInteger(bytes('7fffffff'))).toBe(2 ** 31 - 1)
  })
})

test('whatever the bytes, walking over them ends, and throws nothing but DerError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), input => {
      let steps = 0
      try {
        for (const reader = new DerReader(input); !reader.done; steps++) {
          const element = reader.next()
          for (const read of [readOid, readBoolean, readSmallInteger, readNamedBits]) guarded(() => read(element.content))
          for (const read of [readText, readTime]) guarded(() => read(element))
        }
      } catch (error) {
        expect(error).toBeInstanceOf(DerError)
      }
      expect(steps).toBeLessThanOrEqual(input.length / 2)
    }),
    { numRuns: 2_000 },
  )
})

function guarded(read: () => unknown): void {
  try {
    read()
  } catch (error) {
    expect(error).toBeInstanceOf(DerError)
  }
}
