import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  compareClocks,
  formatClock,
  type HybridClock,
  isTooFarAhead,
  parseClock,
  type StoreClock,
  storeClock,
  tick,
} from './hybrid-clock.ts'

const NOW = 1_696_374_425_000
const ALL_BITS = 18_446_744_073_709_551_615n

const u64 = fc.oneof(
  fc.bigInt({ min: 0n, max: ALL_BITS }),
  fc.bigInt({ min: 2n ** 53n - 3n, max: 2n ** 53n + 3n }),
  fc.bigInt({ min: 0n, max: 3n }),
)
const node = fc.string({ minLength: 1, maxLength: 8 }).filter(text => !text.includes(':'))

function read(text: string): HybridClock {
  const clock = parseClock(text)
  if (clock === null) throw new Error(`${text} is no clock`)
  return clock
}

describe('the text form', () => {
  test.each([
    ['1696374425000:0:Client1', { wall: NOW, counter: 0, node: 'Client1' }],
    ['001696374425000:00000:7c9e-x', { wall: NOW, counter: 0, node: '7c9e-x' }],
    ['0:0:a', { wall: 0, counter: 0, node: 'a' }],
    ['9007199254740991:9007199254740992:a', { wall: 9_007_199_254_740_991, counter: 9_007_199_254_740_992n, node: 'a' }],
    ['18446744073709551615:00000018446744073709551615: ', { wall: ALL_BITS, counter: ALL_BITS, node: ' ' }],
  ])('%s is read', (text, clock) => {
    expect(parseClock(text)).toEqual(clock)
  })

  test.each([
    '',
    ':',
    '::',
    'a',
    '1:2',
    '1:2:',
    '1::a',
    ':1:a',
    '1:2:3:4',
    '1:2:a:',
    '1:2::',
    '-1:0:a',
    '+1:0:a',
    ' 1:0:a',
    '1 :0:a',
    '1.0:0:a',
    '1e3:0:a',
    '0x1:0:a',
    '1:1n:a',
    '١:0:a',
    '18446744073709551616:0:a',
    '0:18446744073709551616:a',
    '99999999999999999999:0:a',
    '100000000000000000000:0:a',
    'not-a-clock',
    '1696374425000:0',
    'abc',
  ])('%j is refused', text => {
    expect(parseClock(text)).toBeNull()
  })

  test('what the store writes is padded to 15 and 5 digits', () => {
    expect(formatClock(storeClock(NOW, 1))).toBe('001696374425000:00001:StateStore')
    expect(formatClock(storeClock(2 ** 52, 123_456))).toBe('4503599627370496:123456:StateStore')
  })

  test('every clock comes back, and any text is answered', () => {
    fc.assert(
      fc.property(u64, u64, node, fc.nat({ max: 30 }), (wall, counter, name, zeros) => {
        const clock = read(`${'0'.repeat(zeros)}${wall}:${counter}:${name}`)
        expect([BigInt(clock.wall), BigInt(clock.counter), clock.node]).toEqual([wall, counter, name])
        expect(parseClock(formatClock(clock))).toEqual(clock)
      }),
    )
    fc.assert(fc.property(fc.string(), text => void parseClock(text)))
  })
})

test('order: wall, then counter, then node by code unit, whatever the size of the numbers', () => {
  fc.assert(
    fc.property(fc.tuple(u64, u64, node), fc.tuple(u64, u64, node), (a, b) => {
      const order = (x: bigint | string, y: bigint | string): number => (x === y ? 0 : x < y ? -1 : 1)
      const expected = order(a[0], b[0]) || order(a[1], b[1]) || order(a[2], b[2])
      expect(compareClocks(read(a.join(':')), read(b.join(':')))).toBe(expected)
    }),
  )
})

test('a clock may be a minute ahead, and no millisecond more', () => {
  expect(isTooFarAhead(read(`${NOW + 60_000}:99999:a`), NOW)).toBe(false)
  expect(isTooFarAhead(read(`${NOW + 60_001}:0:a`), NOW)).toBe(true)
  expect(isTooFarAhead(read(`${ALL_BITS}:0:a`), NOW)).toBe(true)
  expect(isTooFarAhead(read('0:0:a'), NOW)).toBe(false)
})

describe('a tick', () => {
  test.each<[string, string, string | null, number, string]>([
    ['the present is later than both', '5:3:S', '7:9:c', 10, '10:0'],
    ['both are of one millisecond, the request ahead', '7:3:S', '7:9:c', 7, '7:10'],
    ['both are of one millisecond, the store ahead', '7:9:S', '7:3:c', 5, '7:10'],
    ['the store is later', '9:3:S', '7:9:c', 8, '9:4'],
    ['the request is later', '5:3:S', '7:9:c', 6, '7:10'],
    ['the request is of this millisecond', '5:3:S', '7:0:c', 7, '7:1'],
    ['no request, the present is later', '5:3:S', null, 6, '6:0'],
    ['no request, the store is not behind', '5:3:S', null, 5, '5:4'],
    ['a counter that clients could not read', '7:3:S', '7:2147483647:c', 7, '8:0'],
    ['the largest that they can', '7:3:S', '7:2147483646:c', 7, '7:2147483647'],
    ['a counter of 64 bits', '5:3:S', '7:18446744073709551615:c', 6, '8:0'],
    ['a counter of 64 bits in the same millisecond', '7:3:S', '7:18446744073709551615:c', 6, '8:0'],
  ])('%s', (_, store, request, nowMs, expected) => {
    const made = tick(read(store) as StoreClock, request === null ? null : read(request), nowMs)
    expect(`${made.wall}:${made.counter}`).toBe(expected)
    expect(made.node).toBe('StateStore')
  })

  test('is later than the request and all before, in a store whose time jumps', () => {
    const request = fc.option(
      fc.tuple(fc.nat({ max: 60_000 }), fc.oneof(fc.bigInt({ min: 0n, max: ALL_BITS }), fc.bigInt({ min: 0n, max: 3n })), node),
    )
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer({ min: -2_000, max: 2_000 }), request), { maxLength: 40 }), steps => {
        let store = storeClock(0, 0)
        let nowMs = NOW
        for (const [jumpMs, given] of steps) {
          nowMs += jumpMs
          const asked = given === null ? null : read(`${nowMs + given[0]}:${given[1]}:${given[2]}`)
          const next = tick(store, asked, nowMs)
          expect(compareClocks(next, store)).toBe(1)
          if (asked !== null) expect(compareClocks(next, asked)).toBe(1)
          expect(next.counter).toBeLessThan(2 ** 31)
          store = next
        }
      }),
    )
  })
})
