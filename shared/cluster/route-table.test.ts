import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { filterMatches } from '#shared/mqtt/topic.ts'
import { RouteDigest } from './route-digest.ts'
import { RouteTable } from './route-table.ts'

const SHARDS = 8
const level = fc.constantFrom('a', 'b', 'ab', '', '$x', 'long-level-name')
const topic = fc
  .array(level, { minLength: 1, maxLength: 4 })
  .map(levels => levels.join('/'))
  .filter(name => name !== '')
const filter = fc
  .tuple(fc.array(fc.oneof(level, fc.constant('+')), { minLength: 0, maxLength: 4 }), fc.boolean())
  .map(([levels, multi]) => [...levels, ...(multi ? ['#'] : [])].join('/'))
  .filter(text => text !== '')
const shard = fc.nat(SHARDS - 1)
const change = fc.oneof(
  { weight: 6, arbitrary: fc.record({ is: fc.constant('add' as const), shard, filter }) },
  { weight: 3, arbitrary: fc.record({ is: fc.constant('remove' as const), shard, filter }) },
  { weight: 1, arbitrary: fc.record({ is: fc.constant('forget' as const), shard, filter }) },
)

class Reference {
  readonly shards: Set<string>[] = Array.from({ length: SHARDS }, () => new Set<string>())

  match(name: string): number[] {
    return this.shards.flatMap((filters, at) => ([...filters].some(one => filterMatches(one, name)) ? [at] : []))
  }
}

describe('RouteTable', () => {
  test('finds what filterMatches finds, whatever was added and removed; what is still valid is still right', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 60 }), fc.array(topic, { minLength: 1, maxLength: 8 }), (changes, topics) => {
        const table = new RouteTable(SHARDS)
        const reference = new Reference()
        const kept = topics.map(name => table.resolve(name))
        for (const one of changes) {
          if (one.is === 'forget') reference.shards[one.shard]!.clear()
          else if (one.is === 'add') reference.shards[one.shard]!.add(one.filter)
          else reference.shards[one.shard]!.delete(one.filter)
          if (one.is === 'forget') table.forget(one.shard)
          else table[one.is](one.shard, one.filter)
          topics.forEach((name, at) => {
            if (!kept[at]!.isCurrent) kept[at] = table.resolve(name)
            expect(kept[at]!.targets.shards).toEqual(reference.match(name))
            expect(table.matches(name, one.shard)).toBe(reference.match(name).includes(one.shard))
          })
        }
        reference.shards.forEach((filters, at) => {
          const digest = new RouteDigest()
          for (const text of filters) digest.add(text)
          expect({ count: table.digest(at).count, value: table.digest(at).value }).toEqual({ count: digest.count, value: digest.value })
        })
      }),
      { numRuns: 150, seed: 1 },
    )
  })

  test('the version changes with every change and with nothing else', () => {
    const table = new RouteTable(SHARDS)
    const versions = [table.version]
    const step = (act: () => void): void => {
      act()
      versions.push(table.version)
    }
    step(() => table.add(1, 'a/b'))
    step(() => table.add(2, 'a/+'))
    step(() => table.remove(1, 'a/b'))
    step(() => table.forget(2))
    expect(new Set(versions).size).toBe(versions.length)
    const before = table.version
    table.remove(1, 'a/b')
    table.forget(2)
    expect(table.match('a/b').shards).toEqual([])
    expect(table.version).toBe(before)
  })

  test('a subscription to a topic of its own leaves what others resolved valid', () => {
    const table = new RouteTable(SHARDS)
    const resolved = table.resolve('devices/1/command')
    for (let device = 2; device < 50; device++) table.add(device % SHARDS, `devices/${device}/command`)
    expect(resolved.isCurrent).toBe(true)
    table.add(3, 'devices/+/command')
    expect(resolved.isCurrent).toBe(false)
  })

  test('topics with the same shards share one list', () => {
    const table = new RouteTable(SHARDS)
    for (const at of [4, 1]) table.add(at, 'a/#')
    table.add(1, 'b/c')
    table.add(4, 'b/+')
    expect(table.match('a')).toBe(table.match('b/c'))
    expect(table.match('a').shards).toEqual([1, 4])
  })
})
