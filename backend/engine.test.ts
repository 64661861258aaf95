import { expect, test } from 'vitest'
import { BackendRig } from './backend-rig.contract.ts'
import { DUE_PER_TURN_MAX } from './engine.ts'

test('what falls due at once is done over several turns, in order, and none of it is lost', async () => {
  const rig = await BackendRig.open()
  const done: number[] = []
  const count = 2 * DUE_PER_TURN_MAX + 1
  for (let i = 0; i < count; i++) rig.engine.at(rig.clock.wallMs() + 1_000 + i, () => done.push(i))
  rig.clock.advance(3_600_000)
  rig.backend.tick()
  expect(done).toHaveLength(DUE_PER_TURN_MAX)
  rig.endTurn()
  expect(done).toHaveLength(2 * DUE_PER_TURN_MAX)
  await rig.settle()
  const ticks = done.map(i => Math.ceil((1_000 + i) / 100))
  expect(ticks).toEqual(ticks.toSorted((a, b) => a - b))
  expect(new Set(done).size).toBe(count)
  expect(rig.turn.isRequested).toBe(false)
})
