import { describe, expect, test } from 'vitest'
import { readWillGuard } from '#shared/authorization/will-guard.ts'
import { literalPart } from '#shared/authorization/glob.ts'
import { type ConnectOptions, encodeConnect, encodeSubscribe } from '#shared/mqtt/client-codec.ts'
import { newMessage } from '#shared/mqtt/message.ts'
import type { ProtocolVersion } from '#shared/mqtt/protocol-version.ts'
import { generatePacket } from '#shared/mqtt/packet-library.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { AuthorizationVerdict, RecheckVerdict } from '#shared/rpc/authentication.ts'
import type { AttachReply, SessionRights } from '#shared/rpc/backend-port.ts'
import { OPEN_TO_ALL } from '#shared/rpc/port-rules.ts'
import { Recipients } from '#shared/rpc/recipients.ts'
import { notifyTopic, REQUEST_TOPIC } from '#shared/state-store/topics.ts'
import { type FakeClient, permitOf, publishPacket, rulesOf, Surroundings } from '../surroundings.contract.ts'

const PINGREQ = Buffer.from([0xc0, 0])
const reevaluate = { onUpdate: 'Reevaluate' } as const
const unavailable = { is: 'unavailable', cause: 'out of reach' } as const

async function connected(world: Surroundings, options: ConnectOptions = {}, version: ProtocolVersion = 5): Promise<FakeClient> {
  return (await world.connect(version, options)).forget()
}

async function many(world: Surroundings, count: number): Promise<FakeClient[]> {
  return Promise.all(Array.from({ length: count }, () => connected(world)))
}

/** A message that the backend has sent off for the client. */
function deliver(world: Surroundings, client: FakeClient, topic: string, packetId = 0, payloadBytes = 1): void {
  const recipients = new Recipients()
  recipients.add(client.connection.id, packetId === 0 ? 0 : 1, packetId, null)
  world.frontend.deliver(newMessage(world.topics.fromName(topic), Buffer.alloc(payloadBytes)), recipients)
  world.turn.run()
}

function restricts(world: Surroundings): readonly (readonly unknown[])[] {
  return world.backend.calls.filter(([name]) => name === 'restrict')
}

/** The backend has stored the rights that it was told last. */
async function restricted(world: Surroundings, client: FakeClient): Promise<void> {
  world.frontend.subscribed(client.connection.id, restricts(world).at(-1)![1] as number, [])
  await world.settled()
}

/** Answers of the authentication service that the test gives, oldest question first. */
function byHand(world: Surroundings): (verdict: AuthorizationVerdict) => Promise<void> {
  const waiting: ((verdict: AuthorizationVerdict) => void)[] = []
  world.authentication.authorization = () => new Promise(resolve => waiting.push(resolve))
  return async verdict => {
    waiting.shift()!(verdict)
    await world.settled()
  }
}

const ended = (clients: readonly FakeClient[]): number => clients.filter(({ transport }) => transport.isEnded).length
const topicsOf = (world: Surroundings): string[] => world.backend.published.map(({ message }) => message.topic.name)

