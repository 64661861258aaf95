import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FrontendCounters } from '../counters.ts'
import { FakeTransport } from '../surroundings.contract.ts'
import { Output, OutputBuffers } from './output.ts'

const KIB = 1_024

function newOutput(buffers = new OutputBuffers()): { transport: FakeTransport; output: Output; counters: FrontendCounters } {
  const transport = new FakeTransport()
  const counters = new FrontendCounters()
  const output = new Output(transport, buffers, counters)
  transport.handler = { onBytes: () => {}, onDrain: () => output.onDrain(), onClose: () => {} }
  return { transport, output, counters }
}

/** Fills as an encoder does. */
function encode(output: Output, bytes: Buffer): void {
  const into = output.room(bytes.length)
  bytes.copy(into, output.at)
  output.advance(output.at + bytes.length)
}

describe('Output', () => {
  test('packets of one turn are one write', () => {
    const { transport, output, counters } = newOutput()
    for (let i = 0; i < 10; i++) encode(output, Buffer.from([0x40, 2, 0, i]))
    output.append(Buffer.from([0xd0, 0]))
    expect(transport.writes).toBe(0)
    output.flush()
    output.flush()
    expect([transport.writes, transport.taken[0]!.length, counters.bytesSent]).toEqual([1, 42, 42])
  })

  test('whatever is gathered, written through, flushed and drained: the client gets the bytes in order, unharmed', () => {
    const size = fc.oneof(
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 1, max: 5 * KIB }),
      fc.integer({ min: 1, max: Output.FRAME_MAX }),
    )
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.tuple(fc.constantFrom('encode' as const, 'append' as const), size) },
      { weight: 1, arbitrary: fc.tuple(fc.constant('append' as const), fc.integer({ min: 64 * KIB, max: 100 * KIB })) },
      { weight: 1, arbitrary: fc.tuple(fc.constant('writeThrough' as const), size) },
      { weight: 3, arbitrary: fc.tuple(fc.constantFrom('flush', 'endTurn', 'stall', 'takeSome', 'drain' as const), fc.constant(1)) },
    )
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(2), step), { maxLength: 80 }), steps => {
        // Three connections that share their buffers, as all of a frontend do.
        const buffers = new OutputBuffers()
        const ends = [newOutput(buffers), newOutput(buffers), newOutput(buffers)]
        const sent: Buffer[][] = [[], [], []]
        for (const [which, [what, bytes]] of steps) {
          const { transport, output } = ends[which]!
          const packet = Buffer.alloc(bytes, sent[which]!.length + 1)
          if (what === 'encode' || what === 'append' || what === 'writeThrough') sent[which]!.push(packet)
          if (what === 'encode') encode(output, packet)
          else if (what === 'append') output.append(packet)
          else if (what === 'writeThrough') output.writeThrough(packet)
          else if (what === 'flush') output.flush()
          else if (what === 'endTurn') output.endTurn()
          else if (what === 'stall') transport.stall()
          else if (what === 'takeSome') transport.takeSome(2)
          else transport.drain()
        }
        for (const [which, { transport, output, counters }] of ends.entries()) {
          output.flush()
          transport.drain()
          const got = Buffer.concat(transport.taken)
          expect(got.equals(Buffer.concat(sent[which]!))).toBe(true)
          expect(counters.bytesSent).toBe(got.length)
          expect(output.waitingBytes).toBe(0)
        }
      }),
      { numRuns: 150 },
    )
  })

  test('a buffer that the socket has not taken is lent to it, and used again after it drained', () => {
    const buffers = new OutputBuffers()
    const { transport, output } = newOutput(buffers)
    transport.stall()
    const lent = output.room(10)
    output.append(Buffer.from('first'))
    output.flush()
    const next = buffers.take(10)
    expect(next).not.toBe(lent)
    transport.drain()
    expect(buffers.take(10)).toBe(lent)
    expect(Buffer.concat(transport.taken).toString()).toBe('first')
  })

  test('frames grow the buffer from small to large, and a full one goes out by itself', () => {
    const { transport, output } = newOutput()
    encode(output, Buffer.alloc(500, 1))
    expect(output.room(12).length).toBe(512)
    encode(output, Buffer.alloc(3_500, 1))
    expect(output.room(96).length).toBe(4 * KIB)
    encode(output, Buffer.alloc(100, 2))
    expect(output.room(1).length).toBe(64 * KIB)
    for (let i = 0; i < 16; i++) encode(output, Buffer.alloc(4_000, 3))
    expect(transport.writes).toBe(1)
    output.flush()
    expect(transport.taken.map(bytes => bytes.length)).toEqual([64_100, 4_000])
  })

  test('a busy socket is given no small change: what is gathered meanwhile waits for it in one buffer', () => {
    const { transport, output } = newOutput()
    transport.stall()
    for (let turn = 0; turn < 20_000; turn++) {
      encode(output, Buffer.alloc(20, turn))
      output.endTurn()
    }
    expect(output.waitingBytes).toBe(400_000)
    expect(transport.waitingMemoryBytes).toBeLessThan(2 * output.waitingBytes)
    transport.drain()
    expect(Buffer.concat(transport.taken).length).toBe(400_000)
    expect(output.waitingBytes).toBe(0)
  })

  test('the end of a turn writes at once when the socket has taken everything', () => {
    const { transport, output } = newOutput()
    output.append(Buffer.from('a'))
    output.endTurn()
    output.append(Buffer.from('b'))
    output.endTurn()
    expect(transport.taken.map(String)).toEqual(['a', 'b'])
  })
})

describe('OutputBuffers', () => {
  test('keeps a bounded number', () => {
    const buffers = new OutputBuffers()
    const large = Array.from({ length: 100 }, () => buffers.take(5 * KIB))
    for (const each of large) buffers.give(each)
    const again = Array.from({ length: 100 }, () => buffers.take(5 * KIB))
    expect(again.filter(each => large.includes(each))).toHaveLength(64)
    expect([1, 512, 513, 4 * KIB, 64 * KIB].map(bytes => buffers.take(bytes).length)).toEqual([512, 512, 4 * KIB, 4 * KIB, 64 * KIB])
  })
})
