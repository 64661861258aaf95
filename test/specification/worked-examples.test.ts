import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { CertificateLab, type IssuedCertificate } from '#shared/testing/certificates.ts'
import { CustomServer } from '#shared/testing/custom-server.ts'
import { freePorts } from '#shared/testing/free-ports.ts'
import type * as packets from '../conformance/packets.ts'
import type { RawClient } from '../conformance/raw-client.ts'
import { ROOT } from '../limits/real-broker.ts'
import { configMap, ConfiguredBroker, HOST, resource, serverCertificate, tlsSecret } from './configured-broker.ts'

const NOT_AUTHORIZED = 0x87
const NO_SUBSCRIBERS = 0x10

const lab = new CertificateLab()
const root = lab.authority('/CN=Greenhouse Root CA')
const intermediate = lab.authority('/CN=Greenhouse Intermediate CA', { issuer: root })
const [certificatePort, sensorsPort, namesPort] = (await freePorts(3)) as [number, number, number]
let configured: ConfiguredBroker
let custom: CustomServer

/** A file of docs/examples as it stands; of a listener only where it listens is another. */
function example(file: string): readonly object[] {
  return parseAllDocuments(readFileSync(join(ROOT, 'docs/examples', file), 'utf8')).map(document => {
    if (document.get('kind') === 'BrokerListener') {
      document.setIn(['spec', 'ports', 0, 'port'], certificatePort)
      document.setIn(['spec', 'ports', 0, 'host'], HOST)
    }
    return document.toJSON() as object
  })
}

/** Rules that put what a client says of itself, or what somebody says of it, into patterns. */
const names = {
  rules: [
    {
      principals: { attributes: [{ known: 'yes' }] },
      brokerResources: [
        { method: 'Connect', clientIds: ['{principal.attributes.site}*'] },
        { method: 'Publish', topics: ['ids/{principal.clientId}', 'users/{principal.username}', 'sites/{principal.attributes.site}/x'] },
        { method: 'Subscribe', topics: ['ids/{principal.clientId}', 'users/{principal.username}', 'sites/{principal.attributes.site}/#'] },
      ],
    },
    { principals: { attributes: [{ any: 'yes' }] }, brokerResources: [{ method: 'Connect' }, { method: 'Publish', topics: ['all/#'] }] },
    {
      principals: { attributes: [{ any: 'yes' }] },
      brokerResources: [
        {
          method: 'Publish',
          topics: ['ids/{principal.clientId}', 'users/{principal.username}', 'sites/{principal.attributes.site}/x'],
        },
        { method: 'Subscribe', topics: ['ids/{principal.clientId}', 'users/{principal.username}', 'sites/{principal.attributes.site}/#'] },
      ],
    },
  ],
}

beforeAll(async () => {
  const server = serverCertificate(lab, root)
  custom = await CustomServer.start({ tls: { serverCert: Buffer.from(server.certificate), serverKey: Buffer.from(server.key) } })
  // The password of a client says what attributes it is to have.
  custom.behave = ({ body }) => {
    const password = Buffer.from((body as { password: string }).password, 'base64').toString()
    return { is: 'answer', status: 200, body: { attributes: JSON.parse(password) as object } }
  }
  const byServer = { method: 'Custom', customSettings: { endpoint: custom.url, caCertConfigMap: 'client-ca' } }
  const listener = {
    ports: [
      { port: sensorsPort, host: HOST, authenticationRef: 'server', authorizationRef: 'sensors' },
      { port: namesPort, host: HOST, authenticationRef: 'server', authorizationRef: 'names' },
    ],
  }
  configured = await ConfiguredBroker.start({
    certificates: [...example('authorization-x509.yaml'), tlsSecret('greenhouse-tls', server)],
    trust: [configMap('client-ca', { 'root.pem': root.certificate })],
    sensors: [...example('authorization-sensors.yaml'), resource('BrokerListener', 'sensors', listener)],
    names: [
      resource('BrokerAuthentication', 'server', { authenticationMethods: [byServer] }),
      resource('BrokerAuthorization', 'names', { authorizationPolicies: names }),
    ],
  })
})

afterAll(async () => {
  await custom.close()
  lab.close()
})

async function published(client: RawClient, topic: string): Promise<number> {
  const ack = await client.publish({ topic, payload: topic, qos: 1 })
  return ack!.reason === NO_SUBSCRIBERS ? 0 : ack!.reason
}

async function subscribed(client: RawClient, filter: string): Promise<number> {
  return (await client.subscribe({ filter })).reasons[0]!
}

