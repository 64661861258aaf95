import { describe, expect, test } from 'vitest'
import { readSnapshot } from './read-snapshot.ts'
import { JsonDocument } from './resource-document.ts'
import type { ResourceSnapshot } from './resource-snapshot.ts'
import { readYaml } from './yaml-document.ts'

const NOTHING_MOUNTED = { mountedSecret: () => null, mountedConfigMap: () => null }
const VERSION = 'apiVersion: mqttbroker.iotoperations.azure.com/v1'

interface Outcome {
  readonly snapshot: ResourceSnapshot
  readonly faults: readonly string[]
  readonly warnings: readonly string[]
}

function read(...texts: string[]): Outcome {
  const faults: string[] = []
  const documents = texts.flatMap((text, index) => readYaml(`${index}.yaml`, text, faults))
  const snapshot = readSnapshot({ documents, ...NOTHING_MOUNTED }, faults)
  return { snapshot, faults, warnings: snapshot.warnings }
}

/** `spec` begins on line 6. */
function resource(kind: string, spec: string, name = 'own'): string {
  return `${VERSION}\nkind: ${kind}\nmetadata:\n  name: ${name}\nspec:\n${spec.replace(/^/gm, '  ')}`
}

function listener(spec: string, name?: string): string {
  return resource('BrokerListener', spec, name)
}

function broker(spec: string): string {
  return resource('Broker', spec, 'default')
}

function authentication(method: string): string {
  return resource('BrokerAuthentication', `authenticationMethods:\n- ${method}`)
}

function authorization(rule: string): string {
  return resource('BrokerAuthorization', `authorizationPolicies:\n  rules:\n  - ${rule}`)
}

function allowing(resourceEntry: string): string {
  return authorization(`{principals: {usernames: [a]}, brokerResources: [${resourceEntry}]}`)
}

const X509 = 'method: X509\n  x509Settings: {}'
const TOKENS = 'there are {principal.clientId}, {principal.username}, {principal.attributes.NAME}'

type Case = readonly [name: string, text: string | readonly string[], found: string]

describe('faults of documents name file, line, field and what is allowed', () => {
  const HEAD = `${VERSION}\nkind: BrokerListener\nmetadata:\n  name: own\nspec:\n`
  test.each<Case>([
    [
      'a field that does not exist',
      listener('ports:\n- port: 1\n  protocl: Mqtt'),
      '0.yaml:8: spec.ports[0].protocl: there is no such field; did you mean protocol?',
    ],
    [
      'far from any name',
      listener('ports: []\nzzzzzz: 1'),
      '0.yaml:7: spec.zzzzzz: there is no such field; allowed: brokerRef, serviceName, serviceType, ports',
    ],
    ['a wrong type', listener('ports:\n- port: "1883"'), '0.yaml:7: spec.ports[0].port: expected a whole number from 0 to 65535'],
    ['out of range', listener('ports:\n- port: 70000'), '0.yaml:7: spec.ports[0].port: expected a whole number from 0 to 65535'],
    [
      'a missing field',
      listener('ports:\n- protocol: Mqtt'),
      '0.yaml:7: spec.ports[0].port: is missing: expected a whole number from 0 to 65535',
    ],
    ['a missing list', listener('serviceName: x'), '0.yaml:5: spec.ports: is missing: expected a list'],
    ['a missing spec', `${HEAD.replace('spec:\n', '')}`, '0.yaml:1: spec: is missing: expected fields'],
    ['a list that is none', listener('ports: 1'), '0.yaml:6: spec.ports: expected a list'],
    [
      'a word that is not allowed',
      listener('ports:\n- port: 1\n  protocol: Kafka'),
      '0.yaml:8: spec.ports[0].protocol: expected one of Mqtt, WebSockets',
    ],
    ['yes is text', listener('ports:\n- port: yes'), '0.yaml:7: spec.ports[0].port: expected a whole number from 0 to 65535'],
    ['no syntax', `${HEAD}  ports: [`, '0.yaml:6: Flow sequence'],
    ['a key twice', listener('ports: []\nports: []'), '0.yaml:7: Map keys must be unique'],
    [
      'an unknown kind',
      HEAD.replace('BrokerListener', 'BrokerListner'),
      '0.yaml:2: kind: expected one of Broker, BrokerListener, BrokerAuthentication, BrokerAuthorization, ConfigMap, Secret, ServiceAccount; did you mean BrokerListener?',
    ],
    ['no kind', 'a: 1', '0.yaml:1: kind: expected one of Broker,'],
    [
      'an unknown version',
      HEAD.replace('/v1', '/v7'),
      '0.yaml:1: apiVersion: expected mqttbroker.iotoperations.azure.com/v1 or mqttbroker.iotoperations.azure.com/v1beta1',
    ],
    ['no document of ours', '- 1', '0.yaml:1: kind: expected one of'],
    [
      'a name that is none',
      HEAD.replace('name: own', 'name: A_b'),
      '0.yaml:4: metadata.name: expected a name of small letters, digits and hyphens, at most 63',
    ],
    [
      'a long name',
      listener('ports: []', 'a'.repeat(64)),
      '0.yaml:4: metadata.name: expected a name of small letters, digits and hyphens, at most 63',
    ],
    ['no name', 'apiVersion: v1\nkind: Secret', '0.yaml:1: metadata: is missing: expected fields'],
    ['__proto__ as a field', listener('ports: []\n__proto__: {x: 1}'), '0.yaml:7: spec.__proto__: there is no such field'],
    [
      'a name twice',
      [listener('ports: []'), listener('ports: []')],
      '1.yaml:4: metadata.name: there is a BrokerListener of this name already, at 0.yaml:4',
    ],
  ])('%s', (_, text, found) => expect(read(...[text].flat()).faults[0]).toContain(found))

  test('lines count from the start of the file in every document of it', () => {
    const { faults } = read(`${listener('ports: []')}\n---\n${listener('ports: 1', 'other')}`)
    expect(faults).toEqual(['0.yaml:13: spec.ports: expected a list'])
  })

  test('an object of Kubernetes has no lines; its faults name it, and the snapshot names kind and name', () => {
    const value = {
      apiVersion: 'mqttbroker.iotoperations.azure.com/v1',
      kind: 'BrokerListener',
      metadata: { name: 'own' },
      spec: { ports: [{ port: -1 }] },
    }
    const faults: string[] = []
    const snapshot = readSnapshot({ documents: [new JsonDocument(value, 'BrokerListener ns/own')], ...NOTHING_MOUNTED }, faults)
    expect(faults).toEqual(['BrokerListener ns/own: spec.ports[0].port: expected a whole number from 0 to 65535'])
    expect(snapshot.faults).toEqual([{ kind: 'BrokerListener', name: 'own', faults }])
    expect(snapshot.listeners.size).toBe(0)
  })

  test('one fault keeps nothing else out of the snapshot', () => {
    const { snapshot } = read(listener('ports: 1'), authentication(X509))
    expect([snapshot.listeners.size, snapshot.authentications.size]).toEqual([0, 1])
    expect(snapshot.faults.map(({ kind, name }) => [kind, name])).toEqual([['BrokerListener', 'own']])
  })

  test('a hundred faults of one document are enough', () => {
    expect(read(listener(`ports:\n${'- {port: x}\n'.repeat(500)}`)).faults).toHaveLength(100)
  })
})

