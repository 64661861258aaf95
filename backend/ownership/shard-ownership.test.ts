import { beforeEach, describe, expect, test } from 'vitest'
import { LEASE_MS } from '#shared/cluster/member.ts'
import { ownersOf } from '#shared/cluster/rendezvous.ts'
import { SeededRandom } from '#shared/testing/seeded-random.ts'
import { ClusterSim, type SimBackend } from './cluster-sim.contract.ts'

const SHARDS = 32
/** Registered, settled and claimed. */
const START_MS = 2_500
/** Half of the shards, two at a time. */
const MOVES_MS = 6_000

let sim: ClusterSim
beforeEach(() => {
  sim = new ClusterSim(new SeededRandom(1), SHARDS)
})

function assigned(...ids: string[]): string[] {
  return ownersOf(SHARDS, ids)
}

function shardOfOwner(owner: string, owners: readonly string[]): number {
  return owners.indexOf(owner)
}

async function started(...ids: string[]): Promise<SimBackend[]> {
  const backends = ids.map(id => sim.add(id))
  await sim.run(START_MS)
  expect(sim.owners()).toEqual(assigned(...ids))
  return backends
}

function callsOf(backend: SimBackend, name: string): readonly string[] {
  return backend.calls.filter(call => call.startsWith(name))
}

describe('who owns what', () => {
  test('a backend alone claims everything, and is ready then', async () => {
    const a = sim.add('a')
    expect(a.ownership.isReady).toBe(false)
    expect(a.ownership.problems()).toEqual(['no lease: the registry of members does not answer'])
    await sim.run(START_MS)
    expect(sim.owners()).toEqual(assigned('a'))
    expect(a.ownership.isReady).toBe(true)
    expect(a.ownership.problems()).toEqual([])
    expect(a.ownership.owned()).toHaveLength(SHARDS)
    expect(a.ownership.counters.claims).toBe(SHARDS)
  })

  test('backends that start together claim each its own, and nothing moves', async () => {
    const backends = await started('a', 'b', 'c')
    for (const backend of backends) expect(backend.ownership.counters).toMatchObject({ moves: 0, failovers: 0, released: 0 })
  })

  test('one that joins prepares and moves what is its own, one at a time; nothing is served twice', async () => {
    const [a] = await started('a')
    const b = sim.add('b')
    let mostPrepared = 0
    for (let step = 0; step < MOVES_MS / 5; step++) {
      await sim.run(5)
      mostPrepared = Math.max(mostPrepared, b.prepared.size)
    }
    expect(sim.owners()).toEqual(assigned('a', 'b'))
    expect(mostPrepared).toBe(1)
    expect(b.ownership.counters).toMatchObject({ moves: SHARDS / 2, failovers: 0 })
    expect(a!.ownership.counters).toMatchObject({ released: SHARDS / 2, fenced: 0 })
    expect(sim.violations).toEqual([])
  })

  test('a backend that is evicted is followed at once, one that is silent after its lease', async () => {
    const [a, b, c] = await started('a', 'b', 'c')
    sim.remove(b!)
    void a!.membership.evict('b', b!.instance)
    await sim.run(600)
    expect(sim.owners()).toEqual(assigned('a', 'c'))
    sim.remove(c!)
    await sim.run(LEASE_MS - 1_500)
    expect(sim.owners()).toContain('')
    await sim.run(3_000)
    expect(sim.owners()).toEqual(assigned('a'))
    expect(a!.ownership.counters.failovers + c!.ownership.counters.failovers).toBeGreaterThan(0)
  })

  test('a backend that starts anew under its name takes its own back, without waiting for the old lease', async () => {
    const [, b] = await started('a', 'b')
    sim.remove(b!)
    const again = sim.add('b')
    await sim.run(START_MS)
    expect(sim.owners()).toEqual(assigned('a', 'b'))
    expect(again.ownership.counters).toMatchObject({ failovers: SHARDS / 2, moves: 0 })
    expect(callsOf(again, 'prepare')).toEqual([])
  })

  test('what nobody serves goes before what another does', async () => {
    sim = new ClusterSim(new SeededRandom(1), 128)
    const [a, b] = ['a', 'b'].map(id => sim.add(id))
    await sim.run(START_MS)
    const d = sim.add('d')
    await sim.run(1_700)
    expect(d.prepared.size).toBeGreaterThan(0)
    const owners = sim.owners()
    sim.remove(b!)
    void d.membership.evict('b', b!.instance)
    const first = d.calls.length
    sim.speed = { ...sim.speed, storeMs: 50 }
    await sim.run(20_000)
    const own = ownersOf(128, ['a', 'd'])
    expect(sim.owners()).toEqual(own)
    const dead = owners.flatMap((owner, shard) => (owner === 'b' && own[shard] === 'd' ? [shard] : []))
    const calls = d.calls.slice(first)
    const taken = dead.map(shard => calls.findIndex(call => call.startsWith(`take ${shard} `))).sort((x, y) => x - y)
    // While more than the last eight wait, no move begins: only one that did before the death of b was known.
    const prepared = calls.slice(0, taken.at(-8)).filter(call => call.startsWith('prepare'))
    expect(dead.length).toBeGreaterThan(24)
    expect(prepared.length).toBeLessThanOrEqual(1)
    expect(a!.ownership.counters.failovers).toBeGreaterThan(0)
    expect(sim.violations).toEqual([])
  })
})

