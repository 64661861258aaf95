import { describe, expect, test } from 'vitest'
import { encodeClientDisconnect, encodeConnect, type ConnectOptions, encodeSubscribe } from '#shared/mqtt/client-codec.ts'
import { newMessage } from '#shared/mqtt/message.ts'
import { encodePublish, publishFrameBytes, PublishShape } from '#shared/mqtt/publish-encoder.ts'
import type { ProtocolVersion } from '#shared/mqtt/protocol-version.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { Topic } from '#shared/mqtt/topic.ts'
import type { AttachReply } from '#shared/rpc/backend-port.ts'
import type { Verdict } from '#shared/rpc/authentication.ts'
import { type FakeClient, FakeTransport, Surroundings, permitOf } from '../surroundings.contract.ts'
import type { Transport, TransportHandler } from '../listener/transport.ts'

const WILL = { topic: 'w', payload: Buffer.alloc(60_000), qos: 0, retain: false } as const
const PINGREQ = Buffer.from([0xc0, 0])

function publish(topic: string, payload: Buffer | string, version: ProtocolVersion = 5, packetId = 0): Buffer {
  const message = newMessage(new Topic(topic, Buffer.from(topic)), Buffer.from(payload as string))
  const shape = Object.assign(new PublishShape(), { version, qos: packetId === 0 ? 0 : 1 })
  const bytes = Buffer.alloc(publishFrameBytes(message, shape))
  encodePublish(bytes, 0, message, shape, packetId)
  return bytes
}

/** What the client was told, and that it was let go. */
function refusal(client: FakeClient): unknown {
  expect(client.transport.isEnded).toBe(true)
  const { packets } = client
  if (packets.length === 0) return 'closed'
  expect(packets).toHaveLength(1)
  const connack = packets[0]!
  if (connack.cmd !== 'connack') throw new Error(`got ${connack.cmd}`)
  return client.version === 5 ? connack.reasonCode : connack.returnCode
}

async function refused(world: Surroundings, version: ProtocolVersion, options: ConnectOptions = {}, clientId = 'c'): Promise<unknown> {
  const client = await world.connect(version, options, clientId)
  expect(world.frontend.counters.connectionsRefused).toBe(1)
  expect(world.backend.detached).toEqual([])
  return refusal(client)
}

