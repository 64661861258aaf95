import { describe, expect, test } from 'vitest'
import { Shards } from '#shared/rpc/shards.ts'
import { NEVER, type Sent } from '../backend-rig.contract.ts'
import { leftovers } from '../state-dump.contract.ts'
import { ClusterRig, type ClusterRigOptions } from './cluster-rig.contract.ts'
import type { RigClusterClient } from './rig-frontend.contract.ts'

const TOPICS = 300

/** A cluster with Retained Messages in all shards, and a client of shard 0, of backend a. */
async function open(options: ClusterRigOptions = {}): Promise<{ rig: ClusterRig; client: RigClusterClient; topics: string[] }> {
  const rig = await ClusterRig.open(options)
  const topics = Array.from({ length: TOPICS }, (_, i) => `r/${i}`)
  for (const topic of topics) rig.frontend().publish(topic, topic, { qos: 1, retain: true })
  const client = await rig.frontend().connect(rig.keyIn(0, 'c'), { expirySeconds: NEVER })
  return { rig, client, topics }
}

function topicsOf(sent: readonly Sent[]): string[] {
  return sent.map(({ topic }) => topic).sort()
}

/** All of it, in spite of repeats. */
function unique(sent: readonly Sent[]): string[] {
  return [...new Set(topicsOf(sent))].sort()
}

function readsOf(rig: ClusterRig): number {
  return [...rig.backends.values()].reduce((sum, { cluster }) => sum + cluster.node.retainedReads.size, 0)
}

async function backlog(rig: ClusterRig, rounds: number): Promise<void> {
  for (let i = 0; i < rounds; i++) await rig.step()
}

describe('Retained Messages for a Subscription', () => {
  test.each([0, 1, 2] as const)('come from all backends, each once, at QoS %i', async qos => {
    const { rig, client, topics } = await open()
    client.subscribe('r/+', { qos })
    const sent = await client.drain()
    expect(topicsOf(sent)).toEqual([...topics].sort())
    expect(sent.every(({ retain }) => retain)).toBe(true)
    expect(readsOf(rig)).toBe(0)
  })

  test('of one topic come from the shard of the topic', async () => {
    const { rig, client } = await open()
    const topic = rig.keyIn(1, 'r/')
    client.subscribe(topic)
    expect(topicsOf(await client.drain())).toEqual([topic])
  })

  test('follow Retain Handling', async () => {
    const { client } = await open()
    const count = async (retainHandling: 0 | 1 | 2): Promise<number> => {
      client.subscribe('r/#', { retainHandling })
      return (await client.drain()).length
    }
    expect([await count(2), await count(1), await count(0)]).toEqual([0, 0, TOPICS])
    client.unsubscribe('r/#')
    await client.drain()
    expect(await count(1)).toBe(TOPICS)
  })

  test('that have expired do not come, others with what is left of their interval', async () => {
    const { rig, client } = await open()
    rig.frontend().publish(rig.keyIn(1, 'x/'), 'short', { qos: 1, retain: true, expirySeconds: 1 })
    rig.frontend().publish(rig.keyIn(3, 'x/'), 'long', { qos: 1, retain: true, expirySeconds: 100 })
    await rig.settle()
    await rig.advance(40_000)
    client.subscribe('x/#')
    expect(await client.drain()).toMatchObject([{ payload: 'long', expirySeconds: 60 }])
  })

  test('wait for a client with a small window, and are not asked for meanwhile', async () => {
    const { rig, topics } = await open()
    const slow = await rig.frontend().connect(rig.keyIn(0, 'slow'), { expirySeconds: NEVER, receiveMaximum: 2 })
    slow.subscribe('r/#', { qos: 1 })
    await rig.settle()
    expect(slow.takeSent().length).toBeLessThanOrEqual(3)
    const { messageBytes } = leftovers(rig.backend('a').engine)
    expect(rig.backend('a').cluster.node.retainedReads.size).toBe(1)
    for (const { packetId } of slow.outstanding.values()) slow.puback(packetId)
    expect((await slow.drain()).length).toBeGreaterThanOrEqual(topics.length - 3)
    expect(leftovers(rig.backend('a').engine).messageBytes).toBeLessThan(messageBytes!)
    expect(readsOf(rig)).toBe(0)
  })

  test('stop with UNSUBSCRIBE, and with the session; nothing is left of them on either side', async () => {
    const { rig, client } = await open()
    const before = [...rig.backends.values()].map(({ engine }) => leftovers(engine).messageBytes)
    client.writable(false)
    for (const filter of ['r/#', 'r/+']) client.subscribe(filter)
    await rig.settle()
    expect(readsOf(rig)).toBe(2)
    client.unsubscribe('r/#')
    await rig.settle()
    expect(readsOf(rig)).toBe(1)
    client.detach({ sessionExpirySeconds: 0 })
    await rig.settle()
    expect(readsOf(rig)).toBe(0)
    expect([...rig.backends.values()].map(({ engine }) => leftovers(engine).messageBytes)).toEqual(before)
  })
})

