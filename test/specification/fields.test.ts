import { describe, expect, test } from 'vitest'
import { readSnapshot } from '#shared/resources/read-snapshot.ts'
import { JsonDocument } from '#shared/resources/resource-document.ts'

/**
 * Every field of resources.md 2 to 5: values that must be taken (limits included, words in any case) and values that must not. What a field does
 * is for other tests; some mean something to whoever makes pods alone, and are checked all the same.
 */
type Field = readonly [path: string, good: readonly unknown[], bad: readonly unknown[]]

function faultsOf(kind: string, spec: object): readonly string[] {
  const faults: string[] = []
  const value = { apiVersion: 'mqttbroker.iotoperations.azure.com/v1', kind, metadata: { name: 'default' }, spec }
  const snapshot = readSnapshot(
    { documents: [new JsonDocument(value, kind)], mountedSecret: () => null, mountedConfigMap: () => null },
    faults,
  )
  return [...faults, ...snapshot.faults.flatMap(each => each.faults)]
}

/** `base` with `value` at `path`, whose numbers are places in lists. */
function withValue(base: unknown, [first, ...rest]: readonly string[], value: unknown): unknown {
  if (first === undefined) return value
  if (/^\d+$/.test(first)) {
    const list = [...((base as readonly unknown[] | undefined) ?? [])]
    list[Number(first)] = withValue(list[Number(first)], rest, value)
    return list
  }
  const fields = (base as Record<string, unknown> | undefined) ?? {}
  return { ...fields, [first]: withValue(fields[first], rest, value) }
}

test('what Kubernetes and the installer put around a spec is passed over: owners, labels, status', () => {
  const metadata = {
    name: 'default',
    namespace: 'azure-iot-operations',
    labels: { a: 'b' },
    annotations: { a: 'b' },
    ownerReferences: [{ apiVersion: 'v1', kind: 'Broker', name: 'default', uid: 'u' }],
    uid: 'u',
    resourceVersion: '7',
    generation: 1,
    creationTimestamp: '2025-01-01T00:00:00Z',
  }
  const status = { provisioningState: 'Succeeded', healthState: 'Available', conditions: [] }
  const value = { apiVersion: 'mqttbroker.iotoperations.azure.com/v1', kind: 'BrokerListener', metadata, spec: { ports: [] }, status }
  const faults: string[] = []
  const documents = [new JsonDocument(value, 'BrokerListener')]
  const { warnings } = readSnapshot({ documents, mountedSecret: () => null, mountedConfigMap: () => null }, faults)
  expect([faults, warnings]).toEqual([[], []])
})

function fieldTests(kind: string, base: object, fields: readonly Field[]): void {
  describe(kind, () => {
    test.each(fields)('%s', (path, good, bad) => {
      const faults = (value: unknown): readonly string[] => faultsOf(kind, withValue(base, path.split('.'), value) as object)
      expect(good.map(value => [value, faults(value)])).toEqual(good.map(value => [value, []]))
      expect(bad.filter(value => faults(value).length === 0)).toEqual([])
      expect(good.length * bad.length).toBeGreaterThan(0)
    })

    test('nothing else', () => {
      expect(faultsOf(kind, base)).toEqual([])
      expect(faultsOf(kind, { ...base, somethingElse: 1 })[0]).toContain('there is no such field')
    })
  })
}

const SWITCH = [
  ['Enabled', 'Disabled', 'enabled', 'DISABLED'],
  [true, 'on', ''],
] as const
const DURATION = [
  ['240h', '45m', '1h30m', '3600s'],
  ['10 days', '240', 240, '', '-1h', '1d'],
] as const
const ALGORITHM = [
  ['Ec256', 'Ec384', 'Ec521', 'Ed25519', 'Rsa2048', 'Rsa4096', 'Rsa8192', 'ec256'],
  ['Rsa1024', ''],
] as const
const ROTATION = [
  ['Always', 'Never', 'always'],
  ['Sometimes', true],
] as const
const TEXTS = [
  [[], ['a', 'b']],
  ['a', [1], [null]],
] as const
const NAME = [
  ['abc', 'a-b', 'a'.repeat(63)],
  ['A_b', '-a', 'a-', 'a'.repeat(64), '', 7],
] as const
/** Of a Secret or ConfigMap. */
const OBJECT = [
  ['abc', 'a-b', 'a.b'],
  ['A_b', '../a', '', 7],
] as const

