import { expect, test } from 'vitest'
import { chosen, EVENT_KINDS, planRound } from './events.ts'
import { Disconnects, Disturbances } from './system.ts'

test('a seed plans the same events again, another one others', () => {
  const plan = (seed: number): unknown => [1, 2, 3].map(round => planRound(seed, round, EVENT_KINDS, 3))
  expect(plan(7)).toEqual(plan(7))
  expect(plan(7)).not.toEqual(plan(8))
})

test('every kind comes once before any comes twice, over the bounds of rounds', () => {
  const rounds = Array.from({ length: EVENT_KINDS.length }, (_, at) => planRound(1, at + 1, EVENT_KINDS, 2))
  const kinds = rounds.flat().map(({ kind }) => kind)
  for (const half of [kinds.slice(0, EVENT_KINDS.length), kinds.slice(EVENT_KINDS.length)])
    expect(half.sort()).toEqual([...EVENT_KINDS].sort())
})

test('a share chooses from what there is', () => {
  expect([0, 0.49, 0.5, 0.999].map(share => chosen(['a', 'b'], share))).toEqual(['a', 'a', 'b', 'b'])
  expect(() => chosen([], 0)).toThrow('nothing to choose from')
})

test('a connection that is lost counts against the broker unless its frontend was touched, or never let it in', () => {
  const disturbances = new Disturbances()
  const disconnects = new Disconnects(disturbances)
  const end = disturbances.begin(1, 'process')
  const now = performance.now()
  const lost = (port: number, openedMs: number | null, reason: number | null = null, mayBeTakenOver = false): void =>
    disconnects.lost('c', { port, openedMs, closedMs: now, reason, mayBeTakenOver })
  lost(1, now - 10)
  lost(2, now - 10)
  lost(2, now - 10, 0x8b)
  lost(2, now - 10, 0x8e)
  lost(2, now - 10, null, true)
  lost(2, null)
  end()
  disturbances.begin(null, 'links')
  disconnects.lost('c', { port: 2, openedMs: now, closedMs: performance.now(), reason: null, mayBeTakenOver: false })
  expect(disconnects).toMatchObject({ touched: 1, partitioned: 1, takenOver: 2, refused: 1 })
  expect(disconnects.unexpected).toEqual([
    expect.stringContaining('c on port 2, without DISCONNECT, '),
    expect.stringContaining('c on port 2, DISCONNECT 0x8b, '),
  ])
})