describe('the owner is asked', () => {
  test('and lets go only what the assignment gives to whoever asks', async () => {
    const [a] = await started('a', 'b')
    const owners = sim.owners()
    const own = shardOfOwner('a', owners)
    const answers = Promise.all(['b', 'c', 'a'].map(from => a!.ownership.onRequestShard(from, own)))
    await sim.run(200)
    // Even to ourselves, who would never ask: it would only be taken again.
    expect((await answers).slice(0, 2)).toEqual([false, false])
    expect(await a!.ownership.onRequestShard('b', 999)).toBe(false)
    expect(await a!.ownership.onRequestShard('b', -1)).toBe(false)
  })

  test('two that ask at the same time get one answer, after one stop', async () => {
    const [a] = await started('a')
    sim.add('b')
    await sim.run(20)
    const shard = shardOfOwner('b', assigned('a', 'b'))
    const answers = Promise.all([a!.ownership.onRequestShard('b', shard), a!.ownership.onRequestShard('b', shard)])
    await sim.run(300)
    expect(await answers).toEqual([true, true])
    expect(callsOf(a!, `stop ${shard}`).filter(call => call === `stop ${shard}`)).toHaveLength(1)
  })

  test('what it does not serve, it need not keep', async () => {
    const [a] = await started('a', 'b')
    const shard = shardOfOwner('b', sim.owners())
    const answer = a!.ownership.onRequestShard('b', shard)
    await sim.run(100)
    expect(await answer).toBe(true)
    expect(sim.owners()[shard]).toBe('b')
  })

  test('a flush that fails: dropped, links closed, and taken over all the same', async () => {
    const [a] = await started('a')
    a!.stop = () => Promise.reject(new Error('disk'))
    sim.add('b')
    await sim.run(60_000)
    expect(sim.owners()).toEqual(assigned('a', 'b'))
    expect(a!.linksClosed).toContain('failed')
    expect(a!.log.events).toContain('shard_stop_failed')
  })
})