describe('other authorizations, mode Disconnect', () => {
  test('all are held at once, then get DISCONNECT 0x98, evenly over the time; others are not touched', async () => {
    const world = new Surroundings()
    const clients = await many(world, 1_000)
    world.frontend.changeRules(world.port, rulesOf('1', '2', { disconnectWithinMs: 5_000 }))
    expect(clients.every(({ connection, transport }) => connection.phase === 'held' && transport.isPaused)).toBe(true)
    expect(world.backend.writableCalls.filter(({ isWritable }) => !isWritable)).toHaveLength(1_000)
    const newcomer = await connected(world)
    for (const client of clients) client.send(publishPacket('t'))
    for (const client of clients) deliver(world, client, 'x')
    expect(world.backend.published).toEqual([])
    const counts = [ended(clients)]
    for (let second = 1; second <= 5; second++) {
      world.pass(1_000)
      counts.push(ended(clients))
    }
    expect(counts.map(count => Math.round(count / 100))).toEqual([0, 2, 4, 6, 8, 10])
    for (const { packets } of clients) expect(packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.AdministrativeAction }])
    expect(world.backend.detached.every(({ end }) => !end.discardWill)).toBe(true)
    expect([newcomer.transport.isEnded, world.frontend.counters.endedByChange]).toEqual([false, 1_000])
    newcomer.send(PINGREQ)
    expect(newcomer.packets).toHaveLength(1)
  })

  test('no more than a few hundred end in one turn', async () => {
    const world = new Surroundings()
    const clients = await many(world, 600)
    world.frontend.changeRules(world.port, rulesOf('1', '2', { disconnectWithinMs: 0 }))
    const counts: number[] = []
    for (let turn = 0; turn < 4; turn++) {
      world.frontend.endTurn()
      counts.push(ended(clients))
    }
    expect(counts).toEqual([256, 512, 600, 600])
  })

  test('clients of other ports stay', async () => {
    const world = new Surroundings()
    const [here, there] = [await connected(world), await connected(world)]
    Object.assign(there.connection, { port: { ...world.port } })
    world.frontend.changeRules(world.port, rulesOf('1', '2'))
    world.pass(6_000)
    expect([here.transport.isEnded, there.transport.isEnded]).toEqual([true, false])
  })

  test('MQTT 3.1.1 is cut off', async () => {
    const world = new Surroundings()
    const client = await connected(world, {}, 4)
    world.frontend.changeRules(world.port, rulesOf('1', '2'))
    world.pass(100)
    expect([client.bytes.length, client.transport.isEnded]).toEqual([0, true])
  })

  test('rules that come back in time let everybody go on', async () => {
    const world = new Surroundings()
    const clients = await many(world, 10)
    world.frontend.changeRules(world.port, rulesOf('1', '2', { disconnectWithinMs: 10_000 }))
    world.pass(4_800)
    clients[9]!.send(publishPacket('t'))
    expect([ended(clients), world.backend.published.length]).toEqual([5, 0])
    world.frontend.changeRules(world.port, rulesOf('1', '1'))
    world.pass(20_000)
    expect([ended(clients), topicsOf(world)]).toEqual([5, ['t']])
    expect(world.backend.writableCalls.at(-1)).toEqual({ connection: clients[9]!.connection.id, isWritable: true })
  })

  test('a further change does not put the end off', async () => {
    const world = new Surroundings()
    const clients = await many(world, 100)
    for (let version = 2; version < 7; version++) {
      world.frontend.changeRules(world.port, rulesOf('1', `${version}`, { disconnectWithinMs: 5_000 }))
      world.pass(1_000)
    }
    expect(ended(clients)).toBe(100)
  })

  test('what was gathered before the change was sent before it; acknowledgements of then still come', async () => {
    const world = new Surroundings()
    const client = await connected(world)
    client.arrive(Buffer.concat([PINGREQ, publishPacket('a', 1)]))
    world.frontend.changeRules(world.port, rulesOf('1', '2'))
    expect(client.packets.map(({ cmd }) => cmd)).toEqual(['pingresp'])
    world.frontend.acknowledged(client.connection.id, 0, ReasonCode.Success)
    world.turn.run()
    expect(client.packets.map(({ cmd }) => cmd)).toEqual(['pingresp', 'puback', 'disconnect'])
  })
})

describe('a Will that was left before the change', () => {
  const will = { topic: 'w', payload: 'x' }

  test('goes out with DISCONNECT 0x98: whether it may, its guard says, which names the policies and not their versions', async () => {
    const world = new Surroundings()
    world.authentication.permit = permitOf(['w'])
    const client = await connected(world, { will })
    const guard = readWillGuard(world.backend.attached[0]!.rights!.willGuard)
    expect(guard).toMatchObject({ authorizations: ['default'], clientId: client.connection.clientId })
    world.frontend.changeRules(world.port, rulesOf('1', '2'))
    world.pass(200)
    expect(world.backend.detached).toEqual([{ connection: client.connection.id, end: { discardWill: false, sessionExpirySeconds: null } }])
  })

  test('has another guard when the port has other policies', async () => {
    const world = new Surroundings()
    world.authentication.permit = permitOf(['w'])
    const client = await connected(world, { will })
    const decide = byHand(world)
    const authorizations = ['default', 'other'].map(name => ({ name, version: '1' }))
    const policy = { authentication: { name: 'default', version: '1' }, authorizations }
    world.frontend.changeRules(world.port, { ...world.port.rules, ...reevaluate, policy })
    await decide(world.authentication.allowed(permitOf(['z'])))
    const { willGuard } = restricts(world)[0]![2] as SessionRights
    expect(readWillGuard(willGuard)).toMatchObject({ authorizations: ['default', 'other'], clientId: client.connection.clientId })
  })
})

