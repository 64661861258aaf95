import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { snapshotOf } from '../resources/snapshot-of.contract.ts'
import { type Authorized, permitFor } from './permit-for.ts'
import { compilePolicy, type Policy } from './policy.ts'

const EXAMPLES = join(import.meta.dirname, '../../docs/examples')

/** The BrokerAuthorizations of a file of docs/examples, as they stand there. */
function policiesOf(file: string, expectedWarnings: readonly unknown[] = []): readonly Policy[] {
  const { authorizations, warnings } = snapshotOf({ yaml: { [file]: readFileSync(join(EXAMPLES, file), 'utf8') } })
  expect(warnings).toEqual(expectedWarnings)
  return [...authorizations.values()].map(({ name, spec }) => compilePolicy(name, spec.authorizationPolicies))
}

type Client = readonly [clientId: string, userName: string, attributes: Readonly<Record<string, string>>]

function authorize(policies: readonly Policy[], [clientId, userName, attributes]: Client): Authorized {
  return permitFor(policies, { clientId, userName, attributes: new Map(Object.entries(attributes)) })
}

describe('sensors by Client Identifier or attributes', () => {
  const policies = policiesOf('authorization-sensors.yaml')
  const contoso = { organization: 'contoso', city: 'seattle' }

  test.each<[Client, connects: boolean, publishes: readonly string[], subscribes: readonly string[]]>([
    [['temperature-sensor', '', contoso], true, ['/telemetry/temperature-sensor', '/telemetry/contoso'], ['/commands/contoso']],
    [['pump', '', contoso], true, ['/telemetry/pump', '/telemetry/contoso'], ['/commands/contoso']],
    [['pump', '', { organization: 'contoso' }], false, [], []],
    [['pump', '', { organization: 'contoso', city: 'Seattle' }], false, [], []],
    [['humidity-sensor', '', {}], true, ['/telemetry/humidity-sensor'], []],
    [['Humidity-sensor', '', {}], false, [], []],
    [['', '', {}], false, [], []],
  ])('%j', (client, connects, publishes, subscribes) => {
    const { connect, permit } = authorize(policies, client)
    expect(connect).toEqual({ allowed: connects, rule: connects ? 'BrokerAuthorization sensors, rules[0]' : null })
    const topics = [
      '/telemetry/temperature-sensor',
      '/telemetry/humidity-sensor',
      '/telemetry/pump',
      '/telemetry/contoso',
      '/commands/contoso',
    ]
    const others = [
      '/telemetry',
      '/telemetry/',
      '/telemetry/contoso/x',
      'telemetry/contoso',
      '/telemetry/{principal.clientId}',
      '/telemetry/+',
    ]
    const names = [...topics, ...others]
    expect(names.filter(name => permit.mayPublish(name))).toEqual(names.filter(name => publishes.includes(name)))
    expect([...names, '#', '/commands/+', '/commands/#'].filter(name => permit.maySubscribe(name))).toEqual(subscribes)
    expect(permit.mayAccessKey(Buffer.from('any'), 'write')).toBe(true)
  })
})

describe('attributes and user name out of certificates', () => {
  const policies = policiesOf('authorization-x509.yaml')
  const topics = ['sensor/temperature', 'sensor/humidity', 'health/heartbeat']

  test.each<[Client, publishes: readonly string[], subscribes: readonly string[]]>([
    [['thermostat', 'thermostat', { group: 'thermostat_group' }], ['sensor/temperature'], []],
    [['hygrometer', 'hygrometer', { group: 'hygrometer_group' }], ['sensor/humidity'], []],
    [['heater', 'heater', { manufacturer: 'fabrikam' }], ['health/heartbeat'], ['sensor/temperature', 'sensor/humidity']],
    [['lightbulb', 'lightbulb', { manufacturer: 'fabrikam' }], ['health/heartbeat'], []],
  ])('%j', (client, publishes, subscribes) => {
    const { connect, permit } = authorize(policies, client)
    expect(connect.allowed).toBe(true)
    expect(topics.filter(topic => permit.mayPublish(topic))).toEqual(publishes)
    expect(topics.filter(topic => permit.maySubscribe(topic))).toEqual(subscribes)
  })

  test('the rules of a client add up, and each decision names its own', () => {
    const { permit } = authorize(policies, ['heater', 'heater', { manufacturer: 'fabrikam' }])
    expect(permit.decidePublish('health/heartbeat').rule).toBe('BrokerAuthorization greenhouse, rules[2]')
    expect(permit.decideSubscribe('sensor/humidity').rule).toBe('BrokerAuthorization greenhouse, rules[3]')
    expect(permit.decideSubscribe('health/heartbeat')).toEqual({ allowed: false, rule: null })
  })

  test('a user name that nobody verified, and an empty one, are nobody', () => {
    expect(authorize(policies, ['heater', '', {}]).connect).toEqual({ allowed: false, rule: null })
  })
})

