import { describe, expect, test } from 'vitest'
import { Pace } from './pace.ts'

describe('Pace', () => {
  test('the number taken follows the clock, not the calls', () => {
    const pace = new Pace(2_000, 500)
    let taken = 0
    for (const nowMs of [500, 500.2, 503, 503, 600, 1_499.9]) {
      for (let due = pace.due(nowMs); due > 0; due--) {
        pace.take(nowMs)
        taken++
      }
      expect(taken).toBe(Math.floor((nowMs - 500) * 2) + 1)
    }
  })

  test('a late message carries the time at which it was due, a timer’s delay does not count', () => {
    const pace = new Pace(1_000, 100)
    expect(pace.take(101.5)).toBe(101_500)
    expect(pace.take(110)).toBe(101_000)
  })

  test('nothing is due before the start', () => {
    expect(new Pace(1_000, 100).due(50)).toBe(0)
  })

  test('the stamp wraps at 2^32 microseconds', () => {
    expect(new Pace(1, 4_294_968).take(4_294_968)).toBe(4_294_968_000 % 2 ** 32)
  })
})
