import { afterEach, beforeEach, expect, test } from 'vitest'
import type { BrokerListenerSpec } from '../resources/broker-listener.ts'
import { KubernetesSource } from '../resources/kubernetes-source.ts'
import { RecordingLog } from '../telemetry/log.ts'
import { fastTimers } from '../testing/fast-timers.ts'
import { KubernetesApi } from '../testing/kubernetes-api.ts'
import { until } from '../testing/redis-server.ts'
import { CertificateKeeper } from './certificate-keeper.ts'
import { wantedCertificates } from './certificate-object.ts'
import { type KubernetesConnection, openKubernetes } from './open-kubernetes.ts'

const OWN = 'mqttbroker.iotoperations.azure.com/v1'
const ISSUER = { name: 'issuer', kind: 'ClusterIssuer', group: 'cert-manager.io' }

let api: KubernetesApi
let connection: KubernetesConnection
let source: KubernetesSource
let keeper: CertificateKeeper
const log = new RecordingLog()

beforeEach(async () => {
  api = await KubernetesApi.open()
  connection = (await openKubernetes(api.pod.environment, api.pod))!
  const parts = { connection, log, timers: fastTimers(10) }
  source = new KubernetesSource(parts)
  keeper = new CertificateKeeper(parts)
})

afterEach(async () => {
  keeper.stop()
  await source.stop()
  connection.close()
  await api.close()
})

function putListener(certificate: object, more: object = {}): void {
  const ports = [{ port: 8_883, tls: { mode: 'Automatic', certManagerCertificateSpec: { issuerRef: ISSUER, ...certificate } } }]
  api.put({ apiVersion: OWN, kind: 'BrokerListener', metadata: { name: 'default' }, spec: { ports, ...more } })
}

async function keep(): Promise<void> {
  await source.start()
  source.listen({ onSnapshot: ({ listeners }) => keeper.keep(listeners), onRefused: () => undefined })
  keeper.keep(source.current.listeners)
}

function certificate(name = 'default-8883-tls'): Record<string, unknown> | undefined {
  return api.get('Certificate', name)?.['spec'] as Record<string, unknown> | undefined
}

function writes(): number {
  return api.requests.filter(({ method, path }) => method !== 'GET' && path.includes('/certificates')).length
}

test('a port whose certificate is automatic has a Certificate that belongs to its listener', async () => {
  putListener(
    {
      duration: '240h',
      renewBefore: '45m',
      privateKey: { algorithm: 'Ec384', rotationPolicy: 'Always' },
      san: { dns: ['broker.example'], ip: ['192.0.2.1'] },
    },
    { serviceName: 'aio-broker' },
  )
  await keep()
  await until(() => certificate() !== undefined, 'the Certificate')
  expect(certificate()).toEqual({
    secretName: 'default-8883-tls',
    issuerRef: ISSUER,
    duration: '240h',
    renewBefore: '45m',
    privateKey: { algorithm: 'ECDSA', size: 384, rotationPolicy: 'Always' },
    dnsNames: [
      'aio-broker',
      'aio-broker.azure-iot-operations',
      'aio-broker.azure-iot-operations.svc',
      'aio-broker.azure-iot-operations.svc.cluster.local',
      'broker.example',
    ],
    ipAddresses: ['192.0.2.1'],
    usages: ['server auth', 'digital signature', 'key encipherment'],
  })
  const { metadata } = api.get('BrokerListener', 'default')!
  expect(api.get('Certificate', 'default-8883-tls')!.metadata['ownerReferences']).toEqual([
    { apiVersion: OWN, kind: 'BrokerListener', name: 'default', uid: metadata.uid },
  ])
  expect(keeper.impaired()).toEqual([])
})

