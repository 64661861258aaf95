import { describe, expect, test } from 'vitest'
import { Histogram } from './histogram.ts'

describe('Histogram', () => {
  test('keeps small values exactly and large ones within 1.6 %', () => {
    for (const value of [0, 1, 63, 64, 65, 127, 128, 1_000, 65_535, 1_000_003, 4_294_967_295]) {
      const histogram = new Histogram()
      histogram.record(value)
      histogram.record(4_294_967_295)
      const shown = histogram.quantile(0.5)
      expect(Math.abs(shown - value)).toBeLessThanOrEqual(value < 64 ? 0 : value * 0.016)
    }
  })

  test('quantiles of 1 to 1000', () => {
    const histogram = new Histogram()
    for (let value = 1; value <= 1_000; value++) histogram.record(value)
    const summary = histogram.summary()
    expect(Math.abs(summary.p50Us - 500)).toBeLessThan(8)
    expect(Math.abs(summary.p99Us - 990)).toBeLessThan(16)
    expect(summary.maxUs).toBe(1_000)
    expect(summary.meanUs).toBe(500.5)
    expect(summary.count).toBe(1_000)
  })

  test('merging equals recording in one', () => {
    const one = new Histogram()
    const left = new Histogram()
    const right = new Histogram()
    for (let value = 0; value < 5_000; value += 7) {
      one.record(value)
      if (value % 2) left.record(value)
      else right.record(value)
    }
    left.merge(right.snapshot())
    expect(left.snapshot()).toEqual(one.snapshot())
  })

  test('an empty one answers 0', () => {
    expect(new Histogram().summary()).toEqual({ count: 0, meanUs: 0, p50Us: 0, p99Us: 0, p999Us: 0, maxUs: 0 })
  })
})
