import { expect } from 'vitest'
import { type BrokerUnderTest, unique } from './broker.ts'
import type { Connect, Subscription } from './packets.ts'
import type { RawClient } from './raw-client.ts'

/** Situations that many tests begin or end with. */

/** A subscriber of a fresh topic and a publisher, both connected. */
export async function pair(
  broker: BrokerUnderTest,
  {
    subscriber = {},
    publisher = {},
    subscription = {},
  }: { subscriber?: Connect; publisher?: Connect; subscription?: Partial<Subscription> } = {},
): Promise<{ topic: string; subscriber: RawClient; publisher: RawClient }> {
  const topic = unique('t')
  const [receiving, sending] = await Promise.all([broker.connect(subscriber), broker.connect(publisher)])
  await receiving.subscribe({ filter: topic, qos: 2, ...subscription })
  return { topic, subscriber: receiving, publisher: sending }
}

/** Proves that `subscriber` gets nothing of what `publisher` sent before: the next thing that arrives is a message sent now. */
export async function expectNoMessage(subscriber: RawClient, publisher: RawClient): Promise<void> {
  const sentinel = unique('sentinel')
  await subscriber.subscribe({ filter: sentinel, qos: 0 })
  await publisher.publish({ topic: sentinel, payload: 'sentinel', qos: 1 })
  const message = await subscriber.receive()
  expect(`${subscriber.topicOf(message)} ${message.payload.toString()}`).toBe(`${sentinel} sentinel`)
  await subscriber.expectNothing()
}

/** Sends `bytes` on a fresh v5 connection; the broker must answer DISCONNECT with one of `reasons` and close. */
export async function expectFatal(broker: BrokerUnderTest, bytes: Buffer, ...reasons: number[]): Promise<void> {
  const client = await broker.connect()
  client.send(bytes)
  await client.expectDisconnect(...reasons).catch((fault: Error) => {
    throw new Error(`after ${bytes.subarray(0, 48).toString('hex')}: ${fault.message}`)
  })
}

/** Sends `bytes` as the first packet of a connection; the broker must answer a refusing CONNACK with one of `reasons` and close. */
export async function expectConnectRefused(broker: BrokerUnderTest, bytes: Buffer, ...reasons: number[]): Promise<void> {
  const client = await broker.open()
  client.send(bytes)
  await client.expectRefused(...reasons).catch((fault: Error) => {
    throw new Error(`after ${bytes.subarray(0, 48).toString('hex')}: ${fault.message}`)
  })
}

/** Payloads of the next `count` messages, acknowledged. */
export async function payloads(client: RawClient, count: number): Promise<string[]> {
  const found: string[] = []
  for (let left = count; left > 0; left--) found.push((await client.receive()).payload.toString())
  return found
}

/** Ends the connection without DISCONNECT and connects again, resuming the session. */
export async function resume(broker: BrokerUnderTest, options: Connect): Promise<RawClient> {
  return broker.connect({ ...options, cleanStart: false })
}

/** CONNECT options of a session that outlives its connection. */
export function lasting(clientId = unique('s')): { clientId: string; cleanStart: boolean; properties: { sessionExpiryInterval: number } } {
  return { clientId, cleanStart: true, properties: { sessionExpiryInterval: 600 } }
}

/** A small repeatable generator (mulberry32), so that a failing round can be run again. */
export function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
