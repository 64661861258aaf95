import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import type { KubernetesObject } from '#shared/kubernetes/kubernetes-object.ts'
import { CertificateLab } from '#shared/testing/certificates.ts'
import { KubernetesApi } from '#shared/testing/kubernetes-api.ts'
import { freePorts } from '#shared/testing/free-ports.ts'
import type { Properties } from '../conformance/properties.ts'
import { RawClient } from '../conformance/raw-client.ts'
import { type RealBroker, ROOT, startBrokerForFile } from '../limits/real-broker.ts'
import { HOST, openTls, resource, serverCertificate } from './configured-broker.ts'

const soon = { timeout: 15_000 }
const NOT_AUTHORIZED = 0x87
const ADMINISTRATIVE_ACTION = 0x98

const lab = new CertificateLab()
const authority = lab.authority('/CN=issuer of the cluster')
const api = await KubernetesApi.open()
const [port] = (await freePorts(1)) as [number]
let broker: RealBroker

/** What the installer makes, as it stands in docs/examples; only where it listens is another. */
function installed(): readonly KubernetesObject[] {
  const text = readFileSync(join(ROOT, 'docs/examples/resources/default.yaml'), 'utf8')
  return parseAllDocuments(text).map(document => {
    if (document.get('kind') === 'BrokerListener') {
      document.setIn(['spec', 'ports', 0, 'port'], port)
      document.setIn(['spec', 'ports', 0, 'host'], HOST)
    }
    return document.toJSON() as KubernetesObject
  })
}

async function impaired(): Promise<readonly string[]> {
  return ((await (await fetch(`${broker.metricsUrl}/readyz`)).json()) as { impaired: readonly string[] }).impaired
}

/** What cert-manager makes of a Certificate. */
function putIssued(name: string): void {
  const { certificate, key } = serverCertificate(lab, authority)
  const [crt, pem] = [certificate, key].map(text => Buffer.from(text).toString('base64'))
  api.put({ apiVersion: 'v1', kind: 'Secret', metadata: { name }, data: { 'tls.crt': crt, 'tls.key': pem } } as KubernetesObject)
}

/** Of the condition of a listener that says whether its ports are as it asks for. */
function ready(): object | undefined {
  const { conditions = [] } = (api.get('BrokerListener', 'default')?.['status'] ?? {}) as { conditions?: readonly { type: string }[] }
  return conditions.find(({ type }) => type === 'Ready')
}

async function open(): Promise<RawClient> {
  return new RawClient(await openTls(port, { ca: authority }))
}

function shown(serviceAccount: string, audience = 'aio-internal'): Properties {
  const token = api.mintToken({ namespace: api.namespace, serviceAccount, audiences: [audience] })
  return { authenticationMethod: 'K8S-SAT', authenticationData: Buffer.from(token) }
}

beforeAll(async () => {
  for (const object of installed()) api.put(object)
  api.createServiceAccount(api.namespace, 'connector', { 'aio-broker-auth/line': 'one' })
  broker = await startBrokerForFile(() => Promise.resolve(['--kubernetes', '--log-level', 'info']), api.environment)
})

afterAll(async () => {
  await broker.kill()
  await api.close()
  lab.close()
})

test('the default objects of the installer: closed until cert-manager has issued, then open to service account tokens alone', async () => {
  expect(await impaired()).toContainEqual(expect.stringContaining(`BrokerListener default port ${port}: secret default-${port}-tls`))
  await expect
    .poll(() => api.get('Certificate', `default-${port}-tls`)?.['spec'], soon)
    .toMatchObject({
      secretName: `default-${port}-tls`,
      issuerRef: { kind: 'ClusterIssuer', name: 'azure-iot-operations-aio-certificate-issuer' },
      privateKey: { algorithm: 'ECDSA', size: 256, rotationPolicy: 'Always' },
    })
  putIssued(`default-${port}-tls`)
  await expect.poll(impaired, soon).toEqual([])
  await expect.poll(ready, soon).toMatchObject({ status: 'True' })
  const client = await open()
  await client.connect({ clientId: 'connector', properties: shown('connector') })
  expect((await client.publish({ topic: 'anything/at/all', qos: 1 }))!.reason).toBeLessThan(0x80)
  expect((await client.subscribe({ filter: '#' })).reasons).toEqual([0])
  for (const properties of [{}, shown('connector', 'aio-mq')]) {
    const refused = await open()
    refused.sendConnect({ clientId: 'other', userName: 'admin', password: 'admin', properties })
    await refused.expectRefused(NOT_AUTHORIZED)
  }
  await client.expectNothing()
})

test('an authorizationRef that is added ends the connections of the port, and counts from then on; taken away, everything is allowed', async () => {
  const client = await (await open()).connect({ clientId: 'connector', properties: shown('connector') })
  const rules = [
    {
      principals: { attributes: [{ line: 'one' }] },
      brokerResources: [{ method: 'Connect' }, { method: 'Publish', topics: ['lines/{principal.attributes.line}/#'] }],
    },
  ]
  const listener = installed().find(({ kind }) => kind === 'BrokerListener')!
  const ruled = structuredClone(listener) as KubernetesObject & { spec: { ports: { authorizationRef?: string }[] } }
  ruled.spec.ports[0]!.authorizationRef = 'lines'
  api.put(ruled)
  await client.expectDisconnect(ADMINISTRATIVE_ACTION)
  // What it names is not there: nobody comes in.
  await expect.poll(impaired, soon).toEqual([`BrokerListener default port ${port}: there is no BrokerAuthorization lines`])
  await expect(open()).rejects.toThrow()
  await expect.poll(ready, soon).toMatchObject({ status: 'False', message: `port ${port}: there is no BrokerAuthorization lines` })
  api.put(resource('BrokerAuthorization', 'lines', { authorizationPolicies: { rules } }) as KubernetesObject)
  await expect.poll(impaired, soon).toEqual([])
  const back = await (await open()).connect({ clientId: 'connector', properties: shown('connector') })
  expect((await back.publish({ topic: 'lines/one/x', qos: 1 }))!.reason).not.toBe(NOT_AUTHORIZED)
  expect((await back.publish({ topic: 'anything/at/all', qos: 1 }))!.reason).toBe(NOT_AUTHORIZED)
  api.put(listener)
  await back.expectDisconnect(ADMINISTRATIVE_ACTION)
  const free = await (await open()).connect({ clientId: 'connector', properties: shown('connector') })
  expect((await free.publish({ topic: 'anything/at/all', qos: 1 }))!.reason).not.toBe(NOT_AUTHORIZED)
})
