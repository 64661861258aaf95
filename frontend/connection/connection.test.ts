import { describe, expect, test } from 'vitest'
import { encodeClientDisconnect, encodeConnect, encodeSubscribe, encodeUnsubscribe } from '#shared/mqtt/client-codec.ts'
import { newMessage } from '#shared/mqtt/message.ts'
import type { ProtocolVersion } from '#shared/mqtt/protocol-version.ts'
import { encodePublish, publishFrameBytes, PublishShape } from '#shared/mqtt/publish-encoder.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { Topic } from '#shared/mqtt/topic.ts'
import { Recipients } from '#shared/rpc/recipients.ts'
import { type FakeClient, Surroundings } from '../surroundings.contract.ts'
import { PENDING_ANSWERS_MAX } from './pending-answers.ts'

const PINGREQ = Buffer.from([0xc0, 0])

function publish(version: ProtocolVersion, packetId: number, qos = 1): Buffer {
  const message = newMessage(new Topic('t', Buffer.from('t')), Buffer.from('p'))
  const shape = Object.assign(new PublishShape(), { version, qos })
  const bytes = Buffer.alloc(publishFrameBytes(message, shape))
  encodePublish(bytes, 0, message, shape, packetId)
  return bytes
}

function publishes(version: ProtocolVersion, count: number, firstId = 1): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, i) => publish(version, firstId + i)))
}

/** The socket takes nothing, and more waits for it than a client may be behind. */
function fallBehind(world: Surroundings, client: FakeClient): void {
  client.transport.stall()
  const recipients = new Recipients()
  recipients.add(client.connection.id, 0, 0, null)
  world.frontend.deliver(newMessage(world.topics.fromName('big'), Buffer.alloc(100_000)), recipients)
  world.turn.run()
  expect(client.connection.isBehind).toBe(true)
}

describe('answers', () => {
  test('[MQTT-4.6.0-2] leave in the order of the requests, whatever their kind', async () => {
    const world = new Surroundings()
    const client = (await world.connect()).forget()
    const subscribe = encodeSubscribe(5, 2, [{ filter: 'a' }, { filter: 'b' }])
    client.send(publish(5, 1), subscribe, encodeUnsubscribe(5, 3, ['a']), publish(5, 4, 2), Buffer.from([0x62, 2, 0, 9]))
    const { id } = client.connection
    world.frontend.acknowledged(id, 4, ReasonCode.PacketIdentifierNotFound)
    world.frontend.acknowledged(id, 3, ReasonCode.NoMatchingSubscribers)
    world.frontend.subscribed(id, 2, [0])
    world.frontend.subscribed(id, 1, [0, ReasonCode.NotAuthorized])
    world.turn.run()
    expect(client.packets).toEqual([])
    world.frontend.acknowledged(id, 0, ReasonCode.Success)
    world.turn.run()
    expect(client.packets.map(({ cmd, messageId }) => [cmd, messageId])).toEqual([
      ['puback', 1],
      ['suback', 2],
      ['unsuback', 3],
      ['pubrec', 4],
      ['pubcomp', 9],
    ])
    expect(client.transport.taken).toHaveLength(1)
    expect(client.packets[1]).toMatchObject({ granted: [0, ReasonCode.NotAuthorized] })
    expect(client.packets[4]).toMatchObject({ reasonCode: ReasonCode.PacketIdentifierNotFound })
  })

  test('that too many wait for stop the reading; half of them gone, it goes on', async () => {
    const world = new Surroundings()
    const client = (await world.connect(4)).forget()
    const { id } = client.connection
    client.send(publishes(4, PENDING_ANSWERS_MAX + 10))
    expect([world.backend.published.length, client.transport.isPaused]).toEqual([PENDING_ANSWERS_MAX, true])
    client.send(publish(4, 5_000))
    for (let ticket = 0; ticket < PENDING_ANSWERS_MAX / 2 - 1; ticket++) world.frontend.acknowledged(id, ticket, ReasonCode.Success)
    expect(world.backend.published).toHaveLength(PENDING_ANSWERS_MAX)
    world.frontend.acknowledged(id, PENDING_ANSWERS_MAX / 2 - 1, ReasonCode.Success)
    expect(client.transport.isPaused).toBe(false)
    expect(world.backend.published.slice(-2).map(({ message }) => message.packetId)).toEqual([PENDING_ANSWERS_MAX + 10, 5_000])
  })

  test('for a connection that is gone or was never there are ignored', async () => {
    const world = new Surroundings()
    const client = await world.connect()
    client.send(publish(5, 1))
    client.forget().transport.cut()
    for (const id of [client.connection.id, 0, -1, 1e15]) {
      world.frontend.acknowledged(id, 0, ReasonCode.Success)
      world.frontend.subscribed(id, 0, [])
      world.frontend.released(id, 1, ReasonCode.Success)
      world.frontend.disconnect(id, ReasonCode.SessionTakenOver, '')
    }
    const next = (await world.connect()).forget()
    // The same slot, but another connection.
    expect(next.connection.id).not.toBe(client.connection.id)
    world.frontend.acknowledged(client.connection.id, 0, ReasonCode.Success)
    world.turn.run()
    expect([client.bytes.length, next.bytes.length]).toEqual([0, 0])
  })
})