describe('authorization.md 9: rights by certificate', () => {
  async function certified(name: string, options: { version?: packets.Version; userName?: string } = {}): Promise<RawClient> {
    const leaf: IssuedCertificate = lab.issue({ subject: `/CN=${name}`, issuer: intermediate })
    const client = await configured.open(certificatePort, options.version ?? 5, { ca: root, chain: [leaf, intermediate] })
    return client.connect({ clientId: `${name}-${options.version ?? 5}`, ...(options.userName && { userName: options.userName }) })
  }

  test('thermostat publishes its temperature and no humidity; it does not have the attribute of the intermediate', async () => {
    const thermostat = await certified('thermostat')
    expect(await published(thermostat, 'sensor/temperature')).toBe(0)
    expect(await published(thermostat, 'sensor/humidity')).toBe(NOT_AUTHORIZED)
    expect(await published(thermostat, 'health/heartbeat')).toBe(NOT_AUTHORIZED)
  })

  test('hygrometer publishes its humidity and no temperature', async () => {
    const hygrometer = await certified('hygrometer')
    expect(await published(hygrometer, 'sensor/humidity')).toBe(0)
    expect(await published(hygrometer, 'sensor/temperature')).toBe(NOT_AUTHORIZED)
  })

  test('heater subscribes by its Common Name, publishes by the intermediate: two rules add up', async () => {
    const heater = await certified('heater')
    expect(
      (await heater.subscribe(['sensor/temperature', 'sensor/humidity', 'health/heartbeat'].map(filter => ({ filter })))).reasons,
    ).toEqual([0, 0, NOT_AUTHORIZED])
    expect(await published(heater, 'health/heartbeat')).toBe(0)
    const thermostat = await certified('thermostat')
    await published(thermostat, 'sensor/temperature')
    expect((await heater.receive()).topic).toBe('sensor/temperature')
    await heater.expectNothing()
  })

  test('lightbulb publishes its heartbeat by the attribute of the intermediate; another user name of CONNECT gives nothing', async () => {
    const lightbulb = await certified('lightbulb', { userName: 'heater' })
    expect(await published(lightbulb, 'health/heartbeat')).toBe(0)
    expect(await subscribed(lightbulb, 'sensor/temperature')).toBe(NOT_AUTHORIZED)
  })

  test('before MQTT 5 a refused SUBSCRIBE is 0x80, a refused PUBLISH looks like any other and goes nowhere', async () => {
    const watcher = await configured.broker.connect({ clientId: 'watcher' })
    await watcher.subscribe({ filter: '#' })
    const thermostat = await certified('thermostat', { version: 4 })
    expect(await subscribed(thermostat, 'sensor/temperature')).toBe(0x80)
    expect(await published(thermostat, 'sensor/humidity')).toBe(0)
    expect(await thermostat.publish({ topic: 'sensor/humidity', qos: 0 })).toBeNull()
    expect((await thermostat.unsubscribe('sensor/humidity')).packetId).toBeGreaterThan(0)
    await watcher.expectNothing()
  })

  test('a leaf without its intermediate chains to nothing: TLS ends it', async () => {
    const leaf = lab.issue({ subject: '/CN=thermostat', issuer: intermediate })
    const client = await configured.open(certificatePort, 5, { ca: root, chain: [leaf] })
    client.sendConnect({ clientId: 'alone' })
    await client.expectClosed()
  })

  test('a chain that mixes RSA and EC is refused with 0x87, though TLS would have it', async () => {
    const leaf = lab.issue({ subject: '/CN=thermostat', issuer: intermediate, key: 'RSA' })
    const client = await configured.open(certificatePort, 5, { ca: root, chain: [leaf, intermediate] })
    client.sendConnect({ clientId: 'mixed' })
    await client.expectRefused(NOT_AUTHORIZED)
  })

  test('a certificate that nobody has rules for is refused with 0x87, before MQTT 5 with 5', async () => {
    for (const [version, code] of [
      [5, NOT_AUTHORIZED],
      [4, 5],
    ] as const) {
      const leaf = lab.issue({ subject: '/CN=stranger', issuer: root })
      const client = await configured.open(certificatePort, version, { ca: root, chain: [leaf] })
      client.sendConnect({ clientId: 'stranger' })
      await client.expectRefused(code)
    }
  })
})

type Attributes = Readonly<Record<string, string>>

async function attributed(port: number, attributes: Attributes, options: Omit<packets.Connect, 'version'>): Promise<RawClient> {
  const client = await configured.open(port)
  client.sendConnect({ userName: 'user', password: JSON.stringify(attributes), ...options })
  return client
}