describe('authentication appears, goes or is another one', () => {
  test.each([
    ['appears', OPEN_TO_ALL, rulesOf('1', null, reevaluate)],
    ['goes', rulesOf('1', '1'), { ...OPEN_TO_ALL, ...reevaluate }],
  ])('%s: held, and DISCONNECT 0x98 even where nobody is to be disconnected', async (_, before, after) => {
    const world = new Surroundings()
    world.port.rules = before
    const client = await connected(world)
    world.frontend.changeRules(world.port, after)
    expect(client.connection.phase).toBe('held')
    world.pass(100)
    expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.AdministrativeAction }])
  })
})

describe('other authorizations, mode Reevaluate', () => {
  async function changed(): Promise<{ world: Surroundings; client: FakeClient; decide: ReturnType<typeof byHand> }> {
    const world = new Surroundings()
    world.authentication.permit = permitOf(['a', 'b'], ['in/#'])
    const client = await connected(world)
    const decide = byHand(world)
    world.frontend.changeRules(world.port, rulesOf('1', '2', reevaluate))
    return { world, client, decide }
  }

  test('held until the session has the new rights; then it goes on by them', async () => {
    const { world, client, decide } = await changed()
    client.send(publishPacket('a'), publishPacket('b'), PINGREQ)
    expect(world.authentication.authorizeRequests).toMatchObject([
      { authorizations: [{ version: '2' }], clientId: client.connection.clientId },
    ])
    await decide(world.authentication.allowed(permitOf(['b'], ['in/#'])))
    expect([client.connection.phase, topicsOf(world), client.bytes.length]).toEqual(['held', [], 0])
    await restricted(world, client)
    expect([client.connection.phase, client.transport.isPaused, topicsOf(world)]).toEqual(['open', false, ['b']])
    expect(client.packets).toMatchObject([{ cmd: 'pingresp' }])
    expect(world.backend.writableCalls.map(({ isWritable }) => isWritable)).toEqual([true, false, true])
    world.pass(60_000)
    expect(client.transport.isEnded).toBe(false)
  })

  test('the topic that was allowed last is asked again', async () => {
    const world = new Surroundings()
    world.authentication.permit = permitOf(['a'])
    const client = await connected(world)
    client.send(publishPacket('a'), publishPacket('a'))
    const decide = byHand(world)
    world.frontend.changeRules(world.port, rulesOf('1', '2', reevaluate))
    await decide(world.authentication.allowed(permitOf(['z'])))
    await restricted(world, client)
    client.send(publishPacket('a', 7))
    expect(topicsOf(world)).toEqual(['a', 'a'])
    expect(client.packets).toMatchObject([{ cmd: 'puback', reasonCode: ReasonCode.NotAuthorized }])
  })

  test('may not be connected any more: DISCONNECT 0x98, and the policy is not told', async () => {
    const { world, client, decide } = await changed()
    await decide({ is: 'refused', cause: 'the policy says so' })
    expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.AdministrativeAction }])
    expect(client.bytes.toString()).not.toContain('policy')
    expect(world.refusals).toMatchObject([{ action: 'reauthorize', cause: 'the policy says so' }])
  })

  test('cannot be decided: asked again for 30 s, held all the time, then DISCONNECT 0x89', async () => {
    const { world, client } = await changed()
    world.authentication.authorization = () => Promise.resolve(unavailable)
    await world.settled()
    for (let tenth = 0; tenth < 298; tenth++) {
      // Other rules in between do not hold it any longer.
      if (tenth % 100 === 0) world.frontend.changeRules(world.port, rulesOf('1', `${tenth}`, reevaluate))
      world.pass(100)
      await world.settled()
    }
    expect([client.connection.phase, client.bytes.length]).toEqual(['held', 0])
    expect(world.authentication.authorizeRequests.length).toBeGreaterThan(4)
    expect(world.authentication.authorizeRequests.length).toBeLessThan(20)
    world.pass(500)
    expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.ServerBusy }])
  })

  test('cannot be decided at first, then it can', async () => {
    const { world, client, decide } = await changed()
    await decide(unavailable)
    world.pass(1_200)
    await decide(world.authentication.allowed(null))
    expect([client.connection.phase, client.connection.permit, restricts(world)]).toEqual(['open', null, []])
  })

  test('the newest rules count: an answer about those in between is not used', async () => {
    const { world, client, decide } = await changed()
    world.frontend.changeRules(world.port, rulesOf('1', '3', reevaluate))
    await decide(world.authentication.allowed(permitOf(['second'])))
    expect([client.connection.phase, restricts(world)]).toEqual(['held', []])
    await decide(world.authentication.allowed(permitOf(['third'])))
    world.frontend.changeRules(world.port, rulesOf('1', '4', reevaluate))
    // Rights of the third version are stored when those of the fourth are asked for.
    await restricted(world, client)
    expect(client.connection.phase).toBe('held')
    await decide(world.authentication.allowed(permitOf(['fourth'])))
    await restricted(world, client)
    client.send(publishPacket('third'), publishPacket('fourth'))
    expect(topicsOf(world)).toEqual(['fourth'])
  })

  test('rules that come back before the session has stored their rights: it is held until then, but not for ever', async () => {
    for (const isStored of [true, false]) {
      const { world, client, decide } = await changed()
      await decide(world.authentication.allowed(permitOf(['b'])))
      world.frontend.changeRules(world.port, rulesOf('1', '3', reevaluate))
      world.frontend.changeRules(world.port, rulesOf('1', '2', { ...reevaluate, disconnectWithinMs: 1 }))
      world.frontend.changeRules(world.port, rulesOf('1', '2', reevaluate))
      await decide(world.authentication.allowed(permitOf(['third'])))
      expect([client.connection.phase, restricts(world).length]).toEqual(['held', 1])
      if (isStored) await restricted(world, client)
      else world.pass(30_200)
      expect(client.connection.phase).toBe(isStored ? 'open' : 'closing')
      expect(client.connection.duty).toBeNull()
    }
  })

  test('Disconnect after Reevaluate: it ends', async () => {
    const { world, client, decide } = await changed()
    world.frontend.changeRules(world.port, rulesOf('1', '3'))
    await decide(world.authentication.allowed(null))
    world.pass(200)
    expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.AdministrativeAction }])
  })

  test('100 questions at a time, for however many', async () => {
    const world = new Surroundings()
    const clients = await many(world, 250)
    const decide = byHand(world)
    world.frontend.changeRules(world.port, rulesOf('1', '2', reevaluate))
    expect(world.authentication.authorizeRequests).toHaveLength(100)
    for (let answered = 0; answered < 250; answered++) await decide(world.authentication.allowed(null))
    expect([world.authentication.authorizeRequests.length, clients.filter(({ connection }) => connection.phase === 'open').length]).toEqual(
      [250, 250],
    )
  })

  test('no more than 100 begin in one turn, though they are answered at once', async () => {
    const world = new Surroundings()
    await many(world, 250)
    world.authentication.authorization = () => Promise.resolve(world.authentication.allowed(null))
    world.frontend.changeRules(world.port, rulesOf('1', '2', reevaluate))
    const counts: number[] = []
    for (let turn = 0; turn < 4; turn++) {
      await new Promise(resolve => setImmediate(resolve))
      counts.push(world.authentication.authorizeRequests.length)
      world.frontend.endTurn()
    }
    expect(counts).toEqual([100, 200, 250, 250])
  })

  test('Keep Alive does not run against one that is held; an expired credential does', async () => {
    const world = new Surroundings()
    world.authentication.verdict = () => Promise.resolve(world.authentication.accepted({ expiresMs: world.clock.wallMs() + 20_000 }))
    const client = await connected(world, { keepAlive: 5 })
    byHand(world)
    world.frontend.changeRules(world.port, rulesOf('1', '2', reevaluate))
    world.pass(19_800)
    expect(client.transport.isEnded).toBe(false)
    world.pass(400)
    expect([client.transport.isEnded, client.bytes.length]).toEqual([true, 0])
  })

  test('one that leaves while it is held is forgotten', async () => {
    const { world, client, decide } = await changed()
    client.transport.cut()
    await decide(world.authentication.allowed(permitOf(['b'])))
    world.pass(40_000)
    expect([restricts(world).length, world.backend.detached.length, world.frontend.counters.connectionsOpen]).toEqual([0, 1, 0])
  })

  test('taken over while it is held', async () => {
    const { world, client, decide } = await changed()
    world.frontend.disconnect(client.connection.id, ReasonCode.SessionTakenOver, '')
    await decide(world.authentication.allowed(permitOf(['b'])))
    expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.SessionTakenOver }])
    expect(restricts(world)).toEqual([])
  })

  test('a socket that drains while it is held does not make it readable', async () => {
    const world = new Surroundings()
    const client = await connected(world)
    client.transport.stall()
    deliver(world, client, 'big', 0, 100_000)
    const decide = byHand(world)
    world.frontend.changeRules(world.port, rulesOf('1', '2', reevaluate))
    client.transport.drain()
    client.transport.handler?.onDrain()
    client.send(publishPacket('a'))
    expect([topicsOf(world), client.transport.isPaused]).toEqual([[], true])
    await decide(world.authentication.allowed(null))
    expect([topicsOf(world), client.transport.isPaused]).toEqual([['a'], false])
    expect(world.backend.writableCalls.at(-1)?.isWritable).toBe(true)
  })
})

