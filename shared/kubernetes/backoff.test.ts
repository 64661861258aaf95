import { expect, test } from 'vitest'
import { ManualTimers } from '../base/timers.ts'
import { Backoff } from './backoff.ts'

/** How long each of the next pauses is. */
async function pauses(backoff: Backoff, timers: ManualTimers, count: number): Promise<readonly number[]> {
  const found: number[] = []
  for (let index = 0; index < count; index++) {
    const startMs = timers.nowMs()
    let endMs = -1
    const pause = backoff.pause().then(() => (endMs = timers.nowMs()))
    while (timers.pendingCount > 0) timers.advance(1)
    await pause
    found.push(endMs - startMs)
  }
  return found
}

test('pauses double from a quarter of a second to half a minute, and start again after a success', async () => {
  const timers = new ManualTimers()
  const backoff = new Backoff(timers, { fraction: () => 1 })
  expect(await pauses(backoff, timers, 9)).toEqual([250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000])
  backoff.reset()
  expect(await pauses(backoff, timers, 1)).toEqual([250])
})

test('half of a pause is left to chance', async () => {
  const timers = new ManualTimers()
  expect(await pauses(new Backoff(timers, { fraction: () => 0 }), timers, 2)).toEqual([125, 250])
})

test('a pause ends when it is woken, and there is none after a stop', async () => {
  const timers = new ManualTimers()
  const backoff = new Backoff(timers, { fraction: () => 1 })
  const pause = backoff.pause()
  backoff.wake()
  await pause
  expect(timers.pendingCount).toBe(0)
  backoff.stop()
  await backoff.pause()
  expect(timers.pendingCount).toBe(0)
})
