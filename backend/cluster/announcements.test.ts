import { describe, expect, test } from 'vitest'
import { ManualClock } from '#shared/base/clock.ts'
import { RouteDigest } from '#shared/cluster/route-digest.ts'
import type { CallerPort } from '#shared/rpc/caller-port.ts'
import { SeededRandom } from '#shared/testing/seeded-random.ts'
import { NEVER } from '../backend-rig.contract.ts'
import { BARRIER_WAIT_MAX_MS, RouteAnnouncements, type RouteFollower } from './announcements.ts'
import { ClusterRig } from './cluster-rig.contract.ts'

/** A caller that keeps the routes that it is told. */
class Follower implements RouteFollower {
  readonly key: string
  readonly calls: CallerPort
  applied: number
  heardMs: number
  readonly routes = new Map<number, Set<string>>()
  readonly owned = new Map<number, { readonly count: number; readonly value: number }>()
  lastBarrier = 0
  ignoresUnowned = false

  constructor(key: string, applied: number, heardMs: number) {
    this.key = key
    this.heardMs = heardMs
    this.applied = applied
    const told: Pick<CallerPort, 'owned' | 'routes'> = {
      owned: (shard, _epoch, count, value) => this.owned.set(shard, { count, value }),
      routes: (shard, barrier, isWhole, added, removed) => {
        if (barrier > 0) this.lastBarrier = barrier
        // As the directory does with a shard that is not known to be there.
        if (this.ignoresUnowned && !this.owned.has(shard)) return
        const routes = isWhole ? new Set<string>() : this.of(shard)
        // Each announcement says what is new.
        for (const filter of added) expect(routes.has(filter)).toBe(false)
        for (const filter of removed) expect(routes.has(filter)).toBe(true)
        for (const filter of removed) routes.delete(filter)
        for (const filter of added) routes.add(filter)
        this.routes.set(shard, routes)
      },
    }
    this.calls = told as CallerPort
  }

  of(shard: number): Set<string> {
    return this.routes.get(shard) ?? new Set()
  }
}

function open(shardCount = 3) {
  const clock = new ManualClock()
  const followers: Follower[] = []
  const registered: string[] = []
  const serving = new Set<number>()
  const announcements = new RouteAnnouncements({
    shardCount,
    clock,
    followers: () => followers,
    registered: () => registered,
    serving: shard => serving.has(shard),
  })
  const follow = (key: string): Follower => {
    const follower = new Follower(key, announcements.barrier, clock.monotonicMs())
    followers.push(follower)
    return follower
  }
  return { clock, followers, registered, serving, announcements, follow }
}

function digestOf(filters: Iterable<string>): { count: number; value: number } {
  const digest = new RouteDigest()
  for (const filter of filters) digest.add(filter)
  return { count: digest.count, value: digest.value }
}

describe('routes', () => {
  test('are announced when the first subscriber comes and the last goes, at the end of the turn; not those that come and go within it', () => {
    const { serving, announcements, follow } = open()
    serving.add(0)
    const follower = follow('f/1')
    announcements.add(0, 'a')
    announcements.add(0, 'a')
    announcements.add(0, 'b')
    announcements.remove(0, 'b')
    expect(follower.of(0)).toEqual(new Set())
    announcements.flush()
    expect(follower.of(0)).toEqual(new Set(['a']))
    announcements.remove(0, 'a')
    announcements.flush()
    expect(follower.of(0)).toEqual(new Set(['a']))
    announcements.remove(0, 'a')
    announcements.add(0, 'a')
    announcements.flush()
    announcements.remove(0, 'a')
    announcements.flush()
    expect(follower.of(0)).toEqual(new Set())
  })

  test('of many filters come in parts, the barrier with the last', () => {
    const { serving, announcements, follow } = open()
    serving.add(0)
    for (let i = 0; i < 10_000; i++) announcements.add(0, `f/${i}`)
    announcements.flush()
    const late = follow('f/1')
    announcements.announceAll(late.calls, 0)
    expect(late.of(0).size).toBe(10_000)
    expect(late.lastBarrier).toBe(announcements.barrier)
  })

  test.each(Array.from({ length: 20 }, (_, seed) => seed))('digest and lists agree with everybody after anything: seed %i', seed => {
    const random = new SeededRandom(seed)
    const { serving, announcements, follow, followers } = open()
    const model = Array.from({ length: 3 }, () => new Map<string, number>())
    const check = (follower: Follower, shard: number): void => {
      expect(digestOf(follower.of(shard))).toEqual(digestOf(model[shard]!.keys()))
    }
    for (let step = 0; step < 400; step++) {
      const shard = random.int(0, 2)
      const counts = model[shard]!
      const filter = `t/${random.int(0, 5)}`
      if (random.chance(0.4)) {
        announcements.add(shard, filter)
        counts.set(filter, (counts.get(filter) ?? 0) + 1)
      } else if (counts.has(filter)) {
        announcements.remove(shard, filter)
        if (counts.get(filter) === 1) counts.delete(filter)
        else counts.set(filter, counts.get(filter)! - 1)
      }
      if (random.chance(0.2)) announcements.flush()
      if (random.chance(0.03)) {
        serving.delete(shard)
        announcements.clear(shard)
        counts.clear()
        for (const follower of followers) follower.owned.delete(shard)
        for (const follower of followers) follower.routes.delete(shard)
      }
      if (random.chance(0.05) && !serving.has(shard)) {
        serving.add(shard)
        for (const follower of followers) {
          announcements.announceOwned(follower.calls, shard, 1)
          expect(follower.owned.get(shard)).toEqual(digestOf(counts.keys()))
          announcements.announceAll(follower.calls, shard)
        }
      }
      if (random.chance(0.02) && followers.length < 4) {
        const follower = follow(`f/${followers.length}`)
        follower.ignoresUnowned = true
        for (const own of serving) {
          announcements.announceOwned(follower.calls, own, 1)
          announcements.announceAll(follower.calls, own)
        }
      }
    }
    announcements.flush()
    for (const follower of followers) for (const shard of serving) check(follower, shard)
  })
})