describe('what was on its way when a connection was held', () => {
  async function held(
    version: ProtocolVersion = 5,
  ): Promise<{ world: Surroundings; client: FakeClient; release: (subscribe: string[], publishes?: string[]) => Promise<void> }> {
    const world = new Surroundings()
    world.authentication.permit = permitOf(['#'])
    const client = await connected(world, {}, version)
    const release = async (subscribe: string[], publishes: string[] = ['#']): Promise<void> => {
      await decide(world.authentication.allowed(permitOf(publishes, subscribe)))
      await restricted(world, client)
    }
    client.send(publishPacket('half', 5, version, 2))
    world.frontend.acknowledged(client.connection.id, 0, ReasonCode.Success)
    world.turn.run()
    client.forget()
    const decide = byHand(world)
    world.frontend.changeRules(world.port, rulesOf('1', '2', reevaluate))
    return { world, client, release }
  }

  test('messages of QoS 1 and 2 wait and go out if they may; others count as acknowledged; QoS 0 is dropped', async () => {
    const { world, client, release } = await held()
    deliver(world, client, 'in/1', 1)
    deliver(world, client, 'out/2', 2)
    deliver(world, client, 'in/3')
    expect([client.bytes.length, world.frontend.counters.qos0DroppedOutgoing]).toEqual([0, 1])
    await release(['in/#'])
    expect(client.packets).toMatchObject([{ cmd: 'publish', topic: 'in/1', messageId: 1 }])
    expect(world.backend.calls).toContainEqual(['puback', 2])
  })

  test('more than 1 MiB of them: disconnected, as the session has them', async () => {
    const { world, client } = await held()
    deliver(world, client, 'in/1', 1, 600_000)
    expect(client.transport.isEnded).toBe(false)
    deliver(world, client, 'in/1', 2, 600_000)
    expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.ServerBusy }])
  })

  test('a QoS 2 exchange that was half done is finished, in both directions', async () => {
    const { world, client, release } = await held()
    world.frontend.released(client.connection.id, 9, ReasonCode.Success)
    client.send(Buffer.from([0x62, 2, 0, 5]))
    expect([client.bytes.length, world.backend.calls]).toEqual([0, []])
    await release(['#'], ['other'])
    expect(client.packets).toMatchObject([{ cmd: 'pubrel', messageId: 9 }])
    const [, ticket] = world.backend.calls.find(([name]) => name === 'release')!
    world.frontend.acknowledged(client.connection.id, ticket as number, ReasonCode.Success)
    world.turn.run()
    expect(client.packets.at(-1)).toMatchObject({ cmd: 'pubcomp', messageId: 5 })
    // The right to begin another one has gone.
    client.send(publishPacket('half', 6, 5, 2))
    expect(client.packets.at(-1)).toMatchObject({ cmd: 'pubrec', messageId: 6, reasonCode: ReasonCode.NotAuthorized })
  })

  test.each([
    [5, ['a'], ['a'], ReasonCode.Success],
    [5, ['b'], [], ReasonCode.NotAuthorized],
    [4, ['b'], [], undefined],
  ] as const)(
    'a publish that waits for a SUBACK is judged by the new rights: MQTT %i, may publish %s',
    async (version, may, published, reason) => {
      const world = new Surroundings({}, { holdsPublishesForSubscribe: true })
      world.authentication.permit = permitOf(['#'])
      const client = await connected(world, {}, version)
      client.send(encodeSubscribe(version, 1, [{ filter: 'x' }]), publishPacket('a', 2, version))
      const decide = byHand(world)
      world.frontend.changeRules(world.port, rulesOf('1', '2', reevaluate))
      world.frontend.subscribed(client.connection.id, 0, [0])
      expect(topicsOf(world)).toEqual([])
      await decide(world.authentication.allowed(permitOf([...may])))
      await restricted(world, client)
      expect(topicsOf(world)).toEqual(published)
      if (published.length > 0) world.frontend.acknowledged(client.connection.id, 1, ReasonCode.Success)
      world.turn.run()
      expect(client.packets).toMatchObject([
        { cmd: 'suback' },
        { cmd: 'puback', messageId: 2, ...(reason !== undefined && { reasonCode: reason }) },
      ])
    },
  )
})