describe('faults of a Broker', () => {
  test.each<Case>([
    [
      'another name',
      resource('Broker', 'memoryProfile: Low', 'main'),
      '0.yaml:4: metadata.name: expected default: there is one Broker, and it is called so',
    ],
    [
      'a second one',
      [broker('memoryProfile: Low'), broker('memoryProfile: Low')],
      '1.yaml:4: metadata.name: there is a Broker already, at 0.yaml:4',
    ],
    [
      'a limit given twice',
      broker('advanced: {clients: {maxReceiveMaximum: 1}}\nmillrace: {inflightMax: 1}'),
      '0.yaml:7: spec.millrace.inflightMax: spec.advanced.clients.maxReceiveMaximum gives the same limit; keep one of them',
    ],
    [
      'an extension that is none',
      broker('millrace:\n  shard: 1'),
      '0.yaml:7: spec.millrace.shard: there is no such field; did you mean shards?',
    ],
    [
      'frontends without number',
      broker('cardinality:\n  frontend: {workers: 2}'),
      '0.yaml:7: spec.cardinality.frontend.replicas: is missing: expected a whole number from 1 to 16',
    ],
    [
      'partitions out of range',
      broker('cardinality: {backendChain: {partitions: 17, redundancyFactor: 2}}'),
      '0.yaml:6: spec.cardinality.backendChain.partitions: expected a whole number from 1 to 16',
    ],
    [
      'a chain without redundancy',
      broker('cardinality: {backendChain: {partitions: 1}}'),
      '0.yaml:6: spec.cardinality.backendChain.redundancyFactor: is missing: expected a whole number from 1 to 5 copies',
    ],
    [
      'a switch as boolean',
      broker('generateResourceLimits: {cpu: true}'),
      '0.yaml:6: spec.generateResourceLimits.cpu: expected one of Enabled, Disabled',
    ],
    [
      'a log level',
      broker('diagnostics: {logs: {level: loud}}'),
      '0.yaml:6: spec.diagnostics.logs.level: expected one of trace, debug, info, warn, error',
    ],
    [
      'a self check too often',
      broker('diagnostics: {selfCheck: {intervalSeconds: 29}}'),
      '0.yaml:6: spec.diagnostics.selfCheck.intervalSeconds: expected a whole number from 30 to 300',
    ],
    [
      'spans',
      broker('diagnostics: {traces: {spanChannelCapacity: 999}}'),
      '0.yaml:6: spec.diagnostics.traces.spanChannelCapacity: expected a whole number from 1000 to 100000',
    ],
    [
      'a duration',
      broker('advanced: {internalCerts: {duration: 10 days, renewBefore: 1h, privateKey: {algorithm: Ec256, rotationPolicy: Always}}}'),
      '0.yaml:6: spec.advanced.internalCerts.duration: expected a duration of h, m and s such as 240h, 45m or 1h30m',
    ],
    [
      'half a certificate',
      broker('advanced: {internalCerts: {duration: 240h, renewBefore: 1h30m}}'),
      '0.yaml:6: spec.advanced.internalCerts.privateKey: is missing: expected fields',
    ],
    [
      'a buffer without size',
      broker('diskBackedMessageBuffer: {}'),
      '0.yaml:6: spec.diskBackedMessageBuffer.maxSize: is missing: expected a size such as 500M or 10G',
    ],
    [
      'a buffer with another unit',
      broker('diskBackedMessageBuffer: {maxSize: 10Gi}'),
      '0.yaml:6: spec.diskBackedMessageBuffer.maxSize: expected a size such as 500M or 10G',
    ],
    [
      'too small a volume',
      broker('persistence: {maxSize: 99M}'),
      '0.yaml:6: spec.persistence.maxSize: expected a size such as 10G, 10Gi or 10GiB, at least 100M',
    ],
    [
      'a volume for many',
      broker('persistence: {maxSize: 1G, persistentVolumeClaimSpec: {accessModes: [ReadWriteOnce]}}'),
      '0.yaml:6: spec.persistence.persistentVolumeClaimSpec.accessModes: expected ReadWriteOncePod alone',
    ],
    [
      'a policy without mode',
      broker('persistence: {maxSize: 1G, retain: {}}'),
      '0.yaml:6: spec.persistence.retain.mode: is missing: expected one of All, None, Custom',
    ],
    [
      'Custom without settings',
      broker('persistence: {maxSize: 1G, stateStore: {mode: Custom}}'),
      '0.yaml:6: spec.persistence.stateStore.stateStoreSettings: is missing: mode Custom needs it',
    ],
    [
      'settings without Custom',
      broker('persistence: {maxSize: 1G, retain: {mode: All, retainSettings: {}}}'),
      '0.yaml:6: spec.persistence.retain.retainSettings: belongs to mode Custom',
    ],
    [
      'a stored key that is no base64',
      broker(
        'persistence: {maxSize: 1G, stateStore: {mode: Custom, stateStoreSettings: {stateStoreResources: [{keyType: Binary, keys: ["*"]}]}}}',
      ),
      '0.yaml:6: spec.persistence.stateStore.stateStoreSettings.stateStoreResources[0].keys[0]: expected base64',
    ],
    [
      'a volume with a source without name',
      broker('diskBackedMessageBuffer: {maxSize: 1G, ephemeralVolumeClaimSpec: {dataSource: {kind: x}}}'),
      '0.yaml:6: spec.diskBackedMessageBuffer.ephemeralVolumeClaimSpec.dataSource.name: is missing: expected text, not empty',
    ],
  ])('%s', (_, text, found) => expect(read(...[text].flat()).faults[0]).toContain(found))
})

