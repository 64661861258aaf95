import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CertificateLab } from '#shared/testing/certificates.ts'
import { type CustomBehaviour, type CustomRequest, CustomServer } from '#shared/testing/custom-server.ts'
import { KubernetesApi } from '#shared/testing/kubernetes-api.ts'
import { freePorts } from '#shared/testing/free-ports.ts'
import { auth } from '../conformance/packets.ts'
import type { Properties } from '../conformance/properties.ts'
import type { RawClient } from '../conformance/raw-client.ts'
import { configMap, ConfiguredBroker, HOST, resource, serverCertificate, tlsSecret } from './configured-broker.ts'

const NOT_AUTHORIZED = 0x87
const CONTINUE = 0x18
const REAUTHENTICATE = 0x19
const AUDIENCES = ['aio-internal']
/** Credentials that end soon: for the next one when a busy machine has let the one before end too early. */
const SHORT_SECONDS = [3, 6, 12, 24]

const untilText = (seconds: number): string => new Date(Date.now() + seconds * 1_000).toISOString()
const accepting = (body: object): CustomBehaviour => ({ is: 'answer', status: 200, body })
/** By user name; a number is that of the seconds which it has. */
function endOf(userName: string | undefined): CustomBehaviour {
  if (userName === undefined) return { is: 'cut' }
  return accepting(userName === 'ever' ? {} : { expiry: untilText(Number(userName)) })
}

const lab = new CertificateLab()
const authority = lab.authority('/CN=site CA')
const api = await KubernetesApi.open()
const [tokenPort, tellingPort, customPort, certificatePort, listPort] = (await freePorts(5)) as [number, number, number, number, number]
let configured: ConfiguredBroker
let custom: CustomServer

beforeAll(async () => {
  const server = serverCertificate(lab, authority)
  custom = await CustomServer.start({ tls: { serverCert: Buffer.from(server.certificate), serverKey: Buffer.from(server.key) } })
  api.createServiceAccount('plant', 'pump', { 'aio-broker-auth/site': 'north', 'other/site': 'nowhere' })
  api.createServiceAccount('plant', 'valve')
  const byToken = { method: 'ServiceAccountToken', serviceAccountTokenSettings: { audiences: AUDIENCES } }
  const byServer = { method: 'Custom', customSettings: { endpoint: custom.url, caCertConfigMap: 'client-ca', timeoutSeconds: 1 } }
  const byCertificate = { method: 'X509', x509Settings: {} }
  const tls = { mode: 'Manual', manual: { secretRef: 'server' } }
  const listener = {
    ports: [
      { port: tokenPort, authenticationRef: 'token', authorizationRef: 'by-site' },
      { port: tellingPort, authenticationRef: 'telling' },
      { port: customPort, authenticationRef: 'server' },
      { port: certificatePort, authenticationRef: 'certificate', tls },
      { port: listPort, authenticationRef: 'list' },
    ].map(port => ({ host: HOST, ...port })),
  }
  const who = (name: string, methods: readonly object[], more: object = {}): object =>
    resource('BrokerAuthentication', name, { authenticationMethods: methods, ...more })
  const rules = [
    {
      principals: { attributes: [{ site: 'north' }, { site: 'south' }] },
      brokerResources: [{ method: 'Connect' }, { method: 'Publish', topics: ['sites/{principal.attributes.site}'] }],
    },
    { principals: { clientIds: ['valve'] }, brokerResources: [{ method: 'Connect' }] },
  ]
  configured = await ConfiguredBroker.start(
    {
      listener: [resource('BrokerListener', 'plant', listener), tlsSecret('server', server)],
      who: [
        who('token', [byToken]),
        who('telling', [byToken], { expiryDisconnect: 'Enabled' }),
        who('server', [byServer]),
        who('certificate', [byCertificate]),
        who('list', [byServer, byToken]),
      ],
      rules: [resource('BrokerAuthorization', 'by-site', { authorizationPolicies: { rules } })],
      known: [configMap('client-ca', { any: authority.certificate })],
    },
    api.environment,
  )
})

afterAll(async () => {
  await custom.close()
  await api.close()
  lab.close()
})

function mint(expirationSeconds = 3_600, serviceAccount = 'pump'): string {
  return api.mintToken({ namespace: 'plant', serviceAccount, audiences: AUDIENCES, expirationSeconds })
}

function shown(token: string): Properties {
  return { authenticationMethod: 'K8S-SAT', authenticationData: Buffer.from(token) }
}

async function withToken(port: number, clientId: string, token: string): Promise<RawClient> {
  const client = await configured.open(port)
  return client.connect({ clientId, cleanStart: false, properties: shown(token) })
}

