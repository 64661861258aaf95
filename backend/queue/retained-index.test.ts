import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type RetainedCursor, RetainedIndex } from './retained-index.ts'

/** The definition of §4.7, level by level. */
function naiveMatches(filter: string, topic: string): boolean {
  const wanted = filter.split('/')
  const levels = topic.split('/')
  if (levels[0]!.startsWith('$') && (wanted[0] === '+' || wanted[0] === '#')) return false
  for (const [depth, want] of wanted.entries()) {
    if (want === '#') return true
    if (depth >= levels.length || (want !== '+' && want !== levels[depth])) return false
  }
  return wanted.length === levels.length
}

function indexOf(...topics: string[]): RetainedIndex<string> {
  const index = new RetainedIndex<string>()
  for (const topic of topics) index.set(topic, topic)
  return index
}

function rest(cursor: RetainedCursor<string>, stepsPerCall = 1_000_000): string[] {
  const messages: string[] = []
  while (!cursor.done) {
    const budget = { steps: stepsPerCall }
    for (let message = cursor.next(budget); message !== undefined; message = cursor.next(budget)) messages.push(message)
  }
  return messages.sort()
}

describe('RetainedIndex', () => {
  test('[MQTT-3.3.1-5] a topic has one message, the last', () => {
    const index = new RetainedIndex<number>()
    expect(index.set('a/b', 1)).toBeUndefined()
    expect(index.set('a/b', 2)).toBe(1)
    expect(index.get('a/b')).toBe(2)
    expect(index.get('a')).toBeUndefined()
    expect(index.get('a/b/')).toBeUndefined()
    expect(index.count).toBe(1)
  })

  test('[MQTT-3.3.1-6] a deleted topic has none, and its levels go with it', () => {
    const index = indexOf('a/b/c', 'a')
    expect(index.delete('a/b')).toBeUndefined()
    expect(index.delete('x/y')).toBeUndefined()
    expect(index.delete('a/b/c')).toBe('a/b/c')
    expect([index.count, index.nodeCount]).toEqual([1, 1])
    expect(index.delete('a')).toBe('a')
    expect([index.count, index.nodeCount]).toEqual([0, 0])
  })

  test.each([
    ['[§4.7.1.2] # gives the parent level too', 'a/#', ['a', 'a/', 'a/$c', 'a/b', 'a/b/c']],
    ['[MQTT-4.7.2-1] # gives no topic that starts with $', '#', ['/', '/a', 'a', 'a/', 'a/$c', 'a/b', 'a/b/c', 'b/b']],
    ['[MQTT-4.7.2-1] + gives no topic that starts with $', '+/b', ['a/b', 'b/b']],
    ['[MQTT-4.7.2-1] $SYS/# does', '$SYS/#', ['$SYS', '$SYS/b']],
    ['[§4.7.1.3] + is one level, which may be empty', '+/+', ['/', '/a', 'a/', 'a/$c', 'a/b', 'b/b']],
    ['[§4.7.1.3] + stands between others', 'a/+/c', ['a/b/c']],
    ['[§4.7.1.3] + alone', '+', ['a']],
    ['+/# skips $ at the first level alone', '+/#', ['/', '/a', 'a', 'a/', 'a/$c', 'a/b', 'a/b/c', 'b/b']],
    ['without wildcard, one', 'a/b', ['a/b']],
    ['without wildcard, none', 'a/x', []],
  ])('%s', (_, filter, topics) => {
    const index = indexOf('a', 'a/', 'a/b', 'a/b/c', 'a/$c', 'b/b', '/', '/a', '$SYS', '$SYS/b')
    expect(rest(index.cursor(filter))).toEqual(topics)
    expect(rest(index.cursor(filter), 1)).toEqual(topics)
  })

  test('an empty index ends every walk', () => {
    for (const filter of ['#', '+', 'a', 'a/#']) expect(rest(new RetainedIndex<string>().cursor(filter))).toEqual([])
  })

  test('each level that is looked at costs a step', () => {
    const index = new RetainedIndex<string>()
    for (let topic = 0; topic < 1_000; topic++) index.set(`a/${topic}/x`, 'x')
    const cursor = index.cursor('a/+/y')
    const budget = { steps: 100 }
    expect(cursor.next(budget)).toBeUndefined()
    expect([budget.steps, cursor.done]).toEqual([0, false])
    let calls = 1
    while (!cursor.done) {
      cursor.next({ steps: 100 })
      calls++
    }
    expect(calls).toBeGreaterThanOrEqual(10)
    expect(calls).toBeLessThanOrEqual(12)
    expect(index.cursor('a/+/x').next({ steps: 0 })).toBeUndefined()
  })

  test('deep topics are walked without recursion', () => {
    const topic = Array.from({ length: 20_000 }, () => 'x').join('/')
    const index = indexOf(topic)
    expect(rest(index.cursor('#'))).toEqual([topic])
    expect(rest(index.cursor('+/#'))).toEqual([topic])
    index.delete(topic)
    expect(index.nodeCount).toBe(0)
  })

  test('a walk ends although topics are added, or taken away and set again, faster than it goes', () => {
    const index = new RetainedIndex<number>()
    for (let topic = 0; topic < 10; topic++) index.set(`a/${topic}`, topic)
    const cursor = index.cursor('#')
    let steps = 0
    for (let next = 10; !cursor.done && steps < 1_000; next++, steps++) {
      cursor.next({ steps: 1 })
      index.set(`a/${next}`, next)
      index.delete(`a/${next % 10}`)
      index.set(`a/${next % 10}`, next)
    }
    expect(steps).toBeLessThan(20)
  })
})

