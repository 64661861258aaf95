import { beforeEach, describe, expect, test } from 'vitest'
import { ManualTimers } from '#shared/base/timers.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import { EvictedError, HEARTBEAT_MS, LEASE_MS, type Member, type Registry } from './member.ts'
import { Membership } from './membership.ts'
import { MemoryRegistry } from './memory-registry.contract.ts'

/** Answers each call when, and as, the test says. */
class SlowRegistry implements Registry {
  readonly calls: {
    readonly self: Member
    readonly answer: (members: readonly Member[]) => void
    readonly fail: (error?: Error) => void
  }[] = []
  readonly others: string[] = []

  heartbeat(self: Member): Promise<readonly Member[]> {
    return new Promise((resolve, reject) => {
      this.calls.push({ self, answer: resolve, fail: (error = new Error('no answer')) => reject(error) })
    })
  }

  evict(id: string, instance: string): Promise<void> {
    this.others.push(`evict ${id} ${instance}`)
    return Promise.resolve()
  }

  leave(self: Member): Promise<void> {
    this.others.push(`leave ${self.id}`)
    return Promise.resolve()
  }
}

const A: Member = { role: 'backend', id: 'a', instance: 'a-1', address: 'a:1', isLeaving: false }
const B: Member = { ...A, id: 'b', instance: 'b-1', address: 'b:1' }

let timers: ManualTimers
let registry: SlowRegistry
let log: RecordingLog
let membership: Membership
let heard: string[]

/** Lets everything happen that waits for nothing but its turn. */
async function turn(): Promise<void> {
  await new Promise(resolve => setImmediate(resolve))
}

function open(of: Registry, self = A): Membership {
  const opened = new Membership({ self, registry: of, timers, log })
  opened.listen({
    onMembers: () => heard.push(opened.members.map(member => member.id + (member.isLeaving ? '!' : '')).join('')),
    onLapsed: () => heard.push('lapsed'),
  })
  return opened
}

async function answer(call: number, members: readonly Member[]): Promise<void> {
  registry.calls[call]!.answer(members)
  await turn()
}

async function fail(call: number, error?: Error): Promise<void> {
  registry.calls[call]!.fail(error)
  await turn()
}

beforeEach(() => {
  timers = new ManualTimers()
  registry = new SlowRegistry()
  log = new RecordingLog()
  heard = []
  membership = open(registry)
})

describe('the lease', () => {
  test('begins with the first answer, and counts from before the call', async () => {
    membership.start()
    expect(membership.isAlive).toBe(false)
    timers.advance(400)
    await answer(0, [A])
    expect(membership.isAlive).toBe(true)
    expect(membership.leaseEndMs).toBe(LEASE_MS)
    expect(heard).toEqual(['a'])
  })

  test('is renewed each second and never lapses meanwhile', async () => {
    membership.start()
    for (let call = 0; call < 20; call++) {
      await answer(call, [A])
      timers.advance(HEARTBEAT_MS)
    }
    expect(heard).toEqual(['a'])
    expect(registry.calls).toHaveLength(21)
  })

  test('lapses by itself when no heartbeat is answered, and is told once', async () => {
    membership.start()
    await answer(0, [A, B])
    timers.advance(LEASE_MS - 1)
    expect(membership.checkLease()).toBe(true)
    timers.advance(1)
    expect(membership.isAlive).toBe(false)
    expect(membership.checkLease()).toBe(false)
    timers.advance(10 * LEASE_MS)
    expect(heard).toEqual(['ab', 'lapsed'])
    expect(membership.members).toEqual([A, B])
    expect(membership.lapses).toBe(1)
    expect(log.events).toContain('lease_lapsed')
  })

  test('a process that stood still learns it from checkLease, before any timer or answer', async () => {
    let nowMs = 0
    const held: (() => void)[] = []
    const still = new Membership({
      self: A,
      registry,
      timers: { nowMs: () => nowMs, after: (_ms, run) => (held.push(run), () => undefined) },
      log,
    })
    still.listen({ onMembers: () => heard.push('members'), onLapsed: () => heard.push('lapsed') })
    still.start()
    await answer(0, [A])
    nowMs = LEASE_MS
    expect(still.isAlive).toBe(false)
    expect(heard).toEqual(['members'])
    expect(still.checkLease()).toBe(false)
    for (const run of held.splice(0)) run()
    expect(heard).toEqual(['members', 'lapsed'])
  })

  test('an answer that comes when the lease is over begins another, after the end of the first was told', async () => {
    let nowMs = 0
    const still = new Membership({ self: A, registry, timers: { nowMs: () => nowMs, after: () => () => undefined }, log })
    still.listen({ onMembers: () => heard.push('members'), onLapsed: () => heard.push('lapsed') })
    still.start()
    await answer(0, [A])
    nowMs = LEASE_MS - 10
    const refreshed = still.refresh()
    await turn()
    nowMs = LEASE_MS + 10
    await answer(1, [A])
    expect(await refreshed).toBe(true)
    expect(heard).toEqual(['members', 'lapsed', 'members'])
    expect(still.isAlive).toBe(true)
  })

  test('an answer to a call from longer ago than the lease gives none', async () => {
    membership.start()
    timers.advance(LEASE_MS)
    await answer(0, [A])
    expect(membership.isAlive).toBe(false)
    await answer(registry.calls.length - 1, [A])
    expect(membership.isAlive).toBe(true)
  })
})

