import { describe, expect, test } from 'vitest'
import { readSnapshot } from './read-snapshot.ts'
import type { ResourceSnapshot } from './resource-snapshot.ts'
import { readYaml } from './yaml-document.ts'

function read(...texts: readonly string[]): {
  readonly snapshot: ResourceSnapshot
  readonly faults: readonly string[]
  readonly warnings: readonly string[]
} {
  const faults: string[] = []
  const documents = texts.flatMap((text, index) => readYaml(`${index}.yaml`, text, faults))
  const snapshot = readSnapshot({ documents, mountedSecret: () => null, mountedConfigMap: () => null }, faults)
  return { snapshot, faults, warnings: snapshot.warnings }
}

/** `spec` begins on line 6. */
function resource(kind: string, spec: string, name: string, version = 'mqttbroker.iotoperations.azure.com/v1beta1'): string {
  return `apiVersion: ${version}\nkind: ${kind}\nmetadata:\n  name: ${name}\nspec:\n${spec.replace(/^/gm, '  ')}`
}

const listener = (spec: string): string => resource('BrokerListener', spec, 'own')
const authentication = (spec: string, name = 'own'): string => resource('BrokerAuthentication', spec, name)
const authorization = (spec: string, name = 'own'): string => resource('BrokerAuthorization', spec, name)
const method = (fields: string): string => authentication(`authenticationMethods:\n- ${fields}`)
const METHOD = 'spec.authenticationMethods[0]'

/** Specs by kind, as far as a test compares them. */
function specOf({ snapshot }: ReturnType<typeof read>): unknown {
  return (snapshot.authentications.get('own') ?? snapshot.authorizations.get('own') ?? snapshot.listeners.get('own') ?? snapshot.broker)
    ?.spec
}

type Case = readonly [name: string, old: string, now: string, warnings: readonly string[]]

