import { describe, expect, test } from 'vitest'
import { faultsOf, PARTS, readPage, withTables } from './coverage.ts'

const rows = [...PARTS.values()].flat()

describe('docs/conformance-resources.md', () => {
  test('has every row once', () => {
    const ids = rows.map(({ id }) => id)
    expect(ids.filter((id, at) => ids.indexOf(id) !== at)).toEqual([])
    expect(rows.length).toBeGreaterThan(250)
  })

  test('has decisions 1 to 27', () => {
    const decisions = rows.flatMap(({ id }) => (id.startsWith('D-') ? [Number.parseInt(id.slice(2), 10)] : []))
    expect([...new Set(decisions)].sort((a, b) => a - b)).toEqual(Array.from({ length: 27 }, (_, at) => at + 1))
  })

  test('says of each row where it is done and which tests prove it, all of which there are', () => {
    expect(rows.flatMap(row => faultsOf(row))).toEqual([])
  })

  test('finds a row out that names what there is not', () => {
    const row = { id: 'R-1-x', says: 'Something.', where: ['nowhere.ts'], proofs: [{ file: 'test/start.test.ts', titles: ['never'] }] }
    expect(faultsOf(row)).toEqual(['R-1-x: there is no nowhere.ts', 'R-1-x: test/start.test.ts: no test never'])
    expect(faultsOf({ ...row, where: [], proofs: [] })).toEqual(['R-1-x: no test'])
  })

  test('is what the rows say', () => {
    const page = readPage()
    expect(withTables(page), 'write it anew with: npx node test/specification/coverage.ts').toBe(page)
  })
})
