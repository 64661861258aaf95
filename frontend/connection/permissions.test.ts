import { describe, expect, test } from 'vitest'
import { encodeSubscribe } from '#shared/mqtt/client-codec.ts'
import type { ProtocolVersion } from '#shared/mqtt/protocol-version.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { Topic } from '#shared/mqtt/topic.ts'
import type { SubscriptionRequest } from '#shared/rpc/backend-port.ts'
import { readWillGuard } from '#shared/authorization/will-guard.ts'
import { permitBytes } from '#shared/authorization/permit.ts'
import { type FakeClient, permitOf, publishPacket, rulesOf, Surroundings } from '../surroundings.contract.ts'

function subscribe(client: FakeClient, ...filters: string[]): void {
  client.send(
    encodeSubscribe(
      client.version,
      1,
      filters.map(filter => ({ filter })),
    ),
  )
}

/** What the backend was told to refuse, filter by filter. */
function refusedFilters(world: Surroundings): unknown[] {
  const requests = world.backend.calls.find(([name]) => name === 'subscribe')![3] as readonly SubscriptionRequest[]
  return requests.map(({ refused }) => refused)
}

async function connected(world: Surroundings, version: ProtocolVersion = 5): Promise<FakeClient> {
  return (await world.connect(version)).forget()
}

/** Every check of the client from now on fails inside. */
function breakChecks(client: FakeClient): void {
  const { permit } = client.connection
  const broken = new Error('oops')
  const fails = (): never => {
    throw broken
  }
  Object.assign(permit!, { mayPublishTopic: fails, decidePublish: fails, decideSubscribe: fails })
}

describe('a refused publish', () => {
  test('of MQTT 3.1.1 where its policy says Disconnect: QoS 1 cuts off, QoS 0 does not', async () => {
    const world = new Surroundings()
    world.authentication.permit = permitOf(['a'], ['#'], { disconnectsRefused311: true })
    const [older, newer] = [await connected(world, 4), await connected(world, 5)]
    older.send(publishPacket('b', 0, 4), publishPacket('a', 0, 4))
    expect([older.transport.isEnded, world.backend.published.length]).toEqual([false, 1])
    older.send(publishPacket('b', 1, 4))
    expect([older.transport.isEnded, older.bytes.length]).toEqual([true, 0])
    newer.send(publishPacket('b', 1))
    expect(newer.packets).toMatchObject([{ cmd: 'puback', reasonCode: ReasonCode.NotAuthorized }])
  })

  test('is in the audit with the rule, and the client is told none of it', async () => {
    const world = new Surroundings()
    const rules = [
      { filter: 'secret/#', isDenied: true, rule: 0 },
      { filter: '#', isDenied: false, rule: 0 },
    ]
    world.authentication.permit = permitOf([], ['#'], { publish: rules, rules: [{ policy: 'plant', index: 3 }] })
    world.authentication.verdict = () =>
      Promise.resolve(world.authentication.accepted({ identity: { userName: 'pump', attributes: new Map() } }))
    const client = await connected(world)
    client.send(publishPacket('secret/1', 1))
    expect(world.refusals).toEqual([
      {
        action: 'publish',
        listener: 'test',
        remoteAddress: '192.0.2.1',
        clientId: client.connection.clientId,
        userName: 'pump',
        topic: 'secret/1',
        cause: 'denied by BrokerAuthorization plant, rules[3]',
      },
    ])
    expect(client.bytes.toString()).not.toMatch(/plant|rules/)
  })

  test('that no rule allows names the policies of the port, as does a SUBSCRIBE and a Will', async () => {
    const world = new Surroundings()
    world.authentication.permit = permitOf(['a'], ['a'])
    const client = await connected(world)
    client.send(publishPacket('secret/1', 1))
    subscribe(client, 'secret/#')
    await world.connect(5, { will: { topic: 'secret/2', payload: 'x' } })
    const cause = 'no rule of BrokerAuthorization default allows it'
    expect(world.refusals).toMatchObject([
      { action: 'publish', topic: 'secret/1', cause },
      { action: 'subscribe', topic: 'secret/#', cause },
      { action: 'will', topic: 'secret/2', cause },
    ])
  })

  test('is judged each time where the policy keeps no decisions', async () => {
    for (const [isCached, asked] of [
      [true, 1],
      [false, 3],
    ] as const) {
      const world = new Surroundings()
      world.authentication.permit = permitOf(['a'], ['#'], { isCached })
      const client = await connected(world)
      let count = 0
      const { permit } = client.connection
      const mayPublishTopic = permit!.mayPublishTopic.bind(permit)
      Object.assign(permit!, { mayPublishTopic: (topic: Topic) => (count++, mayPublishTopic(topic)) })
      client.send(publishPacket('a'), publishPacket('a'), publishPacket('a'))
      expect([count, world.backend.published.length]).toEqual([asked, 3])
    }
  })
})

describe('SUBSCRIBE', () => {
  test('filter by filter, $share stripped, wildcards do not cover $SYS', async () => {
    const world = new Surroundings()
    world.authentication.permit = permitOf([], ['in/+', '#'].slice(0, 1))
    const client = await connected(world)
    subscribe(client, 'in/1', '$share/group/in/+', 'in/#', '$share/group/out', '$SYS/#', 'in/+/')
    const no = ReasonCode.NotAuthorized
    expect(refusedFilters(world)).toEqual([null, null, no, no, no, no])
    expect(world.refusals.map(({ topic }) => topic)).toEqual(['in/#', 'out', '$SYS/#', 'in/+/'])
    expect(world.frontend.counters.categories.total('authorizationAllowed')).toBe(2)
    const everything = new Surroundings()
    everything.authentication.permit = permitOf([], ['#'])
    subscribe(await connected(everything), '#', '$SYS/broker/version')
    expect(refusedFilters(everything)).toEqual([null, no])
  })

  test('$SYS is for those whose rules name it', async () => {
    const world = new Surroundings()
    world.authentication.permit = permitOf([], ['$SYS/broker/#'])
    subscribe(await connected(world), '$SYS/broker/version', '$SYS/#')
    expect(refusedFilters(world)).toEqual([null, ReasonCode.NotAuthorized])
  })
})

