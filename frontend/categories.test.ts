import { describe, expect, test } from 'vitest'
import { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { Categories } from './categories.ts'

function countOne(categories: Categories, name: string): void {
  categories.of([['metriccategory', name]]).authenticationDenied++
}

describe('names come from clients that nobody has let in yet', () => {
  test('no two series have the same labels, however long the names are: such a page cannot be read', async () => {
    const categories = new Categories()
    const beginning = 'x'.repeat(128)
    for (const name of [beginning, `${beginning}a`, `${beginning}b`, `${'x'.repeat(127)}😀`, '😀'.repeat(64), '😀'.repeat(32_000)]) {
      countOne(categories, name)
    }
    const metrics = new MetricsRegistry()
    metrics.counterFrom('denied_total', 'test', () => categories.samples('authenticationDenied'))
    const lines = (await metrics.render()).split('\n').filter(line => line.startsWith('denied_total'))
    expect(new Set(lines.map(line => line.slice(0, line.lastIndexOf(' ')))).size).toBe(lines.length)
    expect(lines).toContain('denied_total{category="other"} 4')
    expect(categories.total('authenticationDenied')).toBe(6)
  })

  test('twenty of them are counted apart, the others together', () => {
    const categories = new Categories()
    for (let i = 0; i < 1_000; i++) countOne(categories, `name-${i}`)
    const samples = [...categories.samples('authenticationDenied')]
    expect(samples).toHaveLength(22)
    expect(samples.find(({ labels }) => labels[0]![1] === 'other')?.value).toBe(980)
  })
})
