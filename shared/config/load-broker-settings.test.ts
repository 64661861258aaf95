import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { snapshotOf } from '../resources/snapshot-of.contract.ts'
import { ALL_SETTINGS } from './all-settings.ts'
import { loadBrokerSettings, START_SETTINGS, type Surroundings } from './load-broker-settings.ts'
import { createPki } from './pki.ts'
import { SettingsError } from './settings-error.ts'
import { flagsHelp, settingsPage } from './settings-page.ts'

const GIB = 1024 ** 3

interface World {
  readonly environment?: Record<string, string>
  readonly yaml?: Record<string, string>
  readonly secrets?: Record<string, string>
  readonly configMaps?: Record<string, string>
  readonly files?: Record<string, string>
}

function surroundings({ environment = {}, yaml, secrets = {}, configMaps = {}, files = {} }: World): Surroundings {
  const readFile = (path: string): string => {
    if (files[path] === undefined) throw new Error(`ENOENT: no such file, open '${path}'`)
    return files[path]
  }
  const snapshot = yaml === undefined ? null : snapshotOf({ yaml, secrets, configMaps })
  return { environment, memory: { totalBytes: 16 * GIB, constrainedBytes: 4 * GIB }, readFile, snapshot }
}

function load(args: string, world: World = {}) {
  return loadBrokerSettings(args.split(' ').filter(Boolean), surroundings(world))
}

function faults(args: string, world: World = {}): readonly string[] {
  try {
    load(args, world)
  } catch (error) {
    if (error instanceof SettingsError) return error.faults
    throw error
  }
  return []
}

describe('defaults', () => {
  test('listen on loopback as the README says', () => {
    const { settings } = load('')
    expect(settings.ports.map(({ host, port, protocol, tls }) => [host, port, protocol, tls])).toEqual([
      ['127.0.0.1', 1883, 'Mqtt', null],
      ['127.0.0.1', 8083, 'WebSockets', null],
    ])
    expect([settings.admin, settings.metrics]).toEqual([
      { host: '127.0.0.1', port: 8080 },
      { host: '127.0.0.1', port: 9600 },
    ])
    expect(settings).toMatchObject({ dataDirectory: './data', store: 'lmdb', durability: 'fsynced' })
  })

  test('size the process by the smaller of machine and control group, and packets by the memory profile', () => {
    expect(load('').settings.limits).toMatchObject({ memoryBytesMax: 3 * GIB, packetBytesMax: 64 * 1024 * 1024 })
    expect(load('--memory-profile tiny').settings.limits.packetBytesMax).toBe(4 * 1024 * 1024)
    expect(load('--memory-profile High --packet-bytes-max 1Mi').settings.limits.packetBytesMax).toBe(1024 * 1024)
  })

  test('an expiry without ceiling is null', () => {
    expect(load('').settings.limits).toMatchObject({ maxSessionExpirySeconds: null, maxMessageExpirySeconds: null })
  })
})

describe('flags', () => {
  test('take a value after a space or an equals sign, and repeat', () => {
    const { settings } = load('--mqtt=127.0.0.1:2000 --mqtt [::1]:2001 --ws off --connections-max 7')
    expect(settings.ports.map(({ host, port }) => [host, port])).toEqual([
      ['127.0.0.1', 2000],
      ['::1', 2001],
    ])
    expect(settings.limits.connectionsMax).toBe(7)
  })

  test.each([
    ['--mqt 127.0.0.1:1', 'flag --mqt: there is no such flag; did you mean --mqtt?; --help lists them all'],
    ['--conections-max 1', 'flag --conections-max: there is no such flag; did you mean --connections-max?; --help lists them all'],
    ['-x', 'flag -x: there is no such flag; --help lists them all'],
    ['start', 'argument "start": not expected here; see --help'],
    ['--mqtt', 'flag --mqtt: needs a value: --mqtt HOST:PORT'],
    ['--data --store memory', 'flag --data: needs a value: --data DIR'],
    ['--connections-max 0', 'flag --connections-max: expected a whole number from 1 to 10000000 connections'],
    ['--connections-max 1e3', 'flag --connections-max: expected a whole number from 1 to 10000000 connections'],
    ['--connections-max 1 --connections-max 2', 'flag --connections-max: given more than once'],
    ['--store sqlite', 'flag --store: expected one of lmdb, memory'],
    ['--write-buffer-bytes-max 1X', 'flag --write-buffer-bytes-max: expected bytes from 16 KiB to 1 GiB, as 1048576, 1024K, 1Mi or 1MiB'],
    ['--allow-anonymous-remote=perhaps', 'flag --allow-anonymous-remote: expected one of true, false'],
    ['--proxy-protocol 10.0.0.0/33', 'flag --proxy-protocol: expected a network such as 10.0.0.0/8 or fd00::/8, or an address'],
  ])('%s: %s', (args, fault) => {
    expect(faults(args)[0]).toContain(fault)
  })

  test.each([
    '1883',
    ':1883',
    '127.0.0.1',
    '127.0.0.1:65536',
    '127.0.0.1:-1',
    '::1:1883',
    '[127.0.0.1]:1',
    '300.0.0.1:1',
    '-a:1',
    'a b:1',
    '',
  ])('no address: %j', given => {
    expect(faults(`--mqtt=${given.replace(' ', '\u00a0')}`)[0]).toContain('flag --mqtt: expected HOST:PORT such as 127.0.0.1:1883')
  })

  test('all faults come at once', () => {
    expect(faults('--connections-max x --shards 0 --store none')).toHaveLength(3)
  })

  test('redis stores are refused as not available yet', () => {
    expect(faults('--store redis://127.0.0.1')[0]).toContain('redis is not available in this version')
  })

  test.each(['64M', '64Mi', '64MiB', '64MB', '64mib', '67108864', '65536K'])('bytes: %s', given => {
    expect(load(`--queue-bytes-max ${given}`).settings.limits.queueBytesMax).toBe(64 * 1024 * 1024)
  })
})

