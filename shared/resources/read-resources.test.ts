import { describe, expect, test } from 'vitest'
import { readResources, type Resources } from './read-resources.ts'

function read(...texts: string[]): { readonly resources: Resources; readonly faults: readonly string[] } {
  const faults: string[] = []
  const yaml = texts.map((text, index) => ({ file: `${index}.yaml`, text }))
  return { resources: readResources({ yaml, secret: () => null }, faults), faults }
}

const HEAD = 'apiVersion: mqttbroker.iotoperations.azure.com/v1\nkind: BrokerListener\nmetadata:\n  name: a\nspec:\n'

function listener(spec: string): string {
  return HEAD + spec.replace(/^/gm, '  ')
}

describe('faults name file, line, field and what is allowed', () => {
  test.each<[name: string, text: string, fault: string]>([
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
    ['a list that is none', listener('ports: 1'), '0.yaml:6: spec.ports: expected a list'],
    [
      'a word that is not allowed',
      listener('ports:\n- port: 1\n  protocol: Kafka'),
      '0.yaml:8: spec.ports[0].protocol: expected one of Mqtt, WebSockets',
    ],
    ['yes is text', listener('ports:\n- port: yes'), '0.yaml:7: spec.ports[0].port: expected a whole number from 0 to 65535'],
    [
      'Manual without secret',
      listener('ports:\n- port: 1\n  tls: {mode: Manual}'),
      '0.yaml:8: spec.ports[0].tls.manual: is missing: mode Manual needs secretRef',
    ],
    [
      'a secret that leads elsewhere',
      listener('ports:\n- port: 1\n  tls: {mode: Manual, manual: {secretRef: ../../etc}}'),
      '0.yaml:8: spec.ports[0].tls.manual.secretRef: expected a name of small letters, digits and hyphens',
    ],
    [
      'nodePort elsewhere',
      listener('ports:\n- port: 1\n  nodePort: 30000'),
      '0.yaml:8: spec.ports[0].nodePort: needs serviceType NodePort',
    ],
    [
      'a network that is none',
      listener('ports:\n- port: 1\n  proxyProtocol: {trustedSources: [x]}'),
      '0.yaml:8: spec.ports[0].proxyProtocol.trustedSources[0]: expected a network such as 10.0.0.0/8 or fd00::/8, or an address',
    ],
    ['a port twice', listener('ports:\n- port: 1\n- port: 1'), '0.yaml:8: spec.ports[1].port: port 1 is taken by 0.yaml:7: spec.ports[0]'],
    ['no syntax', `${HEAD}  ports: [`, '0.yaml:6: Flow sequence'],
    ['a key twice', listener('ports: []\nports: []'), '0.yaml:7: Map keys must be unique'],
    [
      'an unknown kind',
      HEAD.replace('BrokerListener', 'BrokerListner'),
      '0.yaml:2: kind: expected one of Broker, BrokerListener, BrokerAuthentication, BrokerAuthorization, ConfigMap, Secret, ServiceAccount; did you mean BrokerListener?',
    ],
    [
      'an unknown version',
      HEAD.replace('/v1', '/v7'),
      '0.yaml:1: apiVersion: expected mqttbroker.iotoperations.azure.com/v1 or mqttbroker.iotoperations.azure.com/v1beta1',
    ],
    ['a document that is no map', '- 1', '0.yaml:1: kind: expected one of'],
    [
      'a name that is none',
      HEAD.replace('name: a', 'name: A_b'),
      '0.yaml:4: metadata.name: expected a name of small letters, digits and hyphens',
    ],
    ['__proto__ as a field', listener('ports: []\n__proto__: {x: 1}'), '0.yaml:7: spec.__proto__: there is no such field'],
  ])('%s', (_, text, fault) => {
    const { faults } = read(text)
    expect(faults[0]).toContain(fault)
  })

  test('lines count from the start of the file in every document of it', () => {
    const { faults } = read(`${listener('ports: []')}\n---\n${listener('ports: 1').replace('name: a', 'name: b')}`)
    expect(faults).toEqual(['0.yaml:13: spec.ports: expected a list'])
  })

  test('a Broker limit given twice, by field and by extension', () => {
    const { faults } = read(`apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: Broker
metadata: {name: default}
spec:
  advanced: {clients: {maxReceiveMaximum: 1}}
  millrace:
    inflightMax: 1
    shard: 1`)
    expect(faults).toEqual(['0.yaml:8: spec.millrace.shard: there is no such field; did you mean shards?'])
    expect(
      read(
        'apiVersion: mqttbroker.iotoperations.azure.com/v1\nkind: Broker\nmetadata: {name: default}\nspec:\n  advanced: {clients: {maxReceiveMaximum: 1}}\n  millrace: {inflightMax: 1}',
      ).faults,
    ).toEqual(['0.yaml:6: spec.millrace.inflightMax: spec.advanced.clients.maxReceiveMaximum gives the same limit; keep one of them'])
  })

  test('a second Broker and a second listener of one name', () => {
    expect(read(listener('ports: []'), listener('ports: []')).faults).toEqual([
      '1.yaml:4: metadata.name: there is a BrokerListener of this name already, at 0.yaml:4',
    ])
    const broker = (name: string): string => `apiVersion: mqttbroker.iotoperations.azure.com/v1\nkind: Broker\nmetadata: {name: ${name}}`
    expect(read(broker('default'), broker('other')).faults[0]).toContain('there is a Broker already')
  })

  test('aliases that would unfold into a huge value', () => {
    const levels = Array.from(
      { length: 12 },
      (_, index) =>
        `a${index}: &a${index} [${
          index === 0
            ? 'x'
            : Array(10)
                .fill(`*a${index - 1}`)
                .join(', ')
        }]`,
    )
    const { faults } = read(levels.join('\n'))
    expect(faults).toHaveLength(1)
    expect(faults[0]).toContain('0.yaml:1: ')
  })
})

test('what has no effect is a warning', () => {
  const { resources, faults } = read(
    listener('ports:\n- {port: 1, authorizationRef: x}'),
    'apiVersion: mqttbroker.iotoperations.azure.com/v1beta1\nkind: BrokerAuthentication\nmetadata: {name: x}\nspec: {}',
    'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: b}',
    '# nothing\n---\n',
  )
  expect(faults).toEqual([])
  expect(resources.warnings).toEqual([
    '0.yaml:7: spec.ports[0].authorizationRef: has no effect without authenticationRef: everything is allowed',
    '1.yaml:2: kind: BrokerAuthentication has no effect in this version; ports that refer to one stay closed',
  ])
})

test('a Secret document gives its keys', () => {
  const { resources } = read('apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {tls.crt: Y2VydA==}\nstringData: {tls.key: key}')
  expect([resources.secret('s', 'tls.crt'), resources.secret('s', 'tls.key'), resources.secret('s', 'x')]).toEqual(['cert', 'key', null])
})