describe('a client of the state store', () => {
  /** It may read these keys. */
  const reading = (...keys: string[]): ReturnType<typeof permitOf> =>
    permitOf([REQUEST_TOPIC], ['answers', 'other'], {
      keys: keys.map(key => ({ access: 'read', pattern: [literalPart(key)], isDenied: false, rule: 0 })),
    })
  const request = (packetId: number, payload: string): Buffer =>
    generatePacket(
      {
        cmd: 'publish',
        topic: REQUEST_TOPIC,
        qos: 1,
        retain: false,
        dup: false,
        payload,
        messageId: packetId,
        properties: { responseTopic: 'answers', correlationData: Buffer.from('x') },
      },
      5,
    )
  const watch = (key: string): string => `*2\r\n$9\r\nKEYNOTIFY\r\n$1\r\n${key}\r\n`
  const about = (client: FakeClient, key: string): string => notifyTopic(client.connection.clientId, Buffer.from(key))!

  const readingAll = permitOf([REQUEST_TOPIC], ['answers', 'other'], {
    keys: [{ access: 'read', pattern: [{ is: 'any' }], isDenied: false, rule: 0 }],
  })

  test.each([
    ['each by itself', reading('a', 'b'), [watch('a'), watch('b')]],
    [
      'each over reconnects',
      reading('a', 'b'),
      ['a', 'b'].map(key => `*4\r\n$9\r\nKEYNOTIFY\r\n$1\r\n${key}\r\n$4\r\nKEEP\r\n$1\r\n9\r\n`),
    ],
    ['all by their prefix', readingAll, ['*2\r\n$5\r\nWATCH\r\n$0\r\n\r\n']],
  ])(
    'hears no more of keys that it watched, %s, and may not read any more: also of what was on its way; of the others it does',
    async (_, permit, watches) => {
      const world = new Surroundings()
      world.authentication.permit = permit
      const client = await connected(world)
      client.send(...watches.map((payload, index) => request(1 + index, payload)))
      expect(world.backend.asked.map(({ fault }) => fault)).toEqual(watches.map(() => null))
      deliver(world, client, about(client, 'a'), 1)
      expect(client.packets).toMatchObject([{ topic: about(client, 'a') }])
      client.forget()
      const decide = byHand(world)
      world.frontend.changeRules(world.port, rulesOf('1', '2', reevaluate))
      for (const [index, key] of ['a', 'b'].entries()) deliver(world, client, about(client, key), 2 + index)
      await decide(world.authentication.allowed(reading('b')))
      await restricted(world, client)
      for (const [index, key] of ['a', 'b'].entries()) deliver(world, client, about(client, key), 4 + index)
      deliver(world, client, 'other', 6)
      expect(client.packets).toMatchObject([
        { topic: about(client, 'b'), messageId: 3 },
        { topic: about(client, 'b'), messageId: 5 },
        { topic: 'other', messageId: 6 },
      ])
      expect(world.backend.calls.filter(([name]) => name === 'puback')).toEqual([
        ['puback', 2],
        ['puback', 4],
      ])
    },
  )

  test('whose request waits for a SUBACK: it is judged by the new rights, and the next one is no ordinary publish either', async () => {
    const world = new Surroundings({}, { holdsPublishesForSubscribe: true })
    world.authentication.permit = reading('a')
    const client = await connected(world)
    client.send(encodeSubscribe(5, 1, [{ filter: 'answers' }]), request(2, watch('a')))
    const decide = byHand(world)
    world.frontend.changeRules(world.port, rulesOf('1', '2', reevaluate))
    world.frontend.subscribed(client.connection.id, 0, [0])
    await decide(world.authentication.allowed(reading('b')))
    await restricted(world, client)
    client.send(request(3, watch('b')))
    expect(topicsOf(world)).toEqual([])
    expect(world.backend.asked.map(({ fault }) => fault)).toEqual(['not authorized', null])
  })
})