describe('CONNECT is refused', () => {
  test('by authentication, in the words of each version', async () => {
    for (const [version, code] of [
      [5, ReasonCode.NotAuthorized],
      [4, 5],
      [3, 5],
    ] as const) {
      const world = new Surroundings()
      world.authentication.verdict = () =>
        Promise.resolve({ is: 'refused', reason: ReasonCode.NotAuthorized, detail: 'no', cause: 'no', method: 'Test' })
      expect(await refused(world, version)).toBe(code)
      expect(world.frontend.counters.categories.total('authenticationDenied')).toBe(1)
      expect(world.backend.attached).toEqual([])
    }
  })

  test('when authentication fails itself: closed, never open', async () => {
    const world = new Surroundings()
    world.authentication.verdict = () => Promise.reject(new Error('out of reach'))
    expect(await refused(world, 5)).toBe(ReasonCode.ServerUnavailable)
    expect(world.log.events).toContain('authentication_failed')
  })

  test('for an empty Client Identifier where it may not be', async () => {
    const emptyId = Buffer.from([0x10, 12, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 0, 0, 0, 0, 0])
    const world = new Surroundings()
    const client = world.open()
    client.version = 4
    client.send(emptyId)
    expect(refusal(client)).toBe(2)
  })

  test('for a Will that may not be published', async () => {
    const will = { topic: 'forbidden', payload: 'x' }
    const world = new Surroundings()
    world.authentication.permit = permitOf(['allowed'])
    expect(await refused(world, 5, { will })).toBe(ReasonCode.NotAuthorized)
    expect(await refused(new Surroundings(), 5, { will: { topic: '$SYS/x', payload: '' } })).toBe(ReasonCode.NotAuthorized)
  })

  test('for too many User Properties', async () => {
    const world = new Surroundings({ userPropertiesPerPacketMax: 2 })
    expect(await refused(world, 5, { properties: { userProperties: { a: ['1', '2', '3'] } } })).toBe(ReasonCode.QuotaExceeded)
  })

  test('by the backend', async () => {
    const world = new Surroundings()
    world.backend.attach = () => Promise.resolve({ is: 'refused', reason: ReasonCode.QuotaExceeded, detail: 'sessions' })
    expect(await refused(world, 5)).toBe(ReasonCode.QuotaExceeded)
    const failing = new Surroundings()
    failing.backend.attach = () => Promise.reject(new Error('store'))
    expect(await refused(failing, 4)).toBe(3)
  })

  test('without an answer when another connection has taken the session over meanwhile: CONNACK has no code for that', async () => {
    const world = new Surroundings()
    world.backend.attach = () => Promise.resolve({ is: 'refused', reason: ReasonCode.SessionTakenOver, detail: '' })
    expect(await refused(world, 5)).toBe('closed')
  })

  test('without an answer when it is not MQTT, before the whole packet has come', () => {
    for (const bytes of ['GET / HTTP/1.1\r\n', '\x16\x03\x01\x02\x00\x01', '\x30']) {
      const world = new Surroundings()
      const client = world.open()
      client.send(Buffer.from(bytes, 'latin1'))
      expect(refusal(client)).toBe('closed')
      expect(world.frontend.counters.protocolErrors + world.frontend.counters.connectionsRefused).toBe(1)
    }
  })

  test('an empty chunk, such as an empty WebSocket message, is nothing', async () => {
    const world = new Surroundings()
    const client = world.open()
    client.send(Buffer.alloc(0))
    client.send(encodeConnect(5, 'c'))
    await world.settled()
    expect(client.packets[0]).toMatchObject({ cmd: 'connack', reasonCode: 0 })
  })

  test('without an answer when CONNACK is larger than the client takes', async () => {
    const world = new Surroundings()
    const client = await world.connect(5, { properties: { maximumPacketSize: 10 } })
    expect([client.bytes.length, client.transport.isEnded]).toEqual([0, true])
    // The backend knew the session as attached.
    expect(world.backend.detached).toEqual([{ connection: client.connection.id, end: { discardWill: false, sessionExpirySeconds: null } }])
    expect(world.backend.writableCalls).toEqual([])
  })
})

describe('CONNACK', () => {
  test('an MQTT 5 client is told what holds', async () => {
    const world = new Surroundings({ serverKeepAliveSeconds: 60, maxSessionExpirySeconds: 100, serverReference: '', topicAliasMaximum: 7 })
    const client = await world.connect(
      5,
      { keepAlive: 0, properties: { sessionExpiryInterval: 1_000, requestResponseInformation: true } },
      'me',
    )
    expect(client.packets[0]).toMatchObject({
      reasonCode: 0,
      sessionPresent: false,
      properties: {
        receiveMaximum: 100,
        topicAliasMaximum: 7,
        sessionExpiryInterval: 100,
        serverKeepAlive: 60,
        responseInformation: 'response/me',
      },
    })
    expect(world.backend.attached[0]).toMatchObject({ clientId: 'me', sessionExpirySeconds: 100, cleanStart: true })
  })

  test('an assigned Client Identifier is said, and is the session', async () => {
    const world = new Surroundings()
    const client = await world.connect(5, {}, '')
    const { clientId } = world.backend.attached[0]!
    expect(clientId).toMatch(/^auto-uuid-/)
    expect(client.packets[0]).toMatchObject({ properties: { assignedClientIdentifier: clientId } })
    const older = await world.connect(4, {}, '')
    expect(older.packets[0]).toMatchObject({ returnCode: 0 })
    expect(world.backend.attached[1]!.clientId).not.toBe(clientId)
  })

  test.each([
    { asks: 30, version: 5, ceiling: 60, told: undefined, aliveMs: 45_000 },
    { asks: 0, version: 5, ceiling: 60, told: 60, aliveMs: 90_000 },
    { asks: 600, version: 5, ceiling: 60, told: 60, aliveMs: 90_000 },
    { asks: 600, version: 5, ceiling: 0, told: undefined, aliveMs: 900_000 },
    { asks: 600, version: 4, ceiling: 60, told: undefined, aliveMs: 900_000 },
    { asks: 0, version: 4, ceiling: 60, told: undefined, aliveMs: 0 },
  ] as const)('Keep Alive $asks s of MQTT $version under a ceiling of $ceiling s', async ({ asks, version, ceiling, told, aliveMs }) => {
    const world = new Surroundings({ serverKeepAliveSeconds: ceiling })
    const client = await world.connect(version, { keepAlive: asks })
    const connack = client.packets[0]!
    expect(connack.cmd === 'connack' ? connack.properties?.serverKeepAlive : null).toBe(told)
    expect(client.connection.keepAliveMs).toBe(aliveMs)
  })

  test('Retain Available and what that broker lacks', async () => {
    const world = new Surroundings({ retainedMessagesMax: 0, compatibility: 'AzureIoTOperations' })
    const client = await world.connect(5, { properties: { topicAliasMaximum: 5 } })
    expect(client.packets[0]).toMatchObject({
      properties: { retainAvailable: false, maximumQoS: 1, topicAliasMaximum: 0, subscriptionIdentifiersAvailable: false },
    })
    expect(client.connection.topicAliasesMax).toBe(0)
  })
})

