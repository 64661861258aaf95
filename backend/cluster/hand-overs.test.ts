import { describe, expect, test } from 'vitest'
import { newMessage } from '#shared/mqtt/message.ts'
import { NEVER, nextTurn } from '../backend-rig.contract.ts'
import { leftovers } from '../state-dump.contract.ts'
import { ClusterRig } from './cluster-rig.contract.ts'
import type { RigClusterClient } from './rig-frontend.contract.ts'

const PERSISTENT = { expirySeconds: NEVER }

/** A client in the shard with a Subscription of `t`. */
async function subscriber(rig: ClusterRig, shard: number, filter = 't', qos: 1 | 2 = 2): Promise<RigClusterClient> {
  const client = await rig.frontend().connect(rig.keyIn(shard, 's'), PERSISTENT)
  client.subscribe(filter, { qos })
  await rig.settle()
  client.take()
  return client
}

async function payloads(client: RigClusterClient): Promise<string[]> {
  return (await client.drain()).map(({ payload }) => payload)
}

function pendingOf(rig: ClusterRig): number {
  let pending = 0
  for (const { engine } of rig.backends.values()) for (const { handOvers } of engine.shards) pending += handOvers.size
  return pending
}

/** The group of `filter` that belongs to `shard`. */
function groupIn(rig: ClusterRig, shard: number, filter: string): string {
  for (let i = 0; ; i++) if (rig.groupShardOf(`g${i}`, filter) === shard) return `g${i}`
}

