import { describe, expect, test } from 'vitest'
import { cpuBetween, cpuOf, cpuSeconds, parseStat, rssOf } from './usage.ts'

describe('usage', () => {
  test('reads the fields of /proc/PID/stat behind a name with blanks and brackets', () => {
    const line = '42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 100 50 20 10 20 0 8 0 1234 5 6'
    expect(parseStat(42, line)).toEqual({ pid: 42, parent: 7, userTicks: 120, systemTicks: 60 })
  })

  test('takes the coarse count when the fine one has lost threads', () => {
    expect(cpuSeconds({ userS: 1, systemS: 0.5, scheduledS: 1.512 })).toBe(1.512)
    expect(cpuSeconds({ userS: 1, systemS: 0.5, scheduledS: 0.2 })).toBe(1.5)
  })

  test('nothing is known without processes', () => {
    expect(cpuOf([])).toBe(null)
    expect(rssOf([])).toBe(null)
    expect(cpuBetween(null, null)).toBe(null)
  })

  test.runIf(process.platform === 'linux')('knows this process', () => {
    expect(rssOf([process.pid])).toBeGreaterThan(1_000_000)
    expect(cpuOf([process.pid])?.userS).toBeGreaterThan(0)
  })
})
