import { describe, expect, test } from 'vitest'
import { hash32, mix32 } from './hash.ts'

describe('hash32', () => {
  // Published vectors of MurmurHash3 x86 32, with their bytes read as UTF-16LE.
  test.each([
    ['', 0, 0],
    ['', 1, 0x514e28b7],
    ['', 0xffffffff, 0x81f16f39],
    ['\uffff\uffff', 0, 0x76293b50],
    ['\u4321\u8765', 0, 0xf55b516b],
    ['\u4321\u8765', 0x5082edee, 0x2362f9de],
    ['\u4321', 0, 0xa0f7b07a],
    ['\0\0', 0, 0x2362f9de],
    ['\0', 0, 0x30f4c306],
  ])('%j with seed %i gives the published value', (text, seed, expected) => {
    expect(hash32(text, seed)).toBe(expected)
  })

  test('never changes: shards and partitions are derived from it', () => {
    const texts = ['a', 'client-1', 'client-2', 'sensors/kitchen/temperature', 'Grüße', '🌍']
    expect(texts.map(text => hash32(text))).toEqual([1867108634, 3915192733, 3596265307, 997498097, 4286275028, 3908689134])
  })

  test('equals the byte-wise definition over UTF-16LE', () => {
    for (let length = 0; length < 40; length++) {
      const text = String.fromCharCode(...Array.from({ length }, (_, index) => (index * 40_503 + length * 977) & 0xffff))
      for (const seed of [0, 1, 0x9747b28c]) expect(hash32(text, seed)).toBe(murmur3(Buffer.from(text, 'utf16le'), seed))
    }
  })

  test('spreads names that differ in a number evenly over shards', () => {
    const perShard = Array.from({ length: 32 }, () => 0)
    for (let client = 0; client < 32_000; client++) perShard[hash32(`client-${client}`) % 32]!++
    expect(Math.min(...perShard)).toBeGreaterThan(800)
    expect(Math.max(...perShard)).toBeLessThan(1_200)
  })
})

test('mix32 gives different results for different values', () => {
  const seen = new Set<number>()
  for (let value = -50_000; value < 50_000; value++) seen.add(mix32(value))
  expect(seen.size).toBe(100_000)
})

function murmur3(bytes: Buffer, seed: number): number {
  const rotate = (value: number, by: number): number => (value << by) | (value >>> (32 - by))
  const scramble = (block: number): number => Math.imul(rotate(Math.imul(block, 0xcc9e2d51), 15), 0x1b873593)
  let hash = seed
  const blocks = Math.floor(bytes.length / 4)
  for (let block = 0; block < blocks; block++) {
    hash = Math.imul(rotate(hash ^ scramble(bytes.readUInt32LE(block * 4)), 13), 5) + 0xe6546b64
  }
  let tail = 0
  for (let at = bytes.length - 1; at >= blocks * 4; at--) tail = (tail << 8) | bytes[at]!
  hash ^= scramble(tail) ^ bytes.length
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
