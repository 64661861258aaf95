import { afterAll, beforeAll, expect, test } from 'vitest'
import { KubernetesApi } from '#shared/testing/kubernetes-api.ts'
import { freePorts } from '#shared/testing/free-ports.ts'
import { RawClient } from '../conformance/raw-client.ts'
import { type RealBroker, startBrokerForFile } from '../limits/real-broker.ts'

const API = 'mqttbroker.iotoperations.azure.com/v1'
const NAMESPACE = 'azure-iot-operations'
const AUDIENCE = 'aio-internal'
const NOT_AUTHORIZED = 0x87
const SERVER_UNAVAILABLE = 0x88
const soon = { timeout: 15_000 }

let api: KubernetesApi
let broker: RealBroker
let port: number
let late: number

function put(kind: string, name: string, spec: object): void {
  api.put({ apiVersion: API, kind, metadata: { name, namespace: NAMESPACE }, spec })
}

function policy(topics: readonly string[], onUpdate = 'Reevaluate'): void {
  const rule = {
    principals: { attributes: [{ team: 'press' }] },
    brokerResources: [{ method: 'Connect' }, { method: 'Publish', topics }],
  }
  put('BrokerAuthorization', 'rules', { authorizationPolicies: { rules: [rule], onUpdate } })
}

beforeAll(async () => {
  api = await KubernetesApi.open()
  ;[port, late] = (await freePorts(2)) as [number, number]
  put('Broker', 'default', { advanced: { clients: { maxSessionExpirySeconds: 60 } } })
  put('BrokerListener', 'plant', {
    ports: [
      { port, host: '127.0.0.1', authenticationRef: 'tokens', authorizationRef: 'rules' },
      { port: late, host: '127.0.0.1', tls: { mode: 'Manual', manual: { secretRef: 'late-tls' } } },
    ],
  })
  put('BrokerAuthentication', 'tokens', {
    authenticationMethods: [{ method: 'ServiceAccountToken', serviceAccountTokenSettings: { audiences: [AUDIENCE] } }],
  })
  policy(['press/#'])
  api.createServiceAccount(NAMESPACE, 'press-1', { 'aio-broker-auth/team': 'press', unrelated: 'x' })
  broker = await startBrokerForFile(() => Promise.resolve(['--kubernetes', '--log-level', 'info']), api.environment)
})

afterAll(() => api.close())

const token = (serviceAccount: string, audience = AUDIENCE) =>
  api.mintToken({ namespace: NAMESPACE, serviceAccount, audiences: [audience], expirationSeconds: 3_600 })

const credentials = (text: string) => ({ authenticationMethod: 'K8S-SAT', authenticationData: Buffer.from(text) })

async function connected(clientId: string): Promise<RawClient> {
  return (await RawClient.open('127.0.0.1', port)).connect({ clientId, properties: credentials(token('press-1')) })
}

async function refusal(properties: object): Promise<number> {
  const client = await RawClient.open('127.0.0.1', port)
  client.sendConnect({ clientId: 'refused', properties })
  const connack = await client.expect('connack')
  return connack.reason
}

function condition(kind: string, name: string, type: string): { status?: string; message?: string } {
  const status = api.get(kind, name, NAMESPACE)?.['status'] as
    | { conditions?: { type: string; status: string; message: string }[] }
    | undefined
  return status?.conditions?.find(each => each.type === type) ?? {}
}

test('a token of a service account with the attribute comes in, and does what the policy allows', async () => {
  const client = await connected('press')
  expect((await client.publish({ topic: 'press/1', qos: 1 }))?.reason).not.toBe(NOT_AUTHORIZED)
  expect((await client.publish({ topic: 'oven/1', qos: 1 }))?.reason).toBe(NOT_AUTHORIZED)
  await client.disconnect()
})

