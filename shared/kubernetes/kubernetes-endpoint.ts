import type { KubeConfig } from '@kubernetes/client-node'
import type { Agent } from 'node:http'
import { existsSync, readFileSync } from 'node:fs'
import type { RequestOptions } from 'node:https'
import { isIPv6 } from 'node:net'
import { delimiter, dirname, join, resolve } from 'node:path'
import { parse } from 'yaml'
import { thrownText } from '../base/thrown.ts'
import type { Timers } from '../base/timers.ts'
import { SettingsError } from '../config/settings-error.ts'
import { fieldsOf } from './kubernetes-object.ts'

/** Where a pod finds who it is. */
const POD_DIRECTORY = '/var/run/secrets/kubernetes.io/serviceaccount'
/** As long as the client of Kubernetes itself keeps what it read: kubelet renews the token long before the old one ends. */
const TOKEN_KEPT_MS = 60_000
const DEFAULT_NAMESPACE = 'default'

/** What a request needs besides its path. */
export interface Credentials {
  readonly headers: Readonly<Record<string, string>>
  readonly tls: Pick<RequestOptions, 'ca' | 'cert' | 'key' | 'passphrase' | 'pfx' | 'servername' | 'rejectUnauthorized'>
  /** The way through a proxy; null: directly. */
  readonly agent: Agent | null
}

/** An API server, and who we are there. */
export interface KubernetesEndpoint {
  /** Its path may begin those of all requests. */
  readonly url: URL
  /** Ours: of the pod, or of the context of the kubeconfig file. */
  readonly namespace: string
  /** @throws {Error} a file is gone, or a plug-in failed */
  credentials(): Promise<Credentials>
  /** The server does not know us any more (401): what was read is read again. */
  renew(): void
}

export interface EndpointOptions {
  readonly timers: Timers
  /** Stands for the place where a pod finds its token. */
  readonly podDirectory?: string
}

/**
 * The API server that `KUBECONFIG` names, or that of the cluster around this pod; null without either. A pod without a token (`automountServiceAccountToken: false`)
 * counts as outside.
 * @param environment MILLRACE's own copy of the environment: the library is never let look for itself, because without a cluster it makes up an address
 * @throws {SettingsError} what is there cannot be read or used
 */
export async function findEndpoint(
  environment: Readonly<Record<string, string | undefined>>,
  { timers, podDirectory = POD_DIRECTORY }: EndpointOptions,
): Promise<KubernetesEndpoint | null> {
  const files = (environment['KUBECONFIG'] ?? '').split(delimiter).filter(file => file !== '')
  if (files.length > 0) return await FileEndpoint.open(files, timers)
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = environment
  if (host === undefined || port === undefined || !existsSync(join(podDirectory, 'token'))) return null
  try {
    return new PodEndpoint(host, port, podDirectory, timers)
  } catch (error) {
    throw new SettingsError([`Kubernetes: ${thrownText(error)}`])
  }
}

/** Inside a cluster. Needs nothing of the library, which would cost every pod 90 MB. */
class PodEndpoint implements KubernetesEndpoint {
  readonly url: URL
  readonly namespace: string
  readonly #directory: string
  readonly #timers: Timers
  #kept: { readonly credentials: Credentials; readonly untilMs: number } | null = null

  constructor(host: string, port: string, directory: string, timers: Timers) {
    this.url = new URL(`https://${isIPv6(host) ? `[${host}]` : host}:${port}`)
    this.#directory = directory
    this.#timers = timers
    this.namespace = this.#read('namespace') || DEFAULT_NAMESPACE
  }

