import { expect, test } from 'vitest'
import { ManualTimers, systemTimers } from './timers.ts'

test('manual timers fire by due time, and take in those that start meanwhile', () => {
  const timers = new ManualTimers()
  const fired: string[] = []
  timers.after(20, () => fired.push('b'))
  timers.after(10, () => {
    fired.push('a')
    timers.after(5, () => fired.push('a+5'))
  })
  timers.after(20, () => fired.push('c'))
  timers.advance(9)
  expect(fired).toEqual([])
  timers.advance(11)
  expect(fired).toEqual(['a', 'a+5', 'b', 'c'])
  expect(timers.pendingCount).toBe(0)
})

test('a cancelled timer does not fire, and cancelling again does nothing', () => {
  const timers = new ManualTimers()
  let fired = 0
  const cancel = timers.after(1, () => fired++)
  cancel()
  cancel()
  timers.advance(5)
  expect(fired).toBe(0)
})

test('system timers fire, unless cancelled', async () => {
  let cancelled = true
  const cancel = systemTimers.after(0, () => (cancelled = false))
  cancel()
  await new Promise<void>(resolve => systemTimers.after(1, resolve))
  expect(cancelled).toBe(true)
})