test.each([
  ['Ec256', { algorithm: 'ECDSA', size: 256 }],
  ['Ec521', { algorithm: 'ECDSA', size: 521 }],
  ['Ed25519', { algorithm: 'Ed25519' }],
  ['Rsa2048', { algorithm: 'RSA', size: 2_048 }],
  ['Rsa4096', { algorithm: 'RSA', size: 4_096 }],
  ['Rsa8192', { algorithm: 'RSA', size: 8_192 }],
] as const)('a key of kind %s is asked for as %o', (algorithm, privateKey) => {
  const spec: BrokerListenerSpec = {
    ports: [
      {
        port: 8_883,
        tls: { mode: 'Automatic', certManagerCertificateSpec: { issuerRef: { name: 'i', kind: 'Issuer' }, privateKey: { algorithm } } },
      },
      { port: 1_883 },
      { port: 8_884, tls: { mode: 'Manual', manual: { secretRef: 'tls' } } },
    ],
  }
  const [wanted, ...others] = wantedCertificates('default', spec, 'ns')
  expect(others).toEqual([])
  expect(wanted!.spec).toMatchObject({ privateKey, issuerRef: { name: 'i', kind: 'Issuer', group: 'cert-manager.io' } })
})

test('what is as it should be is not written again, however the server spells durations and whatever defaults it adds', async () => {
  putListener({ duration: '240h' })
  await keep()
  await until(() => certificate() !== undefined, 'the Certificate')
  const made = api.get('Certificate', 'default-8883-tls')!
  api.put({ ...made, spec: { ...certificate(), duration: '240h0m0s', revisionHistoryLimit: 1 } })
  const before = writes()
  const looks = api.requests.length
  keeper.keep(source.current.listeners)
  await until(() => api.requests.length >= looks + 2, 'it has looked')
  putListener({ duration: '48h' })
  await until(() => certificate()!['duration'] === '48h', 'the new duration')
  expect(writes()).toBe(before + 1)
  expect(certificate()).toMatchObject({ revisionHistoryLimit: 1 })
  putListener({})
  await until(() => certificate()!['duration'] === undefined, 'no duration')
})

test('two processes at once make one Certificate', async () => {
  putListener({})
  const other = new CertificateKeeper({ connection, log, timers: fastTimers(10) })
  await keep()
  other.keep(source.current.listeners)
  await until(() => certificate() !== undefined, 'the Certificate')
  expect([keeper.impaired(), other.impaired()]).toEqual([[], []])
  other.stop()
})

test('a Certificate of somebody else is left alone, and readiness says so', async () => {
  api.put({ apiVersion: 'cert-manager.io/v1', kind: 'Certificate', metadata: { name: 'given' }, spec: { secretName: 'given' } })
  putListener({ secretName: 'given' })
  await keep()
  await until(() => keeper.impaired().length > 0, 'impaired')
  expect(keeper.impaired()).toEqual(['Certificate given was made by somebody else and is left as it is'])
  expect(certificate('given')).toEqual({ secretName: 'given' })
})

test('a cluster without cert-manager, or one that refuses, is asked again until it is there', async () => {
  api.missing.add('certificates.cert-manager.io')
  putListener({})
  await keep()
  await until(() => keeper.impaired().length > 0, 'impaired')
  expect(keeper.impaired()).toEqual([expect.stringMatching(/^Kubernetes API: cannot create Certificate default-8883-tls: 404/)])
  api.missing.clear()
  await until(() => certificate() !== undefined, 'the Certificate')
  await until(() => keeper.impaired().length === 0, 'mended')
})

test('the Secret that is issued is read like one that somebody made', async () => {
  putListener({ secretName: 'issued' })
  await keep()
  expect(source.current.secret('issued')).toBeNull()
  await until(() => certificate('issued') !== undefined, 'the Certificate')
  const data = { 'tls.crt': Buffer.from('certificate').toString('base64') }
  api.put({ apiVersion: 'v1', kind: 'Secret', metadata: { name: 'issued' }, data })
  await until(() => source.current.secret('issued') !== null, 'the Secret')
  expect(String(source.current.secret('issued')!.get('tls.crt'))).toBe('certificate')
})

test('a listener that is no object of the cluster has no Certificate', async () => {
  putListener({})
  await source.start()
  const { listeners } = source.current
  api.delete('BrokerListener', 'default')
  keeper.keep(listeners)
  const looks = (): number =>
    api.requests.filter(({ method, path }) => method === 'GET' && path.endsWith('/brokerlisteners/default')).length
  await until(() => looks() > 0, 'it has looked')
  await connection.access.publishedKeys()
  expect(writes()).toBe(0)
})