describe('precedence', () => {
  const yaml = { 'b.yaml': brokerYaml('{millrace: {connectionsMax: 3, shards: 3, receiveMaximum: 3}}') }
  const environment = { MILLRACE_CONNECTIONS_MAX: '2', MILLRACE_SHARDS: '2', MILLRACE_QUEUE_STRATEGY: '' }

  test('flag before environment before YAML before default', () => {
    const { limits } = load('--config x --mqtt 127.0.0.1:0 --connections-max 1', { yaml, environment }).settings
    expect(limits).toMatchObject({ connectionsMax: 1, shards: 2, receiveMaximum: 3, queueStrategy: 'None', topicLevelsMax: 128 })
  })

  test('a list in the environment replaces the default and is replaced by flags', () => {
    const given = { MILLRACE_MQTT: '127.0.0.1:1, 127.0.0.1:2', MILLRACE_WS: 'off' }
    const ports = (args: string) => load(args, { environment: given }).settings.ports.map(({ port }) => port)
    expect([ports(''), ports('--mqtt 127.0.0.1:3')]).toEqual([[1, 2], [3]])
  })

  test('a wrong variable is named, a mistyped one is a warning, and those of Kubernetes are neither', () => {
    expect(faults('', { environment: { MILLRACE_SHARDS: 'many' } })).toEqual([
      'environment MILLRACE_SHARDS: expected a whole number from 1 to 1024 shards',
    ])
    const { warnings } = load('', {
      environment: { MILLRACE_SHARD: '1', MILLRACE_SERVICE_HOST: '10.0.0.1', MILLRACE_PORT_1883_TCP_ADDR: '10.0.0.1' },
    })
    expect(warnings).toEqual(['environment MILLRACE_SHARD: there is no such setting; did you mean MILLRACE_SHARDS?'])
  })
})

describe('reach', () => {
  test.each(['--mqtt 0.0.0.0:1883', '--ws [::]:1', '--admin 192.0.2.1:1', '--mqtt broker.example:1883'])(
    '%s needs --allow-anonymous-remote',
    args => {
      expect(faults(args)[0]).toContain('--allow-anonymous-remote')
      expect(faults(`${args} --allow-anonymous-remote`)).toEqual([])
    },
  )

  test.each(['127.0.0.2:1', 'localhost:1', '[::1]:1'])('%s is loopback', given => {
    expect(faults(`--mqtt ${given}`)).toEqual([])
  })
})