describe('an old spelling is read as the new one is, with a warning that names line, old and new', () => {
  const custom = 'method: Custom\n  customSettings:\n    endpoint: https://a'
  const tls = 'certManagerCertificateSpec: {issuerRef: {kind: Issuer, name: i}}'
  test.each<Case>([
    [
      'custom',
      method('method: Custom\n  custom: {endpoint: "https://a"}'),
      method(custom),
      [`0.yaml:8: ${METHOD}.custom: is an old name; write customSettings`],
    ],
    [
      'caCert',
      method('method: Custom\n  custom:\n    endpoint: https://a\n    caCert: ca'),
      method(`${custom}\n    caCertConfigMap: ca`),
      [
        `0.yaml:8: ${METHOD}.custom: is an old name; write customSettings`,
        `0.yaml:10: ${METHOD}.custom.caCert: is an old name; write caCertConfigMap`,
      ],
    ],
    [
      'auth.x509.secretName',
      method(`${custom}\n    auth:\n      x509: {secretName: s, namespace: n}`),
      method(`${custom}\n    auth:\n      x509: {secretRef: s, namespace: n}`),
      [
        `0.yaml:11: ${METHOD}.customSettings.auth.x509.secretName: is an old name; write secretRef`,
        `0.yaml:11: ${METHOD}.customSettings.auth.x509.namespace: has no effect: the secret is looked up beside the resource`,
      ],
    ],
    [
      'serviceAccountToken',
      method('method: ServiceAccountToken\n  serviceAccountToken: {audiences: [a]}'),
      method('method: ServiceAccountToken\n  serviceAccountTokenSettings: {audiences: [a]}'),
      [`0.yaml:8: ${METHOD}.serviceAccountToken: is an old name; write serviceAccountTokenSettings`],
    ],
    [
      'sat',
      method('sat: {audiences: [a]}'),
      method('method: ServiceAccountToken\n  serviceAccountTokenSettings: {audiences: [a]}'),
      [
        `0.yaml:7: ${METHOD}.sat: is an old name; write serviceAccountTokenSettings`,
        `0.yaml:7: ${METHOD}.sat: there is no method; read as method ServiceAccountToken`,
      ],
    ],
    [
      'x509Credentials',
      method('method: x509credentials\n  x509Credentials: {trustedClientCaCert: ca}'),
      method('method: X509\n  x509Settings: {trustedClientCaCert: ca}'),
      [
        `0.yaml:7: ${METHOD}.method: x509credentials is an old name; write X509`,
        `0.yaml:8: ${METHOD}.x509Credentials: is an old name; write x509Settings`,
      ],
    ],
    [
      'x509',
      method('x509: {}'),
      method('method: X509\n  x509Settings: {}'),
      [`0.yaml:7: ${METHOD}.x509: is an old name; write x509Settings`, `0.yaml:7: ${METHOD}.x509: there is no method; read as method X509`],
    ],
    [
      'listenerRef',
      authentication('listenerRef: [somewhere]\nauthenticationMethods:\n- method: X509\n  x509Settings: {}'),
      method('method: X509\n  x509Settings: {}'),
      ['0.yaml:6: spec.listenerRef: is old: the listener names what it uses, in ports[].authenticationRef'],
    ],
    [
      'enableCache',
      authorization('authorizationPolicies: {enableCache: true}'),
      authorization('authorizationPolicies: {cache: Enabled}'),
      ['0.yaml:6: spec.authorizationPolicies.enableCache: is an old name; write cache'],
    ],
    [
      'enableCache: false',
      authorization('authorizationPolicies: {enableCache: false}'),
      authorization('authorizationPolicies: {cache: Disabled}'),
      ['0.yaml:6: spec.authorizationPolicies.enableCache: is an old name; write cache'],
    ],
    [
      'clientids',
      authorization(
        'listenerRef: [x]\nauthorizationPolicies:\n  rules:\n  - principals: {clientids: [a]}\n    brokerResources: [{method: Connect, clientids: [a]}]',
      ),
      authorization(
        'authorizationPolicies:\n  rules:\n  - principals: {clientIds: [a]}\n    brokerResources: [{method: Connect, clientIds: [a]}]',
      ),
      [
        '0.yaml:6: spec.listenerRef: is old: the listener names what it uses, in ports[].authorizationRef',
        '0.yaml:9: spec.authorizationPolicies.rules[0].principals.clientids: is an old name; write clientIds',
        '0.yaml:10: spec.authorizationPolicies.rules[0].brokerResources[0].clientids: is an old name; write clientIds',
      ],
    ],
    [
      'tls.automatic',
      listener('ports:\n- port: 1\n  tls:\n    automatic: {issuerRef: {kind: Issuer, name: i}, secretNamespace: n}'),
      listener(`ports:\n- port: 1\n  tls: {mode: Automatic, ${tls}}`),
      [
        '0.yaml:9: spec.ports[0].tls.automatic: is an old name; write certManagerCertificateSpec',
        '0.yaml:9: spec.ports[0].tls.automatic.secretNamespace: has no effect: the secret stands beside the resource',
        '0.yaml:9: spec.ports[0].tls.automatic: there is no mode; write mode Automatic',
      ],
    ],
    [
      'tls.manual.secretName',
      listener('ports:\n- port: 1\n  tls:\n    manual:\n      secretName: s\n      secretNamespace: n'),
      listener('ports:\n- port: 1\n  tls: {mode: Manual, manual: {secretRef: s}}'),
      [
        '0.yaml:10: spec.ports[0].tls.manual.secretName: is an old name; write secretRef',
        '0.yaml:11: spec.ports[0].tls.manual.secretNamespace: has no effect: the secret stands beside the resource',
        '0.yaml:9: spec.ports[0].tls.manual: there is no mode; write mode Manual',
      ],
    ],
    [
      'one port, without authentication',
      listener(
        'port: 1883\nprotocol: mqtt\nauthenticationEnabled: false\nauthorizationEnabled: false\ntls: {mode: Manual, manual: {secretRef: s}}',
      ),
      listener('ports: [{port: 1883, protocol: Mqtt, tls: {mode: Manual, manual: {secretRef: s}}}]'),
      [
        '0.yaml:6: spec.port: is old: write ports[0].port',
        '0.yaml:7: spec.protocol: is old: write ports[0].protocol',
        '0.yaml:10: spec.tls: is old: write ports[0].tls',
        '0.yaml:8: spec.authenticationEnabled: is old: write ports[].authenticationRef',
        '0.yaml:9: spec.authorizationEnabled: is old: write ports[].authorizationRef',
      ],
    ],
    [
      'what was removed from the Broker',
      resource(
        'Broker',
        'diagnostics: {traces: {exportIntervalSeconds: 30, openTelemetryCollectorAddress: "x:1"}}\npersistence:\n  maxSize: 1G\n  dynamicSettings: {userPropertyKey: k}\n  subscriberQueue:\n    mode: Custom\n    subscriberQueueSettings: {topics: [a]}',
        'default',
      ),
      resource(
        'Broker',
        'diagnostics: {traces: {}}\npersistence: {maxSize: 1G, subscriberQueue: {mode: Custom, subscriberQueueSettings: {}}}',
        'default',
      ),
      [
        '0.yaml:6: spec.diagnostics.traces.exportIntervalSeconds: was removed and has no effect',
        '0.yaml:6: spec.diagnostics.traces.openTelemetryCollectorAddress: was removed and has no effect',
        '0.yaml:9: spec.persistence.dynamicSettings: was removed: the User Property is aio-persistence with the value true',
        '0.yaml:12: spec.persistence.subscriberQueue.subscriberQueueSettings.topics: was removed: queues are chosen by subscriberClientIds',
      ],
    ],
  ])('%s', (_, old, now, warnings) => {
    const before = read(old)
    const after = read(now)
    expect([before.faults, after.faults]).toEqual([[], []])
    expect(before.warnings).toEqual(warnings)
    expect(specOf(before)).toEqual(specOf(after))
    expect(specOf(after)).toBeDefined()
  })

  test.each(['mq.iotoperations.azure.com/v1beta1', 'az-edge.com/v1alpha4'])('version %s', version => {
    const { snapshot, faults, warnings } = read(resource('BrokerListener', 'ports: []', 'own', version))
    expect([snapshot.listeners.size, faults]).toEqual([1, []])
    expect(warnings).toEqual(['0.yaml:1: apiVersion: is old: write mqttbroker.iotoperations.azure.com/v1'])
  })

  test('annotations under the old prefix; where both are there, the new one counts', () => {
    const { snapshot, warnings } = read(
      'apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: sa\n  annotations:\n    aio-mq-broker-auth/group: old\n    aio-mq-broker-auth/floor: old\n    aio-broker-auth/floor: new',
    )
    const found = snapshot.serviceAccount('default', 'sa')
    expect([found?.get('aio-broker-auth/group'), found?.get('aio-broker-auth/floor')]).toEqual(['old', 'new'])
    expect(warnings[0]).toBe('0.yaml:6: metadata.annotations.aio-mq-broker-auth/group: is the old name of aio-broker-auth/group')
  })

  test('the file that was read is not changed by it: what is aliased twice is translated twice', () => {
    const { faults, snapshot } = read(
      authorization(
        'authorizationPolicies:\n  rules:\n  - principals: &p {clientids: [a]}\n    brokerResources: []\n  - principals: *p\n    brokerResources: []',
      ),
    )
    expect(faults).toEqual([])
    expect(snapshot.authorizations.get('own')?.spec.authorizationPolicies.rules?.map(({ principals }) => principals.clientIds)).toEqual([
      ['a'],
      ['a'],
    ])
  })
})