describe('while shards change hands', () => {
  test.each([0, 2, 4, 6])('none is missed when shards go each way, %i steps into it', async steps => {
    const { rig, client, topics } = await open()
    client.writable(false)
    client.subscribe('r/#')
    await backlog(rig, steps)
    await rig.move(2, 'b')
    await rig.move(1, 'a')
    await rig.move(3, 'a')
    client.writable(true)
    expect(unique(await client.drain())).toEqual([...topics].sort())
    expect(readsOf(rig)).toBe(0)
  })

  test.each([0, 2, 4, 6])('none is missed when the other backend dies and its shards come here, %i steps into it', async steps => {
    const { rig, client, topics } = await open()
    client.writable(false)
    client.subscribe('r/#')
    await backlog(rig, steps)
    rig.kill('b')
    await backlog(rig, steps)
    client.writable(true)
    await backlog(rig, steps)
    await rig.takeOrphans('a')
    expect(unique(await client.drain())).toEqual([...topics].sort())
    expect(readsOf(rig)).toBe(0)
  })

  test('a cut link is asked again when it is back', async () => {
    const { rig, client, topics } = await open()
    client.writable(false)
    client.subscribe('r/#')
    await backlog(rig, 6)
    rig.cut('a', 'b')
    await rig.settle()
    rig.heal()
    client.writable(true)
    expect(unique(await client.drain())).toEqual([...topics].sort())
  })

  test('what others have read before a newer message came is not sent after it', async () => {
    const { rig, client } = await open()
    const topic = rig.keyIn(1, 'r/')
    client.writable(false)
    client.subscribe('r/#', { qos: 1 })
    await rig.settle()
    rig.frontend().publish(topic, 'new', { qos: 1, retain: true })
    await rig.settle()
    client.writable(true)
    const ofTopic = (await client.drain()).filter(sent => sent.topic === topic)
    expect(ofTopic.map(({ payload }) => payload)).toEqual(['new'])
  })
})

test('a query that is closed is answered no more', async () => {
  const { rig } = await open()
  const b = rig.frontend().owner('b')
  const shards = new Shards()
  for (const shard of [1, 3]) shards.add(shard)
  const answers = (): string[] => rig.frontend().calls.filter(call => call.startsWith('b retained'))
  b.openRetained(7, 'r/#', shards)
  await rig.settle()
  expect(answers()).toHaveLength(1)
  b.closeRetained(7)
  b.moreRetained(7)
  await rig.settle()
  expect(answers()).toHaveLength(1)
})

test('a shard that is being let go is still read: that it is gone is said afterwards', async () => {
  const { rig } = await open()
  const b = rig.backend('b')
  b.store.isPrompt = false
  rig.frontend().publish(rig.keyIn(1, 'r/'), 'not stored yet', { qos: 1, retain: true })
  rig.linkOf('f', 'b').pair.deliver()
  void b.cluster.hosting.stop(1)
  expect(b.engine.shards[1]!.phase).toBe('leaving')
  const shards = new Shards()
  shards.add(1)
  rig.frontend().owner('b').openRetained(7, rig.keyIn(1, 'r/'), shards)
  rig.linkOf('f', 'b').pair.deliver()
  expect(rig.frontend().calls).toContain(`b retained 7 ${rig.keyIn(1, 'r/')} true`)
})
