import { scryptSync } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { makeScramKey } from '../../authsvc/credentials/scram-key.ts'
import { CuttingProxy } from '#shared/testing/cutting-proxy.ts'
import { CustomServer } from '#shared/testing/custom-server.ts'
import { KubernetesApi } from '#shared/testing/kubernetes-api.ts'
import { createTestPki, type TestPki } from '#shared/testing/pki.ts'
import { type RedisServer, startRedis, until } from '#shared/testing/redis-server.ts'
import { freePorts } from '#shared/testing/free-ports.ts'
import { RoleProcess } from '../chaos/role-process.ts'
import type * as packets from '../conformance/packets.ts'
import { RawClient } from '../conformance/raw-client.ts'
import { ScramExchange } from '../clients/scram.ts'
import { ResourceDirectory } from './directory.ts'

/** Waits end long before this on an idle machine; this one has much else to do. */
export const PATIENCE_MS = 90_000
const HOST = '127.0.0.1'
/** Of a log, in a message about a cluster that does not start. */
const LOG_SHOWN = 2_000
const CLUSTER_KEY = 'a key that only tests have: authentication faults'
export const AUDIENCE = 'millrace'
const ACCOUNT = 'sensor'
/** Of that account. */
const ATTRIBUTES = { role: 'sensor' }
/** Common Name of the test certificate. */
const CERTIFIED = 'millrace-client'
const DRAIN_TIMEOUT_MS = 60_000
/** Users whose passwords take some time to check, so that something can happen meanwhile. */
export const SLOW_USERS = 32

/** Ports of the one BrokerListener, by the BrokerAuthentication of each. */
const AUTHENTICATIONS = {
  password: [{ method: 'Password', passwordSettings: { secretRef: 'users' } }],
  scram: [{ method: 'Scram', scramSettings: { secretRef: 'users' } }],
  x509: [{ method: 'X509', x509Settings: { trustedClientCaCert: 'client-ca' } }],
  sat: [{ method: 'ServiceAccountToken', serviceAccountTokenSettings: { audiences: [AUDIENCE] } }],
  custom: [{ method: 'Custom', customSettings: {} }],
  customThenPassword: [
    { method: 'Custom', customSettings: {} },
    { method: 'Password', passwordSettings: { secretRef: 'users' } },
  ],
} as const
export type Port = keyof typeof AUTHENTICATIONS

/** What a process is told besides what all are told. */
interface LaunchOptions {
  readonly flags?: readonly string[]
  /** Of Node itself. */
  readonly nodeFlags?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  /** Others than those of the cluster. */
  readonly resources?: ResourceDirectory
}

/** Who is asked what is impaired. */
type Sayers = 'all' | 'frontend' | 'services'

/** One `millrace authsvc` process behind a proxy, whose port is what it advertises. */
export interface Service {
  readonly process: RoleProcess
  readonly proxy: CuttingProxy
}

/** Users who can come in by Password and by Scram, their password being their name; always the same, as another salt would be another password. */
export const USERS: readonly { readonly name: string }[] = [...quickUsers(), ...slowUsers()]

function quickUsers(): { readonly name: string }[] {
  return ['alice', 'bob', 'background'].map(name => ({
    name,
    password: scryptText(name, 10),
    scram: [makeScramKey('SCRAM-SHA-256', name)],
  }))
}

function slowUsers(): { readonly name: string }[] {
  // One hash for all: what is remembered of a password is kept by user.
  const password = scryptText('slow', 14)
  return Array.from({ length: SLOW_USERS }, (_, at) => ({ name: `slow-${at}`, password }))
}

/** @param costLog2 binary logarithm of N: 10 takes a few milliseconds, 14 some 60 */
function scryptText(password: string, costLog2: number): string {
  const salt = Buffer.from('salt of the tests')
  const hash = scryptSync(password, salt, 32, { N: 2 ** costLog2, r: 8, p: 1, maxmem: 2 ** 28 })
  const [saltText, hashText] = [salt, hash].map(bytes => bytes.toString('base64').replace(/=+$/, ''))
  return `$scrypt$ln=${costLog2},r=8,p=1$${saltText}$${hashText}`
}

