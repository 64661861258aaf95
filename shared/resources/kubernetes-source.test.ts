import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ManualTimers } from '../base/timers.ts'
import { SettingsError } from '../config/settings-error.ts'
import { type KubernetesConnection, openKubernetes } from '../kubernetes/open-kubernetes.ts'
import { RecordingLog } from '../telemetry/log.ts'
import { fastTimers } from '../testing/fast-timers.ts'
import { KubernetesApi } from '../testing/kubernetes-api.ts'
import { until } from '../testing/redis-server.ts'
import { KubernetesSource, type KubernetesSourceOptions } from './kubernetes-source.ts'
import type { ResourceSnapshot, ResourceStatus } from './resource-snapshot.ts'

const OWN = 'mqttbroker.iotoperations.azure.com/v1'
const GRANT_ALL = { rules: [{ principals: { clientIds: ['a'] }, brokerResources: [{ method: 'Connect' }] }] }
const READY: ResourceStatus = { kind: 'BrokerListener', name: 'default', type: 'Ready', isTrue: true, reason: 'Serving', message: '' }

let api: KubernetesApi
let connections: KubernetesConnection[]
let source: KubernetesSource
let log: RecordingLog
let snapshots: ResourceSnapshot[]
let refusals: (readonly string[])[]

beforeEach(async () => {
  api = await KubernetesApi.open()
  connections = []
  log = new RecordingLog()
  snapshots = []
  refusals = []
  source = await open()
  source.listen({ onSnapshot: each => void snapshots.push(each), onRefused: each => void refusals.push(each) })
})

afterEach(async () => {
  await source.stop()
  for (const connection of connections) connection.close()
  await api.close()
})

async function open(options: Partial<KubernetesSourceOptions> = {}): Promise<KubernetesSource> {
  const connection = (await openKubernetes(api.pod.environment, api.pod))!
  connections.push(connection)
  return new KubernetesSource({ connection, log, timers: fastTimers(10), ...options })
}

function put(kind: string, name: string, spec: object): void {
  const apiVersion = ['Secret', 'ConfigMap'].includes(kind) ? 'v1' : OWN
  api.put({ apiVersion, kind, metadata: { name }, ...(apiVersion === 'v1' ? { data: spec } : { spec }) })
}

function putListener(port: number, tls?: object): void {
  put('BrokerListener', 'default', { ports: [{ port, ...(tls !== undefined && { tls }) }] })
}

function manual(secretRef: string): object {
  return { mode: 'Manual', manual: { secretRef } }
}

function port(snapshot: ResourceSnapshot = source.current): number | undefined {
  return snapshot.listeners.get('default')?.spec.ports[0]?.port
}

function conditions(name = 'default', kind = 'BrokerListener'): readonly Record<string, unknown>[] {
  return (api.get(kind, name)!['status'] as { conditions?: Record<string, unknown>[] } | undefined)?.conditions ?? []
}

function condition(type: string): Record<string, unknown> | undefined {
  return conditions().find(each => each['type'] === type)
}

function paths(resource: string): readonly string[] {
  return api.requests.map(({ path }) => path).filter(path => path.includes(`/${resource}`))
}

