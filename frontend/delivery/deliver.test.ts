import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Message, newMessage } from '#shared/mqtt/message.ts'
import type { ProtocolVersion } from '#shared/mqtt/protocol-version.ts'
import { encodePublish, publishFrameBytes, PublishShape } from '#shared/mqtt/publish-encoder.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { RECIPIENT_DUP, RECIPIENT_RETAIN, Recipients } from '#shared/rpc/recipients.ts'
import { type FakeClient, Surroundings } from '../surroundings.contract.ts'

const KIB = 1_024
/** Content Type `t` and a User Property `k`: `v`. */
const PROPERTIES = Buffer.from([3, 0, 1, 0x74, 38, 0, 1, 0x6b, 0, 1, 0x76])

/** What encodePublish makes of the message for one receiver. */
function encoded(message: Message, shape: Partial<PublishShape>, packetId: number): Buffer {
  const whole = Object.assign(new PublishShape(), shape)
  const bytes = Buffer.alloc(publishFrameBytes(message, whole))
  expect(encodePublish(bytes, 0, message, whole, packetId)).toBe(bytes.length)
  return bytes
}

interface Receiver {
  readonly version: ProtocolVersion
  readonly flags: number
  readonly packetId: number
  readonly identifiers: readonly number[] | null
}

/** By first byte's bits; a DUP needs QoS over 0. */
function flagsOf(qos: number, retain: boolean, dup: boolean): number {
  return qos | (retain ? RECIPIENT_RETAIN : 0) | (dup && qos > 0 ? RECIPIENT_DUP : 0)
}

function shapeOf({ version, flags, identifiers }: Receiver, message: Message): Partial<PublishShape> {
  return {
    version,
    qos: flags & 3,
    retain: (flags & RECIPIENT_RETAIN) !== 0,
    dup: (flags & RECIPIENT_DUP) !== 0,
    subscriptionIds: identifiers,
    expirySeconds: message.expirySeconds,
  }
}

async function clients(world: Surroundings, versions: readonly ProtocolVersion[]): Promise<FakeClient[]> {
  const all = await Promise.all(versions.map(version => world.connect(version)))
  return all.map(client => client.forget())
}

function send(world: Surroundings, message: Message, to: readonly (readonly [FakeClient, Omit<Receiver, 'version'>])[]): void {
  const recipients = new Recipients()
  for (const [client, { flags, packetId, identifiers }] of to) recipients.add(client.connection.id, flags, packetId, identifiers)
  world.frontend.deliver(message, recipients)
}

const PLAIN = { flags: 0, packetId: 0, identifiers: null } as const

