import { beforeEach, describe, expect, test } from 'vitest'
import { NEVER, type ConnectOptions, rightsTo } from '../backend-rig.contract.ts'
import { leftovers } from '../state-dump.contract.ts'
import { ClusterRig } from './cluster-rig.contract.ts'
import type { RigClusterClient } from './rig-frontend.contract.ts'

let rig: ClusterRig
let clientId: string
/** What may be published, and what was asked, by `guard topic`. */
let judged: string[]
let isAllowed: boolean

beforeEach(async () => {
  judged = []
  isAllowed = false
  rig = await ClusterRig.open({ frontends: ['f', 'g'], willJudge: judge })
  clientId = rig.keyIn(0, 'c')
})

function judge(guard: Uint8Array, topicName: string): boolean {
  judged.push(`${Buffer.from(guard).toString()} ${topicName}`)
  return isAllowed
}

async function connect(filters: readonly string[], options: ConnectOptions = {}): Promise<RigClusterClient> {
  const client = await rig.frontend().connect(clientId, { expirySeconds: NEVER, ...options })
  for (const filter of filters) client.subscribe(filter)
  await rig.settle()
  client.take()
  return client
}

async function publish(qos: 1 | 2, ...messages: readonly (readonly [topic: string, payload: string])[]): Promise<void> {
  const publisher = rig.frontend('g').client(rig.keyIn(1, 'p'))
  publisher.attach()
  await rig.settle()
  for (const [topic, payload] of messages) publisher.publish(topic, payload, { qos })
  await rig.settle()
  publisher.detach()
  await rig.settle()
}

/** The owner has got what was sent to it, and its records wait for a store that does not answer. */
function reach(): void {
  const owner = rig.backend('a')
  owner.store.isPrompt = false
  rig.linkOf('f', 'a').pair.deliver()
  rig.endTurn(owner)
}

async function failOver(reached: number): Promise<void> {
  rig.kill('a', reached)
  await rig.takeOrphans('b')
  await rig.settle()
}

/** The filters of the session, where it is served. */
function filters(): string[] {
  return [...(rig.ownerOf(0)!.engine.shards[0]!.sessions.get(clientId)!.subscriptions?.keys() ?? [])]
}

describe.each([
  ['stored and not answered', 1],
  ['lost', 0],
])('a restriction that is %s when its owner dies', (_, reached) => {
  test('is made again, and answered once, with the same effect', async () => {
    const client = await connect(['x', 'y', '$share/g/x'])
    const ticket = client.restrict(rightsTo(['y']))
    reach()
    await failOver(reached)
    expect(client.take()).toEqual([{ is: 'subscribed', ticket, reasons: [] }])
    expect(filters()).toEqual(['y'])
    await publish(1, ['x', 'no'], ['y', 'yes'])
    expect((await client.drain()).map(({ payload }) => payload)).toEqual(['yes'])
    expect(rig.backend('b').engine.cluster!.groups.index.nodeCount).toBe(0)
  })

  test.each([1, 2] as const)('QoS %i that waits is not sent by the next owner after the answer; what follows is', async qos => {
    const client = await connect(['x', 'y'], { isWritable: false })
    await publish(qos, ['x', 'no'], ['y', 'yes'])
    client.restrict(rightsTo(['y']))
    reach()
    await failOver(reached)
    expect(client.take()).toMatchObject([{ is: 'subscribed' }])
    client.writable(true)
    expect((await client.drain()).map(({ payload }) => payload)).toEqual(['yes'])
    const { engine } = rig.backend('b')
    expect(leftovers(engine)).toMatchObject({ queuedMessages: 0, messageBytes: 0 })
    await rig.advance(500)
    expect(engine.shards[0]!.sessions.get(clientId)!.outbox?.ids.inUse ?? 0).toBe(0)
  })

  test.each([1, 2] as const)('QoS %i that the client has got is finished with the next owner, and not shown again', async qos => {
    const client = await connect(['x', 'y'])
    await publish(qos, ['x', 'shown'])
    const { packetId } = client.takeSent()[0]!
    client.restrict(rightsTo(['y']))
    reach()
    await failOver(reached)
    expect(client.take()).toMatchObject([{ is: 'subscribed' }])
    if (qos === 1) client.puback(packetId)
    else client.pubrec(packetId)
    expect(await client.drain()).toEqual([])
    expect(leftovers(rig.backend('b').engine)).toMatchObject({ queuedMessages: 0, messageBytes: 0 })
    client.detach()
    await rig.settle()
    const back = await rig.frontend('g').connect(clientId, { expirySeconds: NEVER, rights: rightsTo(['y']) })
    expect(await back.drain()).toEqual([])
  })

  test('the Will has the new guard', async () => {
    const will = { message: rig.message('will', 'gone', { qos: 1 }), delaySeconds: 0 }
    const client = await connect([], { will, rights: rightsTo(['#'], 'before') })
    client.restrict(rightsTo(['#'], 'after'))
    reach()
    await failOver(reached)
    client.detach()
    await rig.settle()
    expect([judged, rig.backend('b').engine.counters.willsRefused]).toEqual([['after will'], 1])
  })
})

