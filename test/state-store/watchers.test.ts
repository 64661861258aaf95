import { expect, test } from 'vitest'
import { ErrorText } from '#shared/state-store/errors.ts'
import { watchAll } from './watchers-figures.ts'

const TIMEOUT_MS = 60_000
const FULL = `-ERR ${ErrorText.QuotaExceeded}\r\n`

// `node test/state-store/watchers-figures.ts` does so with 100,000 watches.
test('every change of a key comes to all who watch it, once, in order, and nobody else notices; a watch too many is refused', {
  timeout: TIMEOUT_MS,
}, async () => {
  // More than are told in one turn.
  const plan = { connections: 600, keys: 3, changes: 4, isExact: true }
  const { faults, watches, told, refusals, left } = await watchAll(plan)
  expect(faults).toEqual([])
  expect([watches, told, left]).toEqual([1_800, 7_200, 0])
  expect(refusals).toEqual([FULL, FULL])
})
