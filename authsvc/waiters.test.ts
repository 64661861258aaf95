import { expect, test } from 'vitest'
import { ManualTimers } from '#shared/base/timers.ts'
import { Waiters } from './waiters.ts'

test('one more than may wait does not, and finds what is there at once', async () => {
  const timers = new ManualTimers()
  const waiters = new Waiters(timers, 2_000, 2)
  let found: string | null = null
  const waiting = [waiters.until(() => found), waiters.until(() => found)]
  expect([await waiters.until(() => found), waiters.count]).toEqual([null, 2])
  found = 'it'
  expect(await waiters.until(() => found)).toBe('it')
  waiters.wake()
  expect([await Promise.all(waiting), waiters.count, timers.pendingCount]).toEqual([['it', 'it'], 0, 0])
})

test('who is woken in vain goes on waiting, up to the end of its time', async () => {
  const timers = new ManualTimers()
  const waiters = new Waiters(timers, 2_000, 2)
  const waiting = waiters.until(() => null)
  timers.advance(1_999)
  waiters.wake()
  expect(waiters.count).toBe(1)
  timers.advance(1)
  expect([await waiting, waiters.count]).toEqual([null, 0])
})