describe('start', () => {
  test('has the first snapshot with all four kinds and what they refer to, and asks for no other Secret', async () => {
    putListener(1_884, manual('tls'))
    put('Broker', 'default', { memoryProfile: 'Low' })
    put('BrokerAuthentication', 'authn', { authenticationMethods: [{ method: 'X509', x509Settings: {} }] })
    put('BrokerAuthorization', 'authz', { authorizationPolicies: GRANT_ALL })
    put('Secret', 'tls', { 'tls.key': Buffer.from('key').toString('base64') })
    put('Secret', 'other', { password: Buffer.from('word').toString('base64') })
    put('ConfigMap', 'client-ca', { 'ca.pem': 'text' })
    await source.start()
    const { current } = source
    expect(port()).toBe(1_884)
    expect([...current.values]).toContainEqual(['memoryProfile', 'Low'])
    expect([...current.authentications.keys()]).toEqual(['authn'])
    expect([...current.authorizations.keys()]).toEqual(['authz'])
    expect(String(current.secret('tls')!.get('tls.key'))).toBe('key')
    expect(current.secret('other')).toBeNull()
    expect(current.configMap('client-ca')!.get('ca.pem')).toBe('text')
    for (const path of [...paths('secrets'), ...paths('configmaps')]) expect(path).toContain('fieldSelector=metadata.name%3D')
    expect(source.impaired()).toEqual([])
    expect(snapshots).toEqual([])
  })

  test('of an empty namespace has an empty snapshot', async () => {
    await source.start()
    expect(source.current.listeners.size).toBe(0)
  })

  test.each([
    [
      'may not list a kind',
      'list brokerlisteners.mqttbroker.iotoperations.azure.com',
      /cannot list brokerlisteners in namespace azure-iot-operations: 403/,
    ],
    ['may not watch it', 'watch brokers.mqttbroker.iotoperations.azure.com', /cannot watch brokers in namespace azure-iot-operations: 403/],
    ['may not read a Secret', 'list secrets', /cannot list secrets tls in namespace azure-iot-operations: 403/],
  ])('that %s is an error that names verb, resource and namespace', async (_, refused, words) => {
    putListener(1_884, manual('tls'))
    api.refused.add(refused)
    const started = source.start()
    await expect(started).rejects.toThrow(SettingsError)
    await expect(started).rejects.toThrow(words)
  })

  test('by somebody whom the server does not know is an error', async () => {
    api.rotateBearerToken()
    await expect(source.start()).rejects.toThrow(/cannot list brokers in namespace azure-iot-operations: 401/)
  })

  test('without the custom resource definitions is an error that says so', async () => {
    api.missing.add('brokers.mqttbroker.iotoperations.azure.com')
    await expect(source.start()).rejects.toThrow(/404 .*are the custom resource definitions installed/)
  })

  test('waits for a server that is away', async () => {
    putListener(1_884)
    api.mood = 503
    const started = source.start()
    await until(() => source.impaired().length > 0, 'the server is missed')
    api.mood = 'serving'
    await started
    expect(port()).toBe(1_884)
  })

  test('gives up at last', async () => {
    api.mood = 503
    const timers = new ManualTimers()
    source = await open({ timers })
    const started = source.start()
    await until(() => source.impaired().length === 4, 'the server is missed')
    timers.advance(60_000)
    await expect(started).rejects.toThrow(/cannot list brokers .*503/)
  })
})

