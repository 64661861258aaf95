import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import type { ResourceFiles } from '../resources/resource-directory.ts'
import { ALL_SETTINGS } from './all-settings.ts'
import { loadBrokerSettings, START_SETTINGS, type Surroundings } from './load-broker-settings.ts'
import { SettingsError } from './settings-error.ts'
import { flagsHelp, settingsPage } from './settings-page.ts'

const GIB = 1024 ** 3

interface World {
  readonly environment?: Record<string, string>
  readonly yaml?: Record<string, string>
  readonly secrets?: Record<string, string>
  readonly files?: Record<string, string>
}

function surroundings({ environment = {}, yaml = {}, secrets = {}, files = {} }: World): Surroundings {
  const resources: ResourceFiles = {
    yaml: Object.entries(yaml).map(([file, text]) => ({ file, text })),
    secret: (name, key) => secrets[`${name}/${key}`] ?? null,
  }
  const readFile = (path: string): string => {
    if (files[path] === undefined) throw new Error(`ENOENT: no such file, open '${path}'`)
    return files[path]
  }
  return { environment, memory: { totalBytes: 16 * GIB, constrainedBytes: 4 * GIB }, readFile, openResources: () => resources }
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
    expect(settings.listeners.map(({ host, port, protocol, tls }) => [host, port, protocol, tls])).toEqual([
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
    expect(settings.listeners.map(({ host, port }) => [host, port])).toEqual([
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
    const ports = (args: string) => load(args, { environment: given }).settings.listeners.map(({ port }) => port)
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
    const { listeners } = load('--config x --mqtt 127.0.0.1:1', { yaml }).settings
    expect(listeners.map(({ name, host, port, protocol, proxyProtocol }) => [name, host, port, protocol, proxyProtocol])).toEqual([
      ['--mqtt 127.0.0.1:1', '127.0.0.1', 1, 'Mqtt', null],
      ['BrokerListener test port 1884', '127.0.0.1', 1884, 'Mqtt', null],
      ['BrokerListener test port 8084', '127.0.0.1', 8084, 'WebSockets', { trustedSources: ['10.0.0.0/8'] }],
    ])
  })

  test('with --allow-anonymous-remote its ports bind to every address', () => {
    const yaml = listen('[{port: 1884}]')
    expect(load('--config x --allow-anonymous-remote', { yaml }).settings.listeners[0]!.host).toBe('0.0.0.0')
    expect(faults('--config x', { yaml: listen('[{port: 1884, host: 0.0.0.0}]') })[0]).toMatch(
      /^l\.yaml:\d: spec\.ports\[0\]: 0\.0\.0\.0:1884 can be reached/,
    )
  })

  test('a port that asks for authentication stays closed, others open', () => {
    const { listeners, closedListeners } = load('--config x', {
      yaml: listen('[{port: 1, authenticationRef: default}, {port: 2}]'),
    }).settings
    expect(listeners.map(({ port }) => port)).toEqual([2])
    expect(closedListeners).toEqual([
      { name: 'BrokerListener test port 1', host: '127.0.0.1', port: 1, reason: 'authentication is not available in this version' },
    ])
  })

  test('a port whose secret is missing or broken stays closed with the reason', () => {
    const yaml = listen('[{port: 1, tls: {mode: manual, manual: {secretRef: s}}}, {port: 2, tls: {mode: Automatic}}, {port: 3}]')
    const reasons = (secrets: Record<string, string>) =>
      load('--config x', { yaml, secrets }).settings.closedListeners.map(({ reason }) => reason)
    expect(reasons({})).toEqual(['secret s has no tls.crt', 'tls.mode Automatic needs cert-manager and is not available in this version'])
    expect(reasons({ 's/tls.crt': 'x' })[0]).toBe('secret s has no tls.key')
    expect(reasons({ 's/tls.crt': 'x', 's/tls.key': 'not a key' })[0]).toMatch(/^secret s: certificate and key cannot be used: /)
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
    expect(faults('--config x')).toEqual(['no port to listen on: give --mqtt or --ws, or a BrokerListener in --config'])
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

function listenerYaml(ports: string): string {
  return `apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerListener
metadata: {name: test}
spec:
  serviceType: loadBalancer
  ports: ${ports}
`
}