describe('listenerRef and the switch of the listener become references of the port', () => {
  const one = 'port: 1883\nauthenticationEnabled: true\nauthorizationEnabled: true'
  const refs = 'listenerRef: [own]\n'
  const methods = `authenticationMethods:\n- method: ServiceAccountToken\n  serviceAccountTokenSettings: {audiences: [a]}`
  const policies = 'authorizationPolicies: {}'

  test('one resource of each kind names the listener', () => {
    const { snapshot, faults, warnings } = read(
      listener(one),
      authentication(refs + methods, 'who'),
      authorization(refs + policies, 'what'),
    )
    expect(faults).toEqual([])
    expect(snapshot.listeners.get('own')?.spec).toEqual({ ports: [{ port: 1883, authenticationRef: 'who', authorizationRef: ['what'] }] })
    expect(warnings).toContain(
      '0.yaml:7: spec.authenticationEnabled: BrokerAuthentication who names this listener in listenerRef; write ports[].authenticationRef: who',
    )
  })

  test('without the switch, what points at the listener counts all the same: never open by mistake', () => {
    const { snapshot } = read(listener('port: 1883'), authentication(refs + methods, 'who'))
    expect(snapshot.listeners.get('own')?.spec.ports[0]?.authenticationRef).toBe('who')
    expect(
      read(listener('ports: [{port: 1}]'), authentication(refs + methods, 'who')).snapshot.listeners.get('own')?.spec.ports[0]
        ?.authenticationRef,
    ).toBe('who')
  })

  test.each<readonly [name: string, texts: readonly string[], fault: string]>([
    [
      'nobody names it',
      [listener(one)],
      '0.yaml:7: spec.authenticationEnabled: no BrokerAuthentication names this listener in listenerRef; write ports[].authenticationRef',
    ],
    [
      'two name it',
      [listener(one), authentication(refs + methods, 'one'), authentication(refs + methods, 'two')],
      '0.yaml:7: spec.authenticationEnabled: one and two name this listener in listenerRef; write ports[].authenticationRef',
    ],
    [
      'a switch that is none',
      [listener('port: 1\nauthenticationEnabled: perhaps')],
      '0.yaml:7: spec.authenticationEnabled: expected true or false; it is old: write ports[].authenticationRef',
    ],
    [
      'one port and a list of them',
      [listener('port: 1\nports: []')],
      '0.yaml:6: spec.port: is an old name of ports[0].port, and ports is given too; keep ports',
    ],
  ])('a fault: %s', (_, texts, fault) => expect(read(...texts).faults[0]).toBe(fault))
})

