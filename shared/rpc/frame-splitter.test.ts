import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FrameError, FrameSplitter } from './frame-splitter.ts'

interface Frame {
  readonly method: number
  readonly body: Uint8Array
}

const frame: fc.Arbitrary<Frame> = fc.record({
  method: fc.nat(255),
  body: fc.oneof({ weight: 4, arbitrary: fc.uint8Array({ maxLength: 40 }) }, fc.uint8Array({ minLength: 2_000, maxLength: 5_000 })),
})

function encoded(frames: readonly Frame[]): Buffer {
  return Buffer.concat(
    frames.map(({ method, body }) => {
      const header = Buffer.alloc(5)
      header.writeUInt32LE(body.length + 1)
      header[4] = method
      return Buffer.concat([header, body])
    }),
  )
}

/** Cuts `bytes` where `cuts` say, as shares of 2^16. */
function chunks(bytes: Buffer, cuts: readonly number[]): readonly Buffer[] {
  const at = [0, ...cuts.map(cut => Math.floor((cut / 65_536) * bytes.length)), bytes.length].sort((a, b) => a - b)
  return at.slice(1).map((end, index) => Buffer.from(bytes.subarray(at[index], end)))
}

describe('FrameSplitter', () => {
  test('however the stream is cut, the same frames come out', () => {
    fc.assert(
      fc.property(fc.array(frame), fc.array(fc.nat(65_535), { maxLength: 60 }), (frames, cuts) => {
        const splitter = new FrameSplitter(10_000)
        const got: Frame[] = []
        for (const chunk of chunks(encoded(frames), cuts)) {
          splitter.feed(chunk, (method, bytes, start, end) => {
            got.push({ method, body: Uint8Array.from(bytes.subarray(start, end)) })
            return true
          })
          chunk.fill(0xdb)
        }
        expect(got).toEqual(frames)
        expect(splitter.heldBytes).toBe(0)
      }),
    )
  })

  test('byte by byte', () => {
    const splitter = new FrameSplitter(10)
    const got: string[] = []
    for (const byte of encoded([
      { method: 1, body: Buffer.from('abc') },
      { method: 2, body: Buffer.alloc(0) },
    ])) {
      splitter.feed(Buffer.from([byte]), (method, bytes, start, end) => got.push(`${method} ${bytes.toString('utf8', start, end)}`) > 0)
    }
    expect(got).toEqual(['1 abc', '2 '])
  })

  test('a frame that lies in one chunk is not copied', () => {
    const chunk = encoded([{ method: 1, body: Buffer.alloc(100) }])
    let seen: Buffer | null = null
    new FrameSplitter(1_000).feed(chunk, (_method, bytes) => {
      seen = bytes
      return true
    })
    expect(seen).toBe(chunk)
  })

  test('false ends the chunk, gathered or not', () => {
    const bytes = encoded([
      { method: 1, body: Buffer.alloc(3) },
      { method: 2, body: Buffer.alloc(3) },
    ])
    for (const cut of [0, 2, 6]) {
      const splitter = new FrameSplitter(100)
      let count = 0
      const once = (): boolean => ++count < 1
      splitter.feed(bytes.subarray(0, cut), once)
      splitter.feed(bytes.subarray(cut), once)
      expect(count).toBe(1)
    }
  })

  test('a length of none or over the maximum is refused as soon as it is there, and no memory taken for it', () => {
    for (const [length, cut] of [
      [101, 4],
      [101, 2],
      [0xffff_ffff, 4],
      [0, 1],
    ] as const) {
      const header = Buffer.alloc(4)
      header.writeUInt32LE(length)
      const splitter = new FrameSplitter(100)
      expect(() => {
        splitter.feed(header.subarray(0, cut), () => true)
        splitter.feed(header.subarray(cut), () => true)
      }).toThrow(FrameError)
      expect(splitter.heldCapacity).toBeLessThanOrEqual(1_024)
    }
  })

  test('memory grows with what arrives, not with what is claimed', () => {
    const splitter = new FrameSplitter(300 * 2 ** 20)
    const header = Buffer.alloc(1_000)
    header.writeUInt32LE(256 * 2 ** 20)
    splitter.feed(header, () => true)
    expect(splitter.heldCapacity).toBe(1_024)
    for (let i = 0; i < 99; i++) splitter.feed(Buffer.alloc(1_000), () => true)
    expect(splitter.heldBytes).toBe(100_000)
    expect(splitter.heldCapacity).toBeLessThanOrEqual(200_000)
  })

  test('any bytes end in frames or in a FrameError; what is held stays in proportion to what came', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 })), parts => {
        const splitter = new FrameSplitter(5_000)
        let fed = 0
        try {
          for (const part of parts) {
            fed += part.length
            splitter.feed(Buffer.from(part), (_method, bytes, start, end) => start <= end && end <= bytes.length)
          }
        } catch (error) {
          expect(error).toBeInstanceOf(FrameError)
        }
        expect(splitter.heldCapacity).toBeLessThanOrEqual(Math.max(1_024, fed * 2))
      }),
    )
  })
})
