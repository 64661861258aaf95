import { describe, expect, test } from 'vitest'
import { SeededRandom } from '#shared/testing/seeded-random.ts'
import { ownersOf } from './rendezvous.ts'

const SHARDS = [32, 100, 256, 1_024]

function names(count: number, prefix = 'backend'): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}-${index}`)
}

function shares(owners: readonly string[], ids: readonly string[]): number[] {
  return ids.map(id => owners.filter(owner => owner === id).length)
}

function moved(before: readonly string[], after: readonly string[]): number {
  return before.filter((owner, shard) => owner !== after[shard]).length
}

describe('shares', () => {
  test.each(SHARDS)('%i shards: shares of 1 to 8 backends differ by at most one', shardCount => {
    for (let count = 1; count <= 8; count++) {
      const ids = names(count)
      const found = shares(ownersOf(shardCount, ids), ids)
      expect(found.reduce((sum, share) => sum + share, 0)).toBe(shardCount)
      expect(Math.max(...found) - Math.min(...found)).toBeLessThanOrEqual(1)
    }
  })

  test('more backends than shards: each shard has one, no backend two', () => {
    const ids = names(11)
    expect(Math.max(...shares(ownersOf(4, ids), ids))).toBe(1)
    expect(ownersOf(4, ids)).not.toContain('')
  })

  test('without backends nobody owns anything', () => {
    expect(ownersOf(3, [])).toEqual(['', '', ''])
  })
})

describe('every process has the same answer', () => {
  test('the order of the list and repeated names do not matter', () => {
    const random = new SeededRandom(7)
    const ids = names(6)
    const expected = ownersOf(256, ids)
    for (let round = 0; round < 20; round++) {
      const shuffled = ids.map(id => [random.next(), id] as const).sort((a, b) => a[0] - b[0])
      expect(
        ownersOf(
          256,
          [...shuffled, shuffled[0]!].map(([, id]) => id),
        ),
      ).toEqual(expected)
    }
  })

  test('versions of the broker agree: this assignment must stay', () => {
    expect(ownersOf(16, ['a', 'b', 'c']).join('')).toBe('abcaabbcbcccabba')
  })
})

describe('moves when a backend joins or leaves', () => {
  /** Shards moved in relation to the share that must move, over all single departures; a join is the same backwards. */
  function ratios(shardCount: number, count: number): number[] {
    return names(12, 'set').flatMap(set => {
      const ids = names(count + 1, set)
      const all = ownersOf(shardCount, ids)
      return ids.map(
        gone =>
          moved(
            all,
            ownersOf(
              shardCount,
              ids.filter(id => id !== gone),
            ),
          ) /
          (shardCount / (count + 1)),
      )
    })
  }

  test.each([
    [32, 1.65, 3],
    [256, 1.25, 1.8],
    [1_024, 1.12, 1.4],
  ])('%i shards, 1 to 6 backends: on average at most %f times the ideal, never more than %f times', (shardCount, meanMax, worstMax) => {
    for (const count of [1, 2, 3, 4, 6]) {
      const found = ratios(shardCount, count)
      expect(found.reduce((sum, ratio) => sum + ratio, 0) / found.length).toBeLessThanOrEqual(meanMax)
      expect(Math.max(...found)).toBeLessThanOrEqual(worstMax)
    }
  })

  test('of two backends, the second takes half and nothing else moves', () => {
    expect(moved(ownersOf(32, ['a']), ownersOf(32, ['a', 'b']))).toBe(16)
  })
})