describe('faults of a BrokerListener', () => {
  const port = (fields: string): string => listener(`ports:\n- port: 1\n  ${fields}`)
  test.each<Case>([
    ['Manual without secret', port('tls: {mode: Manual}'), '0.yaml:8: spec.ports[0].tls.manual: is missing: mode Manual needs secretRef'],
    [
      'Manual with a certificate to be made',
      port('tls: {mode: Manual, manual: {secretRef: s}, certManagerCertificateSpec: {issuerRef: {kind: Issuer, name: i}}}'),
      '0.yaml:8: spec.ports[0].tls.certManagerCertificateSpec: belongs to mode Automatic',
    ],
    [
      'Automatic without a certificate to be made',
      port('tls: {mode: Automatic}'),
      '0.yaml:8: spec.ports[0].tls.certManagerCertificateSpec: is missing: mode Automatic needs issuerRef',
    ],
    [
      'Automatic with a secret',
      port('tls: {mode: Automatic, certManagerCertificateSpec: {issuerRef: {kind: Issuer, name: i}}, manual: {secretRef: s}}'),
      '0.yaml:8: spec.ports[0].tls.manual: belongs to mode Manual',
    ],
    [
      'tls without mode',
      port('tls: {manual: {secretRef: s}}'),
      '0.yaml:8: spec.ports[0].tls.mode: is missing: expected one of Automatic, Manual',
    ],
    [
      'an issuer without kind',
      port('tls: {mode: Automatic, certManagerCertificateSpec: {issuerRef: {name: i}}}'),
      '0.yaml:8: spec.ports[0].tls.certManagerCertificateSpec.issuerRef.kind: is missing: expected one of Issuer, ClusterIssuer',
    ],
    [
      'a SAN that is no address',
      port('tls: {mode: Automatic, certManagerCertificateSpec: {issuerRef: {name: i, kind: Issuer}, san: {ip: [x]}}}'),
      '0.yaml:8: spec.ports[0].tls.certManagerCertificateSpec.san.ip[0]: expected an IP address',
    ],
    [
      'a secret that leads elsewhere',
      port('tls: {mode: Manual, manual: {secretRef: ../../etc}}'),
      '0.yaml:8: spec.ports[0].tls.manual.secretRef: expected a name of small letters, digits, hyphens and dots',
    ],
    ['nodePort elsewhere', port('nodePort: 30000'), '0.yaml:8: spec.ports[0].nodePort: needs serviceType NodePort'],
    ['an engine without WebSocket', port('websocketEngine: ws'), '0.yaml:8: spec.ports[0].websocketEngine: needs protocol WebSockets'],
    [
      'a network that is none',
      port('proxyProtocol: {trustedSources: [x]}'),
      '0.yaml:8: spec.ports[0].proxyProtocol.trustedSources[0]: expected a network such as 10.0.0.0/8 or fd00::/8, or an address',
    ],
    [
      'no network',
      port('proxyProtocol: {trustedSources: []}'),
      '0.yaml:8: spec.ports[0].proxyProtocol.trustedSources: needs at least one network',
    ],
    [
      'no authorization in a list',
      port('authorizationRef: []'),
      '0.yaml:8: spec.ports[0].authorizationRef: expected the name of a BrokerAuthorization, or a list of names',
    ],
    [
      'authorization that is no name',
      port('authorizationRef: [1]'),
      '0.yaml:8: spec.ports[0].authorizationRef: expected the name of a BrokerAuthorization, or a list of names',
    ],
    ['a port twice', listener('ports:\n- port: 1\n- port: 1'), '0.yaml:8: spec.ports[1].port: port 1 is taken by 0.yaml:7: spec.ports[0]'],
    [
      'a port of another listener',
      [listener('ports: [{port: 1}]'), listener('serviceType: NodePort\nports: [{port: 1}]', 'other')],
      '1.yaml:7: spec.ports[0].port: port 1 is taken by 0.yaml:6: spec.ports[0]',
    ],
    [
      'a port on every address, and on one',
      listener('ports:\n- {port: 1, host: 127.0.0.1}\n- {port: 1}'),
      '0.yaml:8: spec.ports[1].port: port 1 is taken by 0.yaml:7: spec.ports[0]',
    ],
    [
      'a port on one address, and on every one',
      listener('ports:\n- {port: 1}\n- {port: 1, host: 127.0.0.1}'),
      '0.yaml:8: spec.ports[1].port: port 1 is taken by 0.yaml:7: spec.ports[0]',
    ],
    [
      'a type of service twice',
      [listener('ports: []'), listener('serviceType: clusterip\nports: []', 'other')],
      '1.yaml:6: spec.serviceType: BrokerListener own has type ClusterIp already: there is one listener of each type, with any number of ports',
    ],
    [
      'a service twice',
      [listener('ports: []'), listener('serviceType: NodePort\nserviceName: own\nports: []', 'other')],
      '1.yaml:7: spec.serviceName: BrokerListener own has the service name own already',
    ],
    [
      'X509 on a plain port',
      [authentication(X509), listener('ports:\n- port: 1\n  authenticationRef: own')],
      '1.yaml:8: spec.ports[0].authenticationRef: BrokerAuthentication own has method X509, which needs a port with tls',
    ],
  ])('%s', (_, text, found) => expect(read(...[text].flat()).faults[0]).toContain(found))

  test('a port may be on two addresses, port 0 anywhere, and a faulty listener takes no type', () => {
    expect(read(listener('ports:\n- {port: 1, host: 127.0.0.1}\n- {port: 1, host: 127.0.0.2}\n- {port: 0}\n- {port: 0}')).faults).toEqual(
      [],
    )
    const { faults } = read(listener('ports: 1'), listener('ports: []', 'other'))
    expect(faults).toEqual(['0.yaml:6: spec.ports: expected a list'])
  })
})

