import { expect, test } from 'vitest'
import { metricOf, settledSlope } from './slope.ts'

test('the slope is that of the second half', () => {
  const samples = Array.from({ length: 101 }, (_, atS) => ({ atS, value: atS < 50 ? atS * 1_000 : 50_000 + (atS - 50) * 3 }))
  expect(settledSlope(samples)).toBeCloseTo(3)
  expect(settledSlope([])).toBe(0)
  expect(settledSlope([{ atS: 1, value: 5 }])).toBe(0)
})

test('finds a metric by its whole name', () => {
  const page = '# TYPE nodejs_heap_size_used_bytes gauge\nnodejs_heap_size_used_bytes_total 1\nnodejs_heap_size_used_bytes{role="a b"} 42\n'
  expect(metricOf(page, 'nodejs_heap_size_used_bytes')).toBe(42)
  expect(metricOf(page, 'other')).toBe(null)
})