describe('what receivers get is what encodePublish makes for each of them', () => {
  const receiver = fc
    .record({
      version: fc.constantFrom<ProtocolVersion>(3, 4, 5),
      qos: fc.nat(2),
      retain: fc.boolean(),
      dup: fc.boolean(),
      packetId: fc.integer({ min: 1, max: 65_535 }),
      identifiers: fc.option(fc.array(fc.integer({ min: 1, max: 268_435_455 }), { minLength: 1, maxLength: 3 })),
    })
    .map(
      ({ version, qos, retain, dup, packetId, identifiers }): Receiver => ({
        version,
        flags: flagsOf(qos, retain, dup),
        packetId: qos === 0 ? 0 : packetId,
        identifiers: version === 5 ? identifiers : null,
      }),
    )
  const size = fc.oneof(
    fc.nat(40),
    fc.integer({ min: 16 * KIB - 80, max: 16 * KIB + 20 }),
    fc.integer({ min: 60 * KIB, max: 70 * KIB }),
    fc.nat(5 * KIB),
  )
  const messages = fc.record({ payloadBytes: size, hasProperties: fc.boolean(), expirySeconds: fc.constantFrom(-1, 0, 77) })

  test('for every mix of shapes and sizes, several messages in one turn', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(receiver, { minLength: 1, maxLength: 12 }),
        fc.array(messages, { minLength: 1, maxLength: 4 }),
        async (specs, sizes) => {
          const world = new Surroundings()
          const all = await clients(
            world,
            specs.map(({ version }) => version),
          )
          const expected: Buffer[][] = specs.map(() => [])
          for (const [number, { payloadBytes, hasProperties, expirySeconds }] of sizes.entries()) {
            const payload = Buffer.alloc(payloadBytes, number + 1)
            const message = newMessage(world.topics.fromName('a/topic'), payload, 2, false, hasProperties ? PROPERTIES : undefined)
            message.expirySeconds = expirySeconds
            for (const [i, each] of specs.entries()) expected[i]!.push(encoded(message, shapeOf(each, message), each.packetId))
            send(
              world,
              message,
              specs.map((each, i) => [all[i]!, each] as const),
            )
            // The network chunk that it came in is used again.
            payload.fill(0xee)
          }
          world.turn.run()
          for (const [i, client] of all.entries()) expect(client.bytes.equals(Buffer.concat(expected[i]!))).toBe(true)
        },
      ),
      { numRuns: 60 },
    )
  })

  test('one write for each receiver and turn', async () => {
    const world = new Surroundings()
    const all = await clients(world, [5, 5, 4])
    for (let i = 0; i < 50; i++) {
      const message = newMessage(world.topics.fromName('t'), Buffer.from(String(i)))
      send(
        world,
        message,
        all.map(client => [client, PLAIN] as const),
      )
    }
    expect(all.map(client => client.transport.taken.length)).toEqual([0, 0, 0])
    world.turn.run()
    expect(all.map(client => client.transport.taken.length)).toEqual([1, 1, 1])
    expect(all.map(client => client.packets.length)).toEqual([50, 50, 50])
  })

  test('a large payload is copied once for all who get it', async () => {
    const world = new Surroundings()
    const all = await clients(world, [5, 4, 5])
    for (const { transport } of all) transport.stall()
    const message = newMessage(world.topics.fromName('t'), Buffer.alloc(100 * KIB, 7))
    send(
      world,
      message,
      all.map(client => [client, PLAIN] as const),
    )
    world.turn.run()
    const held = all.reduce((sum, { transport }) => sum + transport.waitingMemoryBytes, 0)
    expect(held).toBeLessThan(3 * 101 * KIB + 4 * KIB)
    const memories = new Set(all.flatMap(({ transport }) => transport.waitingMemory.filter(memory => memory.byteLength === 100 * KIB)))
    expect(memories.size).toBe(1)
  })

  test('a large payload that the message owns is not copied at all', async () => {
    const world = new Surroundings()
    const all = await clients(world, [5, 4])
    for (const { transport } of all) transport.stall()
    const message = newMessage(world.topics.fromName('t'), Buffer.alloc(100 * KIB, 7), 0, false, PROPERTIES).keepApart()
    for (const client of all) send(world, message, [[client, PLAIN]])
    world.turn.run()
    for (const { transport } of all) expect(transport.waitingMemory).toContain(message.payloadBytes.buffer)
  })

  test('a head that fits no gather buffer goes out whole', async () => {
    const world = new Surroundings()
    const [client] = await clients(world, [5])
    const userProperty = Buffer.concat([Buffer.from([38, 0, 1, 0x6b, 0xff, 0xff]), Buffer.alloc(65_535, 0x76)])
    const message = newMessage(world.topics.fromName('t'), Buffer.alloc(10, 1), 0, false, Buffer.concat([userProperty, userProperty]))
    send(world, message, [[client!, PLAIN]])
    world.turn.run()
    expect(client!.bytes.equals(encoded(message, {}, 0))).toBe(true)
  })

  test('connections that are gone or closing are passed over', async () => {
    const world = new Surroundings()
    const [gone, closing, there] = await clients(world, [5, 5, 5])
    gone!.transport.cut()
    world.frontend.disconnect(closing!.connection.id, ReasonCode.AdministrativeAction, 'x')
    closing!.forget()
    send(
      world,
      newMessage(world.topics.fromName('t'), Buffer.from('x')),
      [gone!, closing!, there!].map(client => [client, PLAIN] as const),
    )
    world.turn.run()
    expect([gone!, closing!, there!].map(client => client.bytes.length)).toEqual([0, 0, 7])
  })
})

