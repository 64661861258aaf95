import { beforeEach, describe, expect, test } from 'vitest'
import { ManualTimers } from '#shared/base/timers.ts'
import { ClusterRun, type RunRegistry } from './cluster-run.ts'
import { HEARTBEAT_MS, LEASE_MS, type Member } from './member.ts'

/** As Redis keeps it. */
class MemoryRuns implements RunRegistry {
  isAway = false
  #run: string | null = null
  #endsMs = 0

  joinRun(proposal: string): Promise<string | null> {
    if (this.isAway) return Promise.reject(new Error('away'))
    const run = (this.#run !== null && timers.nowMs() < this.#endsMs ? this.#run : null) ?? (proposal || null)
    if (run !== null) this.#endsMs = timers.nowMs() + LEASE_MS
    this.#run = run
    return Promise.resolve(run)
  }

  endRun(): Promise<void> {
    this.#run = null
    return Promise.resolve()
  }
}

let timers: ManualTimers
let runs: MemoryRuns
let living: Map<string, Member>
let known: string[]

beforeEach(() => {
  timers = new ManualTimers()
  runs = new MemoryRuns()
  living = new Map()
  known = []
})

/** A backend process that is a member. */
function start(id: string, instance: string): ClusterRun {
  const self: Member = { role: 'backend', id, instance, address: '', isLeaving: false }
  living.set(id, self)
  const membership = { isAlive: true, self, membersOf: () => [...living.values()] }
  const run = new ClusterRun({ membership, registry: runs, timers, onKnown: found => known.push(`${instance} ${found}`) })
  run.start()
  return run
}

function stop(id: string, run: ClusterRun): void {
  living.delete(id)
  run.stop()
}

async function pass(ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 100) {
    await new Promise(resolve => setImmediate(resolve))
    timers.advance(100)
  }
  await new Promise(resolve => setImmediate(resolve))
}

describe('a run of the cluster', () => {
  test('begins with the first backend, and later ones are part of it', async () => {
    const a = start('a', 'a1')
    await pass(100)
    const b = start('b', 'b1')
    await pass(10 * LEASE_MS)
    expect([a.id, b.id, known]).toEqual(['a1', 'a1', ['a1 a1', 'b1 a1']])
  })

  test('goes on while one is left, whichever', async () => {
    const a = start('a', 'a1')
    await pass(100)
    const b = start('b', 'b1')
    await pass(HEARTBEAT_MS)
    stop('a', a)
    await pass(3 * LEASE_MS)
    const again = start('a', 'a2')
    await pass(100)
    stop('b', b)
    await pass(3 * LEASE_MS)
    expect(again.id).toBe('a1')
  })

  test('is another one when all had stopped for the lease', async () => {
    const a = start('a', 'a1')
    await pass(100)
    stop('a', a)
    await pass(LEASE_MS)
    start('a', 'a2')
    await pass(100)
    expect(known).toEqual(['a1 a1', 'a2 a2'])
  })

  test('is another one at once when the last has left in order', async () => {
    const a = start('a', 'a1')
    await pass(100)
    living.delete('a')
    await a.end()
    start('a', 'a2')
    await pass(100)
    expect(known).toEqual(['a1 a1', 'a2 a2'])
  })

  test('is brought back by those that were part of it after the registry was away, not begun by one that starts then', async () => {
    const a = start('a', 'a1')
    await pass(100)
    runs.isAway = true
    const b = start('b', 'b1')
    await pass(2 * LEASE_MS)
    expect(b.id).toBeNull()
    runs.isAway = false
    await pass(HEARTBEAT_MS + 200)
    expect([a.id, b.id]).toEqual(['a1', 'a1'])
  })

  test('begins though all have started at once and each left it to the others', async () => {
    living.set('b', { role: 'backend', id: 'b', instance: 'b1', address: '', isLeaving: false })
    const a = start('a', 'a1')
    const b = start('b', 'b1')
    await pass(LEASE_MS - 200)
    expect([a.id, b.id]).toEqual([null, null])
    await pass(400)
    expect(a.id).not.toBeNull()
    expect(b.id).toBe(a.id)
  })

  test('is not asked for by a process without a lease', async () => {
    const membership = {
      isAlive: false,
      self: { role: 'backend', id: 'a', instance: 'a1', address: '', isLeaving: false } as const,
      membersOf: () => [],
    }
    const run = new ClusterRun({ membership, registry: runs, timers, onKnown: found => known.push(found) })
    run.start()
    await pass(LEASE_MS)
    expect([run.id, known]).toEqual([null, []])
    membership.isAlive = true
    await pass(200)
    expect(run.id).toBe('a1')
  })
})