function range(min: number, max: number): readonly [good: readonly unknown[], bad: readonly unknown[]] {
  return [
    [min, max],
    [min - 1, max + 1, min + 0.5, String(min), true],
  ]
}

const CLAIM = { storageClassName: 'fast', resources: { limits: { storage: '1Gi' }, requests: { storage: '1Gi' }, claims: [{ name: 'a' }] } }
const CLAIMS = [
  [
    {},
    CLAIM,
    { volumeName: 'a', volumeMode: 'Filesystem', dataSource: { apiGroup: 'g', kind: 'k', name: 'n' } },
    { dataSourceRef: { apiGroup: 'g', kind: 'k', name: 'n', namespace: 's' }, accessModes: ['ReadWriteOncePod'] },
    {
      selector: {
        matchLabels: { a: 'b' },
        matchExpressions: ['In', 'NotIn', 'Exists', 'DoesNotExist'].map(operator => ({ key: 'k', operator, values: ['v'] })),
      },
    },
  ],
  [
    7,
    { storageClass: 'fast' },
    { dataSource: { kind: 'k' } },
    { dataSourceRef: { name: 'n' } },
    { selector: { matchExpressions: [{ key: 'k', operator: 'Near' }] } },
    { selector: { matchExpressions: [{ operator: 'In' }] } },
    { resources: { claims: [{}] } },
  ],
] as const
const MODES = [
  [{ mode: 'All' }, { mode: 'none' }],
  [{}, { mode: 'Some' }, { mode: 'Custom' }],
] as const
const CERTS = { duration: '240h', renewBefore: '45m', privateKey: { algorithm: 'Ec256', rotationPolicy: 'Always' } }
const DYNAMIC = { dynamic: { mode: 'Enabled' } }

fieldTests('Broker', {}, [
  ['advanced.clients.maxSessionExpirySeconds', ...range(1, 4_294_967_295)],
  ['advanced.clients.maxMessageExpirySeconds', ...range(1, 4_294_967_295)],
  ['advanced.clients.maxPacketSizeBytes', [1, 268_435_456, '1Mi'], [0, 268_435_457, 0.5, 'much', true]],
  ['advanced.clients.subscriberQueueLimit.length', [1, Number.MAX_SAFE_INTEGER], [0, -1, 1.5, 'many']],
  ['advanced.clients.subscriberQueueLimit.strategy', ['None', 'DropOldest', 'dropOldest'], ['DropNewest', 7]],
  ['advanced.clients.maxReceiveMaximum', ...range(1, 65_535)],
  ['advanced.clients.maxKeepAliveSeconds', ...range(0, 65_535)],
  ['advanced.encryptInternalTraffic', ...SWITCH],
  ['advanced.internalCerts', [CERTS], [{}, { ...CERTS, duration: undefined }, { ...CERTS, renewBefore: undefined }]],
  ['generateResourceLimits.cpu', ...SWITCH],
  ['highPriorityMessagesBackpressureHandling', ['Accept', 'Reject', 'accept'], ['Drop']],
  ['memoryProfile', ['Tiny', 'Low', 'Medium', 'High', 'tiny'], ['Huge', 1]],
  ['diagnostics.logs.level', ['trace', 'debug', 'info', 'warn', 'error', 'INFO'], ['loud', 3]],
  ['diagnostics.metrics.prometheusPort', ...range(0, 65_535)],
  ['diagnostics.selfCheck.mode', ...SWITCH],
  ['diagnostics.selfCheck.intervalSeconds', ...range(30, 300)],
  ['diagnostics.selfCheck.timeoutSeconds', ...range(5, 120)],
  ['diagnostics.traces.mode', ...SWITCH],
  ['diagnostics.traces.cacheSizeMegabytes', ...range(1, 128)],
  ['diagnostics.traces.spanChannelCapacity', ...range(1_000, 100_000)],
  ['diagnostics.traces.selfTracing.mode', ...SWITCH],
  ['diagnostics.traces.selfTracing.intervalSeconds', ...range(1, 300)],
])

