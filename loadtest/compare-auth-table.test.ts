import { expect, test } from 'vitest'
import type { AuthRow } from './compare-auth-plan.ts'
import { areGoalsReached, authMarkdown, ownUs, valueOf } from './compare-auth-table.ts'
import type { MeasuredRow } from './compare-rounds.ts'
import type { ScenarioResult } from './scenario.ts'

function result(cpuUs: number, set: Partial<ScenarioResult> = {}): ScenarioResult {
  const head = { scenario: 'connect', protocol: 4, qos: 0, sizeBytes: 0, window: 0, seconds: 1, unit: 'connection', done: 1 } as const
  const rest = {
    perSecond: 1,
    cpu: null,
    redisCommands: null,
    rssBytes: null,
    latency: null,
    duplicates: 0,
    disconnects: 0,
    generatorCpuS: 0,
  }
  return { ...head, ...rest, cpuUs, partCpuUs: {}, lost: 0, extra: {}, ...set }
}

const row: AuthRow = {
  key: 'connect',
  title: 'connects',
  scenario: 'connect',
  set: {},
  goals: [
    { figure: 'rate', subject: 'cluster', reference: 'bare', min: 0.8 },
    { figure: 'loopP99Ms', subject: 'cluster', max: 20 },
    { figure: 'cost', subject: 'cluster', reference: 'bare' },
  ],
}

function measured(cluster: readonly ScenarioResult[], bare: readonly ScenarioResult[]): MeasuredRow<AuthRow> {
  return {
    row,
    rounds: new Map([
      ['cluster', { results: cluster }],
      ['bare', { results: bare }],
    ]),
  }
}

test('a cluster costs what frontends and authentication services cost', () => {
  expect(ownUs(result(9, { partCpuUs: { frontends: 3, authsvcs: 1, backends: 5 } }))).toBe(4)
  expect(ownUs(result(9, { partCpuUs: { broker: 9 } }))).toBe(9)
})

test('what is compared is compared within each round, and the median counts', () => {
  const one = measured([result(10), result(200), result(30)], [result(10), result(100), result(27)])
  expect(valueOf(one, row.goals[0]!)).toBeCloseTo(0.9)
  expect(valueOf(one, row.goals[2]!)).toBeCloseTo(30 / 27)
})

test('goals are reached when all that have a limit were measured and kept, and nobody was lost', () => {
  const fine = [result(10, { extra: { loopP99Ms: 12 } })]
  expect(areGoalsReached([measured(fine, [result(9)])])).toBe(true)
  expect(areGoalsReached([measured([result(10, { extra: { loopP99Ms: 21 } })], [result(9)])])).toBe(false)
  expect(areGoalsReached([measured(fine, [result(7)])])).toBe(false)
  expect(areGoalsReached([measured(fine, [])])).toBe(false)
  expect(areGoalsReached([measured([result(10, { lost: 1, extra: { loopP99Ms: 12 } })], [result(9)])])).toBe(false)
  expect(authMarkdown([measured(fine, [result(9)])], ['cluster', 'bare'])).toMatch(
    /connects per CPU second, cluster \/ bare +\| 0\.90 +\| ≥ 0\.8 \| yes/,
  )
})
