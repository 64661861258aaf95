import { describe, expect, test } from 'vitest'
import { markdownTable, median } from './compare-figures.ts'
import type { PlanRow } from './compare-plan.ts'
import type { MeasuredRow } from './compare-rounds.ts'
import { comparisonMarkdown, isReached, ratioOf } from './compare-table.ts'
import type { ScenarioResult } from './scenario.ts'

function result(cpuUs: number, extra: Record<string, number> = {}): ScenarioResult {
  return {
    scenario: 'pairs',
    protocol: 4,
    qos: 0,
    sizeBytes: 64,
    window: 20,
    seconds: 1,
    unit: 'message',
    done: 1_000,
    perSecond: 1_000,
    cpuUs,
    cpu: null,
    partCpuUs: {},
    redisCommands: null,
    rssBytes: 1_048_576,
    latency: null,
    lost: 0,
    duplicates: 0,
    disconnects: 0,
    generatorCpuS: 0.5,
    extra,
  }
}

function measured(row: Partial<PlanRow>, millrace: readonly ScenarioResult[], mosquitto: readonly ScenarioResult[]): MeasuredRow<PlanRow> {
  return {
    row: { key: 'k', title: 'a row', scenario: 'pairs', set: {}, ratioMax: 0.5, ...row },
    rounds: new Map([
      ['Millrace', { results: millrace }],
      ['Mosquitto', { results: mosquitto }],
      ['Aedes', { failed: 'it fell over' }],
    ]),
  }
}

describe('the comparison', () => {
  test('medians, not means', () => {
    expect(median([9, 1, 2])).toBe(2)
    expect(median([4, 1])).toBe(2.5)
    expect(ratioOf(measured({}, [result(4), result(4), result(90)], [result(10), result(10), result(11)]))).toBe(0.4)
  })

  test('a promise is reached at the limit, not above, and not judged without figures', () => {
    expect(isReached(measured({}, [result(5)], [result(10)]))).toBe(true)
    expect(isReached(measured({}, [result(5.1)], [result(10)]))).toBe(false)
    expect(isReached(measured({}, [], [result(10)]))).toBe(null)
    expect(isReached(measured({ ratioMax: null }, [result(5)], [result(10)]))).toBe(null)
    expect(isReached(measured({ ratioMax: null, bytesMax: 100 }, [result(5, { rssPerConnectionBytes: 101 })], []))).toBe(false)
  })

  test('the text shows failures and missing brokers', () => {
    const text = comparisonMarkdown([measured({}, [result(5)], [result(10)])], ['Millrace', 'Mosquitto', 'Aedes'])
    expect(text).toContain('| a row    | 5.00        | 10.00        | failed   | 0.50                 | ≤ 0.5  | yes     |')
    expect(text).toContain('Aedes, a row: it fell over')
  })

  test('columns are as wide as their widest cell', () => {
    expect(
      markdownTable([
        ['a', 'bb'],
        ['cccc', 'd'],
      ]),
    ).toBe('| a    | bb  |\n|------|-----|\n| cccc | d   |')
  })
})