const BACKENDS = { partitions: 2, redundancyFactor: 2 }
fieldTests('Broker', { cardinality: { frontend: { replicas: 2 }, backendChain: BACKENDS }, advanced: { internalCerts: CERTS } }, [
  ['cardinality.frontend', [{ replicas: 1 }], [{}, { workers: 2 }]],
  ['cardinality.frontend.replicas', ...range(1, 16)],
  ['cardinality.frontend.workers', ...range(1, 16)],
  ['cardinality.backendChain', [BACKENDS], [{}, { partitions: 2 }, { redundancyFactor: 2 }]],
  ['cardinality.backendChain.partitions', ...range(1, 16)],
  ['cardinality.backendChain.redundancyFactor', ...range(1, 5)],
  ['cardinality.backendChain.workers', ...range(1, 16)],
  ['advanced.internalCerts.duration', ...DURATION],
  ['advanced.internalCerts.renewBefore', ...DURATION],
  ['advanced.internalCerts.privateKey.algorithm', ...ALGORITHM],
  ['advanced.internalCerts.privateKey.rotationPolicy', ...ROTATION],
])

fieldTests('Broker', { diskBackedMessageBuffer: { maxSize: '1G' }, persistence: { maxSize: '10Gi' } }, [
  ['diskBackedMessageBuffer.maxSize', ['1K', '500M', '10G', '1T', '1P', '1E'], ['10Gi', '1.5G', '10', 'G', 10, '']],
  ['diskBackedMessageBuffer.ephemeralVolumeClaimSpec', ...CLAIMS],
  ['diskBackedMessageBuffer.persistentVolumeClaimSpec', ...CLAIMS],
  ['persistence.maxSize', ['10Gi', '10GiB', '10G', '100M', '1T'], ['99M', '1K', 'much', '', 1]],
  [
    'persistence.persistentVolumeClaimSpec',
    [{}, CLAIM, { accessModes: ['ReadWriteOncePod'] }],
    [{ accessModes: ['ReadWriteOnce'] }, { accessModes: ['ReadWriteOncePod', 'ReadWriteMany'] }, 7],
  ],
  ['persistence.encryption.mode', ...SWITCH],
  ['persistence.retain', ...MODES],
  ['persistence.subscriberQueue', ...MODES],
  ['persistence.stateStore', ...MODES],
  [
    'persistence.retain',
    [{ mode: 'Custom', retainSettings: { topics: ['a/+', 'b/#'], ...DYNAMIC } }],
    [
      { mode: 'All', retainSettings: {} },
      { mode: 'Custom', retainSettings: { topics: 'a' } },
      { mode: 'Custom', retainSettings: { dynamic: { mode: 'on' } } },
      { mode: 'Custom', subscriberQueueSettings: {} },
    ],
  ],
  [
    'persistence.subscriberQueue',
    [{ mode: 'Custom', subscriberQueueSettings: { subscriberClientIds: ['a*'], ...DYNAMIC } }],
    [
      { mode: 'None', subscriberQueueSettings: {} },
      { mode: 'Custom', subscriberQueueSettings: { subscriberClientIds: [1] } },
    ],
  ],
  [
    'persistence.stateStore',
    [
      {
        mode: 'Custom',
        stateStoreSettings: {
          stateStoreResources: ['Pattern', 'String', 'Binary'].map(keyType => ({ keyType, keys: ['YQ=='] })),
          ...DYNAMIC,
        },
      },
    ],
    [
      { mode: 'All', stateStoreSettings: {} },
      { mode: 'Custom', stateStoreSettings: { stateStoreResources: [{ keys: ['a'] }] } },
      { mode: 'Custom', stateStoreSettings: { stateStoreResources: [{ keyType: 'Regex', keys: ['a'] }] } },
      { mode: 'Custom', stateStoreSettings: { stateStoreResources: [{ keyType: 'String' }] } },
    ],
  ],
])

