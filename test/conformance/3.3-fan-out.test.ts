import { describe, expect, test } from 'vitest'
import { external, unique, useBroker } from './broker.ts'
import type { Publish } from './decode.ts'
import type { Subscription, Version } from './packets.ts'
import type { RawClient } from './raw-client.ts'
import { payloads } from './scenes.ts'

// One message, many receivers that each want it in another shape: whatever the broker shares between them must not leak.
const broker = useBroker()

interface Receiver {
  client: RawClient
  version: Version
  subscription: Subscription
  identifiers: number[]
}

/** Receivers of `topic` in all combinations of version, QoS, Retain As Published, Topic Alias and Subscription Identifiers. */
async function receivers(topic: string): Promise<Receiver[]> {
  const found: Receiver[] = []
  for (const qos of [0, 1, 2]) {
    for (const version of [3, 4] as const) found.push(await receiver(topic, version, { filter: topic, qos }, 0, []))
    for (const retainAsPublished of [false, true]) {
      for (const topicAliasMaximum of [0, 1]) {
        for (const identifiers of [[], [qos + 1], [5, 70_000]]) {
          found.push(await receiver(topic, 5, { filter: topic, qos, retainAsPublished }, topicAliasMaximum, identifiers))
        }
      }
    }
  }
  return found
}

async function receiver(
  topic: string,
  version: Version,
  subscription: Subscription,
  topicAliasMaximum: number,
  identifiers: number[],
): Promise<Receiver> {
  const client = await broker.connect(version === 5 ? { version, properties: { topicAliasMaximum } } : { version })
  const filters = [topic, `${topic}/#`]
  for (const [at, filter] of filters.slice(0, Math.max(1, identifiers.length)).entries()) {
    const identifier = identifiers[at]
    await client.subscribe({ ...subscription, filter }, identifier === undefined ? {} : { subscriptionIdentifier: identifier })
  }
  return { client, version, subscription, identifiers }
}

function expectShape(
  message: Publish,
  { client, version, subscription, identifiers }: Receiver,
  sent: { qos: number; retain: boolean },
): void {
  expect(client.topicOf(message)).not.toBe('')
  expect(message.qos).toBe(Math.min(sent.qos, subscription.qos!))
  expect(message.retain).toBe(sent.retain && (subscription.retainAsPublished ?? false))
  expect(message.dup).toBe(false)
  if (version !== 5) return expect(message.properties).toEqual({})
  expect(new Set(message.properties.subscriptionIdentifier)).toEqual(new Set(identifiers))
  expect(message.properties.userProperty).toEqual([['kind', 'shape']])
  expect(message.properties.messageExpiryInterval).toBeGreaterThan(90)
}

describe('3.3 one message for receivers of every kind', () => {
  test.skipIf(external)(
    '[MQTT-3.8.4-8] [MQTT-3.3.1-12] [MQTT-3.3.4-3] each gets its own QoS, RETAIN, identifiers, alias and version',
    async () => {
      const topic = unique('t')
      const all = await receivers(topic)
      const publisher = await broker.connect()
      const properties = { messageExpiryInterval: 100, userProperty: [['kind', 'shape']] as [string, string][] }
      for (const retain of [false, true]) {
        for (const qos of [0, 1, 2]) {
          const payload = `${qos} ${retain}`
          await publisher.publish({ topic, payload, qos, retain, properties })
          for (const each of all) {
            const message = await each.client.receive()
            expect([each.client.topicOf(message), message.payload.toString()]).toEqual([topic, payload])
            expectShape(message, each, { qos, retain })
          }
        }
      }
      for (const each of all) await each.client.expectNothing()
    },
  )

  test('[MQTT-4.6.0-6] a burst reaches two hundred subscribers whole and in order', async () => {
    const topic = unique('t')
    const subscribers = await Promise.all(Array.from({ length: 200 }, (_, n) => broker.connect({ version: n % 2 ? 5 : 4 })))
    await Promise.all(subscribers.map((each, n) => each.subscribe({ filter: n % 3 ? topic : `${topic}/#`, qos: n % 3 })))
    const publisher = await broker.connect()
    const expected = Array.from({ length: 20 }, (_, n) => `${n} ${'x'.repeat(n * 37)}`)
    for (const payload of expected) await publisher.publish({ topic, payload, qos: 2 })
    await Promise.all(subscribers.map(async each => expect(await payloads(each, 20)).toEqual(expected)))
  })
})
