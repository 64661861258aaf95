import { describe, expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { NO_CONNECTION } from '#shared/rpc/owner-port.ts'
import { Shards } from '#shared/rpc/shards.ts'
import { type ConnectOptions, NEVER, type SubscribeOptions } from '../backend-rig.contract.ts'
import { ClusterRig, type ClusterRigOptions } from './cluster-rig.contract.ts'
import type { Groups } from './groups.ts'
import type { RigClusterClient } from './rig-frontend.contract.ts'

const FILTER = 'jobs'

/** A cluster of two in which the group of `jobs` belongs to shard 0, of backend a. */
class GroupRig {
  readonly rig: ClusterRig
  readonly shared: string
  #made = 0

  private constructor(rig: ClusterRig) {
    this.rig = rig
    let i = 0
    while (rig.groupShardOf(`g${i}`, FILTER) !== 0) i++
    this.shared = `$share/g${i}/${FILTER}`
  }

  static async open(options: ClusterRigOptions = {}): Promise<GroupRig> {
    return new GroupRig(await ClusterRig.open(options))
  }

  async member(shard: number, options: ConnectOptions = {}, subscription: SubscribeOptions = {}): Promise<RigClusterClient> {
    const client = await this.rig.frontend().connect(this.rig.keyIn(shard, `m${this.#made++}-`), { expirySeconds: NEVER, ...options })
    client.subscribe(this.shared, subscription)
    await this.rig.settle()
    expect(client.take()).toMatchObject([{ is: 'subscribed' }])
    return client
  }

  /** Answers the reasons of all owners. */
  async publish(payload: string, qos: 0 | 1 | 2 = 1): Promise<ReasonCode[]> {
    const { published } = this.rig.frontend()
    published.length = 0
    this.rig.frontend().publish(FILTER, payload, { qos })
    await this.rig.settle()
    return published.map(({ reason }) => reason).sort((a, b) => a - b)
  }

  get index(): Groups['index'] {
    return this.rig.backend('a').cluster.node.groups.index
  }
}

const SOME = [ReasonCode.Success, ReasonCode.NoMatchingSubscribers]

describe('a group of sessions in several shards', () => {
  test('each message goes to one, in turns', async () => {
    const on = await GroupRig.open()
    const members = await Promise.all([0, 1, 2, 3].map(shard => on.member(shard)))
    for (let i = 0; i < 8; i++) expect(await on.publish(`${i}`)).toEqual(SOME)
    const got = await Promise.all(members.map(async member => (await member.drain()).length))
    expect(got).toEqual([2, 2, 2, 2])
  })

  test('a member that leaves, by UNSUBSCRIBE or with its session, gets no more', async () => {
    const on = await GroupRig.open()
    const [left, ended, stays] = [await on.member(1), await on.member(3), await on.member(2)]
    left.unsubscribe(on.shared)
    ended.detach({ sessionExpirySeconds: 0 })
    await on.rig.settle()
    expect(on.index.sharedSubscriptionCount).toBe(1)
    for (let i = 0; i < 3; i++) await on.publish(`${i}`)
    expect((await stays.drain()).length).toBe(3)
    stays.unsubscribe(on.shared)
    await on.rig.settle()
    expect(on.index.nodeCount).toBe(0)
    expect(on.rig.backend('b').others.match(FILTER)).toEqual([])
    expect(await on.publish('nobody')).toEqual([ReasonCode.NoMatchingSubscribers, ReasonCode.NoMatchingSubscribers])
  })

  test('options that change are those of the next message', async () => {
    const on = await GroupRig.open()
    const member = await on.member(1, {}, { qos: 2, identifier: 7 })
    member.subscribe(on.shared, { qos: 1, identifier: 9, retainAsPublished: true })
    await on.rig.settle()
    member.take()
    on.rig.frontend().publish(FILTER, 'x', { qos: 1, retain: true })
    expect(await member.drain()).toMatchObject([{ qos: 1, identifiers: [9], retain: true }])
  })

  test('QoS 0 goes to a member that is connected, in another backend too', async () => {
    const on = await GroupRig.open()
    const [away, here] = [await on.member(1), await on.member(3)]
    away.detach()
    await on.rig.settle()
    for (let i = 0; i < 3; i++) await on.publish(`${i}`, 0)
    expect(here.takePayloads()).toEqual(['0', '1', '2'])
  })

  test('waits in the queue of one that is away, and goes to one that is connected first', async () => {
    const on = await GroupRig.open()
    const away = await on.member(1)
    away.detach()
    await on.rig.settle()
    await on.publish('waits')
    const here = await on.member(3)
    await on.publish('goes')
    expect((await here.drain()).map(({ payload }) => payload)).toEqual(['goes'])
    const back = await on.rig.frontend().connect(away.clientId, { expirySeconds: NEVER })
    expect((await back.drain()).map(({ payload }) => payload)).toEqual(['waits'])
  })

  test('outlives the death of its own backend and of its members’', async () => {
    for (const dying of ['a', 'b']) {
      const on = await GroupRig.open()
      const members = [await on.member(0), await on.member(1)]
      on.rig.kill(dying)
      await on.rig.takeOrphans(dying === 'a' ? 'b' : 'a')
      await on.rig.settle()
      for (let i = 0; i < 4; i++) await on.publish(`${i}`)
      const got = [...(await members[0]!.drain()), ...(await members[1]!.drain())].map(({ payload }) => payload)
      expect(got.sort()).toEqual(['0', '1', '2', '3'])
    }
  })

  test('one whose backend cannot be reached is passed over while another can', async () => {
    const on = await GroupRig.open()
    const [far, near] = [await on.member(1), await on.member(2)]
    on.rig.cut('a', 'b')
    await on.rig.settle()
    for (let i = 0; i < 3; i++) await on.publish(`${i}`)
    expect((await near.drain()).length).toBe(3)
    expect(await far.drain()).toEqual([])
  })
})

describe('how members stand', () => {
  test('a message for a group whose queues are full is refused, and nobody gets it', async () => {
    const on = await GroupRig.open({ settings: { queueMessagesMax: 1 } })
    const away = await on.member(1)
    away.detach()
    const plain = await on.rig.frontend().connect(on.rig.keyIn(2, 'plain'), { expirySeconds: NEVER })
    plain.subscribe(FILTER)
    await on.rig.settle()
    expect(await on.publish('one')).toEqual(SOME)
    const { counters } = on.rig.backend('a').engine
    expect(await on.publish('two')).toEqual([ReasonCode.NoMatchingSubscribers, ReasonCode.QuotaExceeded])
    expect((await plain.drain()).map(({ payload }) => payload)).toEqual(['one'])
    expect([counters.refusedQueueFull, counters.queueDropped]).toEqual([1, 0])
    const back = await on.rig.frontend().connect(away.clientId, { expirySeconds: NEVER })
    expect((await back.drain()).map(({ payload }) => payload)).toEqual(['one'])
    expect(await on.publish('three')).toEqual(SOME)
    expect((await back.drain()).map(({ payload }) => payload)).toEqual(['three'])
  })

  test('a full queue whose messages expire takes others, though its groups are in another backend', async () => {
    const on = await GroupRig.open({ settings: { queueMessagesMax: 1 } })
    const away = await on.member(1)
    away.detach()
    await on.rig.settle()
    on.rig.frontend().publish(FILTER, 'short', { qos: 1, expirySeconds: 1 })
    await on.rig.settle()
    expect(await on.publish('refused')).toContain(ReasonCode.QuotaExceeded)
    await on.rig.advance(3_000)
    expect(await on.publish('taken')).toEqual(SOME)
  })

  test('whoever has acknowledged all of a full window has its turn again', async () => {
    const on = await GroupRig.open()
    const slow = await on.member(1, { receiveMaximum: 1 })
    for (const payload of ['one', 'two']) await on.publish(payload)
    expect((await slow.drain()).map(({ payload }) => payload)).toEqual(['one', 'two'])
    const other = await on.member(3)
    for (let i = 0; i < 4; i++) {
      await on.publish(`${i}`)
      await slow.drain()
      await other.drain()
    }
    slow.take()
    await on.publish('a')
    await on.publish('b')
    expect([(await slow.drain()).length, (await other.drain()).length]).toEqual([1, 1])
  })

  test('all groups of a session hear of it, also when it joins another meanwhile', async () => {
    const on = await GroupRig.open()
    const member = await on.member(1)
    // Not writable any more, and in the same turn a member of a second group.
    member.writable(false)
    let i = 0
    while (on.rig.groupShardOf(`g${i}`, 'else') !== 2) i++
    member.subscribe(`$share/g${i}/else`)
    await on.rig.settle()
    await on.publish('zero', 0)
    expect(on.rig.backend('b').engine.counters.publishesSent).toBe(0)
    member.writable(true)
    await on.rig.settle()
    await on.publish('again', 0)
    expect(member.takePayloads()).toEqual(['again'])
  })

  test('lists that are told again because a link was silent are not written again', async () => {
    const on = await GroupRig.open()
    await on.member(1)
    const { journal } = on.rig.backend('a').engine
    const before = journal.records
    const { pair } = on.rig.linkOf('b', 'a')
    pair.isStalled = true
    await on.rig.advance(800)
    expect(on.rig.backend('b').others.freshOwner(0)).toBeNull()
    pair.isStalled = false
    await on.rig.advance(300)
    expect(on.rig.backend('b').others.freshOwner(0)).not.toBeNull()
    expect(journal.records).toBe(before)
    expect(on.index.sharedSubscriptionCount).toBe(1)
  })
})

describe('SUBSCRIBE', () => {
  test('is answered when the owner of the group has stored the member, whoever that is by then', async () => {
    const on = await GroupRig.open()
    const client = await on.rig.frontend().connect(on.rig.keyIn(1, 'c'), { expirySeconds: NEVER })
    on.rig.cut('b', 'a')
    client.subscribe(on.shared)
    await on.rig.advance(1_500)
    expect(client.take()).toEqual([])
    on.rig.kill('a')
    await on.rig.takeOrphans('b')
    await on.rig.advance(1_500)
    expect(client.take()).toMatchObject([{ is: 'subscribed' }])
    await on.publish('work')
    expect((await client.drain()).map(({ payload }) => payload)).toEqual(['work'])
  })
})

describe('refusals', () => {
  test('a full queue in a shard that the publish is not for refuses nothing', async () => {
    const on = await GroupRig.open({ settings: { queueMessagesMax: 1 } })
    const full = await on.rig.frontend().connect(on.rig.keyIn(0, 'full'), { expirySeconds: NEVER })
    const open = await on.rig.frontend().connect(on.rig.keyIn(2, 'open'), { expirySeconds: NEVER })
    for (const client of [full, open]) client.subscribe('t')
    await on.rig.settle()
    open.take()
    full.detach()
    await on.rig.settle()
    const a = on.rig.frontend().owner('a')
    on.rig.frontend().publish('t', 'one', { qos: 1 })
    expect((await open.drain()).length).toBe(1)
    on.rig.frontend().published.length = 0
    const shards = new Shards()
    shards.add(2)
    a.publish(99, NO_CONNECTION, true, shards, on.rig.message('t', 'two', { qos: 1 }))
    expect((await open.drain()).map(({ payload }) => payload)).toEqual(['two'])
    expect(on.rig.frontend().published).toEqual([{ sequence: 99, reason: ReasonCode.Success, moved: null }])
  })

  test('QoS 2 for a full queue of the publisher’s own backend is refused', async () => {
    const on = await GroupRig.open({ settings: { queueMessagesMax: 1 } })
    const full = await on.rig.frontend().connect(on.rig.keyIn(2, 'full'), { expirySeconds: NEVER })
    full.subscribe('t')
    await on.rig.settle()
    full.detach()
    const publisher = await on.rig.frontend().connect(on.rig.keyIn(0, 'p'), { expirySeconds: NEVER })
    for (const payload of ['one', 'two']) {
      publisher.publish('t', payload, { qos: 2 })
      await on.rig.settle()
    }
    expect(publisher.take()).toMatchObject([{ reason: ReasonCode.Success }, { reason: ReasonCode.QuotaExceeded }])
    const back = await on.rig.frontend().connect(full.clientId, { expirySeconds: NEVER })
    expect((await back.drain()).map(({ payload }) => payload)).toEqual(['one'])
  })

  test('QoS 2 to be retained by another backend is not refused because this one is full', async () => {
    const on = await GroupRig.open({ settings: { retainedMessagesMax: 1 } })
    on.rig.frontend().publish(on.rig.keyIn(0, 'r'), 'fills a', { qos: 1, retain: true })
    const publisher = await on.rig.frontend().connect(on.rig.keyIn(0, 'p'), { expirySeconds: NEVER })
    for (const shard of [1, 2]) {
      publisher.publish(on.rig.keyIn(shard, 'r'), 'x', { qos: 2, retain: true })
      await on.rig.settle()
    }
    expect(publisher.take()).toMatchObject([{ reason: ReasonCode.Success }, { reason: ReasonCode.QuotaExceeded }])
    expect(on.rig.backend('b').engine.retained.count).toBe(1)
  })
})
