import { describe, expect, test } from 'vitest'
import type { ClusterRow, Goal } from './compare-cluster-plan.ts'
import { clusterPlan } from './compare-cluster-plan.ts'
import { areGoalsReached, clusterMarkdown, isReached, progressText, valueOf } from './compare-cluster-table.ts'
import type { MeasuredRow, PeerRounds } from './compare-rounds.ts'
import { clientCommandsOf } from './redis-commands.ts'
import type { ScenarioResult } from './scenario.ts'
import { scenarios } from './scenarios.ts'

const CLUSTER = { frontends: 3, backends: 2, Redis: 1.5, replica: 0.5 }

function result(partCpuUs: Record<string, number>, more: Partial<ScenarioResult> = {}): ScenarioResult {
  return {
    scenario: 'pairs',
    protocol: 4,
    qos: 1,
    sizeBytes: 64,
    window: 20,
    seconds: 1,
    unit: 'message',
    done: 1_000,
    perSecond: 1_000,
    cpuUs: Object.values(partCpuUs).reduce((sum, us) => sum + us, 0),
    cpu: null,
    partCpuUs,
    redisCommands: null,
    rssBytes: null,
    latency: { count: 1_000, p50Us: 1_000, p99Us: 9_000, p999Us: 9_500, maxUs: 9_900, meanUs: 1_000 },
    lost: 0,
    duplicates: 0,
    disconnects: 0,
    generatorCpuS: 0.5,
    extra: {},
    ...more,
  }
}

function measured(goals: readonly Goal[], rounds: Record<string, readonly ScenarioResult[] | string>): MeasuredRow<ClusterRow> {
  const all = Object.entries(rounds).map(([peer, one]): [string, PeerRounds] => [
    peer,
    typeof one === 'string' ? { failed: one } : { results: one },
  ])
  return { row: { key: 'k', title: 'a row', scenario: 'pairs', set: {}, goals }, rounds: new Map(all) }
}

const own: Goal = { figure: 'millraceUs', subject: 'c', reference: 's', max: 2.5 }
const total: Goal = { figure: 'totalUs', subject: 'c', reference: 's', max: 2.5 }

describe('goals of the cluster', () => {
  test('CPU of Millrace leaves Redis out, CPU of all processes does not', () => {
    const row = measured([own, total], { c: [result(CLUSTER)], s: [result({ broker: 2 })] })
    expect(valueOf(row, own)).toBe(2.5)
    expect(isReached(row, own)).toBe(true)
    expect(valueOf(row, total)).toBe(3.5)
    expect(isReached(row, total)).toBe(false)
  })

  test('a figure without a reference is a limit by itself', () => {
    const commands: Goal = { figure: 'redisCommands', subject: 'c', max: 0.5 }
    const row = measured([commands], { c: [result(CLUSTER, { redisCommands: 0.5 })] })
    expect(isReached(row, commands)).toBe(true)
    expect(valueOf(row, { figure: 'p99Ms', subject: 'c', max: 5 })).toBe(9)
  })

  test('what could not be measured is not judged, and does not pass the check', () => {
    const row = measured([own], { c: [result(CLUSTER)], s: 'it fell over' })
    expect(isReached(row, own)).toBe(null)
    expect(areGoalsReached([row])).toBe(false)
    expect(areGoalsReached([measured([], {})])).toBe(true)
  })

  test.each([{ lost: 1 }, { duplicates: 1 }, { disconnects: 1 }, { extra: { overruns: 1 } }])('%o in one round spoils it', more => {
    const row = measured([own], { c: [result(CLUSTER), result(CLUSTER, more)], s: [result({ broker: 2 })] })
    expect(isReached(row, own)).toBe(false)
    expect(clusterMarkdown([row], ['c', 's'])).toContain('the figures say nothing')
  })

  test('the plan names brokers and scenarios that exist, and each goal one that takes part', () => {
    for (const row of clusterPlan) {
      expect(scenarios.map(scenario => scenario.name)).toContain(row.scenario)
      for (const goal of row.goals)
        expect(row.peers).toEqual(expect.arrayContaining([goal.subject, ...(goal.reference ? [goal.reference] : [])]))
    }
  })
})

describe('the tables', () => {
  test('goals, parts, memory, failures, and a generator at its end', () => {
    const busy = { generatorCpuS: 0.99, redisCommands: 0.25, extra: { rssPerConnectionBytes: 900, 'rssPerConnectionBytes frontends': 700 } }
    const row = measured([own], { c: [result(CLUSTER, busy)], s: [result({ broker: 2 })], m: 'no port' })
    const text = clusterMarkdown([row], ['c', 's', 'm'])
    expect(text).toContain('| a row    | CPU of Millrace, c / s | 2.50     | 2.5     | yes     |')
    expect(text).toContain('| a row    | c      | 5.00     | 3.00      | 2.00     | 1.50  | 0.50    | 7.00 | 0.25           |')
    expect(text).toContain('| a row    | s      | –        | –         | –        | –     | –       | 2.00 | –              |')
    expect(text).toContain('| c      | 700       | –        | –     | –       | 900 |')
    expect(text).toContain('m, a row: no port')
    expect(text).toContain('c, a row: the generator used 0.99 cores')
    expect(progressText(row, ['c', 's', 'm'])).toBe('c 5.00 µs, s 2.00 µs, CPU of Millrace, c / s 2.50 (≤ 2.5)')
  })
})

test('commands of Redis are those of clients', () => {
  const text = [
    '# Commandstats',
    'cmdstat_xadd:calls=7,usec=9,usec_per_call=1.29,rejected_calls=0,failed_calls=0',
    'cmdstat_client|setname:calls=2,usec=3,usec_per_call=1.5',
    'cmdstat_replconf:calls=90,usec=9',
    'cmdstat_psync:calls=1,usec=9',
    'cmdstat_wait:calls=4,usec=9',
  ].join('\r\n')
  expect(clientCommandsOf(text)).toBe(13)
})
