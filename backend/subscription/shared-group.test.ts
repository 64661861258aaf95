import { describe, expect, test } from 'vitest'
import { packOptions } from './recipient.ts'
import { SharedGroup } from './shared-group.ts'

interface Client {
  readonly clientId: string
}

const anyone = (): boolean => true
const nobody = (): boolean => false
const packed = packOptions({ qos: 1, noLocal: false, retainAsPublished: false, identifier: 9 })

function newGroup(filter: string, size: number): { group: SharedGroup<Client>; clients: Client[] } {
  const group = new SharedGroup<Client>('g', filter, filter.includes('+'))
  const clients = Array.from({ length: size }, (_, client) => ({ clientId: `client-${client}` }))
  for (const client of clients) group.add(client, packed)
  return { group, clients }
}

function owners(group: SharedGroup<Client>, keys: readonly string[], isAvailable: (client: Client) => boolean = anyone): Client[] {
  return keys.map(key => group.pick('a', key, isAvailable, nobody)!.subscriber)
}

const keys = Array.from({ length: 10_000 }, (_, key) => `partition-${key}`)

describe('[MQTT-4.8.2-4] one member gets the message', () => {
  test('in turns when the filter has no wildcard and the message no partition', () => {
    const { group, clients } = newGroup('a', 3)
    const picked = Array.from({ length: 6 }, () => group.pick('a', undefined, anyone, nobody)!.subscriber)
    expect(picked).toEqual([...clients, ...clients])
  })

  test('members that are not available are passed over', () => {
    const { group, clients } = newGroup('a', 4)
    const isEven = (client: Client): boolean => clients.indexOf(client) % 2 === 0
    const picked = Array.from({ length: 4 }, () => clients.indexOf(group.pick('a', undefined, isEven, nobody)!.subscriber))
    expect(picked).toEqual([0, 2, 0, 2])
  })

  test('when none is available, one that can queue: the first preference that any member meets', () => {
    for (const filter of ['a', '+']) {
      const { group, clients } = newGroup(filter, 5)
      expect(group.pick('a', undefined, nobody, client => client === clients[3])!.subscriber).toBe(clients[3])
      expect(group.pick('a', 'p', nobody, nobody)).toBeNull()
      expect(group.pick('a', undefined, nobody, client => client === clients[1], anyone)!.subscriber).toBe(clients[1])
      expect(group.pick('a', 'p', nobody, nobody, client => client === clients[2])!.subscriber).toBe(clients[2])
    }
  })

  test('with the options of its own subscription', () => {
    const { group, clients } = newGroup('a', 1)
    expect(group.pick('a', undefined, anyone, nobody)).toMatchObject({ qos: 1, identifiers: [9] })
    group.add(clients[0]!, packOptions({ qos: 2, noLocal: false, retainAsPublished: true, identifier: 0 }))
    expect(group.pick('a', undefined, anyone, nobody)).toMatchObject({ qos: 2, identifiers: null, retainAsPublished: true })
    expect(group.member(clients[0]!)).toBe(group.members[0])
  })

  test('an empty group has nobody', () => {
    const { group } = newGroup('a', 0)
    expect(group.pick('a', undefined, anyone, anyone)).toBeNull()
    expect(group.pick('a', 'p', anyone, anyone)).toBeNull()
  })
})

describe('partitions', () => {
  test('a partition stays with its member, and all members get about the same share', () => {
    const { group, clients } = newGroup('a', 10)
    const first = owners(group, keys)
    expect(owners(group, keys)).toEqual(first)
    for (const client of clients) {
      const share = first.filter(owner => owner === client).length
      expect(share).toBeGreaterThan(850)
      expect(share).toBeLessThan(1_150)
    }
  })

  test('a filter with wildcards takes the topic for the partition', () => {
    const { group } = newGroup('+', 10)
    for (const topic of ['a', 'b', 'c']) {
      expect(group.pick(topic, undefined, anyone, nobody)).toBe(group.pick('other', topic, anyone, nobody))
      expect(group.pick(topic, undefined, anyone, nobody)).toBe(group.pick(topic, undefined, anyone, nobody))
    }
  })

  test('a member that joins takes 1/n of the partitions, and those alone move', () => {
    const { group } = newGroup('a', 9)
    const before = owners(group, keys)
    const joining = { clientId: 'joining' }
    group.add(joining, packed)
    const after = owners(group, keys)
    const moved = after.filter((owner, key) => owner !== before[key])
    expect(new Set(moved)).toEqual(new Set([joining]))
    expect(moved.length).toBeGreaterThan(850)
    expect(moved.length).toBeLessThan(1_150)
  })

  test('only the partitions of a member that leaves move, and to the same members as while it is not available', () => {
    const { group, clients } = newGroup('a', 10)
    const before = owners(group, keys)
    const leaving = clients[4]!
    const without = owners(group, keys, client => client !== leaving)
    expect(group.remove(leaving)).toBe(true)
    expect(group.remove(leaving)).toBe(false)
    expect(owners(group, keys)).toEqual(without)
    without.forEach((owner, key) => {
      if (before[key] !== leaving) expect(owner).toBe(before[key])
    })
  })

  test('the choice depends on Client Identifiers alone, so that another backend makes the same', () => {
    const { group, clients } = newGroup('a', 20)
    const other = new SharedGroup<Client>('g', 'a', false)
    for (const client of clients.toReversed()) other.add(client, packed)
    expect(owners(other, keys)).toEqual(owners(group, keys))
  })

  test('members are asked for availability only while they are candidates', () => {
    const { group } = newGroup('a', 10_000)
    let asked = 0
    for (const key of keys.slice(0, 100)) group.pick('a', key, () => ++asked > 0, nobody)
    expect(asked / 100).toBeLessThan(20)
  })
})

test('turns go on while members come and go', () => {
  const { group, clients } = newGroup('a', 50)
  let state = 1
  for (let round = 0; round < 2_000; round++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff
    const client = clients[state % 50]!
    if (!group.remove(client)) expect(group.add(client, packed)).toBe('new')
    const picked = group.pick('a', undefined, anyone, nobody)
    expect(picked === null).toBe(group.members.length === 0)
    if (picked !== null) expect(group.member(picked.subscriber)).toBe(picked)
  }
})
