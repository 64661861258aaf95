import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { check } from './checker.ts'
import type { Action, Operation, Result } from './history.ts'

const NOTHING = { condition: null, pxMs: null, token: null } as const
const set = (value: string, more: Partial<Action & { is: 'set' }> = {}): Action => ({ is: 'set', value, ...NOTHING, ...more })
const get: Action = { is: 'get' }
const del: Action = { is: 'del', token: null }
const vdel = (value: string): Action => ({ is: 'vdel', value, token: null })
const v = (counter: number): string => `000000000001000:${String(counter).padStart(5, '0')}:StateStore`
const done = (counter: number): Result => ({ is: 'done', version: v(counter) })
const value = (text: string, counter: number): Result => ({ is: 'value', value: text, version: v(counter) })
const differs = (counter: number): Result => ({ is: 'differs', version: v(counter) })
const missing: Result = { is: 'missing' }

type Row = readonly [invokedMs: number, returnedMs: number, action: Action, result: Result | null]

function history(...rows: readonly Row[]): Operation[] {
  return rows.map(([invokedMs, returnedMs, action, result], index) => ({
    client: `c${index}`,
    key: 'k',
    action,
    result,
    invokedMs,
    returnedMs: result === null ? Infinity : returnedMs,
  }))
}

function rulesOf(operations: readonly Operation[]): string[] {
  return check(operations).map(({ rule }) => rule)
}

describe('linearizable', () => {
  test.each<[string, Operation[]]>([
    ['nothing', []],
    ['one after the other', history([0, 1, get, missing], [2, 3, set('a'), done(1)], [4, 5, get, value('a', 1)], [6, 7, del, done(1)])],
    ['a read beside a write sees before or after', history([0, 9, set('a'), done(1)], [1, 2, get, missing], [3, 4, get, value('a', 1)])],
    ['a write without answer that was done', history([0, 0, set('a'), null], [5, 6, get, missing], [7, 8, get, value('a', 1)])],
    ['a write without answer that was not done', history([0, 0, set('a'), null], [5, 6, set('b'), done(1)], [7, 8, get, value('b', 1)])],
    [
      'a deletion without answer that was done late',
      history([0, 1, set('a'), done(1)], [2, 0, del, null], [3, 4, get, value('a', 1)], [5, 6, get, missing]),
    ],
    [
      'NX beside NX: one of them',
      history(
        [0, 5, set('a', { condition: 'NX' }), done(1)],
        [0, 5, set('b', { condition: 'NX' }), differs(1)],
        [6, 7, get, value('a', 1)],
      ),
    ],
    [
      'NEX with the same value',
      history([0, 1, set('a'), done(1)], [2, 3, set('a', { condition: 'NEX' }), done(2)], [4, 5, get, value('a', 2)]),
    ],
    [
      'VDEL of another value',
      history([0, 1, set('a'), done(1)], [2, 3, vdel('b'), differs(1)], [4, 5, vdel('a'), done(1)], [6, 7, vdel('a'), missing]),
    ],
    [
      'a token that closes the entry',
      history(
        [0, 1, set('a', { token: v(5) }), done(10)],
        [2, 3, set('b'), { is: 'tokenRequired' }],
        [4, 5, set('c', { token: v(4) }), { is: 'tokenOutdated' }],
        [6, 7, set('d', { token: v(6) }), done(11)],
        [8, 9, { is: 'del', token: v(6) }, done(11)],
        [10, 11, set('e'), done(12)],
      ),
    ],
    ['an entry that ended', history([0, 10, set('a', { pxMs: 100 }), done(1)], [50, 60, get, value('a', 1)], [120, 121, get, missing])],
    [
      'an entry whose end lies within the read',
      history([0, 10, set('a', { pxMs: 100 }), done(1)], [90, 130, get, missing], [91, 99, get, value('a', 1)]),
    ],
  ])('%s', (_, operations) => {
    expect(check(operations)).toEqual([])
  })
})

