import { describe, expect, test } from 'vitest'
import { newMessage } from '#shared/mqtt/message.ts'
import type { ProtocolVersion } from '#shared/mqtt/protocol-version.ts'
import { encodePublish, publishFrameBytes, PublishShape } from '#shared/mqtt/publish-encoder.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { Topic } from '#shared/mqtt/topic.ts'
import { type FakeClient, Surroundings, permitOf } from '../surroundings.contract.ts'

interface Options {
  readonly qos?: number
  readonly packetId?: number
  readonly retain?: boolean
  readonly dup?: boolean
  readonly version?: ProtocolVersion
  readonly topicAlias?: number
  readonly topicMode?: 'full' | 'aliasOnly'
}

function publish(topic: string, { packetId = 0, ...shape }: Options = {}): Buffer {
  const message = newMessage(new Topic(topic, Buffer.from(topic)), Buffer.from('p'))
  const whole = Object.assign(new PublishShape(), shape)
  const bytes = Buffer.alloc(publishFrameBytes(message, whole))
  encodePublish(bytes, 0, message, whole, packetId)
  return bytes
}

const pubrel = (packetId: number): Buffer => Buffer.from([0x62, 2, packetId >> 8, packetId & 0xff])

/** Command, Packet Identifier and reason of what the client got. */
function answers(client: FakeClient): unknown[] {
  return client.packets.map(packet => [packet.cmd, packet.messageId, 'reasonCode' in packet ? packet.reasonCode : undefined])
}

async function connect(world: Surroundings, version: ProtocolVersion = 5): Promise<FakeClient> {
  return (await world.connect(version)).forget()
}

describe('PUBLISH', () => {
  test('is handed on as it came, with aliases resolved', async () => {
    const world = new Surroundings()
    const client = await connect(world)
    client.send(
      publish('a/b', { topicAlias: 3, retain: true }),
      publish('', { topicAlias: 3, topicMode: 'aliasOnly', qos: 1, packetId: 7 }),
    )
    expect(world.backend.published.map(({ message: { topic, qos, retain, packetId } }) => [topic.name, qos, retain, packetId])).toEqual([
      ['a/b', 0, true, 0],
      ['a/b', 1, false, 7],
    ])
    expect(client.packets).toEqual([])
  })

  test.each([
    [5, 1, 'puback', ReasonCode.NotAuthorized],
    [5, 2, 'pubrec', ReasonCode.NotAuthorized],
    [4, 1, 'puback', undefined],
    [4, 2, 'pubrec', undefined],
  ] as const)(
    'that is not permitted: MQTT %i, QoS %i gets %s %s in its place among the others, and goes nowhere',
    async (version, qos, cmd, reason) => {
      const world = new Surroundings()
      world.authentication.permit = permitOf(['allowed'])
      const client = await connect(world, version)
      client.send(
        publish('allowed', { version, qos: 1, packetId: 1 }),
        publish('forbidden', { version, qos, packetId: 2 }),
        publish('forbidden', { version }),
        publish('$SYS/broker', { version, qos, packetId: 3 }),
        publish('allowed', { version, qos: 1, packetId: 4 }),
      )
      expect(world.backend.published.map(({ message }) => message.packetId)).toEqual([1, 4])
      expect(client.packets).toEqual([])
      const { id } = client.connection
      for (const { ticket } of world.backend.published) world.frontend.acknowledged(id, ticket, ReasonCode.Success)
      world.turn.run()
      const success = version === 5 ? ReasonCode.Success : undefined
      expect(answers(client)).toEqual([
        ['puback', 1, success],
        [cmd, 2, reason],
        [cmd, 3, reason],
        ['puback', 4, success],
      ])
      expect([client.transport.isEnded, world.frontend.counters.categories.total('authorizationDenied')]).toEqual([false, 3])
    },
  )

  test('$SYS is closed to publishers even where everything is permitted', async () => {
    const world = new Surroundings()
    const client = await connect(world)
    client.send(publish('$SYS/broker/version', { retain: true }), publish('$SYS/x', { qos: 1, packetId: 1 }))
    expect(world.backend.published).toEqual([])
    expect(answers(client)).toEqual([['puback', 1, ReasonCode.NotAuthorized]])
  })

  test('a permission is asked again for another topic, though the one before was allowed', async () => {
    const world = new Surroundings()
    world.authentication.permit = permitOf(['a'])
    const client = await connect(world)
    client.send(...['a', 'a', 'b', 'a', 'b'].map(topic => publish(topic)))
    expect(world.backend.published.map(({ message }) => message.topic.name)).toEqual(['a', 'a', 'a'])
  })

  test('QoS 2 where CONNACK said Maximum QoS 1, RETAIN where it said Retain Available 0: the end', async () => {
    for (const [settings, options, reason] of [
      [{ compatibility: 'AzureIoTOperations' }, { qos: 2, packetId: 1 }, ReasonCode.QoSNotSupported],
      [{ retainedMessagesMax: 0 }, { retain: true }, ReasonCode.RetainNotSupported],
    ] as const) {
      const world = new Surroundings(settings)
      const client = await connect(world)
      client.send(publish('t', options))
      expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: reason }])
      expect([world.backend.published.length, client.transport.isEnded]).toEqual([0, true])
    }
  })

  test('an alias is refused where CONNACK offered none', async () => {
    for (const settings of [{ topicAliasMaximum: 0 }, { compatibility: 'AzureIoTOperations' }] as const) {
      const client = await connect(new Surroundings(settings))
      client.send(publish('t', { topicAlias: 1 }))
      expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.TopicAliasInvalid }])
    }
  })

  test('a topic too deep is refused by itself where an acknowledgement can say so, else ends the connection', async () => {
    const world = new Surroundings({ topicLevelsMax: 3 })
    const client = await connect(world)
    client.send(
      publish('a/b/c/d', { qos: 1, packetId: 1 }),
      publish('a/b/c/d', { qos: 2, packetId: 2 }),
      publish('a/b/c', { qos: 1, packetId: 3 }),
    )
    expect(answers(client)).toEqual([
      ['puback', 1, ReasonCode.TopicNameInvalid],
      ['pubrec', 2, ReasonCode.TopicNameInvalid],
    ])
    expect(world.backend.published).toHaveLength(1)
    client.forget().send(publish('a/b/c/d'))
    expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.TopicNameInvalid }])
    const older = await connect(world, 4)
    older.send(publish('a/b/c/d', { version: 4, qos: 1, packetId: 1 }))
    expect([older.bytes.length, older.transport.isEnded]).toEqual([0, true])
  })
})

