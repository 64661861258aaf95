import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { snapshotOf } from '../resources/snapshot-of.contract.ts'
import { createPki } from './pki.ts'
import { variableName } from './read-settings.ts'
import { CLUSTER_SETTINGS, loadClusterSettings } from './cluster-settings.ts'
import {
  AUTHSVC_SETTINGS,
  BACKEND_SETTINGS,
  FRONTEND_SETTINGS,
  loadAuthsvcSettings,
  loadBackendSettings,
  loadFrontendSettings,
  type RoleSurroundings,
} from './load-role-settings.ts'
import { SettingsError } from './settings-error.ts'
import { flagsHelp } from './settings-page.ts'

const KEY = 'k'.repeat(32)
const PASSWORD = 'hunter2hunter2'

interface World {
  readonly environment?: Record<string, string>
  readonly files?: Record<string, string>
  readonly yaml?: string
}

function surroundings({ environment = { MILLRACE_CLUSTER_KEY: KEY }, files = {}, yaml }: World): RoleSurroundings {
  const readFile = (path: string): string => {
    if (files[path] === undefined) throw new Error(`ENOENT: no such file, open '${path}'`)
    return files[path]
  }
  return {
    environment,
    hostName: 'pod-7',
    memory: { totalBytes: 2 ** 34, constrainedBytes: 0 },
    readFile,
    snapshot: yaml === undefined ? null : snapshotOf({ yaml: { 'b.yaml': yaml } }),
  }
}

const words = (args: string): readonly string[] => args.split(' ').filter(Boolean)
const REDIS = '--redis redis://127.0.0.1'
const backend = (args: string, world: World = {}) => loadBackendSettings(words(`${REDIS} ${args}`), surroundings(world))
const frontend = (args: string, world: World = {}) => loadFrontendSettings(words(`${REDIS} ${args}`), surroundings(world))

function faults(load: () => unknown): readonly string[] {
  try {
    load()
  } catch (error) {
    if (error instanceof SettingsError) return error.faults
    throw error
  }
  return []
}

describe('a backend', () => {
  test('has defaults for everything but Redis and the key', () => {
    expect(backend('').settings).toMatchObject({
      clusterName: 'millrace',
      id: 'pod-7',
      clusterKey: KEY,
      rpcTls: null,
      rpc: { host: '127.0.0.1', port: 7883 },
      advertise: null,
      redundancyFactor: 1,
      persistence: 'stored',
      metrics: { host: '127.0.0.1', port: 9600 },
      limits: { shards: 32 },
    })
  })

  test('waits for copies when there are some, unless told otherwise', () => {
    expect(backend('--redundancy-factor 2').settings.persistence).toBe('replicated')
    expect(backend('--redundancy-factor 2 --persistence MEMORY').settings.persistence).toBe('memory')
  })

  test('takes links on a Unix socket', () => {
    expect(backend('--rpc unix:/run/m.sock').settings.rpc).toEqual({ path: '/run/m.sock' })
  })

  test('says which address others dial when it binds to all', () => {
    expect(faults(() => backend('--rpc 0.0.0.0:7883'))).toEqual([expect.stringContaining('--advertise says which one')])
    expect(backend('--rpc 0.0.0.0:7883 --advertise 10.0.0.7:7883').settings.advertise).toEqual({
      host: '10.0.0.7',
      port: 7883,
    })
    expect(faults(() => backend('--advertise [::]:1'))).toEqual([expect.stringContaining('nobody can dial that')])
  })

  test.each([
    ['--redis-tls-cert c', 'flags --redis-tls-cert, --redis-tls-key: each needs the other'],
    ['--rpc unix:relative', 'flag --rpc: expected HOST:PORT or unix:PATH with an absolute path'],
    ['--rpc nowhere', 'flag --rpc: expected HOST:PORT or unix:PATH'],
    [`--rpc unix:/${'x'.repeat(107)}`, 'flag --rpc: expected'],
    ['--cluster-name Plant', 'flag --cluster-name: expected small letters'],
    ['--cluster-name a{b}', 'flag --cluster-name: expected small letters'],
    ['--id a/b', 'flag --id: expected letters, digits'],
    ['--persistence sometimes', 'flag --persistence: expected one of memory, stored, replicated, fsynced'],
    ['--redundancy-factor 6', 'flag --redundancy-factor: expected a whole number from 1 to 5 copies'],
    ['--mqtt 127.0.0.1:1', 'flag --mqtt: there is no such flag'],
    ['--rpc-tls-cert c', 'mutual TLS needs --rpc-tls-cert FILE, --rpc-tls-key FILE and --rpc-tls-ca FILE'],
    ['--encrypt-internal-traffic enabled', 'encryptInternalTraffic is Enabled: mutual TLS needs'],
  ])('%s is refused', (args, fault) => {
    expect(faults(() => backend(args))[0]).toContain(fault)
  })

  test('reads its cardinality and what must be encrypted from the Broker resource', () => {
    const yaml = brokerYaml('{cardinality: {frontend: {replicas: 2, workers: 4}, backendChain: {partitions: 2, redundancyFactor: 2}}}')
    expect(backend('--config x', { yaml }).settings).toMatchObject({ redundancyFactor: 2, persistence: 'replicated' })
    expect(frontend('--config x --mqtt 127.0.0.1:0', { yaml }).settings.workers).toBe(4)
    expect(frontend('--config x --mqtt 127.0.0.1:0 --workers 1', { yaml }).settings.workers).toBe(1)
    const encrypted = brokerYaml('{advanced: {encryptInternalTraffic: Enabled}}')
    expect(faults(() => backend('--config x', { yaml: encrypted }))).toEqual([expect.stringContaining('encryptInternalTraffic is Enabled')])
  })
})