describe('keys of the state store', () => {
  const policies = policiesOf('authorization-state-store.yaml')
  const client: Client = ['building22-robot', '', { building: 'building22' }]

  test('Connect ties the Client Identifier to an attribute', () => {
    expect(authorize(policies, client).connect.allowed).toBe(true)
    expect(authorize(policies, ['building23-robot', '', { building: 'building22' }]).connect.allowed).toBe(false)
    expect(authorize(policies, ['building24', '', { building: 'building24' }]).connect.allowed).toBe(false)
  })

  test.each<[key: string | Buffer, read: boolean, write: boolean]>([
    ['colors/red', true, false],
    ['colors/dark/red', true, false],
    ['colors', false, false],
    ['charA', true, false],
    ['charé', true, false],
    ['char', false, false],
    ['charAB', false, false],
    ['digit7', true, false],
    ['digitx', false, false],
    ['clients/building22-robot/x', true, true],
    ['clients/building22-other/x', false, false],
    ['literal*', false, true],
    ['literally', false, false],
    [Buffer.from([0x00, 0x01, 0xff]), true, true],
    ['AAH/', false, false],
    ['', false, false],
  ])('%j: read %j, write %j', (key, read, write) => {
    const { permit } = authorize(policies, client)
    const bytes = Buffer.from(key)
    expect([permit.mayAccessKey(bytes, 'read'), permit.mayAccessKey(bytes, 'write')]).toEqual([read, write])
  })

  test('the request topic may be granted under its new or its old name', () => {
    const { permit } = authorize(policies, client)
    expect(permit.mayPublish('$services/statestore/_any_/command/invoke/request')).toBe(true)
    const old = compilePolicy('old', {
      rules: [
        {
          principals: { clientIds: ['a'] },
          brokerResources: [{ method: 'Publish', topics: ['$services/statestore/_any_/command/invoke/request'] }],
        },
      ],
    })
    const granted = authorize([old], ['a', '', {}]).permit
    expect(granted.mayPublish('statestore/v1/FA9AE35F-2F64-47CD-9BFF-08E2B32A0FE8/command/invoke')).toBe(true)
    expect(granted.mayPublish('statestore/v1/other/command/invoke')).toBe(false)
  })
})

describe('Deny and several policies', () => {
  const policies = policiesOf('authorization-deny.yaml', [expect.stringContaining('no rule has stateStoreResources')])
  const north = { site: 'north' }

  test('a Deny of one policy wins over what another allows', () => {
    const { connect, permit } = authorize(policies, ['robot', '', north])
    expect(connect).toEqual({ allowed: true, rule: 'BrokerAuthorization everybody, rules[0]' })
    expect(permit.decidePublish('open')).toEqual({ allowed: true, rule: 'BrokerAuthorization everybody, rules[0]' })
    expect(permit.decidePublish('secret/a')).toEqual({ allowed: false, rule: 'BrokerAuthorization no-secrets, rules[0]' })
    expect(permit.disconnectsRefused311).toBe(true)
    expect(authorize(policies, ['guest-1', '', north]).connect).toEqual({
      allowed: false,
      rule: 'BrokerAuthorization no-secrets, rules[0]',
    })
  })

  test.each([
    ['open/#', true],
    ['secret', false],
    ['secret/a', false],
    ['+/a', false],
    ['#', false],
    ['$SYS/#', false],
  ])('a filter that could see what is denied is denied: %s %j', (filter, isAllowed) => {
    expect(authorize(policies, ['robot', '', north]).permit.maySubscribe(filter)).toBe(isAllowed)
  })

  test('a client cannot choose an identifier that a Deny does not apply to', () => {
    expect(authorize(policies, ['a/b', '', north]).permit.mayPublish('private/a/b')).toBe(false)
    expect(authorize(policies, ['a/b', '', north]).permit.mayPublish('private/a')).toBe(true)
  })
})

describe('docs/authorization.md', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/authorization.md'), 'utf8')

  test('its YAML is a resource that allows what the text says', () => {
    const blocks = [...page.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text]) => text!)
    expect(blocks).toHaveLength(1)
    const { authorizations, warnings } = snapshotOf({ yaml: { 'plant.yaml': blocks[0]! } })
    expect(warnings).toEqual([])
    const policies = [compilePolicy('plant', authorizations.get('plant')!.spec.authorizationPolicies)]
    const { connect, permit } = authorize(policies, ['fabrikam-1', '', { organization: 'fabrikam' }])
    expect([connect.allowed, permit.mayPublish('telemetry/fabrikam-1/x'), permit.mayPublish('telemetry/fabrikam-2/x')]).toEqual([
      true,
      true,
      false,
    ])
    expect(permit.mayAccessKey(Buffer.from('fabrikam-1/x'), 'read')).toBe(true)
    expect(authorize(policies, ['contoso-1', '', { organization: 'contoso' }]).connect.allowed).toBe(false)
    expect(authorize(policies, ['any', 'supervisor', {}]).connect.allowed).toBe(false)
  })

  test('its table of filters is so', () => {
    const rows = [...page.matchAll(/^\| `(.+)` \| (`.+`) \| (yes|no) \|$/gm)].map(([, allowed, requested, answer]) => ({
      topics: allowed!.split('` and `'),
      requested: [...requested!.matchAll(/`([^`]+)`/g)].map(([, filter]) => filter!),
      answer: answer === 'yes',
    }))
    expect(rows).toHaveLength(5)
    for (const { topics, requested, answer } of rows) {
      const policy = compilePolicy('p', {
        rules: [{ principals: { clientIds: ['c'] }, brokerResources: [{ method: 'Subscribe', topics }] }],
      })
      const { permit } = authorize([policy], ['c', '', {}])
      expect(requested.map(filter => [filter, permit.maySubscribe(filter)])).toEqual(requested.map(filter => [filter, answer]))
    }
  })
})