describe('Receive Maximum', () => {
  async function world2(): Promise<{
    world: Surroundings
    client: FakeClient
    acknowledge: (ticket: number, reason?: ReasonCode) => void
  }> {
    const world = new Surroundings({ receiveMaximum: 2 })
    const client = await connect(world)
    const acknowledge = (ticket: number, reason: ReasonCode = ReasonCode.Success): void => {
      world.frontend.acknowledged(client.connection.id, ticket, reason)
      world.turn.run()
    }
    return { world, client, acknowledge }
  }

  test('[MQTT-3.3.4-9] one more than announced ends the connection', async () => {
    const { world, client } = await world2()
    client.send(publish('t', { qos: 1, packetId: 1 }), publish('t', { qos: 2, packetId: 2 }), publish('t'))
    expect(client.transport.isEnded).toBe(false)
    client.send(publish('t', { qos: 1, packetId: 3 }))
    expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.ReceiveMaximumExceeded }])
    expect(world.backend.published).toHaveLength(3)
  })

  test('a place is free again with PUBACK, a refusing PUBREC or PUBCOMP, not with PUBREC', async () => {
    const { client, acknowledge } = await world2()
    const { connection } = client
    client.send(publish('t', { qos: 1, packetId: 1 }), publish('t', { qos: 2, packetId: 2 }))
    acknowledge(0)
    expect(connection.unfinishedPublishes).toBe(1)
    acknowledge(1)
    expect(connection.unfinishedPublishes).toBe(1)
    client.send(pubrel(2))
    acknowledge(2)
    expect(connection.unfinishedPublishes).toBe(0)
    client.send(publish('t', { qos: 2, packetId: 3 }))
    acknowledge(3, ReasonCode.QuotaExceeded)
    expect(connection.unfinishedPublishes).toBe(0)
    client.send(pubrel(9))
    acknowledge(4, ReasonCode.PacketIdentifierNotFound)
    expect([connection.unfinishedPublishes, client.transport.isEnded]).toEqual([0, false])
  })

  test('a PUBREL of a former connection does not lift the count above what it began with', async () => {
    const { client, acknowledge } = await world2()
    client.send(pubrel(1), pubrel(2))
    acknowledge(0)
    acknowledge(1)
    expect(client.connection.unfinishedPublishes).toBe(0)
  })

  test('publishes that are refused count until they are answered', async () => {
    const world = new Surroundings({ receiveMaximum: 2 })
    world.authentication.permit = permitOf(['allowed'])
    const client = await connect(world)
    client.send(...Array.from({ length: 10 }, (_, i) => publish('forbidden', { qos: 1, packetId: i + 1 })))
    expect([client.packets.length, client.connection.unfinishedPublishes]).toEqual([10, 0])
  })

  test('binds no older client: it was never told', async () => {
    const world = new Surroundings({ receiveMaximum: 2 })
    const client = await connect(world, 4)
    client.send(...Array.from({ length: 100 }, (_, i) => publish('t', { version: 4, qos: 2, packetId: i + 1 })))
    expect([world.backend.published.length, client.transport.isEnded]).toEqual([100, false])
  })
})

describe('acknowledgements from the client', () => {
  test('reach the backend with identifier and reason; an unknown PUBREC is answered, a refusing one is not', async () => {
    const world = new Surroundings()
    const client = await connect(world)
    const pubrec = (packetId: number, reason: number): Buffer => Buffer.from([0x50, 3, 0, packetId, reason])
    client.send(Buffer.from([0x40, 2, 0, 1]), pubrec(2, 0), Buffer.from([0x70, 2, 0, 3]))
    client.send(pubrec(4, 0), pubrec(5, ReasonCode.UnspecifiedError))
    expect(world.backend.calls).toEqual([
      ['puback', 1],
      ['pubrec', 2, 0],
      ['pubcomp', 3],
      ['pubrec', 4, 0],
      ['pubrec', 5, ReasonCode.UnspecifiedError],
    ])
    world.frontend.released(client.connection.id, 4, ReasonCode.PacketIdentifierNotFound)
    world.turn.run()
    expect(answers(client)).toEqual([['pubrel', 4, ReasonCode.PacketIdentifierNotFound]])
    world.frontend.released(client.connection.id, 2, ReasonCode.Success)
    world.turn.run()
    expect(answers(client.forget())).toEqual([])
  })
})