describe('faults of a BrokerAuthentication', () => {
  const custom = (settings: string): string => authentication(`method: Custom\n  customSettings: {endpoint: "https://a", ${settings}}`)
  test.each<Case>([
    [
      'no method',
      resource('BrokerAuthentication', 'authenticationMethods: []'),
      '0.yaml:6: spec.authenticationMethods: needs at least one entry',
    ],
    [
      'an unknown method',
      authentication('method: Guess'),
      '0.yaml:7: spec.authenticationMethods[0].method: expected one of Custom, ServiceAccountToken, X509, Scram, Password, Jwt',
    ],
    ...['Custom', 'ServiceAccountToken', 'X509', 'Scram', 'Password', 'Jwt'].map((method): Case => {
      const field = `${method[0]!.toLowerCase()}${method.slice(1)}Settings`
      return [
        `${method} without settings`,
        authentication(`method: ${method}`),
        `0.yaml:7: spec.authenticationMethods[0].${field}: is missing: method ${method} needs it`,
      ]
    }),
    [
      "another method's settings",
      authentication(`${X509}\n  passwordSettings: {secretRef: s}`),
      '0.yaml:9: spec.authenticationMethods[0].passwordSettings: belongs to method Password',
    ],
    [
      'no audience',
      authentication('method: ServiceAccountToken\n  serviceAccountTokenSettings: {audiences: []}'),
      '0.yaml:8: spec.authenticationMethods[0].serviceAccountTokenSettings.audiences: needs at least one entry',
    ],
    [
      'http',
      authentication('method: Custom\n  customSettings: {endpoint: "http://a"}'),
      '0.yaml:8: spec.authenticationMethods[0].customSettings.endpoint: expected an https:// URL',
    ],
    [
      'a header that is none',
      custom('headers: {"a b": c}'),
      '0.yaml:8: spec.authenticationMethods[0].customSettings.headers.a b: is no name of an HTTP header',
    ],
    [
      'a header with another behind it',
      custom('headers: {a: "b\\r\\nc: d"}'),
      '0.yaml:8: spec.authenticationMethods[0].customSettings.headers.a: holds what no HTTP header may hold',
    ],
    [
      'a time beyond its range',
      custom('timeoutSeconds: 61'),
      '0.yaml:8: spec.authenticationMethods[0].customSettings.timeoutSeconds: expected a whole number from 1 to 60',
    ],
    [
      'one subject twice',
      authentication(
        'method: X509\n  x509Settings:\n    authorizationAttributes:\n      a: {subject: "CN = x, O = y", attributes: {}}\n      b: {subject: "CN=x,O=y", attributes: {}}',
      ),
      '0.yaml:11: spec.authenticationMethods[0].x509Settings.authorizationAttributes.b.subject: a has the same subject; its attributes alone would count',
    ],
    [
      'a registry that is not asked',
      authentication('method: X509\n  x509Settings: {deviceRegistryConfigMap: d}'),
      '0.yaml:8: spec.authenticationMethods[0].x509Settings.deviceRegistryConfigMap: needs additionalValidation AzureDeviceRegistry',
    ],
    [
      'a label that JavaScript keeps for itself',
      authentication('method: X509\n  x509Settings:\n    authorizationAttributes:\n      __proto__: {subject: CN=x, attributes: {}}'),
      '0.yaml:10: spec.authenticationMethods[0].x509Settings.authorizationAttributes.__proto__: is no label that can be used',
    ],
    [
      'a mistyped field behind a label',
      authentication(
        'method: X509\n  x509Settings:\n    authorizationAttributes:\n      a: {subject: CN=x, atributes: {}, attributes: {}}',
      ),
      '0.yaml:10: spec.authenticationMethods[0].x509Settings.authorizationAttributes.a.atributes: there is no such field; did you mean attributes?',
    ],
    [
      'a subject that is no name',
      authentication('method: X509\n  x509Settings:\n    authorizationAttributes:\n      a: {subject: smart-fan, attributes: {}}'),
      '0.yaml:10: spec.authenticationMethods[0].x509Settings.authorizationAttributes.a.subject: is no distinguished name: ',
    ],
    [
      'one subject in the other order',
      authentication(
        'method: X509\n  x509Settings:\n    authorizationAttributes:\n      a: {subject: "CN = x, O = y", attributes: {}}\n      b: {subject: "O=y,CN=x", attributes: {}}',
      ),
      '0.yaml:11: spec.authenticationMethods[0].x509Settings.authorizationAttributes.b.subject: a has the same subject',
    ],
    [
      'an attribute that is no text',
      authentication('method: X509\n  x509Settings:\n    authorizationAttributes:\n      a: {subject: CN=x, attributes: {floor: 1}}'),
      '0.yaml:10: spec.authenticationMethods[0].x509Settings.authorizationAttributes.a.attributes.floor: expected text: put it in quotes',
    ],
    [
      'JWT without keys',
      authentication('method: Jwt\n  jwtSettings: {issuer: i, audiences: [a]}'),
      '0.yaml:8: spec.authenticationMethods[0].jwtSettings: needs jwksConfigMap or jwksUrl',
    ],
    [
      'JWT with keys from two places',
      authentication('method: Jwt\n  jwtSettings: {issuer: i, audiences: [a], jwksConfigMap: c, jwksUrl: "https://a"}'),
      '0.yaml:8: spec.authenticationMethods[0].jwtSettings.jwksUrl: jwksConfigMap is given too; keep one of them',
    ],
    [
      'JWT with a CA for nothing',
      authentication('method: Jwt\n  jwtSettings: {issuer: i, audiences: [a], jwksConfigMap: c, caCertConfigMap: d}'),
      '0.yaml:8: spec.authenticationMethods[0].jwtSettings.caCertConfigMap: needs jwksUrl',
    ],
    [
      'SCRAM with a mechanism that is none',
      authentication('method: Scram\n  scramSettings: {secretRef: s, mechanisms: [SCRAM-MD5]}'),
      '0.yaml:8: spec.authenticationMethods[0].scramSettings.mechanisms[0]: expected one of SCRAM-SHA-256, SCRAM-SHA-512, SCRAM-SHA-1',
    ],
  ])('%s', (_, text, found) => expect(read(...[text].flat()).faults[0]).toContain(found))
})