describe('an authsvc', () => {
  const authsvc = (args: string) => loadAuthsvcSettings(words(`${REDIS} ${args}`), surroundings({}))

  test('takes links where no backend of the same machine does', () => {
    expect(authsvc('').settings).toMatchObject({ rpc: { host: '127.0.0.1', port: 7884 }, advertise: null })
    expect(authsvc('--rpc unix:/run/a.sock').settings.rpc).toEqual({ path: '/run/a.sock' })
  })

  test('says which address others dial when it binds to all', () => {
    expect(faults(() => authsvc('--rpc [::]:7884'))).toEqual([expect.stringContaining('--advertise says which one')])
    expect(authsvc('--rpc [::]:7884 --advertise 10.0.0.7:0').settings.advertise).toEqual({ host: '10.0.0.7', port: 0 })
  })
})

describe('mutual TLS of links', () => {
  test('takes a certificate for both ends only', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-test-'))
    onTestFinished(() => rm(directory, { recursive: true }))
    const pki = await createPki(directory)
    const load = (cert: string, key: string, ca: string) => {
      const files = Object.fromEntries([cert, key, ca].map(file => [file, readFileSync(file, 'utf8')]))
      return backend(`--rpc-tls-cert ${cert} --rpc-tls-key ${key} --rpc-tls-ca ${ca}`, { environment: {}, files }).settings
    }
    const { rpcTls, clusterKey } = load(pki.memberCert, pki.memberKey, pki.memberCa)
    expect([rpcTls?.serverName, clusterKey]).toEqual(['', null])
    expect(faults(() => load(pki.serverCert, pki.serverKey, pki.ca))[0]).toContain('extended key usage serverAuth and clientAuth')
    expect(faults(() => load(pki.memberCert, pki.serverKey, pki.ca))[0]).toContain('certificate and key cannot be used')
  })
})

describe('a frontend', () => {
  test('listens as a standalone broker does, and keeps a port with authentication closed', () => {
    expect(frontend('').settings.ports.map(({ port, protocol }) => [port, protocol])).toEqual([
      [1883, 'Mqtt'],
      [8083, 'WebSockets'],
    ])
    const yaml = `apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerListener
metadata: {name: l}
spec: {ports: [{port: 1, authenticationRef: default}, {port: 2}]}
`
    const { ports } = frontend('--config x', { yaml }).settings
    expect(ports.map(({ closed }) => closed?.reason ?? null)).toEqual(['there is no BrokerAuthentication default', null])
  })

  test('needs --allow-anonymous-remote for other machines', () => {
    expect(faults(() => frontend('--mqtt 0.0.0.0:1883'))).toEqual([expect.stringContaining('--allow-anonymous-remote')])
  })
})

