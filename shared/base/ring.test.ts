import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Ring } from './ring.ts'

test('behaves like an array that is pushed to and shifted from', () => {
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ is: fc.constant('push' as const), count: fc.integer({ min: 1, max: 40 }) }) },
    { weight: 4, arbitrary: fc.record({ is: fc.constant('shift' as const), count: fc.integer({ min: 1, max: 50 }) }) },
    { weight: 1, arbitrary: fc.record({ is: fc.constant('clear' as const), count: fc.constant(1) }) },
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const ring = new Ring<number>()
      const model: number[] = []
      let value = 0
      for (const { is, count } of steps) {
        for (let repeat = 0; repeat < count; repeat++) {
          if (is === 'push') {
            ring.push(value)
            model.push(value++)
          } else if (is === 'shift') expect(ring.shift()).toBe(model.shift())
          else {
            ring.clear()
            model.length = 0
          }
        }
        expect(ring.length).toBe(model.length)
        expect(ring.peek()).toBe(model[0])
        expect(Array.from({ length: ring.length }, (_, index) => ring.at(index))).toEqual(model)
      }
      expect(ring.at(-1)).toBeUndefined()
      expect(ring.at(ring.length)).toBeUndefined()
    }),
  )
})

test('entries stay in order while a backlog grows and goes', () => {
  const ring = new Ring<number>()
  for (let value = 0; value < 100_000; value++) ring.push(value)
  for (let value = 0; value < 100_000; value++) expect(ring.shift()).toBe(value)
  expect(ring.shift()).toBeUndefined()
  expect(ring.length).toBe(0)
})
