import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { SettingsError } from '#shared/config/settings-error.ts'
import { explain } from './explain.ts'

const EXAMPLES = join(import.meta.dirname, '../docs/examples')

const PORTS = `apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerListener
metadata:
  name: ports
spec:
  serviceName: ports
  serviceType: NodePort
  ports:
    - port: 2001
    - port: 2002
      authorizationRef: sensors
    - port: 2003
      authenticationRef: tokens
    - port: 2004
      authenticationRef: tokens
      authorizationRef: nowhere
    - port: 2005
      authenticationRef: tokens
      authorizationRef: sensors
    - port: 2006
      authenticationRef: tokens
      authorizationRef: store
`

let directory = ''

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'millrace-explain-'))
  const files = ['authorization-sensors.yaml', 'authorization-x509.yaml', 'authorization-state-store.yaml', 'authorization-deny.yaml']
  for (const file of files) await copyFile(join(EXAMPLES, file), join(directory, file))
  await writeFile(join(directory, 'ports.yaml'), PORTS)
})

afterAll(() => rm(directory, { recursive: true, force: true }))

async function ask(port: string, args: readonly string[]): Promise<{ code: number; out: string }> {
  const [listener, number] = port.split(':') as [string, string]
  const written: string[] = []
  const spy = vi.spyOn(process.stdout, 'write').mockImplementation(chunk => written.push(String(chunk)) > 0)
  try {
    const code = await explain.run(['--config', directory, '--listener', listener, '--port', number, ...args])
    return { code, out: written.join('') }
  } finally {
    spy.mockRestore()
  }
}

const HEATER = ['--client-id', 'h1', '--username', 'heater', '--attr', 'manufacturer=fabrikam']
const NORTH = ['--client-id', 'robot', '--attr', 'site=north']
const SENSOR = ['--client-id', 'humidity-sensor']
const ROBOT = ['--client-id', 'building22-robot', '--attr', 'building=building22']

describe('the rule that decides, its line, and why it applies', () => {
  test.each<[port: string, args: readonly string[], code: number, lines: readonly string[]]>([
    [
      'greenhouse:8883',
      [...HEATER, '--connect'],
      0,
      [
        'allowed by BrokerAuthorization greenhouse, rules[2] (',
        'authorization-x509.yaml:67)',
        'by attributes: manufacturer=fabrikam',
        'Connect with any Client Identifier',
      ],
    ],
    [
      'greenhouse:8883',
      [...HEATER, '--subscribe', 'sensor/humidity'],
      0,
      ['rules[3]', 'x509.yaml:75)', 'by usernames: heater', 'Subscribe sensor/humidity'],
    ],
    ['greenhouse:8883', [...HEATER, '--subscribe', '$share/g/sensor/humidity'], 0, ['rules[3]', '$share/g/']],
    [
      'greenhouse:8883',
      [...HEATER, '--subscribe', 'health/heartbeat'],
      1,
      [
        'no rule of this client allows: subscribe to health/heartbeat',
        'rules[2]',
        'says nothing of Subscribe',
        'rules[3]',
        'Subscribe sensor/temperature',
      ],
    ],
    [
      'greenhouse:8883',
      ['--client-id', 'h1', '--username', 'Heater', '--connect'],
      1,
      ['no rule applies to this client', 'usernames has heater; capital and small letters differ'],
    ],
    [
      'greenhouse:8883',
      ['--client-id', 'h1', '--attr', 'group=other', '--publish', 'sensor/humidity'],
      1,
      ['attributes asks for group=thermostat_group; the client has group=other'],
    ],
    [
      'ports:2005',
      ['--client-id', 'x', '--attr', 'organization=contoso', '--connect'],
      1,
      ['attributes asks for organization=contoso, city=seattle; the client has city not at all'],
    ],
    [
      'ports:2005',
      [...SENSOR, '--publish', '/telemetry/humidity-sensor'],
      0,
      ['/telemetry/{principal.clientId} = /telemetry/humidity-sensor', 'by clientIds: humidity-sensor'],
    ],
    [
      'ports:2005',
      [...SENSOR, '--publish', '/telemetry/contoso'],
      1,
      ['matches nothing: the client has no {principal.attributes.organization}'],
    ],
    [
      'ports:2005',
      [...SENSOR, '--attr', 'organization=a/b', '--publish', '/telemetry/a/b'],
      1,
      ['holds a character that no level of a topic may hold'],
    ],
    ['ports:2005', [...SENSOR, '--publish', '$SYS/x'], 1, ['topics of the broker itself']],
    ['ports:2005', [...SENSOR, '--key', 'k'], 1, ['no rule of this client allows: publish to the state store']],
    ['floor:1883', [...NORTH, '--key', 'k'], 0, ['no rule of the policies has stateStoreResources']],
    [
      'floor:1883',
      [...NORTH, '--publish', 'secret/a'],
      1,
      ['denied by BrokerAuthorization no-secrets, rules[0] (', 'effect Deny', 'Publish secret/#'],
    ],
    [
      'floor:1883',
      ['--client-id', 'guest-1', '--attr', 'site=north', '--publish', 'open'],
      1,
      ['denied by BrokerAuthorization no-secrets', 'Connect guest-*'],
    ],
    [
      'ports:2006',
      [...ROBOT, '--key', 'colors/red', '--access', 'read'],
      0,
      ['allowed by BrokerAuthorization store, rules[0]', 'Read colors/*'],
    ],
    [
      'ports:2006',
      [...ROBOT, '--key', 'colors/red', '--access', 'write'],
      1,
      ['no rule of this client allows: write the key', 'clients/{principal.clientId}/* = clients/building22-robot/*', 'digit[0-9]'],
    ],
    [
      'ports:2006',
      ['--client-id', 'building23-robot', '--attr', 'building=building22', '--key', 'x'],
      1,
      ['it may not connect', 'Connect {principal.attributes.building}* = building22*'],
    ],
    ['ports:2001', ['--publish', 'x'], 0, ['the port has no authenticationRef: everybody may do everything']],
    ['ports:2002', ['--publish', 'x'], 0, ['its authorizationRef has no effect without authenticationRef']],
    ['ports:2003', ['--publish', 'x'], 0, ['whoever is authenticated may do everything']],
    ['ports:2004', ['--publish', 'x'], 1, ['the port stays closed: there is no BrokerAuthorization nowhere']],
  ])('%s %j', async (port, args, code, lines) => {
    const { code: found, out } = await ask(port, args)
    expect(found).toBe(code)
    expect(out).toMatch(code === 0 ? /^allowed: client / : /^denied: client /)
    for (const line of lines) expect(out).toContain(line)
  })
})