describe('packets behind CONNECT', () => {
  test('[MQTT-3.1.4-6] wait for CONNACK, then are handled in order, and reading goes on', async () => {
    const world = new Surroundings()
    let attached: (reply: AttachReply) => void = () => {}
    world.backend.attach = () => new Promise(resolve => (attached = resolve))
    const client = world.open()
    client.send(encodeConnect(5, 'c'), publish('a', '1'), publish('b', '2'))
    await world.settled()
    client.send(PINGREQ, publish('c', '3'))
    expect([client.transport.isPaused, world.backend.published.length, client.bytes.length]).toEqual([true, 0, 0])
    attached({ is: 'attached', session: 1, sessionPresent: true })
    await world.settled()
    expect(world.backend.published.map(({ message }) => message.topic.name)).toEqual(['a', 'b', 'c'])
    expect(client.packets.map(({ cmd }) => cmd)).toEqual(['connack', 'pingresp'])
    expect(client.packets[0]).toMatchObject({ sessionPresent: true })
    expect(client.transport.isPaused).toBe(false)
  })

  test('are dropped when CONNECT is refused', async () => {
    const world = new Surroundings()
    world.authentication.verdict = () =>
      Promise.resolve({ is: 'refused', reason: ReasonCode.NotAuthorized, detail: 'no', cause: 'no', method: 'Test' })
    const client = world.open()
    client.send(encodeConnect(5, 'c'), publish('a', '1'))
    await world.settled()
    expect([refusal(client), world.backend.published]).toEqual([ReasonCode.NotAuthorized, []])
  })

  test('a broken one ends the connection after CONNACK', async () => {
    const world = new Surroundings()
    const client = world.open()
    client.send(encodeConnect(5, 'c'), Buffer.from([0x36, 2, 0, 0]))
    await world.settled()
    expect(client.packets.map(({ cmd }) => cmd)).toEqual(['connack', 'disconnect'])
    expect(client.packets[1]).toMatchObject({ reasonCode: ReasonCode.MalformedPacket })
  })
})