describe('a lease that lapses', () => {
  test('drops everything, closes links, and claims anew when the registry is back', async () => {
    const [a] = await started('a')
    sim.cutOff.add('a')
    await sim.run(LEASE_MS + 500)
    expect(sim.owners().every(owner => owner === '')).toBe(true)
    expect(callsOf(a!, 'drop')).toHaveLength(SHARDS)
    expect(a!.linksClosed).toEqual(['lapsed'])
    expect(a!.ownership.isReady).toBe(false)
    sim.cutOff.clear()
    await sim.run(START_MS)
    expect(sim.owners()).toEqual(assigned('a'))
    expect(a!.ownership.owned().every(({ epoch }) => epoch === 2)).toBe(true)
    expect(a!.ownership.counters.lapses).toBe(1)
  })

  test('a process that stood still answers nothing any more, before its timers have fired', async () => {
    const [a, b] = await started('a', 'b')
    b!.pause()
    await sim.run(10_000)
    expect(sim.owners()).toEqual(assigned('a'))
    b!.state = 'running'
    for (let shard = 0; shard < SHARDS; shard++) expect(b!.ownership.mayServe(shard)).toBe(false)
    expect(b!.serving.size).toBe(0)
    expect(a!.ownership.owned()).toHaveLength(SHARDS)
  })

  test('all lose the registry for a while: each gets its own again, nothing moves', async () => {
    const backends = await started('a', 'b', 'c')
    sim.cutOff.add('*')
    await sim.run(10_000)
    expect(sim.owners().every(owner => owner === '')).toBe(true)
    sim.cutOff.clear()
    await sim.run(START_MS)
    expect(sim.owners()).toEqual(assigned('a', 'b', 'c'))
    for (const backend of backends) expect(backend.ownership.counters).toMatchObject({ moves: 0, failovers: 0 })
  })
})

test('a claim that is answered after the lease has lapsed, and begun anew, is not served but made again', async () => {
  const a = sim.add('a')
  await sim.run(1_200)
  sim.speed = { ...sim.speed, storeMs: 4_000 }
  await sim.run(1_500)
  sim.cutOff.add('a')
  await sim.run(LEASE_MS + 500)
  sim.cutOff.clear()
  sim.speed = { ...sim.speed, storeMs: 5 }
  await sim.run(10_000)
  expect(a.ownership.counters.lapses).toBe(1)
  expect(sim.owners()).toEqual(assigned('a'))
  expect([...a.serving.keys()]).toHaveLength(SHARDS)
  expect(sim.violations).toEqual([])
})

describe('fenced', () => {
  test('the store refuses: dropped, links closed, and looked up again', async () => {
    const [a] = await started('a')
    const before = sim.shards.get(3)!.owner
    sim.shards.set(3, { owner: { epoch: before.epoch + 1, id: 'x', instance: 'x-1', isReleased: false } })
    a!.ownership.onFenced(3)
    expect(a!.serving.has(3)).toBe(false)
    expect(a!.linksClosed).toEqual(['fenced'])
    await sim.run(500)
    expect(a!.serving.get(3)).toBe(before.epoch + 2)
    expect(a!.ownership.counters).toMatchObject({ fenced: 1, failovers: 1 })
  })

  test('an owner that nothing tells finds out by itself', async () => {
    const [a] = await started('a')
    for (const [shard, record] of sim.shards) {
      sim.shards.set(shard, { owner: { ...record.owner, epoch: record.owner.epoch + 1, instance: 'a-0' } })
    }
    await sim.run(4_000)
    expect(a!.ownership.counters.fenced).toBe(SHARDS)
    expect(sim.owners()).toEqual(assigned('a'))
  })

  test('another that announces the shard with a higher epoch is right; with a lower one it is late', async () => {
    const [a] = await started('a')
    a!.ownership.onOwnedElsewhere(3, 1)
    expect(a!.serving.has(3)).toBe(true)
    a!.ownership.onOwnedElsewhere(3, 2)
    expect(a!.serving.has(3)).toBe(false)
    a!.ownership.onFenced(999)
  })
})