describe('what holds up the reading', () => {
  test('a client that does not read is not read either, until it does', async () => {
    const world = new Surroundings()
    const client = (await world.connect(4)).forget()
    client.send(publishes(4, 5))
    fallBehind(world, client)
    client.send(publishes(4, 100, 100))
    // The one under way when we find out, no more.
    expect([world.backend.published.length, client.transport.isPaused]).toEqual([6, true])
    // An answer to what was read before must not let in the next.
    for (let ticket = 0; ticket < 6; ticket++) world.frontend.acknowledged(client.connection.id, ticket, ReasonCode.Success)
    world.frontend.pressure(true)
    world.frontend.pressure(false)
    expect(world.backend.published).toHaveLength(6)
    client.transport.drain()
    world.turn.run()
    expect([world.backend.published.length, client.transport.isPaused]).toEqual([105, false])
    expect(client.packets.filter(({ cmd }) => cmd === 'puback')).toHaveLength(6)
  })

  test('memory pressure: an older publisher is read no further, whatever is answered or drained, and then loses nothing', async () => {
    const world = new Surroundings()
    const client = (await world.connect(4)).forget()
    world.frontend.pressure(true)
    client.send(publishes(4, 50), PINGREQ)
    expect([world.backend.published.length, client.transport.isPaused]).toEqual([1, true])
    world.frontend.acknowledged(client.connection.id, 0, ReasonCode.Success)
    world.turn.run()
    expect(world.backend.published).toHaveLength(1)
    client.transport.stall()
    const recipients = new Recipients()
    recipients.add(client.connection.id, 0, 0, null)
    world.frontend.deliver(newMessage(world.topics.fromName('big'), Buffer.alloc(100_000)), recipients)
    world.turn.run()
    client.transport.drain()
    expect(world.backend.published).toHaveLength(1)
    world.frontend.pressure(false)
    world.turn.run()
    expect([world.backend.published.length, client.transport.isPaused]).toEqual([50, false])
    expect(client.packets.at(-1)).toMatchObject({ cmd: 'pingresp' })
  })

  test('memory pressure: an MQTT 5 publisher is told with each publish', async () => {
    const world = new Surroundings()
    const client = (await world.connect(5)).forget()
    world.frontend.pressure(true)
    world.backend.onPublish = ({ connection, ticket }) => world.frontend.acknowledged(connection, ticket, ReasonCode.QuotaExceeded)
    client.send(publishes(5, 50))
    expect(client.packets.map(packet => (packet.cmd === 'puback' ? packet.reasonCode : null))).toEqual(
      Array.from({ length: 50 }, () => ReasonCode.QuotaExceeded),
    )
    expect(client.transport.isPaused).toBe(false)
  })

  test('an older publisher whose message is refused is cut off, so that it sends it again', async () => {
    const world = new Surroundings()
    const client = (await world.connect(4)).forget()
    client.send(publish(4, 1))
    world.frontend.acknowledged(client.connection.id, 0, ReasonCode.QuotaExceeded)
    world.turn.run()
    expect([client.bytes.length, client.transport.isEnded, world.backend.detached.length]).toEqual([0, true, 1])
  })

  test('a connection that closes under pressure is forgotten', async () => {
    const world = new Surroundings()
    const client = await world.connect(4)
    world.frontend.pressure(true)
    client.send(publish(4, 1), publish(4, 2))
    client.transport.cut()
    world.frontend.pressure(false)
    expect(world.backend.published).toHaveLength(1)
  })
})