describe('members', () => {
  test('listeners hear of those who come, go, start anew and leave, and not of the same again or of figures', async () => {
    membership.start()
    const lists = [
      [A],
      [B, A],
      [A, { ...B, figures: new Map([['x', 1]]) }],
      [A, { ...B, instance: 'b-2' }],
      [A, { ...B, instance: 'b-2', isLeaving: true }],
      [A],
    ]
    for (const [call, list] of lists.entries()) {
      await answer(call, list)
      timers.advance(HEARTBEAT_MS)
    }
    expect(heard).toEqual(['a', 'ab', 'ab', 'ab!', 'a'])
  })

  test('an answer that comes late does not undo a newer one', async () => {
    membership.start()
    timers.advance(HEARTBEAT_MS)
    await answer(1, [A, B])
    await answer(0, [A])
    expect(heard).toEqual(['ab'])
    expect(membership.find('backend', 'b')).toEqual(B)
    expect(membership.find('frontend', 'b')).toBeUndefined()
    expect(membership.membersOf('frontend')).toEqual([])
  })

  test('refresh answers with a heartbeat that began after it; callers share it', async () => {
    membership.start()
    const refreshed = [membership.refresh(), membership.refresh()]
    await turn()
    expect(registry.calls).toHaveLength(1)
    await answer(0, [A])
    expect(registry.calls).toHaveLength(2)
    await answer(1, [A, B])
    expect(await Promise.all(refreshed)).toEqual([true, true])
    expect(registry.calls).toHaveLength(2)
    expect(heard).toEqual(['a', 'ab'])
  })

  test('refresh says when there was no answer', async () => {
    membership.start()
    await answer(0, [A])
    const refreshed = membership.refresh()
    await turn()
    await fail(1)
    expect(await refreshed).toBe(false)
  })

  test('evict removes the member at once', async () => {
    const shared = new MemoryRegistry({ wallMs: () => timers.nowMs(), monotonicMs: () => timers.nowMs() })
    await shared.heartbeat(B)
    const member = open(shared)
    member.start()
    await turn()
    expect(await member.evict('b', 'b-0')).toBe(true)
    expect(await member.evict('b', 'b-1')).toBe(true)
    expect(heard).toEqual(['ab', 'a'])
  })
})

describe('a registry that fails', () => {
  test('is tried again four times a second; one line says so, and one that it is over', async () => {
    membership.start()
    for (let call = 0; call < 8; call++) {
      await fail(call)
      timers.advance(250)
    }
    await answer(8, [A])
    expect(membership.heartbeatsFailed).toBe(8)
    expect(log.events).toEqual(['registry_does_not_answer', 'registry_answers', 'lease_begun'])
  })

  test('each reason of an outage is logged once', async () => {
    membership.start()
    for (const [call, reason] of ['refused', 'no answer', 'refused', 'no answer'].entries()) {
      await fail(call, new Error(reason))
      timers.advance(250)
    }
    expect(log.events).toEqual(['registry_does_not_answer', 'registry_does_not_answer'])
  })

  test('one that fails when a later one was answered already is none', async () => {
    membership.start()
    timers.advance(HEARTBEAT_MS)
    await answer(1, [A])
    await fail(0)
    expect(log.events).toEqual(['lease_begun'])
  })

  test('calls that never end are limited', () => {
    membership.start()
    timers.advance(100 * HEARTBEAT_MS)
    expect(registry.calls).toHaveLength(16)
  })
})