describe('a change', () => {
  beforeEach(async () => {
    putListener(1_884, manual('tls'))
    put('Secret', 'tls', { 'tls.key': Buffer.from('old').toString('base64') })
    await source.start()
  })

  test('of a resource, of a Secret and of a reference is in the next snapshot; the one before stays what it was', async () => {
    const first = source.current
    putListener(1_885, manual('tls'))
    await until(() => port() === 1_885, 'the port')
    put('Secret', 'tls', { 'tls.key': Buffer.from('new').toString('base64') })
    await until(() => String(source.current.secret('tls')?.get('tls.key')) === 'new', 'the key')
    put('Secret', 'second', { 'tls.key': Buffer.from('2').toString('base64') })
    putListener(1_885, manual('second'))
    await until(() => String(source.current.secret('second')?.get('tls.key')) === '2', 'the second Secret')
    await until(() => api.watches.every(({ query }) => query.name !== 'tls'), 'the first Secret is not watched any more')
    expect(String(first.secret('tls')!.get('tls.key'))).toBe('old')
    expect(port(first)).toBe(1_884)
    expect(snapshots).toHaveLength(3)
  })

  test('to a reference that is there never shows it as absent', async () => {
    put('Secret', 'second', { 'tls.key': Buffer.from('2').toString('base64') })
    api.delayMs = 50
    putListener(1_884, manual('second'))
    await until(() => snapshots.length > 0, 'a snapshot')
    expect(snapshots.map(each => String(each.secret('second')?.get('tls.key')))).toEqual(['2'])
  })

  test('to a reference that is absent has null, and another snapshot when it appears', async () => {
    putListener(1_884, manual('later'))
    await until(() => snapshots.length === 1, 'a snapshot')
    expect(source.current.secret('later')).toBeNull()
    put('Secret', 'later', { 'tls.key': '' })
    await until(() => source.current.secret('later') !== null, 'the Secret')
    api.delete('Secret', 'later')
    await until(() => source.current.secret('later') === null, 'no Secret')
  })

  test('that comes with many others makes one snapshot', async () => {
    for (let number = 1_900; number < 1_950; number++) putListener(number, manual('tls'))
    await until(() => port() === 1_949, 'the last')
    expect(snapshots.length).toBeLessThan(10)
  })

  test('of nothing but status makes none', async () => {
    source.report(READY)
    await until(() => condition('Ready') !== undefined && condition('Accepted') !== undefined, 'the status')
    putListener(1_885, manual('tls'))
    await until(() => port() === 1_885, 'the port')
    expect(snapshots).toHaveLength(1)
  })

  test('with a fault leaves that object as it was, says so in its status, and others go on', async () => {
    putListener(70_000, manual('tls'))
    put('BrokerAuthorization', 'authz', { authorizationPolicies: GRANT_ALL })
    await until(() => snapshots.length === 1 && refusals.length === 1, 'both')
    expect(port()).toBe(1_884)
    expect([...source.current.authorizations.keys()]).toEqual(['authz'])
    const fault = expect.stringMatching(/^BrokerListener azure-iot-operations\/default: spec\.ports\[0\]\.port: /) as string
    expect(refusals).toEqual([[fault]])
    expect(source.impaired()).toEqual([fault])
    expect(source.current.faults).toEqual([{ kind: 'BrokerListener', name: 'default', faults: [fault] }])
    await until(() => condition('Accepted')?.['status'] === 'False', 'the status')
    expect(condition('Accepted')).toMatchObject({ reason: 'Invalid', message: fault, observedGeneration: 2 })
    putListener(1_886, manual('tls'))
    await until(() => condition('Accepted')?.['status'] === 'True', 'the status')
    expect(source.impaired()).toEqual([])
    expect(port()).toBe(1_886)
  })

  test('that brings an object with a fault leaves it out', async () => {
    put('BrokerListener', 'second', { serviceType: 'NodePort', ports: [{ port: 1_884 }] })
    await until(() => refusals.length === 1, 'refused')
    expect([...source.current.listeners.keys()]).toEqual(['default'])
    api.delete('BrokerListener', 'default')
    await until(() => source.current.listeners.has('second'), 'the port is free')
    expect(source.impaired()).toEqual([])
  })

  test('of what is fixed when a store is created is refused', async () => {
    const cardinality = (partitions: number): object => ({
      cardinality: { frontend: { replicas: 1 }, backendChain: { partitions, redundancyFactor: 2 } },
    })
    put('Broker', 'default', cardinality(2))
    await until(() => source.current.broker !== null, 'the Broker')
    put('Broker', 'default', cardinality(3))
    await until(() => refusals.length === 1, 'refused')
    expect(refusals[0]).toEqual([expect.stringContaining('was 2 when the broker was created')])
    expect(source.current.broker!.spec.cardinality!.backendChain!.partitions).toBe(2)
  })
})

test('a server that goes away leaves everything in force, readiness knows it, and what was missed is there when it is back', async () => {
  putListener(1_884)
  await source.start()
  api.mood = 'dropping'
  api.dropConnections()
  await until(() => source.impaired().length > 0, 'impaired')
  expect(port()).toBe(1_884)
  putListener(1_885)
  api.compact()
  api.mood = 'serving'
  await until(() => port() === 1_885 && source.impaired().length === 0, 'back')
  expect(snapshots).toHaveLength(1)
})