test('a token for another audience, of an account without the attribute, or none: refused; the API server away: later', async () => {
  api.createServiceAccount(NAMESPACE, 'stranger', {})
  expect(await refusal(credentials(token('press-1', 'somebody-else')))).toBe(NOT_AUTHORIZED)
  expect(await refusal(credentials(token('stranger')))).toBe(NOT_AUTHORIZED)
  expect(await refusal({})).toBe(NOT_AUTHORIZED)
  api.mood = 500
  expect(await refusal(credentials(token('press-1')))).toBe(SERVER_UNAVAILABLE)
  api.mood = 'serving'
  await expect.poll(async () => (await connected('again')).connack.reason, soon).toBe(0)
})

test('a policy that changes through the API is in force for clients that are connected', async () => {
  const client = await connected('stays')
  policy(['oven/#'])
  await expect.poll(async () => (await client.publish({ topic: 'press/1', qos: 1 }))?.reason, soon).toBe(NOT_AUTHORIZED)
  expect((await client.publish({ topic: 'oven/1', qos: 1 }))?.reason).not.toBe(NOT_AUTHORIZED)
  put('BrokerAuthorization', 'rules', { authorizationPolicies: { rules: [{ principals: {}, brokerResources: [{ method: 'Publish' }] }] } })
  await expect.poll(() => condition('BrokerAuthorization', 'rules', 'Accepted'), soon).toMatchObject({ status: 'False' })
  expect((await client.publish({ topic: 'oven/1', qos: 1 }))?.reason).not.toBe(NOT_AUTHORIZED)
  policy(['press/#'])
  await expect.poll(() => condition('BrokerAuthorization', 'rules', 'Accepted'), soon).toMatchObject({ status: 'True' })
})

test('status says which port is closed and why; it opens when its secret appears', async () => {
  await expect
    .poll(() => condition('BrokerListener', 'plant', 'Ready'), soon)
    .toMatchObject({
      status: 'False',
      message: `port ${late}: secret late-tls has no tls.crt`,
    })
  expect(condition('BrokerAuthentication', 'tokens', 'Ready')).toMatchObject({ status: 'True' })
  const pki = await import('#shared/testing/pki.ts').then(({ createTestPki }) => createTestPki())
  const data = { 'tls.crt': pki.serverCert.toString('base64'), 'tls.key': pki.serverKey.toString('base64') }
  api.put({ apiVersion: 'v1', kind: 'Secret', metadata: { name: 'late-tls', namespace: NAMESPACE }, data })
  await expect.poll(() => condition('BrokerListener', 'plant', 'Ready'), soon).toMatchObject({ status: 'True' })
})

test('while the API server is away everything that is in force stays, and /readyz says so', async () => {
  const client = await connected('through')
  api.mood = 'dropping'
  api.dropWatches()
  const impaired = async (): Promise<string> => (await fetch(`${broker.metricsUrl}/readyz`)).text()
  await expect.poll(impaired, soon).toMatch(/impaired":\["[^"]*Kubernetes API/)
  expect((await client.publish({ topic: 'press/1', qos: 1 }))?.reason).not.toBe(NOT_AUTHORIZED)
  api.mood = 'serving'
  await expect.poll(impaired, { timeout: 40_000 }).not.toContain('Kubernetes API')
})

test('the Broker resource decides the limits of the process', async () => {
  const asking = { ...credentials(token('press-1')), sessionExpiryInterval: 1_000 }
  const client = await (await RawClient.open('127.0.0.1', port)).connect({ clientId: 'limits', properties: asking })
  expect(client.connack.properties.sessionExpiryInterval).toBe(60)
  put('Broker', 'default', { advanced: { clients: { maxSessionExpirySeconds: 90 } } })
  const granted = async (): Promise<number | undefined> => {
    const next = await (await RawClient.open('127.0.0.1', port)).connect({ clientId: 'limits', properties: asking })
    return next.connack.properties.sessionExpiryInterval
  }
  await expect.poll(granted, soon).toBe(90)
})