describe('faults', () => {
  test.each<readonly [name: string, text: string, faults: readonly string[]]>([
    [
      'usernamePassword',
      method('usernamePassword: {secretName: s}'),
      [
        `0.yaml:7: ${METHOD}.usernamePassword: was removed: write method Password with passwordSettings.secretRef, and make the hashes anew with millrace passwd`,
      ],
    ],
    [
      'method usernamePassword',
      method('method: UsernamePassword'),
      [
        `0.yaml:7: ${METHOD}.method: was removed: write method Password with passwordSettings.secretRef, and make the hashes anew with millrace passwd`,
      ],
    ],
    [
      'attributes in a secret',
      method('x509:\n    attributes: {secretName: s}'),
      [`0.yaml:8: ${METHOD}.x509.attributes: a Secret with attributes as TOML is not read: write them under authorizationAttributes`],
    ],
    [
      'attributes as a name',
      method('method: X509\n  x509Settings: {attributes: s}'),
      [
        `0.yaml:8: ${METHOD}.x509Settings.attributes: a Secret with attributes as TOML is not read: write them under authorizationAttributes`,
      ],
    ],
    [
      'old and new name',
      method('method: X509\n  x509: {}\n  x509Settings: {}'),
      [`0.yaml:8: ${METHOD}.x509: is an old name of x509Settings, which is given too; keep x509Settings`],
    ],
    [
      'behind the translation: where and as it was written',
      method('sat:\n    audiences: []'),
      [`0.yaml:8: ${METHOD}.sat.audiences: needs at least one entry`],
    ],
    [
      'in a field of the only port',
      listener('port: 1883\ntls: {mode: Manual}'),
      ['0.yaml:7: spec.tls.manual: is missing: mode Manual needs secretRef'],
    ],
    ['of the only port', listener('port: 70000'), ['0.yaml:6: spec.port: expected a whole number from 0 to 65535']],
    [
      'enableCache',
      authorization('authorizationPolicies:\n  enableCache: 1'),
      ['0.yaml:7: spec.authorizationPolicies.enableCache: expected one of Enabled, Disabled'],
    ],
    [
      'a new name that is mistyped',
      method('method: X509\n  x509Setings: {}'),
      [`0.yaml:8: ${METHOD}.x509Setings: there is no such field; did you mean x509Settings?`],
    ],
  ])('%s', (_, text, faults) => expect(read(text).faults).toEqual(faults))
})