describe('faults of a BrokerAuthorization', () => {
  const AT = '0.yaml:8: spec.authorizationPolicies.rules[0]'
  test.each<Case>([
    [
      'no policies',
      `${VERSION}\nkind: BrokerAuthorization\nmetadata: {name: own}\nspec: {}`,
      '0.yaml:4: spec.authorizationPolicies: is missing: expected fields',
    ],
    ['no principals', authorization('{brokerResources: []}'), `${AT}.principals: is missing: expected fields`],
    ['no resources', authorization('{principals: {}}'), `${AT}.brokerResources: is missing: expected a list`],
    ['an unknown method', allowing('{method: Read}'), `${AT}.brokerResources[0].method: expected one of Connect, Publish, Subscribe`],
    [
      'Publish without topics',
      allowing('{method: Publish}'),
      `${AT}.brokerResources[0].topics: is missing: method Publish needs at least one topic`,
    ],
    [
      'Subscribe with no topics',
      allowing('{method: Subscribe, topics: []}'),
      `${AT}.brokerResources[0].topics: is missing: method Subscribe needs at least one topic`,
    ],
    [
      'Connect with topics',
      allowing('{method: Connect, topics: [a]}'),
      `${AT}.brokerResources[0].topics: belongs to methods Publish and Subscribe`,
    ],
    [
      'an empty attribute map',
      authorization('{principals: {attributes: [{}]}, brokerResources: []}'),
      `${AT}.principals.attributes[0]: needs at least one attribute`,
    ],
    [
      'a token within a level',
      allowing('{method: Publish, topics: ["client-{principal.clientId}/#"]}'),
      `${AT}.brokerResources[0].topics[0]: {principal.clientId} must be the only text of its level`,
    ],
    [
      'a token that is none',
      allowing('{method: Publish, topics: ["a/{principal.name}"]}'),
      `${AT}.brokerResources[0].topics[0]: there is no token {principal.name}; ${TOKENS}`,
    ],
    [
      'braces that are no token',
      allowing('{method: Publish, topics: ["a/{clientId}"]}'),
      `${AT}.brokerResources[0].topics[0]: there is no token {clientId}; ${TOKENS}`,
    ],
    [
      'an attribute without name',
      allowing('{method: Publish, topics: ["a/{principal.attributes.}"]}'),
      `${AT}.brokerResources[0].topics[0]: there is no token {principal.attributes.}; ${TOKENS}`,
    ],
    [
      'a token that is none in clientIds',
      allowing('{method: Connect, clientIds: ["{principal.id}*"]}'),
      `${AT}.brokerResources[0].clientIds[0]: there is no token {principal.id}; ${TOKENS}`,
    ],
    [
      'a filter that is none',
      allowing('{method: Publish, topics: ["a/#/b"]}'),
      `${AT}.brokerResources[0].topics[0]: Topic Filter: # that is not the last level`,
    ],
    ['an empty topic', allowing('{method: Publish, topics: [""]}'), `${AT}.brokerResources[0].topics[0]: Topic Filter: empty`],
    [
      'a shared filter',
      allowing('{method: Subscribe, topics: [$share/g/a]}'),
      `${AT}.brokerResources[0].topics[0]: a rule names the Topic Filter without $share/{ShareName}/`,
    ],
    [
      'a key with a token that is none',
      authorization('{principals: {}, brokerResources: [], stateStoreResources: [{method: Read, keys: ["{key}"]}]}'),
      `${AT}.stateStoreResources[0].keys[0]: there is no token {key}; ${TOKENS}`,
    ],
    [
      'a key with a brace',
      authorization('{principals: {}, brokerResources: [], stateStoreResources: [{method: Read, keyType: pattern, keys: ["a{"]}]}'),
      `${AT}.stateStoreResources[0].keys[0]: braces are kept for tokens; a key with braces needs keyType String`,
    ],
    [
      'a binary key that is none',
      authorization('{principals: {}, brokerResources: [], stateStoreResources: [{method: Read, keyType: Binary, keys: ["*"]}]}'),
      `${AT}.stateStoreResources[0].keys[0]: expected base64`,
    ],
    [
      'disconnects over too long a time',
      resource('BrokerAuthorization', 'authorizationPolicies: {disconnectWithinSeconds: 3601}'),
      '0.yaml:6: spec.authorizationPolicies.disconnectWithinSeconds: expected a whole number from 0 to 3600',
    ],
  ])('%s', (_, text, found) => expect(read(...[text].flat()).faults[0]).toContain(found))

  test('keys that are literal may hold braces', () => {
    expect(
      read(
        authorization(
          '{principals: {usernames: [a]}, brokerResources: [], stateStoreResources: [{method: Read, keyType: String, keys: ["{a}*"]}]}',
        ),
      ).faults,
    ).toEqual([])
  })
})

