import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { EvictedError, LEASE_MS, type Member, type Registry } from './member.ts'

export interface RegistryUnderTest {
  /** One more connection to the cluster of this name. */
  open(clusterName: string): Registry
  /** Lets the registry's own clock go on. */
  pass(ms: number): Promise<void>
  dispose(): Promise<void>
}

export function member(id: string, changes: Partial<Member> = {}): Member {
  return { role: 'backend', id, instance: `${id}-1`, address: `${id}:7000`, isLeaving: false, figures: new Map(), ...changes }
}

function ids(members: readonly Member[]): readonly string[] {
  return members.map(each => each.id).sort()
}

/** What every registry does; registers the tests. */
export function describeRegistry(kind: string, create: () => Promise<RegistryUnderTest>): void {
  describe(`${kind} registry`, () => {
    let subject: RegistryUnderTest
    let registry: Registry
    beforeEach(async () => {
      subject = await create()
      registry = subject.open('one')
    })
    afterEach(() => subject.dispose())

    test('a heartbeat registers with everything there is to know, and answers all living members', async () => {
      const a = member('a', { role: 'frontend', address: '', isLeaving: true, figures: new Map([['sessions', 7.5]]) })
      expect(await registry.heartbeat(a)).toEqual([a])
      const b = member('b')
      expect([...(await registry.heartbeat(b))].sort((x, y) => (x.id < y.id ? -1 : 1))).toEqual([a, b])
    })

    test('a later heartbeat replaces what was known, also of an earlier run', async () => {
      await registry.heartbeat(member('a'))
      const again = member('a', { instance: 'a-2', isLeaving: true })
      expect(await registry.heartbeat(again)).toEqual([again])
    })

    test('members of two roles may have the same id', async () => {
      await registry.heartbeat(member('a', { role: 'frontend' }))
      expect(await registry.heartbeat(member('a'))).toHaveLength(2)
    })

    test('who is not heard of for the lease is gone', async () => {
      await registry.heartbeat(member('a'))
      await subject.pass(LEASE_MS / 2)
      expect(ids(await registry.heartbeat(member('b')))).toEqual(['a', 'b'])
      await subject.pass(LEASE_MS / 2 + 100)
      expect(ids(await registry.heartbeat(member('c')))).toEqual(['b', 'c'])
    })

    test('evict removes that instance only', async () => {
      await registry.heartbeat(member('a'))
      await registry.evict('a', 'a-0')
      expect(ids(await registry.heartbeat(member('b')))).toEqual(['a', 'b'])
      await registry.evict('a', 'a-1')
      await registry.evict('nobody', 'a-1')
      expect(ids(await registry.heartbeat(member('b')))).toEqual(['b'])
    })

    test('an instance that was evicted is refused for the lease, and its successor is not', async () => {
      await registry.heartbeat(member('a'))
      await registry.heartbeat(member('b'))
      await registry.evict('a', 'a-1')
      await expect(registry.heartbeat(member('a'))).rejects.toThrow(EvictedError)
      await expect(registry.heartbeat(member('a'))).rejects.toThrow(EvictedError)
      expect(ids(await registry.heartbeat(member('b')))).toEqual(['b'])
      expect(ids(await registry.heartbeat(member('a', { instance: 'a-2' })))).toEqual(['a', 'b'])
      await subject.pass(LEASE_MS / 2 + 100)
      await expect(registry.heartbeat(member('a'))).rejects.toThrow(EvictedError)
      await registry.heartbeat(member('b'))
      await subject.pass(LEASE_MS / 2 + 100)
      expect(ids(await registry.heartbeat(member('a')))).toEqual(['a', 'b'])
    })

    test('who left by itself may come back at once', async () => {
      await registry.heartbeat(member('a'))
      await registry.leave(member('a'))
      expect(ids(await registry.heartbeat(member('a')))).toEqual(['a'])
    })

    test('leave removes the member, and not its successor', async () => {
      await registry.heartbeat(member('a'))
      await registry.leave(member('a', { instance: 'a-0' }))
      expect(ids(await registry.heartbeat(member('b')))).toEqual(['a', 'b'])
      await registry.leave(member('a'))
      expect(ids(await registry.heartbeat(member('b')))).toEqual(['b'])
    })

    test('clusters of other names do not see each other', async () => {
      await registry.heartbeat(member('a'))
      const other = subject.open('two')
      expect(ids(await other.heartbeat(member('b')))).toEqual(['b'])
      expect(ids(await registry.heartbeat(member('c')))).toEqual(['a', 'c'])
    })

    test('all that belong to one cluster see each other', async () => {
      await registry.heartbeat(member('a'))
      expect(ids(await subject.open('one').heartbeat(member('b')))).toEqual(['a', 'b'])
    })
  })
}
