import { describe, expect, test } from 'vitest'
import { MetricsRegistry } from './metrics.ts'

describe('MetricsRegistry', () => {
  test('renders counters, gauges and histograms as Prometheus reads them', async () => {
    const registry = new MetricsRegistry([['host', 'a']])
    registry.counter('aio_broker_publishes_received', 'PUBLISH packets in.').add(3)
    registry.gauge('aio_broker_store_subscriptions', 'Subscriptions.', () => [
      { labels: [['chain', '0']], value: 1 },
      { labels: [['chain', '1']], value: 2.5 },
    ])
    const histogram = registry.histogram('millrace_commit_seconds', 'Store commits.', [0.001, 0.01])
    for (const value of [0.001, 0.002, 5]) histogram.observe(value)
    expect(await registry.render()).toBe(`# HELP aio_broker_publishes_received PUBLISH packets in.
# TYPE aio_broker_publishes_received counter
aio_broker_publishes_received{host="a"} 3

# HELP aio_broker_store_subscriptions Subscriptions.
# TYPE aio_broker_store_subscriptions gauge
aio_broker_store_subscriptions{chain="0",host="a"} 1
aio_broker_store_subscriptions{chain="1",host="a"} 2.5

# HELP millrace_commit_seconds Store commits.
# TYPE millrace_commit_seconds histogram
millrace_commit_seconds_bucket{le="0.001",host="a"} 1
millrace_commit_seconds_bucket{le="0.01",host="a"} 2
millrace_commit_seconds_bucket{le="+Inf",host="a"} 3
millrace_commit_seconds_sum{host="a"} 5.003
millrace_commit_seconds_count{host="a"} 3
`)
  })

  test('escapes label values and bounds their length', async () => {
    const registry = new MetricsRegistry()
    const family = registry.counterFamily('traffic', 'By category.', ['category'], 10)
    family.with('a"\\\n\ud800').add(1)
    family.with('x'.repeat(1_000)).add(1)
    const lines = (await registry.render()).split('\n')
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

  test('writes numbers and help as Prometheus reads them', async () => {
    const registry = new MetricsRegistry()
    registry.gauge('extremes', 'Of \\\nall.', () =>
      [Infinity, -Infinity, 1e21, 1e-7].map((value, index) => ({ labels: [['n', String(index)]], value })),
    )
    expect((await registry.render()).split('\n')).toEqual([
      '# HELP extremes Of \\\\\\nall.',
      '# TYPE extremes gauge',
      'extremes{n="0"} +Inf',
      'extremes{n="1"} -Inf',
      'extremes{n="2"} 1e+21',
      'extremes{n="3"} 1e-7',
      '',
    ])
  })

  test('keeps series apart whose label values look alike when joined', async () => {
    const registry = new MetricsRegistry()
    const family = registry.counterFamily('traffic', 'By two.', ['a', 'b'], 10)
    family.with('1,b:2', '3').add(1)
    family.with('1', '2,b:3').add(2)
    expect(await registry.render()).toContain('traffic{a="1,b:2",b="3"} 1\ntraffic{a="1",b="2,b:3"} 2\n')
  })

  test('reads on each scrape, and rejects with what a read threw', async () => {
    const registry = new MetricsRegistry()
    let reads = 0
    registry.gauge('reads', '', () => {
      if (++reads === 3) throw new Error('gone')
      return reads
    })
    expect(reads).toBe(0)
    expect(await registry.render()).toContain('\nreads 1\n')
    expect(await registry.render()).toContain('\nreads 2\n')
    await expect(registry.render()).rejects.toThrow('gone')
  })

  test('refuses a name twice and a name that Prometheus cannot read', () => {
    const registry = new MetricsRegistry()
    registry.counter('a', '')
    expect(() => registry.counter('a', '')).toThrow('already been registered')
    expect(() => registry.counter('a-b', '')).toThrow('no name')
  })
})
