import { expect, test } from 'vitest'
import { NEVER } from '../backend-rig.contract.ts'
import { ClusterRig } from './cluster-rig.contract.ts'

const TOPIC = 'x'

/** A publisher at backend a and a subscriber at b, which no other can reach; the publisher has had PUBREC and sent PUBREL. */
async function released() {
  const rig = await ClusterRig.open({ backends: ['a', 'b', 'c'] })
  const publisher = await rig.frontend().connect(rig.keyIn(0, 'p'), { expirySeconds: NEVER })
  const subscriber = await rig.frontend().connect(rig.keyIn(1, 's'), { expirySeconds: NEVER })
  subscriber.subscribe(TOPIC)
  await rig.settle()
  for (const other of ['a', 'c']) rig.cut(other, 'b')
  await rig.settle()
  publisher.publish(TOPIC, 'one', { qos: 2, packetId: 7 })
  await rig.settle()
  expect(publisher.take()).toMatchObject([{ is: 'acknowledged', reason: 0 }])
  const ticket = publisher.release(7)
  await rig.settle()
  subscriber.take()
  return { rig, publisher, subscriber, answer: { is: 'acknowledged', ticket, reason: 0 } }
}

test('PUBCOMP waits until the message is with all who were subscribed', async () => {
  const { rig, publisher, subscriber, answer } = await released()
  expect(publisher.take()).toEqual([])
  rig.heal()
  expect((await subscriber.drain()).map(({ payload }) => payload)).toEqual(['one'])
  expect(publisher.take()).toEqual([answer])
})

test('so it does when the shard of the publisher has gone to another backend meanwhile', async () => {
  const { rig, publisher, subscriber, answer } = await released()
  rig.kill('a')
  await rig.takeOrphans('c')
  await rig.settle()
  expect(publisher.isBound).toBe(true)
  expect(publisher.take()).toEqual([])
  rig.heal()
  expect((await subscriber.drain()).map(({ payload }) => payload)).toEqual(['one'])
  expect(publisher.take()).toEqual([answer])
})

test('a connection that is gone by then is answered nothing, and its session asks again', async () => {
  const { rig, publisher, answer } = await released()
  rig.cut('f', 'a')
  await rig.settle()
  rig.heal()
  await rig.settle()
  expect(publisher.take()).toEqual([answer])
})

test('another message may have the identifier afterwards', async () => {
  const { rig, publisher, subscriber } = await released()
  rig.heal()
  await subscriber.drain()
  publisher.take()
  publisher.publish(TOPIC, 'two', { qos: 2, packetId: 7 })
  await rig.settle()
  publisher.release(7)
  expect((await subscriber.drain()).map(({ payload }) => payload)).toEqual(['two'])
  expect(publisher.take()).toMatchObject([{ reason: 0 }, { reason: 0 }])
})
