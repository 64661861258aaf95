import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ByteReader, ByteReaderError } from './byte-reader.ts'
import { ByteWriter } from './byte-writer.ts'

type Field =
  | { readonly kind: 'u8' | 'u16' | 'u32' | 'varint' | 'f64'; readonly value: number }
  | { readonly kind: 'bytes'; readonly value: Uint8Array }
  | { readonly kind: 'text'; readonly value: string }

const field: fc.Arbitrary<Field> = fc.oneof(
  fc.record({ kind: fc.constant('u8' as const), value: fc.integer({ min: 0, max: 255 }) }),
  fc.record({ kind: fc.constant('u16' as const), value: fc.integer({ min: 0, max: 0xffff }) }),
  fc.record({ kind: fc.constant('u32' as const), value: fc.integer({ min: 0, max: 0xffff_ffff }) }),
  fc.record({ kind: fc.constant('varint' as const), value: fc.oneof(fc.maxSafeNat(), fc.integer({ min: 0, max: 300 })) }),
  fc.record({ kind: fc.constant('f64' as const), value: fc.oneof(fc.double({ noNaN: true }), fc.constant(Infinity)) }),
  fc.record({ kind: fc.constant('bytes' as const), value: fc.uint8Array({ maxLength: 600 }) }),
  fc.record({ kind: fc.constant('text' as const), value: fc.string({ unit: 'grapheme', maxLength: 40 }) }),
)

function write(writer: ByteWriter, { kind, value }: Field): void {
  if (kind === 'bytes') writer.bytes(value)
  else if (kind === 'text') writer.text(value)
  else writer[kind](value)
}

function read(reader: ByteReader, kind: Field['kind']): Field['value'] {
  return kind === 'bytes' ? new Uint8Array(reader.bytes()) : reader[kind]()
}

function written(fields: readonly Field[], initialBytes?: number): Buffer {
  const writer = new ByteWriter(initialBytes)
  for (const each of fields) write(writer, each)
  return writer.take()
}