describe('another version of the authentication, or something behind it', () => {
  function rechecks(world: Surroundings, verdict: RecheckVerdict): void {
    world.authentication.recheckVerdict = () => Promise.resolve(verdict)
  }

  test('each client is rechecked, spread over the time, and goes on meanwhile; DISCONNECT 0x87 for whom it would not let in', async () => {
    const world = new Surroundings()
    world.authentication.verdict = ({ clientId }) => Promise.resolve(world.authentication.accepted({ proof: Buffer.from(clientId) }))
    const clients = await many(world, 50)
    world.authentication.recheckVerdict = ({ proof, clientId }) =>
      Promise.resolve(
        Buffer.from(proof).toString() === clientId && clientId.endsWith('7')
          ? { is: 'refused', cause: 'the policy says so' }
          : { is: 'holds' },
      )
    world.frontend.changeRules(world.port, rulesOf('2', '1'))
    for (const client of clients) client.send(publishPacket('t'))
    expect(world.backend.published).toHaveLength(50)
    const counts: number[] = []
    for (let second = 0; second < 5; second++) {
      world.pass(1_000)
      counts.push(world.authentication.recheckRequests.length)
    }
    await world.settled()
    expect(counts.map(count => Math.round(count / 10))).toEqual([1, 2, 3, 4, 5])
    expect(ended(clients)).toBe(5)
    const lost = clients.find(({ transport }) => transport.isEnded)!
    expect(lost.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.NotAuthorized }])
    expect(lost.bytes.toString()).not.toContain('policy')
    world.pass(60_000)
    expect(world.authentication.recheckRequests).toHaveLength(50)
  })

  test('cannot be decided: asked again ever more seldom, for as long as the client is there', async () => {
    const world = new Surroundings({ serverKeepAliveSeconds: 0 })
    const client = await connected(world)
    rechecks(world, unavailable)
    world.frontend.changeRules(world.port, rulesOf('2', '1'))
    for (let second = 0; second < 400; second++) {
      world.pass(1_000)
      await world.settled()
    }
    expect(world.authentication.recheckRequests.length).toBeGreaterThan(8)
    expect(world.authentication.recheckRequests.length).toBeLessThan(16)
    expect(client.connection.phase).toBe('open')
    rechecks(world, { is: 'refused', cause: '' })
    world.pass(60_000)
    await world.settled()
    expect(client.transport.isEnded).toBe(true)
  })

  test('the service says that something behind it has changed: only those whom it let in', async () => {
    const world = new Surroundings()
    const client = await connected(world)
    rechecks(world, { is: 'holds' })
    world.authentication.changeBehind('another')
    world.pass(6_000)
    expect(world.authentication.recheckRequests).toEqual([])
    world.authentication.changeBehind()
    world.turn.run()
    await world.settled()
    world.authentication.changeBehind()
    world.turn.run()
    await world.settled()
    expect(world.authentication.recheckRequests).toHaveLength(2)
    world.pass(60_000)
    expect([world.authentication.recheckRequests.length, client.transport.isEnded]).toEqual([2, false])
  })

  test('an answer to a question of before the last change is not used', async () => {
    const world = new Surroundings()
    const client = await connected(world)
    const waiting: ((verdict: RecheckVerdict) => void)[] = []
    world.authentication.recheckVerdict = () => new Promise(resolve => waiting.push(resolve))
    world.authentication.changeBehind()
    world.turn.run()
    world.authentication.changeBehind()
    world.turn.run()
    waiting[0]!({ is: 'holds' })
    await world.settled()
    expect(client.connection.grant?.changesBehind).toBe(0)
    waiting[1]!({ is: 'refused', cause: '' })
    await world.settled()
    expect(client.transport.isEnded).toBe(true)
  })

  test('with other authorizations as well: new rights first, then the recheck', async () => {
    const world = new Surroundings()
    const client = await connected(world)
    const decide = byHand(world)
    rechecks(world, { is: 'holds' })
    world.frontend.changeRules(world.port, rulesOf('2', '2', reevaluate))
    expect([client.connection.phase, world.authentication.recheckRequests.length]).toEqual(['held', 0])
    await decide(world.authentication.allowed(null))
    expect([client.connection.phase, world.authentication.recheckRequests.length]).toEqual(['open', 1])
    expect(client.connection.duty).toBeNull()
    expect(client.connection.grant?.policy).toEqual(world.port.rules.policy)
  })

  test('one that was authenticated while it changed is rechecked when it is there', async () => {
    const world = new Surroundings()
    world.authentication.verdict = () => {
      world.authentication.changeBehind()
      return Promise.resolve(world.authentication.accepted())
    }
    rechecks(world, { is: 'refused', cause: '' })
    const client = await world.connect()
    await world.settled()
    expect(client.packets).toMatchObject([{ cmd: 'connack' }, { cmd: 'disconnect', reasonCode: ReasonCode.NotAuthorized }])
  })
})