describe('status', () => {
  beforeEach(async () => {
    putListener(1_884)
    await source.start()
    await until(() => condition('Accepted') !== undefined, 'Accepted')
  })

  function writes(): number {
    return api.requests.filter(({ method }) => method === 'PATCH').length
  }

  test('is written once, however often it is said, and again when it or the resource changes', async () => {
    const before = writes()
    for (let index = 0; index < 10; index++) source.report(READY)
    await until(() => condition('Ready') !== undefined, 'Ready')
    expect(condition('Ready')).toEqual({
      type: 'Ready',
      status: 'True',
      reason: 'Serving',
      message: '',
      lastTransitionTime: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/) as string,
      observedGeneration: 1,
    })
    expect(writes()).toBe(before + 1)
    putListener(1_885)
    await until(() => port() === 1_885, 'the port')
    source.report(READY)
    await until(() => condition('Ready')?.['observedGeneration'] === 2, 'the new generation')
    source.report({ ...READY, isTrue: false, reason: 'SecretMissing', message: 'tls' })
    await until(() => condition('Ready')?.['status'] === 'False', 'not ready')
    expect(condition('Accepted')).toMatchObject({ status: 'True' })
  })

  test('that another process has written already is not written again', async () => {
    put('BrokerAuthorization', 'authz', { authorizationPolicies: GRANT_ALL })
    source.report(READY)
    await until(() => condition('Ready') !== undefined && conditions('authz', 'BrokerAuthorization').length === 1, 'both')
    const other = await open()
    await other.start()
    const before = writes()
    other.report(READY)
    // Written after the one before: when it is there, that has been dealt with.
    other.report({ ...READY, kind: 'BrokerAuthorization', name: 'authz' })
    await until(() => conditions('authz', 'BrokerAuthorization').length === 2, 'the other resource')
    expect(writes()).toBe(before + 1)
    other.report({ ...READY, isTrue: false, reason: 'Draining' })
    await until(() => condition('Ready')?.['status'] === 'False', 'not ready')
    await other.stop()
  })

  test('is tried again after a conflict, and keeps what others have written', async () => {
    const object = api.get('BrokerListener', 'default')!
    const foreign = { type: 'Other', status: 'True', reason: 'R', message: '', lastTransitionTime: '2026-01-01T00:00:00Z' }
    api.freezeWatches()
    api.objects.replace(`${OWN}/brokerlisteners`, api.namespace, { ...object, status: { conditions: [foreign] } }, 'status')
    source.report(READY)
    await until(() => condition('Ready') !== undefined, 'Ready')
    expect(conditions()).toContainEqual(foreign)
    expect(log.events).toEqual([])
  })

  test('waits while the server refuses it, with one line in the log', async () => {
    api.refused.add('patch brokerlisteners.mqttbroker.iotoperations.azure.com/status')
    source.report(READY)
    await until(() => log.events.includes('kubernetes_status_not_written'), 'refused')
    const before = writes()
    await until(() => writes() > before + 2, 'tried again')
    api.refused.clear()
    await until(() => condition('Ready') !== undefined, 'Ready')
    expect(log.events.filter(event => event === 'kubernetes_status_not_written')).toHaveLength(1)
  })

  test('of a resource that is not there is nobody to be told', async () => {
    const before = api.requests.length
    source.report({ ...READY, name: 'gone' })
    await connections[0]!.access.publishedKeys()
    expect(api.requests).toHaveLength(before + 1)
  })
})

test('a source that is stopped leaves no watch behind', async () => {
  putListener(1_884)
  await source.start()
  await source.stop()
  await until(() => api.watches.length === 0, 'no watch')
  putListener(1_885)
  await connections[0]!.access.publishedKeys()
  expect(port()).toBe(1_884)
})
