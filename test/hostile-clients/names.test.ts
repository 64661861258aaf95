import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CertificateLab } from '#shared/testing/certificates.ts'
import { CustomServer } from '#shared/testing/custom-server.ts'
import * as packets from '../conformance/packets.ts'
import type { RawClient } from '../conformance/raw-client.ts'
import { configMap, resource, serverCertificate } from '../specification/configured-broker.ts'
import { HostileStage, NOT_AUTHORIZED } from './hostile-stage.ts'

/** What a Client Identifier, a user name or an attribute may be made of to get more than was meant. NUL no MQTT text may hold. */
const NASTY: readonly string[] = [
  '+',
  '#',
  'a/b',
  '/',
  'a/#',
  '*',
  '?',
  '[a-z]',
  '[!x]',
  '{',
  '{principal.clientId}',
  '{principal.attributes.group}',
  '$SYS',
  '$services',
  '$share',
  '..',
  ' ',
  'é',
  'e\u0301',
  '😀',
  '\u202egnp.exe',
  '__proto__',
  'constructor',
  'a*'.repeat(5_000),
  'x'.repeat(60_000),
]
/** Topics of others. */
const FOREIGN = ['own/other/x', 'own/x', 'group/other/x', 'user/other/x', 'secret/x', 'a/x']
const FOREIGN_FILTERS = [
  '#',
  '+/#',
  '+/+/+',
  'own/#',
  'own/+/x',
  'own/other/#',
  'group/#',
  'user/+/x',
  'secret/#',
  '$SYS/#',
  '$share/g/#',
  '$share/g/own/#',
  '$share/#/own',
]

const lab = new CertificateLab()
const authority = lab.authority('/CN=site CA')
let custom: CustomServer
let stage: HostileStage<'guarded' | 'anybody'>
let group = 'pumps'

beforeAll(async () => {
  const server = serverCertificate(lab, authority)
  custom = await CustomServer.start({ tls: { serverCert: Buffer.from(server.certificate), serverKey: Buffer.from(server.key) } })
  custom.behave = () => ({ is: 'answer', status: 200, body: { attributes: { group, site: 'north' } } })
  const method = { method: 'Custom', customSettings: { endpoint: custom.url, caCertConfigMap: 'server-ca' } }
  const places = [
    'own/{principal.clientId}',
    'user/{principal.username}',
    'group/{principal.attributes.group}',
    '{principal.clientId}',
    '{principal.username}',
  ]
  const topics = places.map(place => `${place}/#`)
  const rules = [
    {
      principals: { attributes: [{ site: 'north' }] },
      brokerResources: [
        { method: 'Connect' },
        { method: 'Publish', topics: [...topics, 'shared/#'] },
        { method: 'Subscribe', topics: [...topics, 'shared/#'] },
      ],
    },
    {
      effect: 'Deny',
      principals: { attributes: [{ site: 'north' }] },
      brokerResources: [
        { method: 'Publish', topics: ['shared/closed/#'] },
        { method: 'Subscribe', topics: ['shared/closed/#'] },
      ],
    },
    { principals: { usernames: ['victim'] }, brokerResources: [{ method: 'Subscribe', topics: ['secret/#'] }] },
  ]
  stage = await HostileStage.start(
    { guarded: { authenticationRef: 'custom', authorizationRef: 'rules' }, anybody: {} },
    {
      who: [
        resource('BrokerAuthentication', 'custom', { authenticationMethods: [method] }),
        resource('BrokerAuthorization', 'rules', { authorizationPolicies: { rules } }),
        configMap('server-ca', { any: authority.certificate }),
      ],
    },
  )
})

afterAll(async () => {
  await stage.expectUnharmed()
  await custom.close()
  lab.close()
})

const codes = async (client: RawClient, filters: readonly string[]): Promise<readonly number[]> => [
  ...(await client.subscribe(filters.map(filter => ({ filter })))).reasons,
]

async function publishes(client: RawClient, topics: readonly string[]): Promise<readonly number[]> {
  const found: number[] = []
  for (const topic of topics) found.push((await client.publish({ topic, qos: 1, payload: 'p' }))!.reason)
  return found
}