describe('while CONNECT is under way', () => {
  test('rules that change between the verdict and CONNACK: it opens and is dealt with as the others', async () => {
    for (const onUpdate of ['Disconnect', 'Reevaluate'] as const) {
      const world = new Surroundings()
      world.authentication.permit = permitOf(['a'])
      let attached: (reply: AttachReply) => void = () => {}
      world.backend.attach = () => new Promise(resolve => (attached = resolve))
      const decide = byHand(world)
      const client = world.open()
      client.send(encodeConnect(5, 'c'), publishPacket('a'))
      await world.settled()
      world.frontend.changeRules(world.port, rulesOf('1', '2', { onUpdate }))
      attached({ is: 'attached', session: 1, sessionPresent: false })
      await world.settled()
      expect(topicsOf(world)).toEqual([])
      if (onUpdate === 'Disconnect') {
        expect(client.packets).toMatchObject([
          { cmd: 'connack', reasonCode: 0 },
          { cmd: 'disconnect', reasonCode: ReasonCode.AdministrativeAction },
        ])
        continue
      }
      await decide(world.authentication.allowed(permitOf(['b'])))
      await restricted(world, client)
      expect([client.connection.phase, topicsOf(world)]).toEqual(['open', []])
    }
  })
})

describe('a port that is gone', () => {
  test('its clients get DISCONNECT 0x98, spread; who comes in late goes at once', async () => {
    const world = new Surroundings()
    let attached: (reply: AttachReply) => void = () => {}
    const clients = await many(world, 10)
    world.backend.attach = () => new Promise(resolve => (attached = resolve))
    const late = await connected(world)
    world.frontend.portClosed(world.port)
    world.pass(2_500)
    expect(ended(clients)).toBeGreaterThanOrEqual(5)
    expect(ended(clients)).toBeLessThan(7)
    const last = clients[9]!
    last.send(publishPacket('t'))
    expect(world.backend.published).toHaveLength(1)
    attached({ is: 'attached', session: 1, sessionPresent: false })
    await world.settled()
    expect(late.packets).toMatchObject([{ cmd: 'connack' }, { cmd: 'disconnect', reasonCode: ReasonCode.AdministrativeAction }])
    world.pass(2_600)
    expect(ended(clients)).toBe(10)
  })
})

describe('rules that change while the backend attaches a session', () => {
  test('nothing that waits for the client flows by the old ones, not even for a moment', async () => {
    const world = new Surroundings()
    const answer = byHand(world)
    const attached = Promise.withResolvers<AttachReply>()
    world.backend.attach = () => attached.promise
    const client = await world.connect()
    world.frontend.changeRules(world.port, rulesOf('1', '2', reevaluate))
    attached.resolve({ is: 'attached', session: 1, sessionPresent: true })
    await world.settled()
    expect([client.connection.phase, client.packets.map(({ cmd }) => cmd)]).toEqual(['held', ['connack']])
    expect(world.backend.writableCalls.filter(({ isWritable }) => isWritable)).toEqual([])
    await answer(world.authentication.allowed(permitOf(['a'])))
    await restricted(world, client)
    expect(client.connection.phase).toBe('open')
    expect(world.backend.writableCalls.at(-1)).toMatchObject({ isWritable: true })
  })
})
