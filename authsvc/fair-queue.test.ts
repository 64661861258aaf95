import { expect, test } from 'vitest'
import { FairQueue } from './fair-queue.ts'
import { Gate } from './gate.ts'
import { requestSource } from './request-source.ts'

interface Item {
  readonly of: string
}

/** Puts in one item for each letter, whose source it is, with its place. */
function queueOf(letters: string): FairQueue<Item> {
  const queue = new FairQueue<Item>()
  for (const [index, letter] of [...letters].entries()) queue.push(letter, { of: `${letter}${index}` })
  return queue
}

function drained(queue: FairQueue<Item>): string {
  const order: string[] = []
  for (let item = queue.shift(); item !== undefined; item = queue.shift()) order.push(item.of)
  return order.join(' ')
}

test('sources take turns; within one it is first come, first served', () => {
  expect(drained(queueOf('aaaabcb'))).toBe('a0 b4 c5 a1 b6 a2 a3')
  expect(drained(queueOf('aaa'))).toBe('a0 a1 a2')
  expect(drained(queueOf(''))).toBe('')
})

test('who comes later than a thousand of another source waits for one of them', () => {
  const queue = queueOf('a'.repeat(1_000))
  queue.shift()
  queue.push('b', { of: 'b' })
  expect([queue.shift()!.of, queue.shift()!.of]).toEqual(['a1', 'b'])
  expect(queue.length).toBe(998)
})

test('where there is no room, the newest of the source with most gives way, but not to one that has as much', () => {
  const queue = queueOf('aaabb')
  expect(queue.makeRoomFor('c')!.of).toBe('a2')
  queue.push('c', { of: 'c' })
  expect(queue.makeRoomFor('a')).toBeUndefined()
  expect(queue.makeRoomFor('b')).toBeUndefined()
  expect(queue.makeRoomFor('c')).toBeUndefined()
  expect(queue.makeRoomFor('d')!.of).toMatch(/^[ab]/)
  expect(queue.length).toBe(4)
})

test('what is taken out does not come; sources that have nothing are not remembered', () => {
  const queue = new FairQueue<Item>()
  const [first, second] = [{ of: 'first' }, { of: 'second' }]
  queue.push('a', first)
  queue.push('a', second)
  queue.delete('a', first)
  queue.delete('a', first)
  queue.delete('b', second)
  expect([queue.length, drained(queue), queue.length]).toEqual([1, 'second', 0])
})

test('at a gate that is full, a flood from one source loses its newest to who comes from another', async () => {
  const gate = new Gate(1, 3)
  const { signal } = new AbortController()
  expect(await gate.enter(signal, 'flood')).toBe('inside')
  const outcomes: string[] = []
  const enter = (name: string, source: string): void => void gate.enter(signal, source).then(outcome => outcomes.push(`${name} ${outcome}`))
  for (const name of ['1', '2', '3']) enter(name, 'flood')
  expect(await gate.enter(signal, 'flood')).toBe('full')
  enter('legitimate', 'elsewhere')
  for (let i = 0; i < 4; i++) {
    await new Promise(resolve => setImmediate(resolve))
    gate.leave()
  }
  await new Promise(resolve => setImmediate(resolve))
  expect(outcomes).toEqual(['3 full', '1 inside', 'legitimate inside', '2 inside'])
  expect(gate.inside).toBe(0)
})

test.each([
  ['192.0.2.1', '192.0.2.1'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'],
  ['2001:db8:1:2::1', '2001:db8:1:2'],
  ['2001:DB8:0001:2::', '2001:db8:1:2'],
  ['2001:db8::1', '2001:db8:0:0'],
  ['::1', '0:0:0:0'],
  ['fe80::1%eth0', 'fe80:0:0:0'],
  ['', ''],
  ['unix', 'unix'],
])('%j counts for %j', (address, source) => {
  expect(requestSource(address)).toBe(source)
})