describe('not linearizable', () => {
  test.each<[string, string, Operation[]]>([
    ['a stale read', 'linearizable', history([0, 1, set('a'), done(1)], [2, 3, set('b'), done(2)], [4, 5, get, value('a', 1)])],
    ['a lost update', 'linearizable', history([0, 1, set('a'), done(1)], [2, 3, get, missing])],
    [
      'two reads that go back',
      'linearizable',
      history([0, 1, set('a'), done(1)], [2, 20, set('b'), done(2)], [3, 4, get, value('b', 2)], [5, 6, get, value('a', 1)]),
    ],
    [
      'NX that succeeds twice',
      'linearizable',
      history([0, 1, set('a', { condition: 'NX' }), done(1)], [2, 3, set('b', { condition: 'NX' }), done(2)]),
    ],
    ['NEX over another value', 'linearizable', history([0, 1, set('a'), done(1)], [2, 3, set('b', { condition: 'NEX' }), done(2)])],
    ['NX refused without an entry', 'linearizable', history([0, 1, set('a', { condition: 'NX' }), differs(1)])],
    [
      'an older token that was let through',
      'linearizable',
      history([0, 1, set('a', { token: v(5) }), done(10)], [2, 3, set('b', { token: v(4) }), done(11)]),
    ],
    ['a token that was not asked for', 'linearizable', history([0, 1, set('a', { token: v(5) }), done(10)], [2, 3, del, done(10)])],
    ['a value from nowhere', 'linearizable', history([0, 1, set('a'), done(1)], [2, 3, get, value('x', 1)])],
    ['a version from nowhere', 'linearizable', history([0, 1, set('a'), done(1)], [2, 3, get, value('a', 7)])],
    ['an entry read after its end', 'linearizable', history([0, 10, set('a', { pxMs: 100 }), done(1)], [120, 121, get, value('a', 1)])],
    ['an entry that ended too early', 'linearizable', history([0, 10, set('a', { pxMs: 100 }), done(1)], [50, 60, get, missing])],
    [
      'an entry that came back',
      'linearizable',
      history([0, 10, set('a', { pxMs: 100 }), done(1)], [101, 102, get, missing], [103, 104, get, value('a', 1)]),
    ],
    [
      'a write without answer that was done twice',
      'linearizable',
      history(
        [0, 0, set('a'), null],
        [1, 2, get, value('a', 1)],
        [3, 4, set('b'), done(2)],
        [5, 6, get, value('b', 2)],
        [7, 8, get, value('a', 3)],
      ),
    ],
    [
      'the version of a write without answer that changes',
      'linearizable',
      history([0, 0, set('a'), null], [1, 2, get, value('a', 1)], [3, 4, get, value('a', 2)]),
    ],
    [
      'a deletion that happened twice',
      'linearizable',
      history([0, 1, set('a'), done(1)], [2, 3, del, done(1)], [4, 5, vdel('a'), done(1)]),
    ],
  ])('%s', (_, rule, operations) => {
    expect(rulesOf(operations)).toContain(rule)
  })

  test('versions that go back, or come twice', () => {
    expect(rulesOf(history([0, 1, set('a'), done(2)], [2, 3, set('b'), done(1)]))).toEqual(['linearizable', 'versions'])
    expect(rulesOf(history([0, 1, set('a'), done(2)], [0, 1, set('b'), done(2)]))).toContain('versions')
  })

  test('the report ends with the answer that cannot be', () => {
    const operations = history(
      [0, 1, set('a'), done(1)],
      [2, 3, set('b'), done(2)],
      [4, 5, get, value('a', 1)],
      [6, 7, set('c'), done(3)],
      [8, 9, get, value('c', 3)],
    )
    const [violation] = check(operations)
    expect(violation!.text).toBe(`k: no order of its operations explains 4.000..5.000 c2 k get -> value a ${v(1)}`)
    expect(violation!.lines).toHaveLength(3)
  })

  test('keys are looked at one by one', () => {
    const right = history([0, 1, set('a'), done(1)])
    const wrong = history([0, 1, get, value('x', 1)]).map(each => ({ ...each, key: 'other' }))
    expect(check([...right, ...wrong]).map(({ key }) => key)).toEqual(['other'])
  })
})