/** A client whose credential ends soon. */
async function briefly<T>(connect: (seconds: number) => Promise<T>): Promise<T> {
  for (const seconds of SHORT_SECONDS) {
    const found = await connect(seconds).catch((error: unknown) => error)
    if (!(found instanceof Error)) return found as T
    if (seconds === SHORT_SECONDS.at(-1)) throw found
  }
  throw new Error('no time at all')
}

/** Publishes and answers the Reason Code of PUBACK. */
async function published(client: RawClient, topic: string): Promise<number> {
  return (await client.publish({ topic, qos: 1 }))!.reason
}

describe.concurrent('a credential that runs out', () => {
  beforeAll(() => {
    custom.behave = ({ body }) => endOf((body as { username?: string }).username)
  })

  test('a token: closed without DISCONNECT, the Will goes out, the session stays; a log line says so', async () => {
    const watcher = await configured.broker.connect({ clientId: 'watcher' })
    await watcher.subscribe({ filter: 'wills/pump', qos: 1 })
    const client = await briefly(async seconds => {
      const properties = { ...shown(mint(seconds)), sessionExpiryInterval: 600 }
      const will = { topic: 'wills/pump', payload: 'gone' }
      return (await configured.open(listPort)).connect({ clientId: 'pump', will, properties })
    })
    await client.expectClosed()
    expect((await watcher.receive()).payload.toString()).toBe('gone')
    const back = await withToken(listPort, 'pump', mint())
    expect(back.connack.sessionPresent).toBe(true)
    expect(configured.broker.err).toMatch(/"client":"pump",.*"event":"credential_expired"/)
    await back.disconnect()
  })

  test('a token over MQTT 3.1.1, as password; and a certificate at its end; both closed', async () => {
    const older = await briefly(async seconds => {
      const client = await configured.open(tellingPort, 4)
      return client.connect({ clientId: 'older', userName: 'K8S-SAT', password: mint(seconds) })
    })
    const certified = await briefly(async seconds => {
      const to = untilText(seconds).replace(/[-:T]|\.\d+/g, '')
      const chain = [lab.issue({ subject: '/CN=pump-7', issuer: authority, to })]
      return (await configured.open(certificatePort, 5, { ca: authority, chain })).connect({ clientId: 'certified' })
    })
    await Promise.all([older.expectClosed(), certified.expectClosed()])
  })

  test('expiryDisconnect: DISCONNECT 0x87 goes before it', async () => {
    const client = await briefly(seconds => withToken(tellingPort, 'told', mint(seconds)))
    await client.expectDisconnect(NOT_AUTHORIZED)
  })

  test('what the custom server said: expiry ends the connection; none never does; one in the past lets nobody in', async () => {
    const client = await briefly(async seconds => {
      return (await configured.open(customPort)).connect({ clientId: 'short', userName: String(seconds) })
    })
    const past = await configured.open(customPort)
    past.sendConnect({ clientId: 'past', userName: '-1' })
    await past.expectRefused(NOT_AUTHORIZED)
    const ever = await configured.open(customPort)
    await ever.connect({ clientId: 'ever', userName: 'ever' })
    await client.expectClosed()
    await ever.expectNothing()
  })
})

/** AUTH 0x19 with these properties, and what comes back. */
async function reauthenticate(client: RawClient, properties: Properties): Promise<{ reason: number; properties: Properties }> {
  client.send(auth(REAUTHENTICATE, properties))
  return client.take('auth')
}