describe('a client that is gone before CONNACK', () => {
  test('leaves no session attached, whenever it goes', async () => {
    const world = new Surroundings()
    let attached: (reply: AttachReply) => void = () => {}
    world.backend.attach = () => new Promise(resolve => (attached = resolve))
    const client = world.open()
    client.send(encodeConnect(5, 'c'))
    await world.settled()
    client.transport.cut()
    expect(world.backend.detached).toEqual([])
    attached({ is: 'attached', session: 1, sessionPresent: false })
    await world.settled()
    expect(world.backend.detached.map(({ connection }) => connection)).toEqual([client.connection.id])
    expect([client.bytes.length, world.frontend.counters.connectionsOpen]).toEqual([0, 0])
  })

  test('had sent more behind it: that is done first, then the connection ends', async () => {
    const world = new Surroundings()
    let attached: (reply: AttachReply) => void = () => {}
    world.backend.attach = () => new Promise(resolve => (attached = resolve))
    const client = world.open()
    client.send(encodeConnect(5, 'c'), publish('a', 'last words'))
    await world.settled()
    client.transport.cut()
    expect(world.frontend.counters.connectionsOpen).toBe(1)
    attached({ is: 'attached', session: 1, sessionPresent: false })
    await world.settled()
    expect(world.backend.published.map(({ message }) => message.payload.toString())).toEqual(['last words'])
    expect(world.backend.detached).toHaveLength(1)
    expect(world.frontend.counters.connectionsOpen).toBe(0)
  })

  test('had sent more, and is refused: the connection ends', async () => {
    const world = new Surroundings()
    let refuse: () => void = () => {}
    world.authentication.verdict = () =>
      new Promise(
        resolve => (refuse = () => resolve({ is: 'refused', reason: ReasonCode.NotAuthorized, detail: 'no', cause: 'no', method: 'Test' })),
      )
    const client = world.open()
    client.send(encodeConnect(5, 'c'), publish('a', '1'))
    client.transport.cut()
    refuse()
    await world.settled()
    expect([world.backend.published.length, world.frontend.counters.connectionsOpen]).toEqual([0, 0])
  })

  test('while it is being authenticated: the backend is not asked', async () => {
    const world = new Surroundings()
    let judged: () => void = () => {}
    world.authentication.verdict = () => new Promise(resolve => (judged = () => resolve(world.authentication.accepted())))
    const client = world.open()
    client.send(encodeConnect(5, 'c'))
    client.transport.cut()
    judged()
    await world.settled()
    expect(world.backend.attached).toEqual([])
  })
})

