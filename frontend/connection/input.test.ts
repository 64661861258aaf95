import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { writeVariableByteInteger } from '#shared/mqtt/framing.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { type FrameTaker, Input } from './input.ts'

const PACKET_BYTES_MAX = 1 << 20

/** A Control Packet with a body of `bodyBytes` that can be told from others. */
function frame(firstByte: number, bodyBytes: number, fill = 0): Buffer {
  const bytes = Buffer.alloc(5 + bodyBytes, fill)
  bytes[0] = firstByte
  const at = writeVariableByteInteger(bytes, 1, bodyBytes)
  bytes.fill(fill, at)
  return bytes.subarray(0, at + bodyBytes)
}

/** Cuts `bytes` at the given places, each a share of the whole. */
function cutUp(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const ends = [...cuts.map(cut => Math.floor(cut * bytes.length)), bytes.length].sort((a, b) => a - b)
  return ends.map((end, i) => bytes.subarray(i === 0 ? 0 : ends[i - 1], end))
}

const latin1 = (bytes: Buffer): string => bytes.toString('latin1')

const frames = fc.array(fc.tuple(fc.integer({ min: 0, max: 255 }), fc.oneof(fc.nat(20), fc.nat(300), fc.nat(20_000)), fc.nat(255)), {
  maxLength: 20,
})
const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 30 })

type OnFrame = FrameTaker['onFrame']

/** Hands `chunk` over in memory that does not outlive the call. */
function feed(input: Input, chunk: Buffer, packetBytesMax: number, onFrame: OnFrame): void {
  const memory = Buffer.from(chunk)
  try {
    input.feed(memory, packetBytesMax, { onFrame })
  } finally {
    memory.fill(0xee)
  }
}

describe('Input', () => {
  test('whatever the chunks, the frames are the same', () => {
    fc.assert(
      fc.property(frames, cuts, (specs, places) => {
        const sent = specs.map(([first, length, fill]) => frame(first, length, fill))
        const got: Buffer[] = []
        const input = new Input()
        for (const chunk of cutUp(Buffer.concat(sent), places)) {
          feed(input, chunk, PACKET_BYTES_MAX, (bytes, start, end) => {
            got.push(Buffer.from(bytes.subarray(start, end)))
            return true
          })
        }
        expect(got.map(latin1)).toEqual(sent.map(latin1))
        expect(input.heldBytes).toBe(0)
      }),
      { numRuns: 200 },
    )
  })

  test('whenever it is blocked, nothing comes until it resumes, and then nothing is lost or doubled', () => {
    fc.assert(
      fc.property(frames, cuts, fc.array(fc.boolean(), { maxLength: 60 }), (specs, places, decisions) => {
        const sent = specs.map(([first, length, fill]) => frame(first, length, fill))
        const got: Buffer[] = []
        const input = new Input()
        let step = 0
        const onFrame: OnFrame = (bytes, start, end) => {
          expect(input.isBlocked).toBe(false)
          got.push(Buffer.from(bytes.subarray(start, end)))
          return decisions[step++] ?? true
        }
        for (const chunk of cutUp(Buffer.concat(sent), places)) {
          const before = got.length
          const wasBlocked = input.isBlocked
          feed(input, chunk, PACKET_BYTES_MAX, onFrame)
          if (wasBlocked) expect(got.length).toBe(before)
          if (decisions[step++] ?? true) input.resume(PACKET_BYTES_MAX, { onFrame })
        }
        while (input.isBlocked) input.resume(PACKET_BYTES_MAX, { onFrame })
        expect(got.map(latin1)).toEqual(sent.map(latin1))
        expect(input.heldBytes).toBe(0)
      }),
      { numRuns: 200 },
    )
  })

  test('any bytes: frames within the limit or a ProtocolError, and never more is held than has arrived', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), cuts, fc.integer({ min: 2, max: 300 }), (noise, places, packetBytesMax) => {
        const input = new Input()
        let arrived = 0
        try {
          for (const chunk of cutUp(Buffer.from(noise), places)) {
            arrived += chunk.length
            feed(input, chunk, packetBytesMax, (_, start, end) => {
              expect(end - start).toBeGreaterThanOrEqual(2)
              expect(end - start).toBeLessThanOrEqual(packetBytesMax)
              return true
            })
            // A fixed header of five bytes may be held whatever the limit is.
            expect(input.heldBytes).toBeLessThanOrEqual(Math.min(arrived, Math.max(5, packetBytesMax)))
          }
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError)
        }
      }),
      { numRuns: 500 },
    )
  })

  test('a length that promises 256 MiB takes memory for what has come, not for what it says', () => {
    const before = process.memoryUsage()
    const inputs = Array.from({ length: 200 }, () => new Input())
    const promise = Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 0x61])
    for (const input of inputs) feed(input, promise, Infinity, () => true)
    const after = process.memoryUsage()
    expect(inputs.every(input => input.heldBytes === promise.length)).toBe(true)
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(1 << 20)
  })

  test('a packet that comes byte by byte is put together', () => {
    const sent = frame(0x30, 200_000, 7)
    const input = new Input()
    let found = 0
    for (let at = 0; at < sent.length; at++) feed(input, sent.subarray(at, at + 1), PACKET_BYTES_MAX, () => ++found > 0)
    expect(found).toBe(1)
  })

  test('a packet that is too large is refused by its length, before the rest has come', () => {
    const input = new Input()
    expect(() => feed(input, Buffer.from([0x30, 0x80, 0x80, 0x01]), 16_384, () => true)).toThrow(ProtocolError)
    const bitByBit = new Input()
    feed(bitByBit, Buffer.from([0x30, 0x80]), 16_384, () => true)
    feed(bitByBit, Buffer.from([0x80]), 16_384, () => true)
    expect(() => feed(bitByBit, Buffer.from([0x01]), 16_384, () => true)).toThrow(ProtocolError)
  })

  test('resume without a block does nothing', () => {
    const input = new Input()
    feed(input, Buffer.from([0x30]), PACKET_BYTES_MAX, () => true)
    input.resume(PACKET_BYTES_MAX, { onFrame: () => expect.fail() })
    expect(input.heldBytes).toBe(1)
  })

  test('what is held is gone through in place: eight MiB in portions of 500 packets are not copied for each portion', () => {
    const size = 8 * 1024 * 1024
    const input = new Input()
    let taken = 0
    const taker = { onFrame: () => ++taken % 500 !== 0 }
    input.feed(Buffer.alloc(size, Buffer.from([0xc0, 0])), PACKET_BYTES_MAX, taker)
    const before = process.memoryUsage().arrayBuffers
    let most = 0
    while (input.isBlocked) {
      input.resume(PACKET_BYTES_MAX, taker)
      if (taken % 50_000 < 500) most = Math.max(most, process.memoryUsage().arrayBuffers - before)
    }
    expect([taken, input.heldBytes]).toEqual([size / 2, 0])
    expect(most).toBeLessThan(size)
  })
})