describe('a shard that cannot be read', () => {
  test('is a problem, logged once, tried less and less often; the others are served', async () => {
    const a = sim.add('a')
    a.unreadable.add(5)
    await sim.run(30_000)
    expect(sim.owners().filter(owner => owner === 'a')).toHaveLength(SHARDS - 1)
    expect(a.ownership.problems()).toEqual(['shard 5: unreadable'])
    expect(a.ownership.isReady).toBe(false)
    expect(a.log.events.filter(event => event === 'shard_not_taken')).toHaveLength(1)
    expect(callsOf(a, 'take 5 ').length).toBeLessThan(7)
    expect(sim.shards.get(5)!.owner.isReleased).toBe(true)
    a.unreadable.clear()
    await sim.run(31_000)
    expect(a.ownership.problems()).toEqual([])
    expect(a.ownership.isReady).toBe(true)
  })

  test('is left with its owner when another cannot read it', async () => {
    const [a] = await started('a')
    const b = sim.add('b')
    const shard = shardOfOwner('b', assigned('a', 'b'))
    b.unreadable.add(shard)
    await sim.run(MOVES_MS)
    expect(a!.answersFor(shard)).toBe(true)
    expect(b.ownership.problems()).toEqual([`shard ${shard}: unreadable`])
    expect(b.prepared.size).toBe(0)
  })
})

describe('draining', () => {
  async function drained(backend: SimBackend, boundMs: number): Promise<{ isOver: boolean }> {
    const state = { isOver: false }
    void backend.ownership.drain(boundMs).then(() => {
      state.isOver = true
    })
    expect(backend.ownership.drain(0)).toBe(backend.ownership.drain(0))
    await sim.run(5)
    return state
  }

  test('others take everything, in order', async () => {
    const [a, b] = await started('a', 'b')
    const state = await drained(a!, 60_000)
    await sim.run(MOVES_MS)
    expect(state.isOver).toBe(true)
    expect(sim.owners()).toEqual(assigned('b'))
    expect(b!.ownership.counters).toMatchObject({ moves: SHARDS / 2, failovers: 0 })
    expect(a!.ownership.isReady).toBe(false)
    await sim.run(1_000)
    expect(a!.ownership.owned()).toEqual([])
  })

  test('alone it lets go of everything at once', async () => {
    const [a] = await started('a')
    const state = await drained(a!, 60_000)
    await sim.run(1_000)
    expect(state.isOver).toBe(true)
    expect([...sim.shards.values()].every(({ owner }) => owner.isReleased)).toBe(true)
    expect(callsOf(a!, 'released')).toHaveLength(SHARDS)
  })

  test('all at the same time do the same', async () => {
    const backends = await started('a', 'b', 'c')
    const states = await Promise.all(backends.map(backend => drained(backend, 60_000)))
    await sim.run(2_500)
    expect(states.every(state => state.isOver)).toBe(true)
  })

  test('what nobody takes in time is let go, so that others claim it without asking', async () => {
    const [a, b] = await started('a', 'b')
    b!.pause()
    const state = await drained(a!, 1_000)
    await sim.run(2_000)
    expect(state.isOver).toBe(true)
    expect([...sim.shards.values()].filter(({ owner }) => owner.id === 'a').every(({ owner }) => owner.isReleased)).toBe(true)
    b!.resume()
    await sim.run(START_MS)
    expect(sim.owners()).toEqual(assigned('b'))
  })

  test('a store that does not answer does not hold it up for ever', async () => {
    const [a] = await started('a')
    sim.stopStore()
    const state = await drained(a!, 1_000)
    await sim.run(8_000)
    expect(state.isOver).toBe(true)
    expect(callsOf(a!, 'drop').length).toBeGreaterThan(0)
  })

  test('without a lease there is nothing to wait for', async () => {
    const [a] = await started('a')
    sim.cutOff.add('a')
    await sim.run(LEASE_MS + 100)
    const state = await drained(a!, 60_000)
    await sim.run(2_000)
    expect(state.isOver).toBe(true)
  })
})

test('stopped, it does nothing any more', async () => {
  const [a] = await started('a')
  a!.ownership.stop()
  const calls = a!.calls.length
  sim.cutOff.add('a')
  await sim.run(10_000)
  expect(a!.calls).toHaveLength(calls)
  expect(await a!.ownership.onRequestShard('b', 1)).toBe(false)
})