async function expectNothingOpen(client: RawClient, name: string): Promise<void> {
  const filters = FOREIGN_FILTERS.filter(filter => filter !== `own/${name}/#`)
  expect((await codes(client, filters)).filter(code => code < 0x80)).toEqual([])
  expect(new Set(await publishes(client, FOREIGN))).toEqual(new Set([NOT_AUTHORIZED]))
  expect(await client.publish({ topic: '$SYS/broker/x', qos: 1 })).toMatchObject({ reason: NOT_AUTHORIZED })
  expect(await client.publish({ topic: '$services/statestore/_any_/command/invoke/request', qos: 1 })).toMatchObject({
    reason: NOT_AUTHORIZED,
  })
}

describe.each(NASTY.map(name => ({ name })))('$name', ({ name }) => {
  test('as Client Identifier', async () => {
    const client = await stage.connect('guarded', { clientId: name, userName: 'somebody' })
    await expectNothingOpen(client, name)
    client.drop()
  })

  test('as user name', async () => {
    const client = await stage.connect('guarded', { clientId: 'c', userName: name })
    await expectNothingOpen(client, name)
    client.drop()
  })

  test('as an attribute', async () => {
    group = name.slice(0, 4_000)
    const client = await stage.connect('guarded', { clientId: 'c', userName: 'u' })
    await expectNothingOpen(client, name)
    client.drop()
    group = 'pumps'
  })
})

describe('ways around a rule', () => {
  test('NUL in any name: the connection ends', async () => {
    for (const field of ['clientId', 'userName'] as const) {
      const client = await stage.open('guarded')
      client.sendConnect({ clientId: 'c', userName: 'u', [field]: 'a\0b' })
      await client.expectGivenUp()
    }
  })

  test('shared subscriptions, No Local, Retain Handling and wildcards of a Deny', async () => {
    const client = await stage.connect('guarded', { clientId: 'c', userName: 'u' })
    expect(
      await codes(client, [
        'shared/open',
        'shared/#',
        'shared/+',
        'shared/+/x',
        '$share/g/shared/#',
        '$share/g/shared/closed/x',
        'shared/closed',
      ]),
    ).toEqual([0, NOT_AUTHORIZED, NOT_AUTHORIZED, NOT_AUTHORIZED, NOT_AUTHORIZED, NOT_AUTHORIZED, NOT_AUTHORIZED])
    for (const options of [4, 8, 0x10, 0x20, 0x2c]) {
      const packetId = client.nextPacketId()
      client.send(packets.subscribe(packetId, [{ filter: 'shared/closed/x', options }]))
      expect((await client.take('suback', packetId)).reasons).toEqual([NOT_AUTHORIZED])
    }
    client.drop()
  })

  test('a Topic Alias is judged by the topic that it stands for', async () => {
    const witness = await stage.connect('anybody', { clientId: 'witness' })
    await witness.subscribe({ filter: 'secret/#' })
    const client = await stage.connect('guarded', { clientId: 'c', userName: 'u' })
    expect(await client.publish({ topic: 'secret/x', qos: 1, properties: { topicAlias: 1 } })).toMatchObject({ reason: NOT_AUTHORIZED })
    expect(await client.publish({ topic: '', qos: 1, properties: { topicAlias: 1 } })).toMatchObject({ reason: NOT_AUTHORIZED })
    expect((await client.publish({ topic: 'own/c/x', qos: 1, properties: { topicAlias: 1 } }))!.reason).toBeLessThan(0x80)
    expect((await client.publish({ topic: '', qos: 1, properties: { topicAlias: 1 } }))!.reason).toBeLessThan(0x80)
    expect(await client.publish({ topic: 'secret/x', qos: 2, properties: { topicAlias: 1 } })).toMatchObject({ reason: NOT_AUTHORIZED })
    await client.publish({ topic: '', qos: 0, properties: { topicAlias: 1 } })
    await witness.expectNothing()
    for (const each of [witness, client]) each.drop()
  })

  test('a Will, with any QoS and retained: 0x87 at CONNECT', async () => {
    for (const topic of ['secret/x', 'shared/closed/x', '$SYS/x']) {
      for (const retain of [false, true]) {
        const will = { topic, payload: 'x', qos: 2, retain, properties: { willDelayInterval: 0 } }
        expect(await stage.refusal('guarded', { clientId: 'c', userName: 'u', will })).toBe(NOT_AUTHORIZED)
      }
    }
  })

  test('a refused publish with RETAIN leaves nothing, nor takes anything away', async () => {
    const keeper = await stage.connect('anybody', { clientId: 'keeper' })
    await keeper.publish({ topic: 'secret/kept', payload: 'kept', retain: true, qos: 1 })
    const client = await stage.connect('guarded', { clientId: 'c', userName: 'u' })
    expect(await client.publish({ topic: 'secret/kept', payload: '', retain: true, qos: 1 })).toMatchObject({ reason: NOT_AUTHORIZED })
    await client.publish({ topic: 'secret/new', payload: 'new', retain: true })
    await keeper.subscribe({ filter: 'secret/#' })
    expect(String((await keeper.receive()).payload)).toBe('kept')
    await keeper.expectNothing()
    for (const each of [keeper, client]) each.drop()
  })

  test('who takes over the session of somebody else gets neither its messages nor its subscriptions', async () => {
    const sender = await stage.connect('anybody', { clientId: 'sender' })
    const persistent = { clientId: 'pump', cleanStart: false, properties: { sessionExpiryInterval: 100 } }
    const victim = await stage.connect('guarded', { ...persistent, userName: 'victim' })
    expect(await codes(victim, ['secret/#', 'shared/open'])).toEqual([0, 0])
    await victim.subscribe([
      { filter: 'secret/#', qos: 2 },
      { filter: 'shared/open', qos: 1 },
    ])
    await victim.disconnect(0)
    for (const qos of [0, 1, 2]) await sender.publish({ topic: 'secret/plan', payload: 'x', qos })
    await sender.publish({ topic: 'shared/open', payload: 'for all', qos: 1 })
    const thief = await stage.connect('guarded', { ...persistent, userName: 'thief' })
    expect(thief.connack.sessionPresent).toBe(true)
    expect(await thief.receive()).toMatchObject({ topic: 'shared/open' })
    await sender.publish({ topic: 'secret/plan', payload: 'x', qos: 1 })
    await thief.expectNothing()
    // While the victim is connected as well.
    const again = await stage.connect('guarded', { ...persistent, userName: 'victim' })
    await thief.expectDisconnect(0x8e)
    await again.subscribe({ filter: 'secret/#', qos: 2 })
    for (let i = 0; i < 50; i++) sender.send(packets.publish({ topic: 'secret/plan', payload: 'x', qos: 2, packetId: i + 1 }))
    const second = await stage.connect('guarded', { ...persistent, userName: 'thief' })
    await sender.ping()
    await second.ping()
    expect(second.received.filter(({ type }) => type === 'publish')).toEqual([])
    for (const each of [sender, second]) each.drop()
  })
})