describe('QoS 2 between shards', () => {
  test('reaches subscribers in every shard once, and is forgotten', async () => {
    const rig = await ClusterRig.open()
    const subscribers = await Promise.all([0, 1, 2, 3].map(shard => subscriber(rig, shard)))
    const publisher = await rig.frontend().connect(rig.keyIn(0, 'p'), PERSISTENT)
    for (const payload of ['one', 'two', 'three']) publisher.publish('t', payload, { qos: 2 })
    for (const client of subscribers) expect(await payloads(client)).toEqual(['one', 'two', 'three'])
    expect(pendingOf(rig)).toBe(0)
    for (const { engine } of rig.backends.values()) expect(leftovers(engine).messageBytes).toBe(0)
  })

  test.each([0, 1, 2, 3])('is taken once when the answer is lost with the link, after %i frames', async frames => {
    const rig = await ClusterRig.open()
    const client = await subscriber(rig, 1)
    const publisher = await rig.frontend().connect(rig.keyIn(0, 'p'), PERSISTENT)
    const link = rig.linkOf('a', 'b')
    link.pair.isStalled = true
    for (const payload of ['one', 'two', 'three']) publisher.publish('t', payload, { qos: 2 })
    await rig.settle()
    link.pair.a.deliver(frames)
    rig.endTurn(rig.backend('b'))
    rig.backend('b').store.complete()
    rig.cut('a', 'b')
    await rig.settle()
    rig.heal()
    expect(await payloads(client)).toEqual(['one', 'two', 'three'])
    expect(pendingOf(rig)).toBe(0)
  })

  test('waits for a shard that nobody owns, and goes before what is newer', async () => {
    const rig = await ClusterRig.open()
    const client = await subscriber(rig, 1)
    const publisher = await rig.frontend().connect(rig.keyIn(0, 'p'), PERSISTENT)
    rig.kill('b')
    publisher.publish('t', 'one', { qos: 2 })
    await rig.settle()
    expect(pendingOf(rig)).toBe(1)
    await rig.takeOrphans('a')
    publisher.publish('t', 'two', { qos: 2 })
    expect(await payloads(client)).toEqual(['one', 'two'])
    expect(pendingOf(rig)).toBe(0)
  })

  test('is not lost in a shard of the same process that was fenced before it had stored its part', async () => {
    const rig = await ClusterRig.open()
    const client = await subscriber(rig, 2)
    const publisher = await rig.frontend().connect(rig.keyIn(0, 'p'), PERSISTENT)
    const a = rig.backend('a')
    a.store.isPrompt = false
    publisher.publish('t', 'one', { qos: 2 })
    rig.linkOf('f', 'a').pair.a.deliver()
    rig.endTurn(a)
    a.store.complete()
    await nextTurn()
    // Stored by its origin, and taken by shard 2; it has another owner just before that is stored too.
    rig.endTurn(a)
    expect(a.engine.shards[2]!.seen.size).toBe(1)
    await rig.take(2, 'b')
    await rig.settle()
    expect(await payloads(client)).toEqual(['one'])
    expect(pendingOf(rig)).toBe(0)
  })

  test('numbers go on above those of a shard whose state was lost', async () => {
    const rig = await ClusterRig.open({ level: 'memory' })
    const publisher = await rig.frontend().connect(rig.keyIn(0, 'p'), PERSISTENT)
    const client = await subscriber(rig, 1)
    for (const payload of ['one', 'two']) publisher.publish('t', payload, { qos: 2 })
    expect(await payloads(client)).toEqual(['one', 'two'])
    rig.kill('a')
    await rig.takeOrphans('b')
    await rig.settle()
    const again = await rig.frontend().connect(rig.keyIn(0, 'p'), PERSISTENT)
    again.publish('t', 'three', { qos: 2 })
    expect(await payloads(client)).toEqual(['three'])
  })

  test('is in snapshots, a piece at a time, however much of it waits', async () => {
    const rig = await ClusterRig.open({ backends: ['a', 'b', 'c'], shards: 6 })
    const client = await subscriber(rig, 1)
    const publisher = await rig.frontend().connect(rig.keyIn(0, 'p'), PERSISTENT)
    rig.kill('b')
    const sent = Array.from({ length: 40 }, (_, i) => `${i} ${'x'.repeat(20_000)}`)
    for (const payload of sent) publisher.publish('t', payload, { qos: 2 })
    await rig.settle()
    rig.backend('a').store.snapshotDue = 0
    await rig.advance(200)
    const sizes = rig.shared.shards[0]!.snapshot.map(({ length }) => length)
    expect(sizes.length).toBeGreaterThan(2)
    expect(Math.max(...sizes)).toBeLessThan(400_000)
    rig.kill('a')
    await rig.takeOrphans('c')
    expect(await payloads(client)).toEqual(sent)
    expect(pendingOf(rig)).toBe(0)
  })

  test('is given to nobody any more when it has expired on the way', async () => {
    const rig = await ClusterRig.open()
    const client = await subscriber(rig, 1, 't', 1)
    const publisher = await rig.frontend().connect(rig.keyIn(0, 'p'), PERSISTENT)
    rig.cut('a', 'b')
    publisher.publish('t', 'one', { qos: 2, expirySeconds: 1 })
    await rig.advance(1_500)
    rig.heal()
    expect(await payloads(client)).toEqual([])
    expect(pendingOf(rig)).toBe(0)
    expect(leftovers(rig.backend('a').engine).messageBytes).toBe(0)
  })

  test('is kept by the shard of its topic, and not given to the publisher that wants none of its own', async () => {
    const rig = await ClusterRig.open()
    const topic = rig.keyIn(3, 't')
    const publisher = await rig.frontend().connect(rig.keyIn(1, 'p'), PERSISTENT)
    publisher.subscribe('#', { noLocal: true })
    await rig.settle()
    publisher.take()
    publisher.publish(topic, 'kept', { qos: 2, retain: true })
    expect(await payloads(publisher)).toEqual([])
    expect(rig.backend('b').engine.retained.get(topic)?.payload.toString()).toBe('kept')
  })

  test('a message kept for others is not written for shards of its own process that nobody subscribed in', async () => {
    const rig = await ClusterRig.open({ backends: ['a'], shards: 16 })
    const client = await subscriber(rig, 3)
    const publisher = await rig.frontend().connect(rig.keyIn(0, 'p'), PERSISTENT)
    publisher.publish('t', 'one', { qos: 2 })
    expect(await payloads(client)).toEqual(['one'])
    expect(
      rig
        .backend('a')
        .engine.shards.filter(({ seen }) => seen.size > 0)
        .map(({ number }) => number),
    ).toEqual([3])
  })
})