test.each<[port: string, args: readonly string[], fault: string]>([
  ['plant:1', ['--connect'], 'flag --listener: there is no BrokerListener plant; there is floor, greenhouse, ports'],
  ['floor:1', ['--connect'], 'flag --port: BrokerListener floor has no port 1; there is 1883'],
  ['floor:1883', [], 'expected one of --connect, --publish TOPIC'],
  ['floor:1883', ['--connect', '--publish', 'x'], 'expected one of --connect, --publish TOPIC'],
  ['floor:1883', ['--publish', 'a/+'], 'flag --publish: wildcard in a Topic Name'],
  ['floor:1883', ['--subscribe', 'a/#/b'], 'flag --subscribe: Topic Filter: # that is not the last level'],
  ['floor:1883', ['--connect', '--attr', 'x'], 'flag --attr: expected NAME=VALUE'],
  ['floor:1883', ['--key', 'k', '--access', 'both'], 'flag --access: expected one of read, write'],
])('a question that makes no sense: %s %j', async (port, args, fault) => {
  await expect(ask(port, args)).rejects.toThrow(SettingsError)
  await expect(ask(port, args)).rejects.toMatchObject({ faults: [expect.stringContaining(fault)] })
})

test('of the rule that decides, what decided is shown and no more', async () => {
  const { out } = await ask('greenhouse:8883', [...HEATER, '--subscribe', 'sensor/humidity'])
  expect(out).toContain('Subscribe sensor/humidity')
  expect(out).not.toContain('sensor/temperature')
})

test('resources with a fault answer nothing', async () => {
  const broken = join(directory, 'broken.yaml')
  await writeFile(broken, PORTS.replace('name: ports', 'name: broken').replace('authorizationRef', 'autorizationRef'))
  await expect(ask('floor:1883', [...NORTH, '--connect'])).rejects.toMatchObject({
    faults: expect.arrayContaining([expect.stringContaining('did you mean authorizationRef')]) as unknown,
  })
  await rm(broken)
})