describe('patterns that cost much', () => {
  test('a Client Identifier of 64 KiB against patterns made of stars does not hold up others', async () => {
    const patterns = [
      '*a*b*c*d*e*f*',
      '*{principal.attributes.group}*{principal.attributes.group}*',
      `${'*?'.repeat(500)}z`,
      `${'?'.repeat(2_000)}*z`,
      `*${'a'.repeat(2_000)}b*`,
    ]
    const rules = [
      {
        principals: { attributes: [{ site: 'north' }] },
        brokerResources: [{ method: 'Connect', clientIds: Array.from({ length: 20 }, () => patterns).flat() }],
      },
    ]
    const [guarded] = [stage.portOf('guarded')]
    await stage.configured.change({
      slow: [resource('BrokerAuthorization', 'rules', { authorizationPolicies: { rules } })],
      who: [
        resource('BrokerAuthentication', 'custom', {
          authenticationMethods: [{ method: 'Custom', customSettings: { endpoint: custom.url, caCertConfigMap: 'server-ca' } }],
        }),
        configMap('server-ca', { any: authority.certificate }),
      ],
    })
    expect(guarded).toBeGreaterThan(0)
    group = 'a'.repeat(4_000)
    const witness = await stage.connect('anybody', { clientId: 'witness' })
    const long = ['a'.repeat(65_535), `${'a'.repeat(65_534)}c`, 'ab'.repeat(32_767), '😀'.repeat(16_000)]
    const outcomes = long.map(clientId => stage.refusal('guarded', { clientId, userName: 'u' }).catch((error: Error) => error.message))
    for (let i = 0; i < 20; i++) await witness.ping()
    expect(new Set(await Promise.all(outcomes)).has(NOT_AUTHORIZED)).toBe(true)
    witness.drop()
  })
})
