import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Paced } from './paced.ts'

test('the first at once, the others evenly, the last before the time is over, each once and in order', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 0, max: 20_000 }), (count, withinMs) => {
      const items = Array.from({ length: count }, (_, i) => i)
      const paced = new Paced(items, 1_000, withinMs)
      const taken: number[] = []
      for (let nowMs = 1_000; nowMs <= 1_000 + withinMs; nowMs += Math.max(1, withinMs / 50)) {
        for (let item = paced.take(nowMs); item !== null; item = paced.take(nowMs)) taken.push(item)
        const share = withinMs === 0 ? 1 : (nowMs - 1_000) / withinMs
        expect(Math.abs(taken.length - Math.min(count, share * count))).toBeLessThanOrEqual(1.001)
        if (withinMs === 0) break
      }
      for (let item = paced.take(1_000 + withinMs); item !== null; item = paced.take(1_000 + withinMs)) taken.push(item)
      expect([taken, paced.isDone]).toEqual([items, true])
    }),
  )
})

test('nothing', () => {
  const paced = new Paced<number>([], 0, 1_000)
  expect([paced.isDone, paced.take(5_000)]).toEqual([true, null])
})
