import { expect, test } from 'vitest'
import { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { mergeMetrics } from './merge-metrics.ts'
import { markedLine } from './relay-log.ts'

async function textOf(labels: readonly (readonly [string, string])[], value: number): Promise<string> {
  const registry = new MetricsRegistry(labels)
  registry.counter('millrace_a_total', 'A').add(value)
  registry.histogram('millrace_b_seconds', 'B', [1]).observe(value)
  return registry.render()
}

test('metrics of several processes: each family once, each series marked', async () => {
  const merged = mergeMetrics([
    { worker: '0', text: await textOf([], 1) },
    { worker: '1', text: await textOf([['host', 'h']], 2) },
  ])
  expect(merged.split('\n').filter(line => line.includes('millrace_a'))).toEqual([
    '# HELP millrace_a_total A',
    '# TYPE millrace_a_total counter',
    'millrace_a_total{worker="0"} 1',
    'millrace_a_total{worker="1",host="h"} 2',
  ])
  expect(merged).toContain('millrace_b_seconds_bucket{worker="1",le="1",host="h"} 0')
  expect(merged.match(/# TYPE millrace_b_seconds histogram/g)).toHaveLength(1)
})

test('lines of a child are marked, whatever they are', () => {
  const label = { role: 'frontend', id: 'frontend-0' }
  const lines = ['{"level":"info","event":"serving","role":"of a peer"}', '    at main.ts:1\u001b[2J', '{"cut":', ''].map(line =>
    markedLine(line, label),
  )
  expect(lines.slice(0, 3).map(line => JSON.parse(line) as unknown)).toEqual([
    { ...label, level: 'info', event: 'serving' },
    { ...label, level: 'warn', event: 'output', text: '    at main.ts:1\u001b[2J' },
    { ...label, level: 'warn', event: 'output', text: '{"cut":' },
  ])
  expect(lines[3]).toBe('')
})
