import { beforeEach, expect, test } from 'vitest'
import { StoreTurns } from './store-turns.ts'

const MANY = 2_000
const FEW = 99

let requested: number
let turns: StoreTurns
let done: string[]
/** Hand-overs under way, by shard. */
let underWay: number[]
beforeEach(() => {
  requested = 0
  done = []
  underWay = [0, 0, 0]
  const all = (): number => underWay.reduce((sum, own) => sum + own, 0)
  turns = new StoreTurns({ request: () => void requested++ }, { of: shard => underWay[shard]!, all })
})

/** As a caller does: it waits when it must, and is asked again then. */
function ask(name: string, handOvers: number, shard = 0): void {
  if (turns.mustWait(shard)) return turns.wait(shard, () => ask(name, handOvers, shard))
  done.push(name)
  underWay[shard]! += handOvers
}

function taken(shard: number, count = Infinity): void {
  underWay[shard] = Math.max(0, underWay[shard]! - count)
  turns.onTaken()
  turns.goOn()
}

test('a shard with very many hand-overs under way waits until they are fewer, all that comes behind it as well', () => {
  ask('a', MANY - 1)
  ask('b', MANY)
  ask('c', 1)
  ask('d', 0)
  turns.goOn()
  expect([done, requested]).toEqual([['a', 'b'], 0])
  taken(0, MANY)
  expect([done, requested]).toEqual([['a', 'b', 'c'], 1])
  ask('e', 0)
  taken(0)
  expect(done).toEqual(['a', 'b', 'c', 'd', 'e'])
  expect(turns.mustWait(0)).toBe(false)
  taken(0)
  expect(requested).toBe(2)
})

test('others do not wait for it', () => {
  ask('a', MANY, 0)
  ask('b', MANY, 0)
  ask('x', FEW, 1)
  ask('y', FEW, 1)
  ask('z', 0, 1)
  ask('other', 0, 2)
  expect(done).toEqual(['a', 'x', 'y', 'other'])
  taken(0)
  expect(done.slice(4)).toEqual(['b'])
  taken(0)
  expect(done.slice(4)).toEqual(['b', 'z'])
})

test('a request that fails takes no others with it', () => {
  ask('a', MANY)
  turns.wait(0, () => {
    throw new Error('fails')
  })
  ask('b', 0)
  underWay[0] = 0
  expect(() => turns.goOn()).toThrow('fails')
  turns.goOn()
  expect(done).toEqual(['a', 'b'])
  ask('c', MANY)
  expect(turns.mustWait(0)).toBe(true)
})