test.each(['move', 'cut'] as const)('a restriction under way while the shard is not there is made where it is next (%s)', async how => {
  const client = await connect(['x', 'y'])
  if (how === 'move') await rig.release(0)
  else {
    rig.cut('f', 'a')
    await rig.settle()
  }
  client.restrict(rightsTo(['y']))
  await rig.settle()
  expect(client.take()).toEqual([])
  if (how === 'move') await rig.take(0, 'b')
  else rig.heal()
  await rig.settle()
  expect(client.take()).toMatchObject([{ is: 'subscribed', reasons: [] }])
  expect(filters()).toEqual(['y'])
})

test('what was restricted stays so where the shard goes, with the guard of the Will', async () => {
  const will = { message: rig.message('will', 'gone', { qos: 1 }), delaySeconds: 60 }
  const client = await connect(['x', 'y'], { will, rights: rightsTo(['#'], 'ada') })
  client.restrict(rightsTo(['y'], 'bob'))
  await rig.settle()
  await rig.move(0, 'b')
  await rig.settle()
  expect(filters()).toEqual(['y'])
  const watcher = await rig.frontend('g').connect(rig.keyIn(1, 'w'), { expirySeconds: NEVER })
  watcher.subscribe('will')
  client.detach()
  isAllowed = true
  await rig.advance(61_000)
  expect([judged, (await watcher.drain()).map(({ payload }) => payload)]).toEqual([['bob will'], ['gone']])
})

test('attach with rights at the next owner of an offline session', async () => {
  const before = await connect(['x', 'y', '$share/g/x'])
  before.detach()
  await rig.settle()
  await publish(2, ['x', 'no'], ['y', 'yes'])
  const client = rig.frontend().client(clientId)
  client.attach({ expirySeconds: NEVER, rights: rightsTo(['y']) })
  reach()
  await failOver(0)
  expect(client.reply).toMatchObject({ is: 'attached', sessionPresent: true })
  expect(filters()).toEqual(['y'])
  expect((await client.drain()).map(({ payload }) => payload)).toEqual(['yes'])
  expect(rig.backend('b').engine.cluster!.groups.index.nodeCount).toBe(0)
})

test.each([0, 1, 2, 3])('messages of a group in shard %i go to another member, wherever it is', async groupShard => {
  const name = Array.from({ length: 100 }, (_, i) => `g${i}`).find(each => rig.groupShardOf(each, 'x') === groupShard)!
  const client = await connect([`$share/${name}/x`], { receiveMaximum: 1 })
  await publish(1, ['x', 'shown'], ['x', 'waits'], ['x', 'too'])
  expect(client.takePayloads()).toEqual(['shown'])
  const other = await rig.frontend('g').connect(rig.keyIn(1, 'o'), { expirySeconds: NEVER })
  other.subscribe(`$share/${name}/x`)
  await rig.settle()
  client.restrict(rightsTo([]))
  expect((await other.drain()).map(({ payload }) => payload).sort()).toEqual(['too', 'waits'])
  await publish(1, ['x', 'new'])
  expect((await other.drain()).map(({ payload }) => payload)).toEqual(['new'])
  expect(client.takePayloads()).toEqual([])
})

test('Retained Messages that other backends still read for a Subscription stop with it', async () => {
  const publisher = await rig.frontend('g').connect(rig.keyIn(1, 'p'))
  for (let i = 0; i < 20; i++) publisher.publish(`x/${i}`, 'no', { qos: 1, retain: true })
  await rig.settle()
  const client = await connect(['x/#'], { receiveMaximum: 2 })
  client.restrict(rightsTo([]))
  await rig.settle()
  client.take()
  for (const packetId of [1, 2]) client.puback(packetId)
  expect(await client.drain()).toEqual([])
  expect(rig.backend('a').engine.cluster!.retainedReads.size).toBe(0)
})