describe('warnings', () => {
  test.each<Case>([
    [
      'a stored key with a token',
      broker(
        'persistence: {maxSize: 1G, stateStore: {mode: Custom, stateStoreSettings: {stateStoreResources: [{keyType: Pattern, keys: ["{principal.clientId}/*"]}]}}}',
      ),
      '0.yaml:6: spec.persistence.stateStore.stateStoreSettings.stateStoreResources[0].keys[0]: names no key: there is no client here that {principal.clientId} could stand for',
    ],
    [
      'authorization alone',
      listener('ports:\n- {port: 1, authorizationRef: x}'),
      '0.yaml:7: spec.ports[0].authorizationRef: has no effect without authenticationRef: everything is allowed',
    ],
    [
      'a listener of another Broker',
      listener('brokerRef: main\nports: []'),
      '0.yaml:6: spec.brokerRef: there is one Broker, default, and this listener belongs to it',
    ],
    [
      'passwords in the clear, port by port',
      [
        authentication('method: Password\n  passwordSettings: {secretRef: users}'),
        listener(
          'ports:\n- {port: 1, authenticationRef: own, tls: {mode: Manual, manual: {secretRef: s}}}\n- {port: 2, authenticationRef: own}',
        ),
      ],
      '1.yaml:8: spec.ports[1].authenticationRef: BrokerAuthentication own has method Password, and port 2 has no tls: whoever can listen on the way reads passwords',
    ],
    ['a short name', listener('ports: []', 'ab'), '0.yaml:4: metadata.name: a name of fewer than 3 characters is not taken everywhere'],
    [
      'one copy',
      broker('cardinality: {backendChain: {partitions: 1, redundancyFactor: 1}}'),
      '0.yaml:6: spec.cardinality.backendChain.redundancyFactor: one copy alone: what is stored does not survive its loss',
    ],
    [
      'a secret of another namespace',
      authentication('method: Custom\n  customSettings: {endpoint: "https://a", auth: {x509: {secretRef: s, namespace: n}}}'),
      '0.yaml:8: spec.authenticationMethods[0].customSettings.auth.x509.namespace: has no effect: the secret is looked up beside the resource',
    ],
    [
      'a registry that is not here',
      authentication('method: X509\n  x509Settings: {additionalValidation: AzureDeviceRegistry}'),
      '0.yaml:8: spec.authenticationMethods[0].x509Settings.additionalValidation: needs deviceRegistryConfigMap: there is no other registry here, and ports stay closed',
    ],
    [
      '* in a topic',
      allowing('{method: Publish, topics: [a/*]}'),
      '0.yaml:8: spec.authorizationPolicies.rules[0].brokerResources[0].topics[0]: * is no wildcard of MQTT and stands for itself; + and # are wildcards',
    ],
    [
      'clientIds with Publish',
      allowing('{method: Publish, topics: [a], clientIds: [b]}'),
      '0.yaml:8: spec.authorizationPolicies.rules[0].brokerResources[0].clientIds: has no effect: it belongs to method Connect',
    ],
    [
      'a rule for nobody',
      authorization('{principals: {usernames: []}, brokerResources: []}'),
      '0.yaml:8: spec.authorizationPolicies.rules[0].principals: is empty: the rule applies to nobody',
    ],
    [
      'no keys',
      authorization('{principals: {usernames: [a]}, brokerResources: [], stateStoreResources: [{method: Read, keys: []}]}'),
      '0.yaml:8: spec.authorizationPolicies.rules[0].stateStoreResources[0].keys: is empty: the entry allows nothing',
    ],
    [
      'the state store without keys',
      allowing('{method: Publish, topics: ["statestore/{principal.clientId}/#"]}'),
      '0.yaml:8: spec.authorizationPolicies.rules[0].brokerResources[0].topics: no rule has stateStoreResources: whoever may publish to the state store may read and write all of its keys',
    ],
    [
      'bytes in a ConfigMap',
      'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\nbinaryData: {a: AA==}',
      '0.yaml:4: binaryData: has no effect: what is read from a ConfigMap is text',
    ],
  ])('%s', (_, text, found) => {
    const { faults, warnings } = read(...[text].flat())
    expect([faults, warnings]).toEqual([[], [found]])
  })

  test('references to what is not there are neither faults nor warnings', () => {
    const { faults, warnings } = read(
      listener('ports:\n- {port: 1, authenticationRef: x, authorizationRef: y, tls: {mode: manual, manual: {secretRef: z}}}'),
    )
    expect([faults, warnings]).toEqual([[], []])
  })
})