describe('ByteWriter and ByteReader', () => {
  test('what is written is read back, whatever size the writer starts with', () => {
    fc.assert(
      fc.property(fc.array(field), fc.integer({ min: 0, max: 64 }), (fields, initialBytes) => {
        const reader = new ByteReader(written(fields, initialBytes))
        for (const { kind, value } of fields) expect(read(reader, kind)).toEqual(value)
        expect(reader.done).toBe(true)
      }),
    )
  })

  test.each([0, 1, 127, 128, 16_383, 16_384, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 35, Number.MAX_SAFE_INTEGER])('%d as a varint', value => {
    expect(new ByteReader(written([{ kind: 'varint', value }])).varint()).toBe(value)
  })

  test('a part of a larger buffer', () => {
    const writer = new ByteWriter()
    const large = Buffer.alloc(1_000, 'x')
    writer.bytes(large, 10, 20)
    writer.bytes(large, 10, 900)
    const reader = new ByteReader(writer.take())
    expect([reader.bytes().length, reader.bytes().length]).toEqual([10, 890])
  })

  test('`take` hands over its bytes and starts anew', () => {
    const writer = new ByteWriter(8)
    writer.text('one')
    const one = writer.take()
    expect(writer.length).toBe(0)
    writer.text('two')
    expect([new ByteReader(one).text(), new ByteReader(writer.take()).text()]).toEqual(['one', 'two'])
  })

  test('`take` goes on with the buffer that it is given', () => {
    const writer = new ByteWriter(4)
    writer.u8(1)
    const next = Buffer.alloc(2, 0xff)
    expect([...writer.take(next)]).toEqual([1])
    expect(writer.capacity).toBe(2)
    writer.u8(7)
    expect(next[0]).toBe(7)
    writer.raw(Buffer.from([8, 9]))
    expect([...writer.written()]).toEqual([7, 8, 9])
  })

  test('four bytes that get their value later', () => {
    const writer = new ByteWriter(1)
    writer.u8(1)
    writer.u32(0)
    writer.raw(Buffer.from('abc'))
    writer.patchU32At(1, 0xffff_fffe)
    const reader = new ByteReader(writer.take())
    expect([reader.u8(), reader.u32(), reader.buffer.toString('utf8', reader.skip(3), reader.end), reader.done]).toEqual([
      1,
      0xffff_fffe,
      'abc',
      true,
    ])
    expect(() => reader.u32()).toThrow(ByteReaderError)
    expect(() => reader.skip(1)).toThrow(ByteReaderError)
  })

  test('a reader that goes on with a part of another buffer stays within that part', () => {
    const reader = new ByteReader(Buffer.alloc(0))
    const bytes = written([{ kind: 'text', value: 'abc' }])
    reader.reset(Buffer.concat([Buffer.alloc(3, 0xff), bytes, Buffer.alloc(3, 0xff)]), 3, 3 + bytes.length)
    expect(reader.remaining).toBe(4)
    expect(reader.text()).toBe('abc')
    expect(reader.done).toBe(true)
    for (const read of [() => reader.u8(), () => reader.u32(), () => reader.f64(), () => reader.skip(1)])
      expect(read).toThrow(ByteReaderError)
  })

  test('a reader stays within the view it is given', () => {
    const bytes = written([{ kind: 'text', value: 'abc' }])
    const around = Buffer.concat([Buffer.alloc(3, 0xff), bytes, Buffer.alloc(3, 0xff)])
    const reader = new ByteReader(around.subarray(3, 3 + bytes.length))
    expect(reader.text()).toBe('abc')
    expect(() => reader.u8()).toThrow(ByteReaderError)
  })

  test('`reset` reads a range of another buffer, with positions in that buffer', () => {
    const reader = new ByteReader(Buffer.alloc(0))
    reader.reset(Buffer.from([9, 9, 7, 1, 2, 9]), 2, 5)
    expect([reader.u8(), reader.remaining, reader.skip(2), reader.done]).toEqual([7, 2, 3, true])
    expect(() => reader.u8()).toThrow(ByteReaderError)
    expect(() => reader.skip(1)).toThrow(ByteReaderError)
  })

  test('`raw` has no length before it, and `room` is written by its caller', () => {
    const writer = new ByteWriter(1)
    writer.raw(Buffer.from('abcd'), 1, 3)
    writer.raw(Buffer.alloc(40, 'x'), 0, 30)
    const into = writer.room(300)
    into[writer.length++] = 0x21
    expect(writer.take().toString()).toBe(`bc${'x'.repeat(30)}!`)
  })

  test('eight bytes of a varint may still be over 2^53', () => {
    const reader = new ByteReader(Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x10]))
    expect(() => reader.varint()).toThrow(ByteReaderError)
  })

  test('every truncation is a ByteReaderError, never a wrong value at the end', () => {
    fc.assert(
      fc.property(fc.array(field, { minLength: 1, maxLength: 8 }), fc.nat(), (fields, cutAt) => {
        const bytes = written(fields)
        const reader = new ByteReader(bytes.subarray(0, cutAt % bytes.length))
        expect(() => {
          for (const { kind, value } of fields) expect(read(reader, kind)).toEqual(value)
        }).toThrow(ByteReaderError)
      }),
    )
  })

  test('any bytes end in values or in a ByteReaderError, and never out of range', () => {
    const kinds = fc.array(fc.constantFrom<Field['kind']>('u8', 'u16', 'u32', 'varint', 'f64', 'bytes', 'text'), { maxLength: 20 })
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), kinds, (bytes, order) => {
        const reader = new ByteReader(bytes)
        try {
          for (const kind of order) read(reader, kind)
        } catch (error) {
          expect(error).toBeInstanceOf(ByteReaderError)
        }
        expect(reader.at).toBeLessThanOrEqual(bytes.length)
      }),
    )
  })

  test('a length that is longer than any buffer is truncation', () => {
    for (const bytes of [Buffer.alloc(9, 0xff), Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]), Buffer.from([5, 1])]) {
      expect(() => new ByteReader(bytes).bytes()).toThrow(ByteReaderError)
    }
  })
})