describe('Keep Alive', () => {
  test('[MQTT-3.1.2-22] one and a half times the Keep Alive without a packet ends the connection', async () => {
    const world = new Surroundings()
    const client = (await world.connect(5, { keepAlive: 10 })).forget()
    for (let i = 0; i < 5; i++) {
      world.pass(12_000)
      client.send(PINGREQ)
    }
    expect(client.packets).toHaveLength(5)
    world.pass(14_800)
    expect(client.transport.isEnded).toBe(false)
    world.pass(400)
    expect(client.packets.at(-1)).toMatchObject({ cmd: 'disconnect', reasonCode: ReasonCode.KeepAliveTimeout })
    expect([client.transport.isEnded, world.frontend.counters.keepAliveTimeouts]).toEqual([true, 1])
    // It was abnormal: the Will goes out.
    expect(world.backend.detached[0]!.end).toEqual({ discardWill: false, sessionExpirySeconds: null })
  })

  test('0 is never', async () => {
    const world = new Surroundings({ serverKeepAliveSeconds: 0 })
    const client = await world.connect(5, { keepAlive: 0 })
    world.pass(1_000_000)
    expect(client.transport.isEnded).toBe(false)
  })

  test('does not run against a client that we do not read', async () => {
    const world = new Surroundings()
    const client = await world.connect(4, { keepAlive: 10 })
    world.frontend.pressure(true)
    client.send(publish(4, 1), publish(4, 2))
    world.pass(60_000)
    expect(client.transport.isEnded).toBe(false)
    world.frontend.pressure(false)
    world.pass(14_000)
    expect(client.transport.isEnded).toBe(false)
    world.pass(20_000)
    expect(client.transport.isEnded).toBe(true)
  })

  test('a client that takes its bytes slowly stays; one that takes none is dropped', async () => {
    const world = new Surroundings()
    const [slow, stuck] = [await world.connect(4, { keepAlive: 10 }), await world.connect(4, { keepAlive: 10 })]
    for (const client of [slow, stuck]) {
      fallBehind(world, client)
      for (let i = 0; i < 8; i++) {
        const recipients = new Recipients()
        recipients.add(client.connection.id, 0, 0, null)
        world.frontend.deliver(newMessage(world.topics.fromName('big'), Buffer.alloc(50_000)), recipients)
      }
      client.send(PINGREQ, PINGREQ)
    }
    for (let i = 0; i < 8; i++) {
      world.pass(10_000)
      slow.transport.takeSome(1)
    }
    expect([slow.transport.isEnded, stuck.transport.isEnded]).toEqual([false, true])
  })
})

