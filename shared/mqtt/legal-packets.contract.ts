import fc from 'fast-check'
import type { IPublishPacket, UserProperties } from 'mqtt-packet'

// What every codec here must accept: legal packets and their parts, as mqtt-packet names them, for the property tests.

/** Text that a UTF-8 Encoded String may hold: no U+0000, no lone surrogate. */
export const mqttText = (constraints: fc.StringConstraints = {}): fc.Arbitrary<string> =>
  fc.string({ unit: 'binary', maxLength: 20, ...constraints }).map(text => text.replaceAll('\0', 'x'))

export const topicName: fc.Arbitrary<string> = fc.oneof(
  fc
    .array(fc.constantFrom('a', 'b', '', '$SYS', '__proto__', 'sensor-17', 'ä€😀'), { minLength: 2, maxLength: 8 })
    .map(levels => levels.join('/')),
  mqttText({ minLength: 1 }).map(text => text.replaceAll(/[+#]/g, '-')),
)

export const packetId: fc.Arbitrary<number> = fc.integer({ min: 1, max: 65_535 })

const u32 = fc.oneof(fc.integer({ min: 0, max: 0xffff_ffff }), fc.constantFrom(0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff))

/**
 * mqtt-packet drops a value when its name comes again and the value was empty, and an object puts names that are
 * integers first: so no empty values and no such names here. Our own tests cover those.
 */
export const userProperties: fc.Arbitrary<UserProperties> = fc
  .uniqueArray(
    fc.tuple(
      fc.oneof(mqttText(), fc.constantFrom('__proto__', 'constructor', '$partition', '')),
      fc.array(mqttText({ minLength: 1 }), { minLength: 1, maxLength: 3 }),
    ),
    {
      selector: ([name]) => name,
      maxLength: 5,
    },
  )
  .map(pairs => {
    const object = Object.create(null) as UserProperties
    for (const [name, values] of pairs) if (!/^\d+$/.test(name)) object[name] = values.length === 1 ? values[0]! : values
    return object
  })
  .filter(object => Object.keys(object).length > 0)

/** A record with its keys in any order, each possibly absent. */
export function anyOrder<T extends Record<string, unknown>>(arbitraries: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<Partial<T>> {
  const keys = Object.keys(arbitraries)
  return fc
    .tuple(fc.shuffledSubarray(keys), fc.record(arbitraries))
    .map(([chosen, values]) => Object.fromEntries(chosen.map(key => [key, (values as Record<string, unknown>)[key]])) as Partial<T>)
}

export const publishProperties = anyOrder<Required<NonNullable<IPublishPacket['properties']>>>({
  payloadFormatIndicator: fc.boolean(),
  messageExpiryInterval: u32,
  topicAlias: fc.integer({ min: 1, max: 65_535 }),
  responseTopic: topicName,
  correlationData: fc.uint8Array({ maxLength: 200 }).map(bytes => Buffer.from(bytes)),
  userProperties,
  subscriptionIdentifier: fc.integer({ min: 1, max: 268_435_455 }),
  contentType: mqttText(),
})

/** PUBLISH without a Subscription Identifier, as a client may send it. */
export const clientPublish: fc.Arbitrary<IPublishPacket> = fc
  .record({
    cmd: fc.constant('publish' as const),
    topic: topicName,
    qos: fc.constantFrom(0, 1, 2) as fc.Arbitrary<0 | 1 | 2>,
    retain: fc.boolean(),
    dup: fc.boolean(),
    messageId: packetId,
    payload: fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes)),
      fc.integer({ min: 0, max: 20_000 }).map(length => Buffer.alloc(length, 7)),
    ),
    properties: publishProperties,
  })
  .map(packet => {
    const { subscriptionIdentifier: _, ...properties } = packet.properties
    return { ...packet, properties, dup: packet.qos > 0 && packet.dup }
  })

export { u32 }