describe('limits before CONNACK', () => {
  test('256 KiB for one connection, whether in one packet or behind CONNECT', async () => {
    const world = new Surroundings()
    world.backend.attach = () => new Promise(() => {})
    const client = world.open()
    const connect = encodeConnect(5, 'c')
    client.send(connect, Buffer.alloc(200 * 1024))
    client.send(Buffer.alloc(56 * 1024 - connect.length))
    expect(client.transport.isEnded).toBe(false)
    client.send(Buffer.alloc(1))
    expect(refusal(client)).toBe('closed')
    const oversized = world.open()
    oversized.send(Buffer.from([0x10, 0x80, 0x80, 0x10]))
    expect(refusal(oversized)).toBe('closed')
  })

  test('a total over all connections, given back when they become clients or go', async () => {
    const world = new Surroundings({ unauthenticatedBytesTotal: 1024 * 1024 })
    const halfConnect = Buffer.concat([Buffer.from([0x10, 0xff, 0xff, 0x0d]), Buffer.alloc(200 * 1024)])
    const clients = Array.from({ length: 5 }, () => world.open())
    for (const client of clients) client.send(halfConnect)
    expect(clients.map(client => client.transport.isEnded)).toEqual([false, false, false, false, false])
    const sixth = world.open()
    sixth.send(halfConnect)
    expect(sixth.transport.isEnded).toBe(true)
    clients[0]!.transport.cut()
    const seventh = world.open()
    seventh.send(halfConnect)
    expect(seventh.transport.isEnded).toBe(false)
  })

  test('CONNECT counts while it is being decided: what it holds is kept for so long', async () => {
    const world = new Surroundings({ unauthenticatedBytesTotal: 1024 * 1024 })
    const verdict = Promise.withResolvers<Verdict>()
    world.authentication.verdict = () => verdict.promise
    const large = (): FakeClient => {
      const client = world.open()
      client.send(encodeConnect(5, 'c', { userName: 'u'.repeat(65_000), password: Buffer.alloc(65_000), will: WILL }))
      return client
    }
    const clients = Array.from({ length: 10 }, large)
    const isEnded = clients.map(({ transport }) => transport.isEnded)
    expect([isEnded.indexOf(true), isEnded.lastIndexOf(false)]).toEqual([5, 4])
    // Who needs little comes in all the same.
    const small = world.open()
    small.send(encodeConnect(5, 'small'))
    expect(small.transport.isEnded).toBe(false)
    verdict.resolve(world.authentication.accepted())
    await world.settled()
    expect([clients[4]!, small].map(({ packets }) => packets.length)).toEqual([1, 1])
    expect(large().transport.isEnded).toBe(false)
  })

  test('certificates count from the start: they come before a byte of MQTT', () => {
    const world = new Surroundings({ unauthenticatedBytesTotal: 1024 * 1024 })
    const arrive = (bytes: number): TransportHandler | null => {
      const transport = Object.assign(new FakeTransport(), { peerCertificates: [Buffer.alloc(bytes)] })
      return world.frontend.onTransport(transport as Transport, world.port)
    }
    const arrived = Array.from({ length: 12 }, () => arrive(100 * 1024))
    expect(arrived.findIndex(handler => handler === null)).toBe(10)
    expect(arrive(3 * 1024)).not.toBeNull()
    arrived[0]!.onClose(null)
    expect(arrive(90 * 1024)).not.toBeNull()
  })

  test('connections that are no clients yet: all together, and from one address; those refused count no more', async () => {
    const world = new Surroundings({ unauthenticatedPerAddressMax: 2, unauthenticatedConnectionsMax: 3 })
    const first = world.open('192.0.2.1')
    const second = world.open('192.0.2.1')
    expect(world.tryOpen('192.0.2.1')).toBeNull()
    world.open('192.0.2.2')
    expect(world.tryOpen('192.0.2.3')).toBeNull()
    expect(world.frontend.counters.connectionsRefused).toBe(2)
    first.send(encodeConnect(5, 'c'))
    await world.settled()
    expect(first.packets).toHaveLength(1)
    const third = world.open('192.0.2.1')
    second.transport.cut()
    third.transport.cut()
    expect([world.tryOpen('192.0.2.1'), world.tryOpen('192.0.2.1')]).not.toContain(null)
  })

  test('connections of all kinds', async () => {
    const world = new Surroundings({ connectionsMax: 2 })
    const client = await world.connect()
    world.open()
    expect(world.tryOpen()).toBeNull()
    client.send(encodeClientDisconnect(5))
    client.transport.cut(null)
    expect(world.tryOpen()).not.toBeNull()
  })

  test('a deadline, also for one that sends CONNECT slowly or waits for the backend', async () => {
    const world = new Surroundings({ connectDeadlineMs: 10_000 })
    world.backend.attach = () => new Promise(() => {})
    const [silent, slow, waiting] = [world.open(), world.open(), world.open()]
    waiting.send(encodeConnect(5, 'c'))
    const connect = encodeConnect(5, 'slow')
    for (let i = 0; i < 9; i++) {
      slow.send(connect.subarray(i, i + 1))
      world.pass(1_000)
    }
    expect([silent, slow, waiting].map(client => client.transport.isEnded)).toEqual([false, false, false])
    world.pass(1_200)
    expect([silent, slow, waiting].map(client => client.transport.isEnded)).toEqual([true, true, true])
    for (const client of [silent, slow, waiting]) client.transport.cut()
    expect(world.frontend.counters.connectionsOpen).toBe(0)
  })
})

test('a SUBSCRIBE behind CONNECT is answered after CONNACK also under memory pressure', async () => {
  const world = new Surroundings()
  world.frontend.pressure(true)
  const client = world.open()
  client.version = 4
  client.send(encodeConnect(4, 'c'), encodeSubscribe(4, 9, [{ filter: 'a' }]))
  await world.settled()
  world.frontend.subscribed(client.connection.id, world.backend.calls[0]![1] as number, [0])
  world.turn.run()
  expect(client.packets.map(({ cmd }) => cmd)).toEqual(['connack', 'suback'])
})