describe('the end', () => {
  test('DISCONNECT: the Will is kept in unless asked for, and the Session Expiry Interval is taken over', async () => {
    const world = new Surroundings({ maxSessionExpirySeconds: 500 })
    const properties = { sessionExpiryInterval: 10 }
    const [normal, withWill, longer] = [
      await world.connect(5, { properties }),
      await world.connect(5, { properties }),
      await world.connect(5, { properties }),
    ]
    normal.send(encodeClientDisconnect(5), PINGREQ)
    withWill.send(encodeClientDisconnect(5, ReasonCode.DisconnectWithWillMessage))
    longer.send(encodeClientDisconnect(5, ReasonCode.Success, { sessionExpiryInterval: 1_000 }))
    expect(world.backend.detached.map(({ end }) => end)).toEqual([
      { discardWill: true, sessionExpirySeconds: null },
      { discardWill: false, sessionExpirySeconds: null },
      { discardWill: true, sessionExpirySeconds: 500 },
    ])
    expect(normal.packets.map(({ cmd }) => cmd)).toEqual(['connack'])
    normal.transport.cut(null)
    expect(world.backend.detached).toHaveLength(3)
  })

  test('of the socket: the session is told once, and the slot is free again', async () => {
    const world = new Surroundings()
    const client = await world.connect()
    client.transport.cut()
    client.transport.cut()
    expect([world.backend.detached.length, world.frontend.counters.connectionsOpen, [...world.frontend.connections].length]).toEqual([
      1, 0, 0,
    ])
    client.send(PINGREQ)
    expect(client.packets).toHaveLength(1)
  })

  test('taken over: the reason is said to MQTT 5, and older clients are cut off', async () => {
    const world = new Surroundings()
    const [newer, older] = [(await world.connect(5)).forget(), (await world.connect(4)).forget()]
    for (const { connection } of [newer, older]) world.frontend.disconnect(connection.id, ReasonCode.SessionTakenOver, 'taken over')
    expect(newer.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.SessionTakenOver }])
    expect([older.bytes.length, newer.transport.isEnded, older.transport.isEnded]).toEqual([0, true, true])
  })

  test('what was gathered for the client goes out before', async () => {
    const world = new Surroundings()
    const client = (await world.connect()).forget()
    client.arrive(Buffer.concat([PINGREQ, PINGREQ, Buffer.from([0xf0, 0])]))
    expect(client.packets.map(({ cmd }) => cmd)).toEqual(['pingresp', 'pingresp', 'disconnect'])
  })

  test.each([
    ['reserved type', [0x00, 0], ReasonCode.MalformedPacket],
    ['a second CONNECT', [...encodeConnect(5, 'again')], ReasonCode.ProtocolError],
    ['a packet of the server', [0xd0, 0], ReasonCode.ProtocolError],
    ['AUTH without a method', [0xf0, 0], ReasonCode.ProtocolError],
    ['PINGREQ with a body', [0xc0, 1, 0], ReasonCode.MalformedPacket],
  ])('for %s', async (_, bytes, reason) => {
    const world = new Surroundings()
    const client = (await world.connect()).forget()
    client.send(Buffer.from(bytes), PINGREQ)
    expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: reason }])
    expect([client.transport.isEnded, world.frontend.counters.protocolErrors]).toEqual([true, 1])
  })

  test('a fault of ours in a handler ends that connection and no other', async () => {
    const world = new Surroundings()
    const [unlucky, other] = [(await world.connect()).forget(), (await world.connect()).forget()]
    world.backend.onPublish = () => {
      throw new TypeError('oops')
    }
    unlucky.send(publish(5, 1), PINGREQ)
    other.send(PINGREQ)
    expect(unlucky.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.ImplementationSpecificError }])
    expect(JSON.stringify(unlucky.packets)).not.toContain('oops')
    expect(other.packets.map(({ cmd }) => cmd)).toEqual(['pingresp'])
    expect(world.log.lines.filter(({ level }) => level === 'error').map(({ event }) => event)).toEqual(['connection_failed'])
    expect([unlucky.transport.isEnded, other.transport.isEnded, world.backend.detached.length]).toEqual([true, false, 1])
  })
})

describe('much input at once', () => {
  test('is handled in shares of a turn, so that others have theirs in between', async () => {
    const world = new Surroundings()
    const [busy, other] = [await world.connect(), (await world.connect()).forget()]
    const packet = publish(5, 0, 0)
    const count = Math.ceil((1024 * 1024) / packet.length)
    busy.arrive(Buffer.concat(Array.from({ length: count }, () => packet)))
    const first = world.backend.published.length
    expect(first * packet.length).toBeLessThan(300 * 1024)
    other.arrive(PINGREQ)
    world.frontend.endTurn()
    expect(other.packets.map(({ cmd }) => cmd)).toEqual(['pingresp'])
    expect(world.backend.published.length).toBeLessThan(count)
    world.turn.run()
    expect(world.backend.published.length).toBe(count)
    expect(busy.transport.isPaused).toBe(false)
  })

  test('does not make more output than a socket may be behind with', async () => {
    const world = new Surroundings()
    const client = (await world.connect()).forget()
    client.transport.stall()
    client.send(Buffer.concat(Array.from({ length: 200_000 }, () => PINGREQ)))
    expect(client.transport.bufferedBytes).toBeLessThan(256 * 1024)
    expect(client.transport.isPaused).toBe(true)
  })
})

test('[MQTT-3.1.2-22] the silence of one that was not read begins when it is read again', async () => {
  const world = new Surroundings()
  const client = (await world.connect(4, { keepAlive: 10 })).forget()
  world.frontend.pressure(true)
  client.send(publish(4, 1))
  expect(client.transport.isPaused).toBe(true)
  world.pass(14_000)
  world.frontend.pressure(false)
  world.frontend.acknowledged(client.connection.id, 0, ReasonCode.Success)
  expect(client.transport.isPaused).toBe(false)
  world.pass(14_000)
  expect(client.connection.phase).toBe('open')
  world.pass(2_000)
  expect(client.connection.phase).not.toBe('open')
})