describe('what is read', () => {
  test('words come in their own spelling, authorizations as a list, and documents of other kinds beside them', () => {
    const { snapshot, faults } = read(
      listener(
        'serviceType: loadbalancer\nports:\n- {port: 1, protocol: WEBSOCKETS, authenticationRef: a1, authorizationRef: b1}\n- {port: 2, authenticationRef: a1, authorizationRef: [b1, b2, b1]}',
      ),
      broker('memoryProfile: tiny\ndiagnostics: {metrics: {prometheusPort: 9700}, logs: {level: DEBUG}}\nmillrace: {shards: 4}'),
      'apiVersion: v1\nkind: Secret\nmetadata: {name: s.crt}\ndata: {bytes: /wA=}\nstringData: {text: ü}',
      'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {__proto__: p, a: b}',
      'apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: sa, namespace: ns, annotations: {aio-broker-auth/group: g}}',
      '# nothing\n---\n',
    )
    expect(faults).toEqual([])
    expect(snapshot.listeners.get('own')?.spec).toEqual({
      serviceType: 'LoadBalancer',
      ports: [
        { port: 1, protocol: 'WebSockets', authenticationRef: 'a1', authorizationRef: ['b1'] },
        { port: 2, authenticationRef: 'a1', authorizationRef: ['b1', 'b2'] },
      ],
    })
    expect(snapshot.listeners.get('own')?.where).toBe('0.yaml:1')
    expect(Object.fromEntries(snapshot.values)).toEqual({
      memoryProfile: 'Tiny',
      logLevel: 'debug',
      shards: 4,
      metrics: { host: '127.0.0.1', port: 9700 },
    })
    expect([...(snapshot.secret('s.crt') ?? [])]).toEqual([
      ['bytes', Buffer.from([0xff, 0])],
      ['text', Buffer.from('ü')],
    ])
    expect([...(snapshot.configMap('c') ?? [])]).toEqual([
      ['__proto__', 'p'],
      ['a', 'b'],
    ])
    expect(snapshot.serviceAccount('ns', 'sa')?.get('aio-broker-auth/group')).toBe('g')
    expect([snapshot.secret('c'), snapshot.configMap('s.crt'), snapshot.serviceAccount('default', 'sa')]).toEqual([null, null, null])
  })

  test('a key of a document comes before the same key of a mounted directory', () => {
    const faults: string[] = []
    const snapshot = readSnapshot(
      {
        documents: readYaml('a.yaml', 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: document}', faults),
        mountedSecret: name => (name === 's' ? new Map([['k', Buffer.from('mounted')]]) : null),
        mountedConfigMap: name =>
          name === 'c'
            ? new Map([
                ['a', 'mounted'],
                ['b', 'mounted'],
              ])
            : null,
      },
      faults,
    )
    expect(Object.fromEntries(snapshot.configMap('c') ?? [])).toEqual({ a: 'document', b: 'mounted' })
    expect(snapshot.secret('s')?.get('k')?.toString()).toBe('mounted')
  })

  test('a secret that is no base64 is a fault that does not repeat it', () => {
    const { faults } = read('apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {k: "hunter2!"}')
    expect(faults).toEqual(['0.yaml:4: data.k: expected base64; text as it is stands under stringData'])
  })

  test('the version says what the resource is, not how it is spelt', () => {
    const version = (text: string): string | undefined => read(text).snapshot.listeners.get('own')?.version
    const one = version(listener('serviceType: NodePort\nports:\n- {port: 1, authorizationRef: a, authenticationRef: b}'))
    expect(one).toMatch(/^[0-9a-f]{16}$/)
    expect(version(listener('ports:\n  - authenticationRef: b\n    authorizationRef: [a]\n    port: 1\nserviceType: nodeport'))).toBe(one)
    expect(version(listener('serviceType: NodePort\nports:\n- {port: 2, authorizationRef: a, authenticationRef: b}'))).not.toBe(one)
  })

  test('names that mean something to JavaScript are names', () => {
    const { snapshot, faults } = read(
      authentication(
        'method: X509\n  x509Settings:\n    authorizationAttributes:\n      constructor: {subject: CN=x, attributes: {__proto__: p, toString: t}}',
      ),
    )
    expect(faults).toEqual([])
    const attributes =
      snapshot.authentications.get('own')?.spec.authenticationMethods[0]?.x509Settings?.authorizationAttributes?.['constructor']?.attributes
    expect(Object.entries(attributes ?? {})).toEqual([
      ['__proto__', 'p'],
      ['toString', 't'],
    ])
    expect(Object.getPrototypeOf(attributes)).toBeNull()
  })
})