const SPEC = { issuerRef: { kind: 'Issuer', name: 'i' } }
const TLS = { mode: 'Automatic', certManagerCertificateSpec: SPEC }
fieldTests('BrokerListener', { ports: [{ port: 1, tls: TLS }], serviceType: 'NodePort' }, [
  ['brokerRef', ['default', 'other'], ['', 7]],
  ['serviceName', ...NAME],
  ['ports', [[], [{ port: 1 }]], [1, {}, [{}]]],
  ['ports.0.port', ...range(0, 65_535)],
  ['ports.0.nodePort', ...range(0, 65_535)],
  ['ports.0.protocol', ['Mqtt', 'WebSockets', 'websockets', 'MQTT'], ['Kafka', 7]],
  ['ports.0.authenticationRef', ...NAME],
  ['ports.0.tls.certManagerCertificateSpec.issuerRef', [SPEC.issuerRef], [{}, { kind: 'Issuer' }, { name: 'i' }]],
  ['ports.0.tls.certManagerCertificateSpec.issuerRef.name', ['i'], ['', 7]],
  ['ports.0.tls.certManagerCertificateSpec.issuerRef.kind', ['Issuer', 'ClusterIssuer', 'clusterissuer'], ['Authority']],
  ['ports.0.tls.certManagerCertificateSpec.issuerRef.group', ['cert-manager.io'], ['', 7]],
  ['ports.0.tls.certManagerCertificateSpec.duration', ...DURATION],
  ['ports.0.tls.certManagerCertificateSpec.renewBefore', ...DURATION],
  ['ports.0.tls.certManagerCertificateSpec.secretName', ...OBJECT],
  ['ports.0.tls.certManagerCertificateSpec.privateKey.algorithm', ...ALGORITHM],
  ['ports.0.tls.certManagerCertificateSpec.privateKey.rotationPolicy', ...ROTATION],
  ['ports.0.tls.certManagerCertificateSpec.san.dns', ...TEXTS],
  ['ports.0.tls.certManagerCertificateSpec.san.ip', [['10.0.0.1', '::1']], [['x'], '10.0.0.1']],
])
fieldTests('BrokerListener', { ports: [{ port: 1 }] }, [
  ['serviceType', ['ClusterIp', 'LoadBalancer', 'clusterIp', 'loadbalancer'], ['ExternalName', 7]],
  ['ports.0.nodePort', [undefined], [30_000]],
  ['ports.0.authorizationRef', ['one', ['one', 'two']], [[], 7, 'A_b', ['']]],
  [
    'ports.0.tls',
    [TLS, { mode: 'manual', manual: { secretRef: 's' } }],
    [{}, { mode: 'Off' }, { mode: 'Manual' }, { mode: 'Automatic' }, { ...TLS, manual: { secretRef: 's' } }, { mode: 'Manual', ...SPEC }],
  ],
])