describe('re-authentication', () => {
  test('with a fresh token: AUTH 0x00, the new end counts, attributes and rights are new', async () => {
    const [renewed, other] = await briefly(async seconds => {
      const token = mint(seconds)
      const both = [await withToken(tokenPort, 'renewed', token), await withToken(tokenPort, 'other', token)] as const
      expect(await published(both[0], 'sites/north')).not.toBe(NOT_AUTHORIZED)
      const done = await reauthenticate(both[0], shown(mint()))
      expect(done).toMatchObject({ reason: 0, properties: { authenticationMethod: 'K8S-SAT' } })
      return both
    })
    expect(await published(renewed, 'sites/south')).toBe(NOT_AUTHORIZED)
    api.createServiceAccount('plant', 'pump', { 'aio-broker-auth/site': 'south' })
    await other.expectClosed()
    await renewed.expectNothing()
    // Annotations are kept for a second.
    const again = async (): Promise<number> => {
      expect((await reauthenticate(renewed, shown(mint()))).reason).toBe(0)
      return published(renewed, 'sites/south')
    }
    await expect.poll(again, { timeout: 10_000 }).not.toBe(NOT_AUTHORIZED)
    expect(await published(renewed, 'sites/north')).toBe(NOT_AUTHORIZED)
  })

  test.each([
    ['of another service account', () => mint(3_600, 'valve')],
    ['that has ended', () => mint(-10)],
    ['that is none', () => 'guess'],
  ])('with a token %s: DISCONNECT 0x87, and the Will goes out', async (what, token) => {
    const watcher = await configured.broker.connect({ clientId: `watcher ${what}` })
    await watcher.subscribe({ filter: 'wills/refused', qos: 1 })
    const client = await configured.open(tellingPort)
    await client.connect({ clientId: 'refused', will: { topic: 'wills/refused', payload: what }, properties: shown(mint()) })
    client.send(auth(REAUTHENTICATE, shown(token())))
    await client.expectDisconnect(NOT_AUTHORIZED)
    expect((await watcher.receive()).payload.toString()).toBe(what)
  })

  test('the method of the CONNECT alone is asked: a fallback stays with its token though the server is back', async () => {
    custom.behave = () => ({ is: 'cut' })
    const client = await withToken(listPort, 'fallback', mint())
    custom.behave = () => ({ is: 'answer', status: 403, body: { reason: 0x86 } })
    expect((await reauthenticate(client, shown(mint()))).reason).toBe(0)
    await client.expectNothing()
  })

  test('by the custom server: type auth with the method and the data of AUTH, without user name', async () => {
    const seen: CustomRequest['body'][] = []
    custom.behave = ({ body }) => {
      seen.push(body)
      return { is: 'answer', status: 200, body: {} }
    }
    const client = await configured.open(customPort)
    const properties = (data: string): Properties => ({ authenticationMethod: 'X-SITE', authenticationData: Buffer.from(data) })
    await client.connect({ clientId: 'enhanced', userName: 'pump', properties: properties('one') })
    expect((await reauthenticate(client, properties('two'))).reason).toBe(0)
    const enhanced = (data: string): object => ({ method: 'X-SITE', data: Buffer.from(data).toString('base64') })
    expect(seen).toEqual([
      { type: 'connect', username: 'pump', enhancedAuthentication: enhanced('one') },
      { type: 'auth', enhancedAuthentication: enhanced('two') },
    ])
    custom.behave = () => ({ is: 'answer', status: 403, body: { reason: 0x86 } })
    client.send(auth(REAUTHENTICATE, properties('three')))
    await client.expectDisconnect(NOT_AUTHORIZED)
  })

  test('that cannot be decided: AUTH 0x18 with a Reason String, traffic goes on, and AUTH 0x18 is another attempt', async () => {
    custom.behave = () => ({ is: 'answer', status: 200, body: {} })
    const client = await configured.open(customPort)
    const properties = { authenticationMethod: 'X-SITE', authenticationData: Buffer.from('data') }
    await client.connect({ clientId: 'transient', properties })
    custom.behave = () => ({ is: 'answer', status: 503 })
    const later = await reauthenticate(client, properties)
    expect(later).toMatchObject({ reason: CONTINUE, properties: { reasonString: 'transient, retry later' } })
    expect(await published(client, 'while/it/waits')).toBeLessThan(0x80)
    custom.behave = () => ({ is: 'answer', status: 200, body: {} })
    await untilDone(client, properties)
  })

  test('while the API server is away: the same; and nobody new comes in: 0x88, before MQTT 5 3', async () => {
    const client = await withToken(tellingPort, 'patient', mint())
    api.mood = 503
    expect((await reauthenticate(client, shown(mint()))).reason).toBe(CONTINUE)
    const newcomer = await configured.open(tellingPort)
    newcomer.sendConnect({ clientId: 'new', properties: shown(mint()) })
    await newcomer.expectRefused(0x88)
    const older = await configured.open(tellingPort, 4)
    older.sendConnect({ clientId: 'older', userName: 'K8S-SAT', password: mint() })
    await older.expectRefused(3)
    api.mood = 'serving'
    await untilDone(client, shown(mint()))
  })

  test('of a client with a certificate, which has no Authentication Method: DISCONNECT 0x82', async () => {
    const chain = [lab.issue({ subject: '/CN=pump-7', issuer: authority })]
    const client = await configured.open(certificatePort, 5, { ca: authority, chain })
    await client.connect({ clientId: 'pump-7' })
    client.send(auth(REAUTHENTICATE, { authenticationMethod: 'X509' }))
    await client.expectDisconnect(0x82)
  })
})

/** Tries again whenever it is told to do that later, as clients do. */
async function untilDone(client: RawClient, properties: Properties): Promise<void> {
  for (let reason = CONTINUE; reason !== 0; reason = (await client.take('auth')).reason) client.send(auth(CONTINUE, properties))
  await client.expectNothing()
}