describe('against the definition', () => {
  const level = fc.constantFrom('a', 'b', '', '$a', 'c', ...'defghijk')
  const topic = fc.array(level, { minLength: 1, maxLength: 4 }).map(levels => levels.join('/'))
  const filter = fc
    .tuple(fc.array(fc.oneof(level, fc.constant('+')), { maxLength: 3 }), fc.constantFrom('#', '#', '+', 'a'))
    .map(([levels, last]) => [...levels, last].join('/'))
  const change = fc.record({ is: fc.constantFrom('set', 'set', 'delete'), topic })

  function run(index: RetainedIndex<string>, model: Set<string>, changes: readonly { is: string; topic: string }[]): void {
    for (const { is, topic } of changes) {
      if (is === 'set') {
        expect(index.set(topic, topic)).toBe(model.has(topic) ? topic : undefined)
        model.add(topic)
      } else expect(index.delete(topic)).toBe(model.delete(topic) ? topic : undefined)
      expect(index.get(topic)).toBe(is === 'set' ? topic : undefined)
      expect(index.count).toBe(model.size)
    }
  }

  test('[§4.7] a walk gives every matching message once; nothing stays behind when all is gone', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 60 }), filter, fc.integer({ min: 1, max: 9 }), (changes, filter, stepsPerCall) => {
        const index = new RetainedIndex<string>()
        const model = new Set<string>()
        run(index, model, changes)
        const expected = [...model].filter(topic => naiveMatches(filter, topic)).sort()
        expect(rest(index.cursor(filter), stepsPerCall)).toEqual(expected)
        for (const topic of model) index.delete(topic)
        expect([index.count, index.nodeCount]).toEqual([0, 0])
      }),
      { numRuns: 400 },
    )
  })

  test('a walk with changes in between gives once what was there all the time, and nothing that does not match', () => {
    const pauses = fc.array(fc.array(change, { maxLength: 6 }), { maxLength: 30 })
    fc.assert(
      fc.property(fc.array(change, { maxLength: 40 }), filter, pauses, (changes, filter, pauses) => {
        const index = new RetainedIndex<string>()
        const model = new Set<string>()
        run(index, model, changes)
        const cursor = index.cursor(filter)
        const throughout = new Set([...model].filter(topic => naiveMatches(filter, topic)))
        const given: string[] = []
        for (const pause of pauses) {
          const message = cursor.next({ steps: 1 })
          if (message !== undefined) given.push(message)
          run(index, model, pause)
          for (const { is, topic } of pause) if (is === 'delete') throughout.delete(topic)
        }
        given.push(...rest(cursor))
        expect(given.filter(topic => !naiveMatches(filter, topic))).toEqual([])
        for (const topic of throughout)
          expect(
            given.filter(other => other === topic),
            topic,
          ).toHaveLength(1)
      }),
      { numRuns: 400 },
    )
  })
})
