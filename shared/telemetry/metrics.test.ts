import { describe, expect, test } from 'vitest'
import { MetricsRegistry } from './metrics.ts'

describe('MetricsRegistry', () => {
  test('renders counters, gauges and histograms as Prometheus reads them', () => {
    const registry = new MetricsRegistry([['host', 'a']])
    registry.counter('aio_broker_publishes_received', 'PUBLISH packets in.').add(3)
    registry.gauge('aio_broker_store_subscriptions', 'Subscriptions.', () => [
      { labels: [['chain', '0']], value: 1 },
      { labels: [['chain', '1']], value: 2.5 },
    ])
    const histogram = registry.histogram('millrace_commit_seconds', 'Store commits.', [0.001, 0.01])
    for (const value of [0.001, 0.002, 5]) histogram.observe(value)
    expect(registry.render()).toBe(`# HELP aio_broker_publishes_received PUBLISH packets in.
# TYPE aio_broker_publishes_received counter
aio_broker_publishes_received{host="a"} 3
# HELP aio_broker_store_subscriptions Subscriptions.
# TYPE aio_broker_store_subscriptions gauge
aio_broker_store_subscriptions{host="a",chain="0"} 1
aio_broker_store_subscriptions{host="a",chain="1"} 2.5
# HELP millrace_commit_seconds Store commits.
# TYPE millrace_commit_seconds histogram
millrace_commit_seconds_bucket{host="a",le="0.001"} 1
millrace_commit_seconds_bucket{host="a",le="0.01"} 2
millrace_commit_seconds_bucket{host="a",le="+Inf"} 3
millrace_commit_seconds_sum{host="a"} 5.003
millrace_commit_seconds_count{host="a"} 3
`)
  })

  test('escapes label values and bounds their length', () => {
    const registry = new MetricsRegistry()
    const family = registry.counterFamily('traffic', 'By category.', ['category'], 10)
    family.with('a"\\\n\ud800').add(1)
    family.with('x'.repeat(1_000)).add(1)
    const lines = registry.render().split('\n')
    expect(lines[2]).toBe('traffic{category="a\\"\\\\\\n\ufffd"} 1')
    expect(lines[3]!.length).toBeLessThan(200)
  })

  test('counts series beyond the bound together', () => {
    const registry = new MetricsRegistry()
    const family = registry.counterFamily('traffic', 'By category.', ['category'], 2)
    for (const category of ['a', 'b', 'c', 'd', 'a', '__proto__']) family.with(category).add(1)
    expect([...family.samples()].map(({ labels, value }) => [labels[0]![1], value])).toEqual([
      ['a', 2],
      ['b', 1],
      ['other', 3],
    ])
  })

  test('refuses a name twice and a name that Prometheus cannot read', () => {
    const registry = new MetricsRegistry()
    registry.counter('a', '')
    expect(() => registry.counter('a', '')).toThrow('exists already')
    expect(() => registry.counter('a-b', '')).toThrow('no name')
  })
})
