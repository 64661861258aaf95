import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FrameSplitter } from './splitter.ts'

function collect() {
  const frames: [number, number[]][] = []
  return {
    frames,
    frame: (first: number, bytes: Uint8Array, start: number, end: number) => void frames.push([first, [...bytes.subarray(start, end)]]),
  }
}

function encode(first: number, body: Uint8Array): number[] {
  const length: number[] = []
  let rest = body.length
  do {
    const digit = rest % 128
    rest = Math.floor(rest / 128)
    length.push(rest > 0 ? digit | 0x80 : digit)
  } while (rest > 0)
  return [first, ...length, ...body]
}

describe('FrameSplitter', () => {
  test('gives the same frames however the stream is cut', () => {
    const frame = fc.tuple(
      fc.integer({ min: 0, max: 255 }),
      fc.oneof(fc.uint8Array({ maxLength: 20 }), fc.uint8Array({ minLength: 120, maxLength: 300 })),
    )
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 30 }),
        (frames, cuts) => {
          const stream = Uint8Array.from(frames.flatMap(([first, body]) => encode(first, body)))
          const sink = collect()
          const splitter = new FrameSplitter()
          const reused = new Uint8Array(256)
          for (let at = 0, turn = 0; at < stream.length; turn++) {
            const size = Math.min(cuts[turn % cuts.length]!, stream.length - at)
            reused.fill(0xee)
            reused.set(stream.subarray(at, at + size))
            splitter.feed(reused, size, sink)
            at += size
          }
          expect(sink.frames).toEqual(frames.map(([first, body]) => [first, [...body]]))
        },
      ),
      { numRuns: 200 },
    )
  })

  test('refuses a fifth length byte and frames that no scenario sends', () => {
    const sink = collect()
    expect(() => new FrameSplitter().feed(Uint8Array.of(0x30, 0x80, 0x80, 0x80, 0x80, 1), 6, sink)).toThrow('four bytes')
    expect(() => new FrameSplitter().feed(Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0x7f), 5, sink)).toThrow('a frame of')
  })
})
