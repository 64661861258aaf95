import { join } from 'node:path'
import { expect, test } from 'vitest'
import { missingReferences } from './missing-references.ts'
import { readDirectory } from './read-directory.ts'
import { snapshotOf } from './snapshot-of.contract.ts'

const EXAMPLES = join(import.meta.dirname, '../../docs/examples')

test('docs/examples/resources: today’s manifests, without a fault and without a warning', async () => {
  const { snapshot, faults, documents } = await readDirectory(join(EXAMPLES, 'resources'))
  expect([faults, snapshot.warnings, documents]).toEqual([[], [], 11])
  const names = [snapshot.listeners, snapshot.authentications, snapshot.authorizations].map(resources => [...resources.keys()])
  expect(names).toEqual([
    ['default', 'plant'],
    ['default', 'machines', 'people'],
    ['machines', 'people'],
  ])
  expect(Object.fromEntries(snapshot.values)).toEqual({
    memoryProfile: 'Medium',
    workers: 2,
    redundancyFactor: 2,
    logLevel: 'info',
    metrics: { host: '127.0.0.1', port: 9600 },
  })
  expect(missingReferences(snapshot).join('\n')).toContain('there is no Secret plant-tls')
})

test('docs/examples/old-names: read as what they stand for', async () => {
  const { snapshot, faults } = await readDirectory(join(EXAMPLES, 'old-names'))
  expect(faults).toEqual([])
  expect(snapshot.warnings.length).toBeGreaterThan(20)
  expect(snapshot.listeners.get('legacy')?.spec).toEqual({
    brokerRef: 'default',
    serviceType: 'NodePort',
    ports: [
      {
        port: 8883,
        nodePort: 31883,
        tls: { mode: 'Manual', manual: { secretRef: 'legacy-tls' } },
        authenticationRef: 'legacy-authn',
        authorizationRef: ['legacy-authz'],
      },
    ],
  })
  expect(snapshot.authentications.get('legacy-authn')?.spec.authenticationMethods.map(({ method }) => method)).toEqual([
    'ServiceAccountToken',
    'Custom',
  ])
  expect(snapshot.authorizations.get('legacy-authz')?.spec.authorizationPolicies.cache).toBe('Disabled')
})

test('manifests as they come with clients: small letters, string durations, every section of a Broker', () => {
  const head = 'apiVersion: mqttbroker.iotoperations.azure.com/v1\nmetadata: {name: default, namespace: azure-iot-operations}\n'
  const snapshot = snapshotOf({
    yaml: {
      'broker.yaml': `${head}kind: Broker
spec:
  advanced:
    clients: {maxSessionExpirySeconds: 282277, maxMessageExpirySeconds: 1622, subscriberQueueLimit: {length: 1000, strategy: DropOldest}, maxReceiveMaximum: 15000, maxKeepAliveSeconds: 300, maxPacketSizeBytes: 268435456}
    encryptInternalTraffic: enabled
    internalCerts: {duration: 240h, renewBefore: 45m, privateKey: {algorithm: rsa4096, rotationPolicy: always}}
  cardinality: {backendChain: {partitions: 2, redundancyFactor: 2, workers: 1}, frontend: {replicas: 2}}
  diskBackedMessageBuffer:
    maxSize: 50M
    ephemeralVolumeClaimSpec: {storageClassName: foo, accessModes: [readWriteOncePod], resources: {requests: {storage: 50M}}, selector: {matchExpressions: [{key: a, operator: In, values: [b]}]}}
    persistentVolumeClaimSpec: {dataSourceRef: {apiGroup: g, kind: k, name: n, namespace: m}, resources: {claims: [{name: c}]}, selector: {matchLabels: {a: b}}}
  generateResourceLimits: {cpu: disabled}
  highPriorityMessagesBackpressureHandling: accept
  memoryProfile: tiny
  persistence:
    maxSize: 10GiB
    persistentVolumeClaimSpec: {storageClassName: example, accessModes: [ReadWriteOncePod]}
    encryption: {mode: enabled}
    retain: {mode: custom, retainSettings: {topics: [a/#, +/b], dynamic: {mode: enabled}}}
    subscriberQueue: {mode: custom, subscriberQueueSettings: {subscriberClientIds: [sensor-*], dynamic: {mode: disabled}}}
    stateStore: {mode: custom, stateStoreSettings: {stateStoreResources: [{keyType: pattern, keys: ["*"]}], dynamic: {mode: enabled}}}`,
      'listener.yaml': `${head}kind: BrokerListener
spec:
  brokerRef: default
  serviceType: loadBalancer
  ports:
  - {port: 1883, protocol: mqtt}
  - port: 8883
    authenticationRef: default
    tls: {mode: automatic, certManagerCertificateSpec: {duration: 2160h, renewBefore: 360h, secretName: broker-cert, issuerRef: {name: my-issuer, kind: clusterIssuer}, privateKey: {algorithm: ec256, rotationPolicy: always}, san: {dns: [broker.plant.example], ip: [192.168.0.7, "fd00::7"]}}}`,
      'authn.yaml': `${head}kind: BrokerAuthentication
spec:
  authenticationMethods:
  - {method: serviceAccountToken, serviceAccountTokenSettings: {audiences: [aio-internal]}}
  - {method: x509, x509Settings: {trustedClientCaCert: client-ca, additionalValidation: azureDeviceRegistry, deviceRegistryConfigMap: devices}}`,
    },
  })
  expect([snapshot.faults, snapshot.warnings]).toEqual([[], []])
  expect(snapshot.broker?.spec.memoryProfile).toBe('Tiny')
  expect(snapshot.broker?.spec.persistence?.retain?.mode).toBe('Custom')
  expect(snapshot.broker?.spec.diskBackedMessageBuffer?.ephemeralVolumeClaimSpec?.accessModes).toEqual(['ReadWriteOncePod'])
  expect(snapshot.listeners.get('default')?.spec.ports[1]?.tls?.certManagerCertificateSpec?.privateKey).toEqual({
    algorithm: 'Ec256',
    rotationPolicy: 'Always',
  })
})
