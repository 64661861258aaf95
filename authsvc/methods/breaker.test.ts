import { expect, test } from 'vitest'
import { Breaker, FAILURES_MAX, OPEN_MS_MAX, OPEN_MS_MIN } from './breaker.ts'

function opened(nowMs = 0): Breaker {
  const breaker = new Breaker()
  for (let i = 0; i < FAILURES_MAX; i++) breaker.end(breaker.begin(nowMs)!, 'failed', nowMs)
  return breaker
}

test('an answer between failures begins the count anew', () => {
  const breaker = new Breaker()
  for (let i = 0; i < FAILURES_MAX * 3; i++) {
    breaker.end(breaker.begin(0)!, i % (FAILURES_MAX - 1) === 0 ? 'reached' : 'failed', 0)
    expect(breaker.isOpen(0)).toBe(false)
  }
})

test('open for a time, then one probe at a time', () => {
  const breaker = opened()
  expect(breaker.begin(OPEN_MS_MIN - 1)).toBeNull()
  const probe = breaker.begin(OPEN_MS_MIN)
  expect(probe).toMatchObject({ isProbe: true })
  expect(breaker.begin(OPEN_MS_MIN)).toBeNull()
  breaker.end(probe!, 'reached', OPEN_MS_MIN)
  expect(breaker.begin(OPEN_MS_MIN)).toMatchObject({ isProbe: false })
})

test('each probe that fails doubles the time, up to a limit', () => {
  const breaker = opened()
  let nowMs = OPEN_MS_MIN
  for (let openMs = OPEN_MS_MIN * 2; openMs < OPEN_MS_MAX * 4; openMs *= 2) {
    breaker.end(breaker.begin(nowMs)!, 'failed', nowMs)
    nowMs += Math.min(openMs, OPEN_MS_MAX)
    expect(breaker.isOpen(nowMs - 1)).toBe(true)
    expect(breaker.isOpen(nowMs)).toBe(false)
  }
})

test('after an answer the time begins small again', () => {
  const breaker = opened()
  breaker.end(breaker.begin(OPEN_MS_MIN)!, 'failed', OPEN_MS_MIN)
  breaker.end(breaker.begin(10_000)!, 'reached', 10_000)
  for (let i = 0; i < FAILURES_MAX; i++) breaker.end(breaker.begin(10_000)!, 'failed', 10_000)
  expect(breaker.isOpen(10_000 + OPEN_MS_MIN - 1)).toBe(true)
  expect(breaker.isOpen(10_000 + OPEN_MS_MIN)).toBe(false)
})

test('attempts from before it opened prolong nothing and end no probe; their answer closes it', () => {
  const breaker = new Breaker()
  const old = [breaker.begin(0)!, breaker.begin(0)!]
  for (let i = 0; i < FAILURES_MAX; i++) breaker.end(breaker.begin(0)!, 'failed', 0)
  const probe = breaker.begin(OPEN_MS_MIN)!
  breaker.end(old[0]!, 'failed', OPEN_MS_MIN)
  expect(breaker.begin(OPEN_MS_MIN), 'the probe is still under way').toBeNull()
  breaker.end(old[1]!, 'reached', OPEN_MS_MIN)
  expect(breaker.isOpen(OPEN_MS_MIN)).toBe(false)
  breaker.end(probe, 'failed', OPEN_MS_MIN)
  expect(breaker.isOpen(OPEN_MS_MIN)).toBe(false)
})