describe('Topic Aliases', () => {
  test('from the first message on, up to what the client takes, and never beyond', async () => {
    const world = new Surroundings()
    const client = (await world.connect(5, { properties: { topicAliasMaximum: 2 } })).forget()
    const publish = (topic: string): Buffer => {
      const message = newMessage(world.topics.fromName(topic), Buffer.from('p'))
      send(world, message, [[client, PLAIN]])
      world.turn.run()
      const { bytes } = client
      client.forget()
      const alias = { a: 1, b: 2, c: 0 }[topic] ?? 0
      expect([
        encoded(message, { topicAlias: alias }, 0),
        encoded(message, { topicAlias: alias, topicMode: 'aliasOnly' }, 0),
      ]).toContainEqual(bytes)
      return bytes
    }
    const lengths = ['a', 'b', 'c', 'a', 'b', 'c', 'a'].map(topic => publish(topic).length)
    expect(lengths).toEqual([10, 10, 7, 9, 9, 7, 9])
  })

  test('ours is the ceiling', async () => {
    const world = new Surroundings({ topicAliasesOutMax: 1 })
    const client = await world.connect(5, { properties: { topicAliasMaximum: 10 } })
    expect(client.connection.topicAliasesMax).toBe(1)
  })

  test('a receiver with aliases does not disturb those who share a frame', async () => {
    const world = new Surroundings()
    const aliased = (await world.connect(5, { properties: { topicAliasMaximum: 5 } })).forget()
    const [before, behind] = await clients(world, [5, 5])
    const message = newMessage(world.topics.fromName('topic'), Buffer.from('p'), 1)
    for (let i = 1; i <= 3; i++) {
      send(
        world,
        message,
        [before!, aliased, behind!].map(client => [client, { flags: 1, packetId: i, identifiers: null }] as const),
      )
    }
    world.turn.run()
    const plain = Buffer.concat([1, 2, 3].map(id => encoded(message, { qos: 1 }, id)))
    expect([before!.bytes, behind!.bytes]).toEqual([plain, plain])
    expect(aliased.bytes).toEqual(
      Buffer.concat([1, 2, 3].map(id => encoded(message, { qos: 1, topicAlias: 1, topicMode: id === 1 ? 'full' : 'aliasOnly' }, id))),
    )
  })

  test('those whose table is full share the plain frame with the rest, and are given what they know by its alias', async () => {
    const world = new Surroundings()
    const options = { properties: { topicAliasMaximum: 1 } }
    const aliased = [(await world.connect(5, options)).forget(), (await world.connect(5, options)).forget()]
    const [plain] = await clients(world, [5])
    const all = [aliased[0]!, plain!, aliased[1]!]
    const publish = (topic: string): Message => {
      const message = newMessage(world.topics.fromName(topic), Buffer.from('p'), 1)
      send(
        world,
        message,
        all.map(client => [client, { flags: 1, packetId: 7, identifiers: null }] as const),
      )
      return message
    }
    publish('known')
    world.turn.run()
    for (const client of all) client.forget()
    const puts: number[] = []
    const { sharedFrames } = world.frontend
    const put = sharedFrames.put.bind(sharedFrames)
    sharedFrames.put = (shape, ...frame) => {
      puts.push(shape)
      put(shape, ...frame)
    }
    const [other, known] = [publish('other'), publish('known')]
    expect(puts, 'one frame for three, then one for who has no alias').toHaveLength(2)
    world.turn.run()
    const plainFrames = [encoded(other, { qos: 1 }, 7), encoded(known, { qos: 1 }, 7)]
    expect(plain!.bytes).toEqual(Buffer.concat(plainFrames))
    const short = encoded(known, { qos: 1, topicAlias: 1, topicMode: 'aliasOnly' }, 7)
    for (const client of aliased) expect(client.bytes).toEqual(Buffer.concat([plainFrames[0]!, short]))
  })

  test('is not remembered for a message that did not go out, and given up for one that fits only without', async () => {
    const world = new Surroundings()
    const message = newMessage(world.topics.fromName('topic'), Buffer.alloc(30))
    const exact = publishFrameBytes(message, new PublishShape())
    const client = (await world.connect(5, { properties: { topicAliasMaximum: 5, maximumPacketSize: exact } })).forget()
    send(world, newMessage(world.topics.fromName('topic'), Buffer.alloc(31)), [[client, PLAIN]])
    send(world, message, [[client, PLAIN]])
    world.turn.run()
    expect(client.bytes).toEqual(encoded(message, {}, 0))
    expect([client.connection.aliases, world.frontend.counters.tooLargeDropped]).toEqual([null, 1])
  })
})

