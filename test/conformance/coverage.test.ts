import { describe, expect, test } from 'vitest'
import { proofsOf, readPage, readRows, readTests, withProofs } from './coverage.ts'

const page = readPage()
const rows = readRows(page)
const tests = readTests()
const known = new Set(rows.map(row => row.clause))

describe('docs/conformance-mqtt5.md', () => {
  test('lists the 251 statements of the standard once each', () => {
    expect(rows).toHaveLength(251)
    expect(known.size).toBe(rows.length)
  })

  test('says of each statement whom it binds and what it says', () => {
    for (const row of rows) {
      expect(['server', 'client', 'both'], row.clause).toContain(row.binds)
      expect(row.statement, row.clause).toMatch(/\w.*\.$/)
    }
  })

  test('has a test for every statement that binds a server', () => {
    const unproven = rows.filter(row => row.binds !== 'client' && proofsOf(row.clause, tests) === '–')
    expect(unproven.map(row => row.clause)).toEqual([])
  })

  test('names exactly the tests that there are', () => {
    const hint = 'write it anew with: npx node test/conformance/coverage.ts'
    expect(
      rows.map(row => [row.clause, row.proofs]),
      hint,
    ).toEqual(rows.map(row => [row.clause, proofsOf(row.clause, tests)]))
    expect(withProofs(page, tests), hint).toBe(page)
  })
})

describe('titles of conformance tests', () => {
  test('name only clauses that the standard has', () => {
    expect(tests.flatMap(each => each.clauses).filter(clause => !known.has(clause))).toEqual([])
    expect(tests.filter(each => each.title.includes('[MQTT-')).map(each => each.title)).toEqual([])
  })

  test('differ within a file, since the table refers to them', () => {
    const names = tests.map(each => `${each.file}: ${each.clauses.join()} ${each.title}`)
    expect(names.filter((name, at) => names.indexOf(name) !== at)).toEqual([])
  })

  test('are all found by the reader of this page', () => {
    expect(tests.length).toBeGreaterThan(300)
  })
})