describe('--config', () => {
  const listen = (ports: string): World['yaml'] => ({ 'l.yaml': listenerYaml(ports) })

  test('ports come from BrokerListener resources, and flags add to them', () => {
    const yaml = listen(
      '[{port: 1884}, {port: 8084, protocol: webSockets, websocketEngine: ws, proxyProtocol: {trustedSources: [10.0.0.0/8]}}]',
    )
    const { ports } = load('--config x --mqtt 127.0.0.1:1', { yaml }).settings
    expect(ports.map(({ name, host, port, protocol, proxyProtocol }) => [name, host, port, protocol, proxyProtocol])).toEqual([
      ['--mqtt 127.0.0.1:1', '127.0.0.1', 1, 'Mqtt', null],
      ['BrokerListener test port 1884', '127.0.0.1', 1884, 'Mqtt', null],
      ['BrokerListener test port 8084', '127.0.0.1', 8084, 'WebSockets', { trustedSources: ['10.0.0.0/8'] }],
    ])
  })

  test('with --allow-anonymous-remote its ports bind to every address', () => {
    const yaml = listen('[{port: 1884}]')
    expect(load('--config x --allow-anonymous-remote', { yaml }).settings.ports[0]!.host).toBe('0.0.0.0')
    expect(faults('--config x', { yaml: listen('[{port: 1884, host: 0.0.0.0}]') })[0]).toMatch(
      /^BrokerListener test port 1884: 0\.0\.0\.0:1884 can be reached/,
    )
  })

  const open = (world: World) => load('--config x', world).settings.ports.flatMap(({ port, closed }) => (closed === null ? [port] : []))
  const reasons = (world: World) => load('--config x', world).settings.ports.flatMap(({ closed }) => closed?.reason ?? [])

  test('a port whose policy is not there stays closed, others open', () => {
    const yaml = listen('[{port: 1, authenticationRef: who}, {port: 2}]')
    expect([open({ yaml }), reasons({ yaml })]).toEqual([[2], ['there is no BrokerAuthentication who']])
    const known = { ...yaml, 'a.yaml': authenticationYaml('who', '[{method: Password, passwordSettings: {secretRef: p}}]') }
    expect([open({ yaml: known }), reasons({ yaml: known })]).toEqual([[1, 2], []])
    const unruled = { ...known, ...listen('[{port: 1, authenticationRef: who, authorizationRef: what}, {port: 2}]') }
    expect([open({ yaml: unruled }), reasons({ yaml: unruled })]).toEqual([[2], ['there is no BrokerAuthorization what']])
  })

  test('a port with a policy is open to other machines, and says who judges', () => {
    const yaml = {
      ...listen('[{port: 1, authenticationRef: who, authorizationRef: what}]'),
      'a.yaml': authenticationYaml('who', '[{method: Password, passwordSettings: {secretRef: p}}]'),
      'b.yaml': authorizationYaml('what', '{onUpdate: Reevaluate, disconnectWithinSeconds: 7}'),
    }
    const [port] = load('--config x', { yaml }).settings.ports
    expect(port).toMatchObject({
      host: '0.0.0.0',
      rules: { onUpdate: 'Reevaluate', disconnectWithinMs: 7_000, disconnectsOnExpiry: false },
    })
    const { authentication, authorizations } = port!.rules.policy!
    expect([authentication.name, authorizations.map(({ name }) => name)]).toEqual(['who', ['what']])
    expect(authentication.version).toMatch(/^[0-9a-f]{16}$/)
  })

  test('clients are asked for a certificate when a method can do something with it', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-test-'))
    onTestFinished(() => rm(directory, { recursive: true, force: true }))
    const pki = await createPki(directory)
    const secrets = { 's/tls.crt': readFileSync(pki.serverCert, 'utf8'), 's/tls.key': readFileSync(pki.serverKey, 'utf8') }
    const asked = (methods: string, configMaps: Record<string, string>) => {
      const yaml = {
        ...listen('[{port: 1, authenticationRef: who, tls: {mode: Manual, manual: {secretRef: s}}}]'),
        'a.yaml': authenticationYaml('who', methods),
      }
      const { tls, closed } = load('--config x', { yaml, secrets, configMaps }).settings.ports[0]!
      return closed?.reason ?? [tls!.clientCertificate, tls!.clientCa !== null]
    }
    const trust = { 'client-ca/any.pem': readFileSync(pki.ca, 'utf8') }
    const [x509, custom, password] = [
      '{method: X509, x509Settings: {}}',
      '{method: Custom, customSettings: {endpoint: "https://127.0.0.1:1"}}',
      '{method: Password, passwordSettings: {secretRef: p}}',
    ]
    expect(asked(`[${x509}]`, trust)).toEqual(['require', true])
    expect(asked(`[${x509}, ${custom}]`, trust)).toEqual(['request', true])
    expect(asked(`[${custom}]`, trust)).toEqual(['request', false])
    expect(asked(`[${password}]`, trust)).toEqual(['none', false])
    expect(asked(`[${x509}]`, {})).toBe('ConfigMap client-ca has no certificate to trust')
  })

  test('a port whose secret is missing or broken stays closed with the reason', () => {
    const issuer = 'certManagerCertificateSpec: {issuerRef: {name: i, kind: Issuer}}'
    const yaml = listen(`[{port: 1, tls: {mode: manual, manual: {secretRef: s}}}, {port: 2, tls: {mode: Automatic, ${issuer}}}, {port: 3}]`)
    expect(reasons({ yaml })).toEqual([
      'secret s has no tls.crt',
      'secret test-2-tls has no tls.crt, which cert-manager writes in Kubernetes',
    ])
    expect(reasons({ yaml, secrets: { 's/tls.crt': 'x' } })[0]).toBe('secret s has no tls.key')
    expect(reasons({ yaml, secrets: { 's/tls.crt': 'x', 's/tls.key': 'not a key' } })[0]).toMatch(
      /^secret s: certificate and key cannot be used: /,
    )
  })

  test('Broker fields set their limits', () => {
    const spec = `{memoryProfile: low, highPriorityMessagesBackpressureHandling: reject, diagnostics: {logs: {level: debug}},
      cardinality: {frontend: {replicas: 2}}, advanced: {encryptInternalTraffic: enabled, clients: {maxSessionExpirySeconds: 60,
      maxMessageExpirySeconds: 30, maxPacketSizeBytes: 268435456, subscriberQueueLimit: {length: 9223372036854775807, strategy: dropOldest},
      maxReceiveMaximum: 5, maxKeepAliveSeconds: 0}}}`
    const { settings } = load('--config x --mqtt 127.0.0.1:0', { yaml: { 'b.yaml': brokerYaml(spec) } })
    expect(settings.logLevel).toBe('debug')
    expect(settings.limits).toMatchObject({
      memoryProfile: 'Low',
      highPriorityMessagesBackpressureHandling: 'Reject',
      maxSessionExpirySeconds: 60,
      maxMessageExpirySeconds: 30,
      packetBytesMax: 16 * 1024 * 1024,
      queueMessagesMax: Number.MAX_SAFE_INTEGER,
      queueStrategy: 'DropOldest',
      inflightMax: 5,
      serverKeepAliveSeconds: 0,
    })
  })

  test('no port at all is a fault', () => {
    expect(faults('--config x', { yaml: {} })).toEqual(['no port to listen on: give --mqtt or --ws, or a BrokerListener in --config'])
  })
})