  async credentials(): Promise<Credentials> {
    const nowMs = this.#timers.nowMs()
    if (this.#kept === null || nowMs >= this.#kept.untilMs) {
      const credentials = {
        headers: { authorization: `Bearer ${this.#read('token')}` },
        tls: { ca: this.#read('ca.crt') },
        agent: null,
      }
      this.#kept = { credentials, untilMs: nowMs + TOKEN_KEPT_MS }
    }
    return await Promise.resolve(this.#kept.credentials)
  }

  renew(): void {
    this.#kept = null
  }

  #read(file: string): string {
    return readFileSync(join(this.#directory, file), 'utf8').trim()
  }
}

/** Outside of a cluster: kubeconfig files in all their variety (plug-ins, client certificates, proxies) are the library's matter. */
class FileEndpoint implements KubernetesEndpoint {
  readonly url: URL
  readonly namespace: string
  readonly #files: readonly string[]
  readonly #timers: Timers
  #config: KubeConfig
  #kept: { readonly credentials: Credentials; readonly untilMs: number } | null = null
  #isStale = false

  static async open(files: readonly string[], timers: Timers): Promise<FileEndpoint> {
    try {
      return new FileEndpoint(files, await loadConfig(files), timers)
    } catch (error) {
      throw new SettingsError([`KUBECONFIG ${files.join(delimiter)}: ${thrownText(error)}`])
    }
  }

  private constructor(files: readonly string[], config: KubeConfig, timers: Timers) {
    const cluster = config.getCurrentCluster()
    if (cluster === null) throw new Error('names no cluster: current-context is missing, or its context or cluster is')
    if (!URL.canParse(cluster.server) || new URL(cluster.server).protocol !== 'https:') throw new Error('server is no https:// URL')
    this.url = new URL(cluster.server)
    this.namespace = config.getContextObject(config.getCurrentContext())?.namespace ?? DEFAULT_NAMESPACE
    this.#files = files
    this.#config = config
    this.#timers = timers
  }

  async credentials(): Promise<Credentials> {
    const nowMs = this.#timers.nowMs()
    if (this.#kept !== null && nowMs < this.#kept.untilMs) return this.#kept.credentials
    if (this.#isStale) this.#config = await loadConfig(this.#files)
    this.#isStale = false
    const options: RequestOptions = {}
    await this.#config.applyToHTTPSOptions(options)
    const { ca, cert, key, passphrase, pfx, servername, rejectUnauthorized, auth } = options
    const tls = { ca, cert, key, passphrase, pfx, servername, rejectUnauthorized }
    const credentials = {
      headers: {
        ...(typeof auth === 'string' && { authorization: `Basic ${Buffer.from(auth).toString('base64')}` }),
        ...Object.fromEntries(Object.entries(options.headers ?? {}).map(([name, value]) => [name.toLowerCase(), String(value)])),
      },
      tls: Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined && value !== null)),
      agent: typeof this.#config.getCurrentCluster()?.proxyUrl === 'string' ? (options.agent as Agent) : null,
    }
    this.#kept = { credentials, untilMs: nowMs + TOKEN_KEPT_MS }
    return credentials
  }

  renew(): void {
    this.#kept = null
    this.#isStale = true
  }
}

async function loadConfig(files: readonly string[]): Promise<KubeConfig> {
  const library = await import('@kubernetes/client-node')
  const configs = files.map(file => {
    const config = new library.KubeConfig()
    config.loadFromFile(file)
    addTokenFiles(config, file)
    return config
  })
  const [first, ...others] = configs
  if (first === undefined) throw new Error('names no file')
  // As kubectl does: the first file that names a context decides.
  for (const other of others) first.mergeConfig(other, Boolean(first.currentContext))
  return first
}

/** The library knows `tokenFile` of a user only as a plug-in, which reads the file again by itself. */
function addTokenFiles(config: KubeConfig, file: string): void {
  const { users } = fieldsOf(parse(readFileSync(file, 'utf8')))
  for (const entry of Array.isArray(users) ? (users as readonly unknown[]) : []) {
    const { name, user } = fieldsOf(entry)
    const { tokenFile } = fieldsOf(user)
    const found = config.getUsers().findIndex(each => each.name === name)
    if (typeof tokenFile !== 'string' || found < 0) continue
    const authProvider = { name: 'tokenFile', config: { tokenFile: resolve(dirname(file), tokenFile) } }
    config.getUsers()[found] = { ...config.getUsers()[found]!, authProvider }
  }
}