describe('authorization.md 9: sensors by Client Identifier or attributes', () => {
  const contoso = { organization: 'contoso', city: 'seattle' }
  const topics = ['/telemetry/temperature-sensor', '/telemetry/humidity-sensor', '/telemetry/pump', '/telemetry/contoso']

  test.each([
    { clientId: 'temperature-sensor', attributes: contoso, allowed: ['/telemetry/temperature-sensor', '/telemetry/contoso'], commands: 0 },
    { clientId: 'pump', attributes: contoso, allowed: ['/telemetry/pump', '/telemetry/contoso'], commands: 0 },
    { clientId: 'humidity-sensor', attributes: {}, allowed: ['/telemetry/humidity-sensor'], commands: NOT_AUTHORIZED },
  ])('$clientId with $attributes', async ({ clientId, attributes, allowed, commands }) => {
    const client = await attributed(sensorsPort, attributes, { clientId })
    expect((await client.expect('connack')).reason).toBe(0)
    const reasons: number[] = []
    for (const topic of topics) reasons.push(await published(client, topic))
    expect(reasons).toEqual(topics.map(topic => (allowed.includes(topic) ? 0 : NOT_AUTHORIZED)))
    expect(await subscribed(client, '/commands/contoso')).toBe(commands)
  })

  test('organization alone, or a city in other letters: no CONNECT', async () => {
    for (const attributes of [
      { organization: 'contoso', city: '' },
      { organization: 'contoso', city: 'Seattle' },
    ]) {
      await (await attributed(sensorsPort, attributes, { clientId: 'pump' })).expectRefused(NOT_AUTHORIZED)
    }
  })
})

describe('what a client or its server says of it widens nothing (authorization.md 3.1)', () => {
  const filters = ['ids/#', 'ids/a', 'users/#', 'users/a', 'sites/#', 'sites/a/x', 'sites/+/x']

  test.each([
    ['#', '#', '#'],
    ['+', '+', '+'],
    ['a/b', 'a/b', 'a/b'],
    ['*', '', ''],
    ['{principal.username}', '{principal.clientId}', '{principal.attributes.site}'],
  ])('Client Identifier %j, user name %j, attribute %j', async (clientId, userName, site) => {
    const client = await attributed(namesPort, { any: 'yes', site }, { clientId, userName })
    expect((await client.expect('connack')).reason).toBe(0)
    expect((await client.subscribe(filters.map(filter => ({ filter })))).reasons).toEqual(filters.map(() => NOT_AUTHORIZED))
    for (const topic of ['ids/a', 'users/a', 'sites/a/x', 'sites/x']) expect(await published(client, topic), topic).toBe(NOT_AUTHORIZED)
    expect(await published(client, 'all/ids')).toBe(0)
  })

  test('plain values stand where their token is, and there alone', async () => {
    const client = await attributed(namesPort, { any: 'yes', site: 'north' }, { clientId: 'a', userName: 'b' })
    expect((await client.expect('connack')).reason).toBe(0)
    const publisher = await configured.broker.connect({ clientId: 'publisher' })
    for (const topic of ['sites/north/x', 'sites/south/x']) await publisher.publish({ topic, payload: 'kept', retain: true, qos: 1 })
    const asked = ['ids/a', 'ids/b', 'users/b', 'users/a', 'sites/north/#', 'sites/south/#']
    expect((await client.subscribe(asked.map(filter => ({ filter })))).reasons).toEqual([0, 0x87, 0, 0x87, 0, 0x87])
    expect((await client.receive()).topic).toBe('sites/north/x')
    await client.expectNothing()
  })

  test.each([
    ['north-1', 'north', 0],
    ['south-1', 'north', NOT_AUTHORIZED],
    ['anything', '*', NOT_AUTHORIZED],
    ['*-1', '*', 0],
    ['anything', '', NOT_AUTHORIZED],
    ['anything', undefined, NOT_AUTHORIZED],
  ])('Connect of %j for site %j: %i', async (clientId, site, code) => {
    const client = await attributed(namesPort, { known: 'yes', ...(site !== undefined && { site }) }, { clientId })
    expect((await client.expect('connack')).reason).toBe(code)
  })

  test('a Will that its client may not publish: no CONNECT', async () => {
    const client = await attributed(namesPort, { any: 'yes', site: 'north' }, { clientId: 'a', will: { topic: 'sites/south/x' } })
    await client.expectRefused(NOT_AUTHORIZED)
    const other = await attributed(namesPort, { any: 'yes', site: 'north' }, { clientId: 'a', will: { topic: 'sites/north/x' } })
    expect((await other.expect('connack')).reason).toBe(0)
  })
})

test('an authority that is not trusted any more: its clients are disconnected with 0x87 and do not come in, others stay', async () => {
  const chain = [lab.issue({ subject: '/CN=heater', issuer: intermediate }), intermediate]
  const open = (): Promise<RawClient> => configured.open(certificatePort, 5, { ca: root, chain })
  const heater = await (await open()).connect({ clientId: 'heater' })
  const bystander = await attributed(sensorsPort, {}, { clientId: 'humidity-sensor' })
  expect((await bystander.expect('connack')).reason).toBe(0)
  await configured.change({ trust: [configMap('client-ca', { 'root.pem': lab.authority('/CN=another').certificate })] })
  await heater.expectDisconnect(NOT_AUTHORIZED)
  const refused = await open()
  refused.sendConnect({ clientId: 'heater' })
  await refused.expectClosed()
  await bystander.expectNothing()
})
