import fc from 'fast-check'
import { expect, test } from 'vitest'
import { WildcardTrie } from './wildcard-trie.ts'

const level = fc.constantFrom('a', 'b', 'ab', '', '+')
const filter = fc
  .tuple(fc.array(level, { maxLength: 6 }), fc.constantFrom('#', '+', 'a'))
  .map(([levels, last]) => [...levels, last].join('/'))
  .filter(text => /[+#]/.test(text))

const topics = [
  'a',
  'b',
  'ab',
  '',
  '/',
  'a/',
  '/a',
  'a/b',
  'a/ab',
  'a/a/a',
  'a/b/a',
  'ab/a/',
  'a//b',
  'a/a/a/a/a',
  'a/b/ab/a/b/a',
  'a/a/a/a/a/a/a',
]

/** A filter as an expression for a topic's levels, each closed by a slash. */
function expressionOf(filter: string): RegExp {
  return new RegExp(
    `^${filter
      .split('/')
      .map(level => (level === '#' ? '.*' : level === '+' ? '[^/]*/' : `${level}/`))
      .join('')}$`,
  )
}

/** Of few filters, so that what was added is often taken away again. */
const changes = fc
  .array(filter, { minLength: 1, maxLength: 8 })
  .chain(pool => fc.array(fc.tuple(fc.constantFrom(...pool), fc.boolean()), { maxLength: 40 }))

test('what is left after any changes is what was left out of none: at most two nodes per filter, whatever came before', () => {
  fc.assert(
    fc.property(changes, changes => {
      const trie = new WildcardTrie<{ filter: string }>()
      const model = new Map<string, { filter: string }>()
      for (const [filter, isAdded] of changes) {
        if (isAdded) {
          const value = trie.getOrInsert(filter, () => ({ filter }))
          expect(value).toBe(model.get(filter) ?? value)
          model.set(filter, value)
        } else expect(trie.delete(filter)).toBe(model.delete(filter))
        expect(trie.nodeCount).toBeLessThanOrEqual(2 * model.size)
      }
      const fresh = new WildcardTrie<{ filter: string }>()
      for (const [filter, value] of model) fresh.getOrInsert(filter, () => value)
      expect(trie.nodeCount).toBe(fresh.nodeCount)
      for (const topic of topics) {
        const found: { filter: string }[] = []
        trie.collect(topic, found)
        const expected = [...model.keys()].filter(filter => expressionOf(filter).test(`${topic}/`))
        expect(found.map(({ filter }) => filter).sort(), topic).toEqual(expected.sort())
      }
      for (const [filter] of changes) expect(trie.get(filter)).toBe(model.get(filter))
    }),
    { numRuns: 500 },
  )
})

test('a filter of 128 levels is one node, and a second one that parts from it at the end adds two', () => {
  const trie = new WildcardTrie<object>()
  const path = Array.from({ length: 126 }, () => '+').join('/')
  trie.getOrInsert(`${path}/a/b`, () => ({}))
  expect(trie.nodeCount).toBe(1)
  trie.getOrInsert(`${path}/a/c`, () => ({}))
  expect(trie.nodeCount).toBe(3)
  trie.delete(`${path}/a/c`)
  expect(trie.nodeCount).toBe(1)
})

test('texts of 64 KiB are parted and joined unharmed', () => {
  const trie = new WildcardTrie<object>()
  const long = `shared-level-of-20-ch/${'ü'.repeat(20_000)}`
  const values = [`${long}/+`, `${long}/+/b`, 'shared-level-of-20-ch/#', `${long}`.replace('/', '/+/')].map(filter =>
    trie.getOrInsert(filter, () => ({ filter })),
  )
  const found: object[] = []
  trie.collect(`${long}/x`, found)
  expect(new Set(found)).toEqual(new Set([values[0], values[2]]))
  expect(trie.delete('shared-level-of-20-ch/#')).toBe(true)
  expect(trie.delete(`${long}/+`)).toBe(true)
  expect(trie.get(`${long}/+/b`)).toBe(values[1])
})