const who = (method: object): object => ({ authenticationMethods: [method] })
fieldTests('BrokerAuthentication', who({ method: 'Custom', customSettings: { endpoint: 'https://a' } }), [
  ['authenticationMethods.0.customSettings.endpoint', ['https://a', 'HTTPS://a:1/b'], ['http://a', 'a', '', 7]],
  ['authenticationMethods.0.customSettings.caCertConfigMap', ...OBJECT],
  [
    'authenticationMethods.0.customSettings.auth',
    [{ x509: { secretRef: 's' } }, { x509: { secretRef: 's', namespace: 'n' } }],
    [{}, { x509: {} }],
  ],
  ['authenticationMethods.0.customSettings.auth.x509.secretRef', ...OBJECT],
  ['authenticationMethods.0.customSettings.headers', [{}, { a: 'b', 'X-Y': 'z' }], [{ a: 1 }, { 'a b': 'c' }, { a: 'b\r\nc: d' }, 'a']],
])
fieldTests('BrokerAuthentication', who({ method: 'ServiceAccountToken', serviceAccountTokenSettings: { audiences: ['a'] } }), [
  ['authenticationMethods.0.method', ['serviceAccountToken', 'SERVICEACCOUNTTOKEN'], ['Guess', 'X509', 'Custom', 7]],
  ['authenticationMethods.0.serviceAccountTokenSettings.audiences', [['a'], ['a', 'b']], [[], 'a', [''], [1]]],
  ['authenticationMethods', [[{ method: 'X509', x509Settings: {} }]], [[], {}, [{}]]],
])
const NAMED = { subject: 'CN = a', attributes: { group: 'g' } }
fieldTests('BrokerAuthentication', who({ method: 'X509', x509Settings: {} }), [
  ['authenticationMethods.0.x509Settings.trustedClientCaCert', ...OBJECT],
  [
    'authenticationMethods.0.x509Settings.authorizationAttributes',
    [{}, { a: NAMED, b: { ...NAMED, subject: 'CN = b' } }],
    [
      { a: {} },
      { a: { subject: 'CN = a' } },
      { a: { attributes: {} } },
      { a: { ...NAMED, subject: 'nobody' } },
      { a: NAMED, b: NAMED },
      [],
    ],
  ],
  ['authenticationMethods.0.x509Settings.additionalValidation', ['None', 'AzureDeviceRegistry', 'none'], ['Registry', true]],
])

const rule = (more: object = {}): object => ({
  authorizationPolicies: { rules: [{ principals: { usernames: ['a'] }, brokerResources: [{ method: 'Connect' }], ...more }] },
})
const FIRST = 'authorizationPolicies.rules.0'
fieldTests('BrokerAuthorization', rule({ stateStoreResources: [{ method: 'Read', keyType: 'String', keys: ['a'] }] }), [
  ['authorizationPolicies', [{}, { rules: [] }], [undefined, 7, []]],
  ['authorizationPolicies.cache', ...SWITCH],
  ['authorizationPolicies.rules', [[]], [{}, [{}], [{ principals: {} }], [{ brokerResources: [] }]]],
  [`${FIRST}.principals`, [{}, { usernames: [], clientIds: [], attributes: [] }], [undefined, [], { users: ['a'] }]],
  [`${FIRST}.principals.attributes`, [[], [{ a: 'b', c: 'd' }, { e: 'f' }]], [{}, [{ a: 1 }], [{}], ['a']]],
  [`${FIRST}.principals.clientIds`, ...TEXTS],
  [`${FIRST}.principals.usernames`, ...TEXTS],
  [`${FIRST}.brokerResources`, [[], [{ method: 'Connect', clientIds: ['a*'] }]], [undefined, {}, [{}]]],
  [`${FIRST}.brokerResources.0.method`, ['Connect', 'connect'], ['Read', 'Publish', 'Subscribe', 7]],
  [`${FIRST}.brokerResources.0.clientIds`, ...TEXTS],
  [
    `${FIRST}.brokerResources.0`,
    [
      { method: 'Publish', topics: ['a'] },
      { method: 'Connect', topics: [] },
    ],
    [{ method: 'Publish', topics: [] }],
  ],
  [`${FIRST}.stateStoreResources`, [[], [{ method: 'Read', keys: ['a*'] }]], [{}, [{}], [{ method: 'Read' }], [{ keys: ['a'] }]]],
  [`${FIRST}.stateStoreResources.0.method`, ['Read', 'Write', 'ReadWrite', 'readwrite'], ['Delete', 7]],
  [`${FIRST}.stateStoreResources.0.keyType`, ['Pattern', 'String', 'pattern'], ['Regex', 7, 'Binary']],
  [`${FIRST}.stateStoreResources.0.keys`, ...TEXTS],
])