describe('secrets', () => {
  test('a process without a proof of membership does not start', () => {
    expect(faults(() => backend('', { environment: {} }))).toEqual([
      expect.stringContaining('environment MILLRACE_CLUSTER_KEY: is missing'),
    ])
    expect(faults(() => backend('', { environment: { MILLRACE_CLUSTER_KEY: 'short' } }))).toEqual([
      expect.stringContaining('at least 16 characters'),
    ])
  })

  test('the key and the password may come from files, a line end not counting', () => {
    const files = { key: `${KEY}\n`, password: `${PASSWORD}\r\n` }
    const { settings } = backend('--cluster-key-file key --redis-password-file password', { environment: {}, files })
    expect([settings.clusterKey, settings.redis.password]).toEqual([KEY, PASSWORD])
    expect(faults(() => backend('--cluster-key-file key', { files }))).toEqual([expect.stringContaining('keep one of them')])
    expect(faults(() => backend('--cluster-key-file none', { environment: {} }))[0]).toContain('flag --cluster-key-file: ENOENT')
  })

  test('no flag takes them', () => {
    expect(faults(() => backend(`--cluster-key ${KEY}`))).toEqual([
      'flag --cluster-key: a command line is no place for a secret; set MILLRACE_CLUSTER_KEY in the environment',
    ])
  })

  test('a password in a URL is never repeated, and warned of on the command line only', () => {
    const load = (url: string) => loadAuthsvcSettings(['--redis', url], surroundings({}))
    const { settings, warnings } = load(`redis://:${PASSWORD}@127.0.0.1`)
    expect(settings.redis.password).toBe(PASSWORD)
    expect(warnings).toEqual([expect.stringContaining('MILLRACE_REDIS')])
    expect(JSON.stringify(warnings)).not.toContain(PASSWORD)
    for (const url of [`redis://u:${PASSWORD}@host:port`, `http://:${PASSWORD}@host`, `redis://:${PASSWORD}@a,b`]) {
      const found = faults(() => load(url))
      expect(found).toEqual([expect.stringContaining('flag --redis: ')])
      expect(found[0]).not.toContain(PASSWORD)
    }
    const environment = { MILLRACE_CLUSTER_KEY: KEY, MILLRACE_REDIS: `redis://:${PASSWORD}@127.0.0.1` }
    expect(loadAuthsvcSettings([], surroundings({ environment })).warnings).toEqual([])
  })

  test('Redis must be named', () => {
    expect(faults(() => loadAuthsvcSettings([], surroundings({})))).toEqual([expect.stringContaining('flag --redis: is missing')])
  })
})

describe('a cluster', () => {
  const cluster = (args: string, world: World = {}) => loadClusterSettings(words(args), surroundings(world)).settings

  test('passes on what it was given, to those whom it concerns', () => {
    const settings = cluster('--frontends 3 --log-level=warn --shards 8 --proxy-protocol 127.0.0.0/8 --redundancy-factor 2 --no-restart')
    expect(settings).toMatchObject({ frontends: 3, backends: 2, authsvcs: 1, redis: null, restarts: false, persistence: 'replicated' })
    expect(settings.flagsForAll).toEqual(['--log-level=warn', '--shards=8'])
    expect(settings.flagsForFrontends).toEqual(['--proxy-protocol=127.0.0.0/8'])
  })

  test.each([
    ['--backends 0', 'flag --backends: expected a whole number from 1 to 30 processes'],
    ['--base-port 65000', 'flag --base-port: expected a whole number from 0 to 64536'],
    ['--redis redis://h --data d', 'flag --data: belongs to a redis-server that the cluster starts'],
    ['--mqtt 127.0.0.1:1', 'flag --mqtt: there is no such flag'],
  ])('%s is refused', (args, fault) => {
    expect(faults(() => cluster(args))).toEqual([expect.stringContaining(fault)])
  })
})

test.each([FRONTEND_SETTINGS, BACKEND_SETTINGS, AUTHSVC_SETTINGS, CLUSTER_SETTINGS])('help lists every setting once (%#)', (...groups) => {
  const help = flagsHelp(groups)
  const names = groups.flatMap(({ settings }) => Object.entries(settings))
  expect(new Set(names.map(([name]) => name)).size).toBe(names.length)
  for (const [name, { isSecret }] of names) if (isSecret) expect(help).toContain(`${variableName(name)} (environment only)`)
  expect(help).not.toMatch(/--cluster-key |--redis-password /)
})

function brokerYaml(spec: string): string {
  return `apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: Broker
metadata: {name: default}
spec: ${spec}
`
}