describe('waiting for callers', () => {
  test('is over at once when all have what was announced, else when the last says so', () => {
    const { serving, announcements, follow } = open()
    serving.add(0)
    const [one, two] = [follow('f/1'), follow('f/2')]
    const done: string[] = []
    announcements.whenApplied(() => done.push('nothing new'))
    announcements.add(0, 'a')
    announcements.whenApplied(() => done.push('a'))
    announcements.onApplied(one, 1_000_000)
    expect(done).toEqual(['nothing new'])
    one.applied = 1
    announcements.flush()
    announcements.onApplied(one, one.lastBarrier)
    expect(done).toEqual(['nothing new'])
    announcements.onApplied(two, two.lastBarrier)
    expect(done).toEqual(['nothing new', 'a'])
  })

  test('ends when a caller is gone, and not before one that is registered has come', () => {
    const { serving, announcements, follow, followers, registered } = open()
    serving.add(0)
    registered.push('f/1', 'f/2')
    follow('f/1')
    announcements.add(0, 'a')
    let isDone = false
    announcements.whenApplied(() => {
      isDone = true
    })
    announcements.flush()
    followers.length = 0
    registered.shift()
    announcements.check()
    expect(isDone).toBe(false)
    follow('f/2')
    announcements.check()
    expect(isDone).toBe(true)
  })

  test('lasts as long as a caller that has not confirmed is heard of', () => {
    const { clock, serving, announcements, follow } = open()
    serving.add(0)
    const slow = follow('f/1')
    announcements.add(0, 'a')
    let isDone = false
    announcements.whenApplied(() => {
      isDone = true
    })
    announcements.flush()
    for (let second = 0; second < 5; second++) {
      clock.advance(1_000)
      slow.heardMs = clock.monotonicMs()
      announcements.check()
    }
    expect(isDone).toBe(false)
    announcements.onApplied(slow, slow.lastBarrier)
    expect(isDone).toBe(true)
  })

  test('lasts a second longer than the link of a caller that may not have noticed its end', () => {
    const { clock, serving, announcements, follow, followers, registered } = open()
    serving.add(0)
    registered.push('f/1')
    follow('f/1')
    announcements.add(0, 'a')
    let isDone = false
    announcements.whenApplied(() => {
      isDone = true
    })
    announcements.flush()
    clock.advance(900)
    followers.length = 0
    announcements.onClosed('f/1')
    clock.advance(999)
    announcements.check()
    expect(isDone).toBe(false)
    clock.advance(1)
    announcements.check()
    expect(isDone).toBe(true)
  })

  test('lasts no longer than a second for one that is not heard of', () => {
    const { clock, serving, announcements, follow } = open()
    serving.add(0)
    follow('f/1')
    announcements.add(0, 'a')
    let isDone = false
    announcements.whenApplied(() => {
      isDone = true
    })
    announcements.flush()
    clock.advance(BARRIER_WAIT_MAX_MS - 1)
    announcements.check()
    expect(isDone).toBe(false)
    clock.advance(1)
    announcements.check()
    expect(isDone).toBe(true)
  })
})

describe('SUBACK', () => {
  test('leaves when every frontend has the route: whoever publishes then reaches the subscriber', async () => {
    const rig = await ClusterRig.open({ frontends: ['f', 'g'] })
    const client = await rig.frontend('f').connect(rig.keyIn(0, 'c'), { expirySeconds: NEVER })
    rig.frontend('g').manners.appliesRoutes = false
    client.subscribe('x', { qos: 1 })
    await rig.advance(2_000)
    expect(client.take()).toEqual([])
    rig.cut('g', 'a')
    await rig.advance(900)
    expect(client.take()).toEqual([])
    await rig.advance(200)
    expect(client.take()).toMatchObject([{ is: 'subscribed' }])
    rig.heal()
    await rig.settle()
    client.subscribe('y', { qos: 1 })
    await rig.advance(200)
    expect(client.take()).toEqual([])
    rig.cut('g', 'a')
    rig.heal()
    await rig.settle()
    expect(client.take()).toMatchObject([{ is: 'subscribed' }])
  })

  test('a filter that is known already is answered at once', async () => {
    const rig = await ClusterRig.open()
    const [one, two] = await Promise.all([0, 1].map(i => rig.frontend().connect(rig.keyIn(0, `c${i}-`), { expirySeconds: NEVER })))
    one!.subscribe('x')
    await rig.settle()
    rig.frontend().manners.appliesRoutes = false
    two!.subscribe('x')
    await rig.settle()
    expect(two!.take()).toMatchObject([{ is: 'subscribed' }])
  })
})