describe('what does not go out', () => {
  test('[MQTT-3.1.2-25] too large for the client: counts as acknowledged, after the delivery', async () => {
    const world = new Surroundings()
    const client = (await world.connect(5, { properties: { maximumPacketSize: 200 } })).forget()
    const message = newMessage(world.topics.fromName('t'), Buffer.alloc(300))
    for (const qos of [0, 1, 2]) send(world, message, [[client, { flags: qos, packetId: qos * 7, identifiers: null }]])
    expect(world.backend.calls).toEqual([])
    world.turn.run()
    expect(world.backend.calls).toEqual([
      ['puback', 7],
      ['pubrec', 14, ReasonCode.PacketTooLarge],
    ])
    expect([client.bytes.length, world.frontend.counters.tooLargeDropped]).toEqual([0, 3])
  })

  test('QoS 0 to a socket whose buffer is full is dropped and counted; QoS 1 is not, and the backend is told', async () => {
    const world = new Surroundings({ writeBufferBytesMax: 100_000 })
    const [slow, fast] = await clients(world, [5, 5])
    world.backend.writableCalls.length = 0
    slow!.transport.stall()
    const message = newMessage(world.topics.fromName('t'), Buffer.alloc(994))
    const frameBytes = publishFrameBytes(message, new PublishShape())
    for (let i = 0; i < 300; i++) {
      send(world, message, [
        [slow!, PLAIN],
        [fast!, PLAIN],
      ])
      if (i % 10 === 0) world.turn.run()
    }
    world.turn.run()
    const { qos0DroppedOutgoing } = world.frontend.counters
    expect(slow!.connection.output.waitingBytes).toBeLessThanOrEqual(100_000)
    expect(slow!.connection.output.waitingBytes + qos0DroppedOutgoing * frameBytes).toBe(300 * frameBytes)
    expect(fast!.packets).toHaveLength(300)
    expect(world.backend.writableCalls).toEqual([{ connection: slow!.connection.id, isWritable: false }])

    send(world, message, [[slow!, { flags: 1, packetId: 1, identifiers: null }]])
    expect(world.frontend.counters.qos0DroppedOutgoing).toBe(qos0DroppedOutgoing)
    slow!.transport.drain()
    world.turn.run()
    expect(slow!.packets).toHaveLength(300 - qos0DroppedOutgoing + 1)
    expect(world.backend.writableCalls.at(-1)).toEqual({ connection: slow!.connection.id, isWritable: true })
  })

  test('a slow reader is noticed within the turn: one large burst does not pass the limit', async () => {
    const world = new Surroundings({ writeBufferBytesMax: 128 * KIB })
    const [slow] = await clients(world, [5])
    slow!.transport.stall()
    const message = newMessage(world.topics.fromName('t'), Buffer.alloc(20 * KIB))
    for (let i = 0; i < 1_000; i++) send(world, message, [[slow!, PLAIN]])
    expect(slow!.connection.output.waitingBytes).toBeLessThanOrEqual(128 * KIB)
    expect(world.frontend.counters.qos0DroppedOutgoing).toBeGreaterThan(990)
  })
})