describe('a Will', () => {
  test.each([0, 1, 2] as const)('of QoS %i goes out once, although the backends die that were to send it', async qos => {
    const rig = await ClusterRig.open({ backends: ['a', 'b', 'c'], shards: 6 })
    const client = await subscriber(rig, 1)
    const message = newMessage(rig.parts.topics.fromName('t'), Buffer.from('gone'), qos)
    const dying = await rig.frontend().connect(rig.keyIn(0, 'w'), { ...PERSISTENT, will: { message, delaySeconds: 0 } })
    rig.kill('a')
    dying.detach()
    await rig.settle()
    rig.backend('c').store.isPrompt = false
    // The new owner sends the Will, and dies before that is stored.
    await rig.take(0, 'c')
    for (let i = 0; i < 3; i++) {
      rig.linkOf('f', 'c').pair.deliver()
      rig.endTurn(rig.backend('c'))
      rig.linkOf('c', 'b').pair.deliver()
    }
    rig.kill('c')
    await rig.takeOrphans('b')
    expect(await payloads(client)).toEqual(['gone'])
    expect(pendingOf(rig)).toBe(0)
  })

  test('that is found due when a shard is taken over is stored before anybody gets it', async () => {
    const rig = await ClusterRig.open({ backends: ['a', 'b', 'c'], shards: 6 })
    const client = await subscriber(rig, 1)
    const message = newMessage(rig.parts.topics.fromName('t'), Buffer.from('gone'), 2)
    const dying = await rig.frontend().connect(rig.keyIn(0, 'w'), { expirySeconds: 1, will: { message, delaySeconds: 100 } })
    dying.detach()
    await rig.settle()
    rig.kill('a')
    await rig.advance(1_500)
    rig.backend('c').store.isPrompt = false
    await rig.take(0, 'c')
    const { cluster } = rig.backend('c')
    rig.endTurn(rig.backend('c'))
    // Its commit is not answered yet.
    rig.linkOf('c', 'b').pair.deliver()
    expect(rig.backend('b').engine.shards[1]!.seen.size).toBe(0)
    expect([...cluster.backend.engine.shards[0]!.handOvers.values()].map(({ isStored }) => isStored)).toEqual([false])
    await rig.takeOrphans('b')
    expect(await payloads(client)).toEqual(['gone'])
  })
})

describe('a message for a member that is gone', () => {
  test('goes back to the group, also when a later one was taken before it came again', async () => {
    const rig = await ClusterRig.open()
    const filter = 'jobs'
    const groupName = groupIn(rig, 0, filter)
    const other = await subscriber(rig, 2, `$share/${groupName}/${filter}`)
    const b = rig.frontend().owner('b')
    const toMember = { is: 'member', shard: 1, clientId: 'gone', groupName, groupFilter: filter } as const
    const message = rig.message(filter, 'work', { qos: 2 })
    b.handOver(0, 5, toMember, message)
    await rig.settle()
    b.handOver(0, 6, { is: 'shards', shards: [1], origin: '' }, rig.message('t', 'later', { qos: 2 }))
    b.handOver(0, 5, toMember, message)
    expect(await payloads(other)).toEqual(['work'])
    expect(rig.frontend().calls.filter(call => call.startsWith('b handedOver'))).toEqual([
      'b handedOver 0 5 1 done',
      'b handedOver 0 6 1 done',
      'b handedOver 0 5 1 done',
    ])
    expect(pendingOf(rig)).toBe(0)
  })

  test('tells the group, which forgets the member', async () => {
    const rig = await ClusterRig.open()
    const filter = 'jobs'
    const groupName = groupIn(rig, 0, filter)
    const a = rig.frontend().owner('a')
    const stale = { groupName, groupFilter: filter, clientId: rig.keyIn(1, 'm'), standing: 'able' } as const
    a.members(1, 0, 1, false, [{ ...stale, options: { qos: 1, retainAsPublished: false, identifier: 0 } }])
    await rig.settle()
    const { index } = rig.backend('a').cluster.node.groups
    expect(index.sharedSubscriptionCount).toBe(1)
    rig.frontend().publish(filter, 'work', { qos: 1 })
    await rig.settle()
    expect(index.sharedSubscriptionCount).toBe(0)
    expect(pendingOf(rig)).toBe(0)
    expect(rig.backend('a').engine.counters.queueDropped).toBe(1)
  })
})

test('a message that a session did not acknowledge before it ended goes to another member, wherever that is', async () => {
  const rig = await ClusterRig.open()
  const filter = 'jobs'
  const shared = `$share/${groupIn(rig, 3, filter)}/${filter}`
  const first = await subscriber(rig, 0, shared)
  rig.frontend().publish(filter, 'work', { qos: 1 })
  await rig.settle()
  expect(first.takePayloads()).toEqual(['work'])
  const second = await subscriber(rig, 2, shared)
  first.detach({ sessionExpirySeconds: 0 })
  expect(await payloads(second)).toEqual(['work'])
  expect(pendingOf(rig)).toBe(0)
})