describe('a check that fails inside denies', () => {
  test('a publish: 0x83; nothing to be told to QoS 0 and older clients', async () => {
    for (const version of [5, 4] as const) {
      const world = new Surroundings()
      world.authentication.permit = permitOf(['#'])
      const client = await connected(world, version)
      breakChecks(client)
      client.send(publishPacket('a', 0, version), publishPacket('a', 1, version))
      expect([world.backend.published.length, client.transport.isEnded]).toEqual([0, false])
      expect(client.packets).toMatchObject([
        { cmd: 'puback', messageId: 1, ...(version === 5 && { reasonCode: ReasonCode.ImplementationSpecificError }) },
      ])
      expect(world.frontend.counters.categories.total('authorizationFailures')).toBe(2)
      expect(client.bytes.toString()).not.toContain('oops')
    }
  })

  test('a filter: 0x83', async () => {
    const world = new Surroundings()
    world.authentication.permit = permitOf([], ['#'])
    const client = await connected(world)
    breakChecks(client)
    subscribe(client, 'a', '#/a')
    expect(refusedFilters(world)).toEqual([ReasonCode.ImplementationSpecificError, ReasonCode.TopicFilterInvalid])
  })
})

describe('what the session is told', () => {
  test('the permit, and who judges the Will by which policies; nothing where everything is allowed', async () => {
    const world = new Surroundings()
    world.authentication.permit = permitOf(['w'])
    const identity = { userName: 'pump', attributes: new Map([['site', 'north']]) }
    world.authentication.verdict = () => Promise.resolve(world.authentication.accepted({ identity }))
    const client = await world.connect(5, { will: { topic: 'w', payload: 'x' } })
    const { rights, will } = world.backend.attached[0]!
    expect(will).not.toBeNull()
    expect(Buffer.from(rights!.permit)).toEqual(permitBytes(world.authentication.permit))
    expect(readWillGuard(rights!.willGuard)).toEqual({ authorizations: ['default'], clientId: client.connection.clientId, ...identity })
    world.authentication.permit = null
    await world.connect(5)
    expect(world.backend.attached[1]!.rights).toBeNull()
  })

  test('clients with the same rights share one Permit', async () => {
    const world = new Surroundings()
    world.authentication.permit = permitOf(['a'])
    const [one, other] = [await connected(world), await connected(world)]
    expect(one.connection.permit).toBe(other.connection.permit)
  })
})

test.each([
  [['response/+/#'], 'response/me'],
  [['response/me/#'], 'response/me'],
  [['response/me'], undefined],
  [['other/#'], undefined],
])('Response Information where %s may be subscribed to: %s', async (filters, expected) => {
  const world = new Surroundings()
  world.authentication.permit = permitOf([], filters)
  const client = await world.connect(5, { properties: { requestResponseInformation: true } }, 'me')
  const [connack] = client.packets
  expect(connack).toMatchObject({ cmd: 'connack', reasonCode: 0 })
  expect(connack!.cmd === 'connack' ? connack!.properties?.responseInformation : null).toBe(expected)
})

describe('categories', () => {
  const category = (name: string) => ({ properties: { userProperties: { metriccategory: name } } })

  test('a client is counted in its own', async () => {
    const world = new Surroundings()
    world.authentication.permit = permitOf(['a'])
    const client = await world.connect(5, category('robots'))
    await world.connect(5)
    client.send(publishPacket('a'), publishPacket('a'), publishPacket('a'), publishPacket('b'))
    const { categories } = world.frontend.counters
    const values = (counted: Parameters<typeof categories.samples>[0]): unknown =>
      Object.fromEntries([...categories.samples(counted)].map(({ labels, value }) => [labels[0]![1], value]))
    expect(values('authorizationAllowed')).toEqual({ robots: 3, uncategorized: 0 })
    expect(values('authorizationDenied')).toEqual({ robots: 1, uncategorized: 0 })
    expect(values('authenticationSuccesses')).toEqual({ robots: 1, uncategorized: 1 })
  })

  test('20 of them, then `other`', async () => {
    const world = new Surroundings()
    for (let i = 0; i < 30; i++) await world.connect(5, category(`c${i}`))
    await world.connect(5, category('c3'))
    await world.connect(5, category('other'))
    const samples = [...world.frontend.counters.categories.samples('authenticationSuccesses')]
    expect(samples).toHaveLength(22)
    expect(samples.find(({ labels }) => labels[0]![1] === 'c3')!.value).toBe(2)
    expect(samples.find(({ labels }) => labels[0]![1] === 'other')!.value).toBe(11)
  })

  test('`other` chosen by a client takes no place', async () => {
    const world = new Surroundings()
    await world.connect(5, category('other'))
    for (let i = 0; i < 30; i++) await world.connect(5, category(`c${i}`))
    expect([...world.frontend.counters.categories.samples('authenticationSuccesses')]).toHaveLength(22)
  })

  test('a port without authorization allows nothing and denies nothing', async () => {
    const world = new Surroundings()
    world.port.rules = rulesOf('1', null)
    const client = await connected(world)
    client.send(publishPacket('a'), publishPacket('a'))
    subscribe(client, '#')
    expect(world.frontend.counters.categories.total('authorizationAllowed')).toBe(0)
    expect(world.backend.published).toHaveLength(2)
  })
})
