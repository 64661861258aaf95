import { beforeEach, describe, expect, test } from 'vitest'
import { ManualClock } from '#shared/base/clock.ts'
import type { OwnerPort } from '#shared/rpc/owner-port.ts'
import { Directory, type Owner, STALE_MS } from './directory.ts'
import { RouteDigest } from './route-digest.ts'
import { RouteTable } from './route-table.ts'

const SHARDS = 4

let clock: ManualClock
let table: RouteTable
let events: string[]
let directory: Directory<TestOwner>

interface TestOwner extends Owner {
  readonly name: string
  readonly asked: string[]
  readonly link: Owner['link'] & { heardMs: number }
}

function owner(name: string): TestOwner {
  const asked: string[] = []
  const calls = {
    wantRoutes: (shard: number) => asked.push(`want ${shard}`),
    routesApplied: (barrier: number) => asked.push(`applied ${barrier}`),
  } as unknown as OwnerPort
  const opened = { name, asked, calls, link: { heardMs: clock.monotonicMs() } as TestOwner['link'] }
  directory.opened(opened)
  return opened
}

function digestOf(...filters: string[]): [number, number] {
  const digest = new RouteDigest()
  for (const filter of filters) digest.add(filter)
  return [digest.count, digest.value]
}

beforeEach(() => {
  clock = new ManualClock()
  table = new RouteTable(SHARDS)
  events = []
  directory = new Directory<TestOwner>({
    shardCount: SHARDS,
    clock,
    routes: table,
    listener: {
      onOwned: (shard, by) => events.push(`owned ${shard} ${by.name}`),
      onFresh: (shard, by) => events.push(`fresh ${shard} ${by.name}`),
      onUnfresh: shard => events.push(`unfresh ${shard}`),
      onLost: (shard, by) => events.push(`lost ${shard} ${by.name}`),
    },
  })
})

describe('Directory', () => {
  test('a shard whose routes are known by their digest is fresh at once; others are asked for', () => {
    const a = owner('a')
    directory.owned(a, 0, 1, 0, 0)
    directory.owned(a, 1, 1, ...digestOf('x', 'y/+'))
    expect(a.asked).toEqual(['want 1'])
    expect([0, 1].map(shard => directory.isFresh(shard))).toEqual([true, false])
    directory.routes(a, 1, 0, true, ['x'], [])
    expect(directory.isFresh(1)).toBe(false)
    directory.routes(a, 1, 7, false, ['y/+'], [])
    expect(directory.isFresh(1)).toBe(true)
    expect(a.asked).toEqual(['want 1', 'applied 7'])
    expect(table.match('y/z').shards).toEqual([1])
    expect(directory.waitingFor()).toEqual(['shards 2-3'])
  })

  test('routes that change before the whole list has come do not make a shard fresh', () => {
    const a = owner('a')
    directory.owned(a, 1, 1, ...digestOf('x'))
    directory.routes(a, 1, 3, false, ['late'], [])
    expect(directory.isFresh(1)).toBe(false)
    directory.routes(a, 1, 4, true, ['x'], [])
    expect(directory.isFresh(1)).toBe(true)
    expect(table.match('late').shards).toEqual([])
  })

  test('a whole list that comes again, in parts, makes the shard wait for its end', () => {
    const a = owner('a')
    directory.owned(a, 1, 1, ...digestOf('x', 'y'))
    directory.owned(a, 1, 2, ...digestOf('x', 'y'))
    expect(a.asked).toEqual(['want 1', 'want 1'])
    directory.routes(a, 1, 1, true, ['x', 'y'], [])
    expect(directory.isFresh(1)).toBe(true)
    directory.routes(a, 1, 0, true, ['x'], [])
    expect(directory.isFresh(1)).toBe(false)
    directory.routes(a, 1, 2, false, ['y'], [])
    expect(directory.isFresh(1)).toBe(true)
  })

  test('the highest epoch wins, whoever speaks later', () => {
    const [a, b] = [owner('a'), owner('b')]
    directory.owned(a, 0, 5, 0, 0)
    directory.owned(b, 0, 6, 0, 0)
    directory.owned(a, 0, 5, 0, 0)
    directory.lost(a, 0)
    directory.routes(a, 0, 9, false, ['x'], [])
    expect(directory.ownerOf(0)).toBe(b)
    expect(table.match('x').shards).toEqual([])
    expect(a.asked).toEqual(['applied 9'])
    expect(events).toEqual(['owned 0 a', 'fresh 0 a', 'unfresh 0', 'lost 0 a', 'owned 0 b', 'fresh 0 b'])
  })

  test('a closed link leaves its shards without owner; the same epoch comes back by another link', () => {
    const a = owner('a')
    for (let shard = 0; shard < SHARDS; shard++) directory.owned(a, shard, 1, 0, 0)
    expect(directory.isAllFresh).toBe(true)
    directory.closed(a)
    expect(directory.isAllFresh).toBe(false)
    expect(directory.waitingFor()).toEqual(['shards 0-3'])
    directory.owned(a, 0, 1, 0, 0)
    expect(directory.ownerOf(0)).toBeNull()
    const again = owner('again')
    directory.owned(again, 0, 1, 0, 0)
    expect(directory.isFresh(0)).toBe(true)
  })

  test('an owner that is not heard of is stale until it is', () => {
    const a = owner('a')
    directory.owned(a, 0, 1, 0, 0)
    clock.advance(STALE_MS)
    directory.tick()
    expect(directory.isFresh(0)).toBe(true)
    clock.advance(1)
    directory.tick()
    expect(directory.isFresh(0)).toBe(false)
    expect(directory.ownerOf(0)).toBe(a)
    a.link.heardMs = clock.monotonicMs()
    directory.tick()
    expect(events).toEqual(['owned 0 a', 'fresh 0 a', 'unfresh 0', 'fresh 0 a'])
  })

  test('every change of what counts has a version of its own', () => {
    const a = owner('a')
    const versions = [directory.version]
    directory.owned(a, 0, 1, 0, 0)
    versions.push(directory.version)
    directory.lost(a, 0)
    versions.push(directory.version)
    directory.tick()
    expect(directory.version).toBe(versions.at(-1))
    expect(new Set(versions).size).toBe(3)
  })
})