describe('evicted', () => {
  test('a refused heartbeat ends the lease at once; the next one that is taken begins another', async () => {
    membership.start()
    await answer(0, [A, B])
    timers.advance(HEARTBEAT_MS)
    await fail(1, new EvictedError())
    expect(membership.isAlive).toBe(false)
    expect(membership.checkLease()).toBe(false)
    timers.advance(250)
    await fail(2, new EvictedError())
    timers.advance(250)
    await answer(3, [A, B])
    expect(membership.isAlive).toBe(true)
    expect(heard).toEqual(['ab', 'lapsed', 'ab'])
    expect(membership.lapses).toBe(1)
    expect(membership.heartbeatsFailed).toBe(0)
    expect(log.events).toEqual(['lease_begun', 'evicted', 'lease_lapsed', 'lease_begun'])
  })

  test('answers to heartbeats from before the refusal give no lease back', async () => {
    membership.start()
    await answer(0, [A, B])
    timers.advance(HEARTBEAT_MS)
    timers.advance(HEARTBEAT_MS)
    await fail(2, new EvictedError())
    await answer(1, [A, B])
    expect(membership.isAlive).toBe(false)
    expect(heard).toEqual(['ab', 'lapsed'])
  })

  test('a refusal that comes after the answer to a later heartbeat says nothing about the new lease', async () => {
    membership.start()
    await answer(0, [A, B])
    timers.advance(HEARTBEAT_MS)
    timers.advance(HEARTBEAT_MS)
    await answer(2, [A, B])
    await fail(1, new EvictedError())
    expect(membership.isAlive).toBe(true)
    expect(heard).toEqual(['ab'])
  })

  test('one that lives is out until the registry takes it again', async () => {
    const shared = new MemoryRegistry({ wallMs: () => timers.nowMs(), monotonicMs: () => timers.nowMs() })
    const [a, b] = [open(shared), new Membership({ self: B, registry: shared, timers, log })]
    for (const each of [a, b]) each.start()
    await turn()
    timers.advance(HEARTBEAT_MS)
    await turn()
    const heardOfB: string[] = []
    b.listen({ onMembers: () => heardOfB.push('lease'), onLapsed: () => heardOfB.push('lapsed') })
    await a.evict('b', 'b-1')
    for (let ms = 0; ms < LEASE_MS + 2 * HEARTBEAT_MS; ms += 250) {
      timers.advance(250)
      await turn()
      if (ms < LEASE_MS - 250) expect(b.isAlive && heardOfB.includes('lapsed')).toBe(false)
    }
    expect(heardOfB).toEqual(['lapsed', 'lease'])
    expect(a.membersOf('backend').map(each => each.id)).toEqual(['a', 'b'])
  })
})

describe('leaving', () => {
  test('markLeaving tells the registry at once, and with every heartbeat', async () => {
    membership.start()
    await answer(0, [A])
    const marked = membership.markLeaving()
    await turn()
    expect(registry.calls[1]!.self.isLeaving).toBe(true)
    await fail(1)
    expect(await marked).toBe(false)
    timers.advance(250)
    expect(registry.calls[2]!.self.isLeaving).toBe(true)
  })

  test('leave waits for a heartbeat that is under way, then nothing is sent or told any more', async () => {
    membership.start()
    await answer(0, [A])
    timers.advance(HEARTBEAT_MS)
    const left = membership.leave()
    await turn()
    expect(registry.others).toEqual([])
    expect(membership.isAlive).toBe(false)
    await answer(1, [A, B])
    await left
    expect(registry.others).toEqual(['leave a'])
    timers.advance(100 * HEARTBEAT_MS)
    expect(registry.calls).toHaveLength(2)
    expect(heard).toEqual(['a'])
    expect(timers.pendingCount).toBe(0)
  })
})