/** Redis, a backend, a frontend and two authentication services as processes, with all that they ask of others: on loopback, behind proxies. */
export class FaultCluster {
  readonly resources: ResourceDirectory
  readonly services: Service[] = []
  readonly deaths: string[] = []
  pki!: TestPki
  redis!: RedisServer
  api!: KubernetesApi
  custom!: CustomServer
  apiProxy!: CuttingProxy
  customProxy!: CuttingProxy
  frontend!: RoleProcess
  readonly #folder: string
  readonly #ports = new Map<Port, number>()
  readonly #clients: RawClient[] = []
  #backend!: RoleProcess
  #clientCount = 0

  static async start(): Promise<FaultCluster> {
    const cluster = new FaultCluster(await mkdtemp(join(tmpdir(), 'millrace-faults-')))
    try {
      await cluster.#start()
      return cluster
    } catch (error) {
      const why = await cluster.#whyNot()
      await cluster.close()
      throw new Error(`the cluster does not start: ${why}`, { cause: error })
    }
  }

  private constructor(folder: string) {
    this.#folder = folder
    this.resources = new ResourceDirectory(join(folder, 'config'))
  }

  async #start(): Promise<void> {
    await mkdir(this.resources.path)
    this.pki = await createTestPki()
    ;[this.redis, this.api, this.custom] = await Promise.all([startRedis(), KubernetesApi.open(), CustomServer.start({ tls: this.pki })])
    const annotations = Object.fromEntries(Object.entries(ATTRIBUTES).map(([name, value]) => [`aio-broker-auth/${name}`, value]))
    this.api.createServiceAccount(this.api.namespace, ACCOUNT, annotations)
    this.apiProxy = await CuttingProxy.open({ host: HOST, port: this.api.port })
    this.customProxy = await CuttingProxy.open({ host: HOST, port: this.custom.port })
    await this.#writeResources()
    this.#backend = this.#process('b0')
    this.frontend = this.#process('f0')
    for (const name of ['a0', 'a1']) {
      this.services.push({ process: this.#process(name), proxy: await CuttingProxy.open({ host: HOST, port: 1 }) })
    }
    const [rpc] = await freePorts(1)
    await this.#launch(this.#backend, 'backend', { flags: ['--rpc', `${HOST}:${rpc}`] })
    for (const service of this.services) await this.launch(service)
    await this.#launch(this.frontend, 'frontend', { flags: ['--admin', 'off'] })
    await this.healthy()
    await until(async () => (await this.frontend.unready()) === null, 'the frontend serves', PATIENCE_MS)
  }

  /** For a message: who died, who is not ready, and the last that each has said. */
  async #whyNot(): Promise<string> {
    const processes = [this.#backend, this.frontend, ...this.services.map(({ process }) => process)]
    const texts = processes.map(async each => {
      if (each === undefined) return 'was not made'
      const log = await readFile(join(this.#folder, `${each.name}.log`), 'utf8').catch(() => '')
      return `${(await each.unready()) ?? `${each.name}: ready`}\n${log.slice(-LOG_SHOWN)}`
    })
    return [...this.deaths, ...(await Promise.all(texts))].join('\n')
  }

  #process(name: string): RoleProcess {
    return new RoleProcess(name, this.#folder, what => this.deaths.push(what))
  }

  async #launch(
    process: RoleProcess,
    role: string,
    { flags = [], nodeFlags = [], environment = {}, resources = this.resources }: LaunchOptions,
  ): Promise<void> {
    const forAll = ['--id', process.name, '--redis', this.redis.url, '--cluster-name', 'faults', '--shards', '4', '--log-level', 'info']
    const all = { MILLRACE_CLUSTER_KEY: CLUSTER_KEY, KUBECONFIG: await this.kubeconfig(this.apiProxy.port), ...environment }
    const config = role === 'backend' ? [] : ['--config', resources.path]
    await process.launch([role, ...forAll, ...config, ...flags], all, nodeFlags)
  }

  /** A file that names the API server as one of this port. */
  async kubeconfig(port: number): Promise<string> {
    const file = join(this.#folder, `kubeconfig-${port}`)
    const text = await readFile(this.api.environment['KUBECONFIG']!, 'utf8')
    await writeFile(file, text.replaceAll(`:${this.api.port}`, `:${port}`))
    return file
  }

  async #writeResources(): Promise<void> {
    const { resources, pki } = this
    const names = Object.keys(AUTHENTICATIONS) as Port[]
    const numbers = await freePorts(names.length)
    for (const [at, name] of names.entries()) this.#ports.set(name, numbers[at]!)
    await resources.write('secrets/server-tls/tls.crt', pki.serverCert)
    await resources.write('secrets/server-tls/tls.key', pki.serverKey)
    await resources.write('configmaps/client-ca/ca.crt', pki.ca)
    await resources.write('configmaps/server-ca/ca.crt', pki.ca)
    await resources.users('users', USERS)
    const customSettings = { endpoint: `https://${HOST}:${this.customProxy.port}`, caCertConfigMap: 'server-ca' }
    for (const name of names) {
      const methods = AUTHENTICATIONS[name].map(each => (each.method === 'Custom' ? { ...each, customSettings } : each))
      await resources.resource('BrokerAuthentication', name.toLowerCase(), { authenticationMethods: methods })
    }
    const brokerResources = [
      { method: 'Connect' },
      { method: 'Publish', topics: ['background/#'] },
      { method: 'Subscribe', topics: ['background/#'] },
    ]
    const usernames = [...USERS.map(({ name }) => name), CERTIFIED]
    const rules = [{ usernames }, { attributes: [ATTRIBUTES] }].map(principals => ({ principals, brokerResources }))
    await resources.resource('BrokerAuthorization', 'everything', { authorizationPolicies: { rules } })
    const ports = names.map(name => ({
      port: this.#ports.get(name),
      host: HOST,
      authenticationRef: name.toLowerCase(),
      authorizationRef: 'everything',
      ...(name === 'x509' && { tls: { mode: 'Manual', manual: { secretRef: 'server-tls' } } }),
    }))
    await resources.resource('BrokerListener', 'all', { ports })
  }

  portOf(port: Port): number {
    return this.#ports.get(port)!
  }

  /** Started (again), with its link open to frontends. Returns before it serves. */
  async launch({ process, proxy }: Service, { flags = [], ...options }: LaunchOptions = {}): Promise<void> {
    const [rpc] = await freePorts(1)
    proxy.target = { host: HOST, port: rpc! }
    await proxy.accept()
    const addresses = ['--rpc', `${HOST}:${rpc}`, '--advertise', `${HOST}:${proxy.port}`]
    await this.#launch(process, 'authsvc', { ...options, flags: [...addresses, ...flags] })
  }

  /** Both services again, as told. */
  async relaunch(options: LaunchOptions): Promise<void> {
    await Promise.all(this.services.map(each => this.kill(each)))
    await this.linked(0)
    for (const service of this.services) await this.launch(service, options)
    await this.linked(this.services.length)
  }

  /** SIGKILL; its port refuses from then on, as that of a dead process does. */
  async kill({ process, proxy }: Service): Promise<void> {
    const gone = process.kill()
    await proxy.refuse()
    await gone
  }

  /** SIGTERM; returns when it has ended. */
  async drain({ process, proxy }: Service): Promise<void> {
    await process.drain(DRAIN_TIMEOUT_MS)
    await proxy.refuse()
  }

  /** The frontend can ask so many services. */
  async linked(count: number): Promise<void> {
    const isLinked = async (): Promise<boolean> => {
      // With a cause: nothing is waited for any more.
      if (this.deaths.length > 0) throw new Error(this.deaths.join('; '), { cause: this.deaths })
      return (await this.frontend.metric('millrace_authentication_services')) === count
    }
    await until(isLinked, `${count} services are linked`, PATIENCE_MS)
  }

  /** Both services run and can be asked. */
  async healthy(): Promise<void> {
    for (const service of this.services) if (!service.process.isRunning) await this.launch(service)
    await this.linked(this.services.length)
  }

  /** Waits until the frontend's calls, added up under `name`, are as `isEnough` wants them; a busy process may be asked several times. */
  async calls(name: 'open' | 'resent_total', isEnough: (count: number) => boolean): Promise<void> {
    const metric = `millrace_authentication_calls_${name}`
    await until(async () => isEnough(await this.frontend.metric(metric)), `${metric} is as wanted`, PATIENCE_MS)
  }

  /** Waits until a counter or gauge of one of the services is not 0. */
  async serviceCounts(name: string): Promise<void> {
    const isAny = async (): Promise<boolean> => {
      const values = await Promise.all(this.services.map(({ process }) => process.metric(name)))
      return values.some(each => each > 0)
    }
    await until(isAny, `a service counts ${name}`, PATIENCE_MS)
  }

  async logOf({ process }: Service): Promise<string> {
    return await readFile(join(this.#folder, `${process.name}.log`), 'utf8')
  }

  /** Waits until what each of them says is impaired holds `text`. */
  async saysImpaired(text: string, of: Sayers = 'all'): Promise<void> {
    await this.#untilImpaired(of, said => said.every(each => each.includes(text)), `all say ${text}`)
  }

  /** Waits until none of them says that anything is. */
  async unimpaired(): Promise<void> {
    await this.#untilImpaired('all', said => said.every(each => each === ''), 'nothing is impaired')
  }

  async #untilImpaired(of: Sayers, isEnough: (said: readonly string[]) => boolean, what: string): Promise<void> {
    const processes = [
      ...(of === 'services' ? [] : [this.frontend]),
      ...(of === 'frontend' ? [] : this.services.map(({ process }) => process)),
    ]
    const ask = async (): Promise<boolean> => {
      const said = await Promise.all(processes.map(each => each.impaired()))
      return isEnough(said.map(texts => texts.join('\n')))
    }
    // One that is too busy to answer is asked again.
    await until(() => ask().catch(() => false), what, PATIENCE_MS)
  }

  /** A connection without any MQTT on it; dropped when the cluster is closed. */
  async open(port: Port, version: packets.Version = 5): Promise<RawClient> {
    const client = port === 'x509' ? await this.#openTls(version) : await RawClient.open(HOST, this.portOf(port), version)
    client.patienceMs = PATIENCE_MS
    this.#clients.push(client)
    return client
  }

  async #openTls(version: packets.Version): Promise<RawClient> {
    const { ca, clientCert: cert, clientKey: key } = this.pki
    const socket = connectTls({ host: HOST, port: this.portOf('x509'), ca, cert, key })
    await new Promise<void>((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject))
    return new RawClient(socket, version)
  }

  token(): string {
    return this.api.mintToken({ namespace: this.api.namespace, serviceAccount: ACCOUNT, audiences: [AUDIENCE] })
  }

  uniqueId(): string {
    return `client-${this.#clientCount++}`
  }

  /** Code of CONNACK, of a client that sends `connect` and no more. */
  async codeOf(port: Port, { version = 5, ...connect }: packets.Connect): Promise<number> {
    const client = await this.open(port, version)
    client.sendConnect({ clientId: this.uniqueId(), ...connect })
    const { reason } = await client.expect('connack')
    client.drop()
    return reason
  }

  /** Code of CONNACK of a user whose password is its name. */
  async passwordCode(user = 'alice', version: packets.Version = 5, password = user.replace(/-\d+$/, '')): Promise<number> {
    return await this.codeOf('password', { version, userName: user, password })
  }

  /** The same of many users whose passwords take their time. */
  slowCodes(from: number, to: number): Promise<number>[] {
    return Array.from({ length: to - from }, (_, at) => this.passwordCode(`slow-${from + at}`))
  }

  async satCode(token = this.token()): Promise<number> {
    return await this.codeOf('sat', { properties: { authenticationMethod: 'K8S-SAT', authenticationData: Buffer.from(token) } })
  }

  /** Code of CONNACK of a SCRAM client; `between` runs after the challenge, before its answer. */
  async scramCode(between: () => Promise<void> = () => Promise.resolve()): Promise<number> {
    const client = await this.open('scram')
    const exchange = new ScramExchange('alice', 'alice')
    client.sendConnect({ clientId: this.uniqueId(), properties: exchange.first })
    const final = await exchange.challenged(client)
    await between()
    client.send(final)
    const { reason } = await client.expect('connack')
    client.drop()
    return reason
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.drop()
    const processes = [this.#backend, this.frontend, ...this.services.map(({ process }) => process)]
    await Promise.all(processes.map(each => each?.kill()))
    const proxies = [this.apiProxy, this.customProxy, ...this.services.map(({ proxy }) => proxy)]
    await Promise.all(proxies.map(each => each?.close()))
    await Promise.all([this.api?.close(), this.custom?.close(), this.redis?.dispose()])
    await rm(this.#folder, { recursive: true, force: true })
  }
}