/** All orders, each done on the plainest register there is: no expiry, no tokens. */
function isExplained(operations: readonly Operation[]): boolean {
  const place = (left: readonly Operation[], entry: { value: string; version: string | null } | null, floor: string): boolean => {
    if (left.every(({ result }) => result === null)) return true
    return left.some(operation => {
      if (left.some(other => other !== operation && other.returnedMs < operation.invokedMs)) return false
      const rest = left.filter(other => other !== operation)
      const { action, result } = operation
      const version = result !== null && 'version' in result ? result.version : null
      const isOf = (): { entry: { value: string; version: string | null }; floor: string } | null => {
        if (entry!.version !== null || version === null) return entry!.version === version ? { entry: entry!, floor } : null
        return version > floor ? { entry: { value: entry!.value, version }, floor: version } : null
      }
      if (action.is === 'get') {
        if (entry === null) return result?.is === 'missing' && place(rest, entry, floor)
        const known = result?.is === 'value' && result.value === entry.value ? isOf() : null
        return known !== null && place(rest, known.entry, known.floor)
      }
      if (
        action.is === 'set' &&
        (entry === null || action.condition === null || (action.condition === 'NEX' && action.value === entry.value))
      ) {
        if (result === null) return place(rest, { value: action.value, version: null }, floor)
        return result.is === 'done' && version! > floor && place(rest, { value: action.value, version }, version!)
      }
      if (entry === null) return result?.is === 'missing' && place(rest, entry, floor)
      if (action.is === 'del' || action.value === entry.value) {
        if (action.is !== 'set') {
          if (result === null) return place(rest, null, floor)
          const known = result.is === 'done' ? isOf() : null
          return known !== null && place(rest, null, known.floor)
        }
      }
      const known = result?.is === 'differs' ? isOf() : null
      return known !== null && place(rest, known.entry, known.floor)
    })
  }
  return place(operations, null, '')
}

const VALUE = fc.constantFrom('a', 'b')
const COUNTER = fc.integer({ min: 1, max: 3 })
const ACTION: fc.Arbitrary<Action> = fc.oneof(
  fc
    .record({ text: VALUE, condition: fc.constantFrom(null, 'NX' as const, 'NEX' as const) })
    .map(({ text, condition }) => set(text, { condition })),
  fc.constant(get),
  fc.constant(del),
  VALUE.map(vdel),
)
const RESULT_OF: Record<Action['is'], fc.Arbitrary<Result>> = {
  set: fc.oneof(COUNTER.map(done), COUNTER.map(differs)),
  get: fc.oneof(
    fc.constant(missing),
    fc.tuple(VALUE, COUNTER).map(([text, counter]) => value(text, counter)),
  ),
  del: fc.oneof(fc.constant(missing), COUNTER.map(done)),
  vdel: fc.oneof(fc.constant(missing), COUNTER.map(done), COUNTER.map(differs)),
}
const ROW: fc.Arbitrary<Row> = ACTION.chain(action =>
  fc
    .tuple(fc.integer({ min: 0, max: 8 }), fc.integer({ min: 0, max: 4 }), fc.option(RESULT_OF[action.is], { freq: 6 }))
    .map(([from, length, result]): Row => [from, from + length, action, result]),
)

test('the search agrees with the trial of all orders', { timeout: 30_000 }, () => {
  const counts = { right: 0, wrong: 0 }
  fc.assert(
    fc.property(fc.array(ROW, { minLength: 2, maxLength: 5 }), rows => {
      const operations = history(...rows)
      const isRight = isExplained(operations)
      counts[isRight ? 'right' : 'wrong']++
      expect(check(operations).some(({ rule }) => rule === 'linearizable')).toBe(!isRight)
    }),
    { numRuns: 4_000, seed: 5 },
  )
  expect(Math.min(counts.right, counts.wrong)).toBeGreaterThan(150)
})
