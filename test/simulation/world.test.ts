import { expect, test } from 'vitest'
import { SimProcess, World } from './world.ts'

function processOf(world: World): SimProcess {
  return new SimProcess(world, 'p', 'p-1')
}

test('events run by time, then in the order in which they were scheduled, and time stands still between them', async () => {
  const world = new World(1)
  const seen: string[] = []
  for (const [ms, what] of [
    [5, 'b'],
    [1, 'a'],
    [5, 'c'],
    [9, 'never'],
  ] as const)
    world.after(ms, () => seen.push(`${what}@${world.nowMs}`))
  await world.run(7)
  expect([seen, world.nowMs]).toEqual([['a@1', 'b@5', 'c@5'], 7])
})

test('however long a chain of promises is, it ends before the next event', async () => {
  const world = new World(1)
  const seen: string[] = []
  world.after(1, () => {
    void (async () => {
      for (let i = 0; i < 1_000; i++) await Promise.resolve()
      seen.push('chain')
    })()
  })
  world.after(1, () => seen.push('next'))
  await world.run(1)
  expect(seen).toEqual(['chain', 'next'])
})

test('a paused process does nothing; when it goes on, timers come before what arrived', async () => {
  const world = new World(1)
  const process = processOf(world)
  const seen: string[] = []
  process.arrive(2, () => seen.push(`arrived, read up to ${process.readMs}`))
  process.timers.after(3, () => seen.push(`timer, read up to ${process.readMs}`))
  world.after(1, () => process.pause())
  await world.run(10)
  expect(seen).toEqual([])
  process.resume()
  await world.run(11)
  expect(seen).toEqual(['timer, read up to 1', 'arrived, read up to 10'])
})

test('of a killed process nothing runs any more', async () => {
  const world = new World(1)
  const process = processOf(world)
  const seen: string[] = []
  process.every(1, () => seen.push('tick'))
  process.onEnd(() => seen.push('end'))
  world.after(2.5, () => process.kill())
  await world.run(10)
  expect(seen).toEqual(['tick', 'tick', 'end'])
})

test('a turn ends once, after what else happens at its moment; a request from inside asks for another one', async () => {
  const world = new World(1)
  const process = processOf(world)
  const seen: string[] = []
  const turn = process.turn([() => seen.push('first'), () => seen.length === 3 && turn.request(), () => seen.push('last')])
  process.arrive(1, () => {
    turn.request()
    turn.request()
    seen.push('event')
  })
  process.arrive(1, () => seen.push('other'))
  await world.run(2)
  expect(seen).toEqual(['event', 'other', 'first', 'last', 'first', 'last'])
})

test('what a core throws is remembered, and the world goes on', async () => {
  const world = new World(1)
  const process = processOf(world)
  process.arrive(1, () => {
    throw new Error('a bug')
  })
  await world.run(2)
  expect(world.failures.map(({ process: name, error }) => [name, String(error)])).toEqual([['p', 'Error: a bug']])
})