describe('TLS by flags', () => {
  test('needs certificate and key, and says which file cannot be read or used', () => {
    expect(faults('--mqtts 127.0.0.1:1')).toEqual(['flags --mqtts and --wss: need --tls-cert FILE and --tls-key FILE'])
    expect(faults('--mqtts 127.0.0.1:1 --tls-cert c --tls-key k', { files: { c: 'x' } })).toEqual([
      "flag --tls-key: ENOENT: no such file, open 'k'",
    ])
    expect(faults('--mqtts 127.0.0.1:1 --tls-cert c --tls-key k', { files: { c: 'x', k: 'SECRET' } })[0]).toMatch(
      /certificate and key cannot be used: (?!.*SECRET)/,
    )
  })
})

describe('help and docs', () => {
  test('docs/settings.md is up to date: npm run settings', () => {
    expect(readFileSync(new URL('../../docs/settings.md', import.meta.url), 'utf8')).toBe(settingsPage(ALL_SETTINGS))
  })

  test('help lists every flag', () => {
    const help = flagsHelp(START_SETTINGS)
    for (const { settings } of START_SETTINGS)
      for (const name of Object.keys(settings)) expect(help).toContain(`--${name.replaceAll(/[A-Z]/g, upper => `-${upper.toLowerCase()}`)}`)
    expect(Math.max(...help.split('\n').map(line => line.length))).toBeLessThanOrEqual(100)
  })
})

function brokerYaml(spec: string): string {
  return `apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: Broker
metadata: {name: default, namespace: azure-iot-operations}
spec: ${spec}
`
}

function authenticationYaml(name: string, methods: string): string {
  return `apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerAuthentication
metadata: {name: ${name}}
spec: {authenticationMethods: ${methods}}
`
}

function authorizationYaml(name: string, policies: string): string {
  return `apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerAuthorization
metadata: {name: ${name}}
spec: {authorizationPolicies: ${policies}}
`
}

function listenerYaml(ports: string): string {
  return `apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerListener
metadata: {name: test}
spec:
  serviceType: loadBalancer
  ports: ${ports}
`
}
