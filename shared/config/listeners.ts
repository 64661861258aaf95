import { createSecureContext } from 'node:tls'
import type { RequestedPort, Resources } from '../resources/read-resources.ts'
import { type Address, addressText, isLoopback } from './address.ts'
import { type BrokerSettings, type ClosedListener, type ListenerSettings, type portSettings, type TlsSettings } from './broker-settings.ts'
import { type Environment, flagName, type GivenFlags, isGiven } from './read-settings.ts'
import type { ValuesOf } from './setting.ts'

const DEFAULT_MQTT: Address = { host: '127.0.0.1', port: 1883 }
const DEFAULT_WS: Address = { host: '127.0.0.1', port: 8083 }

type PortValues = ValuesOf<typeof portSettings>

/** What decides which ports are opened: flags and environment, and the resources of `--config`. */
export interface PortSources {
  readonly values: PortValues
  readonly flags: GivenFlags
  readonly environment: Environment
  /** Null without `--config`; then two ports are opened that nobody asked for. */
  readonly resources: Resources | null
  /** @throws an error that names the file */
  readonly readFile: (path: string) => string
}

/** The ports of a broker or frontend, the one of its admin API included; what is wrong with them goes to `faults`. */
export function readPorts(
  { values, flags, environment, resources, readFile }: PortSources,
  faults: string[],
): Pick<BrokerSettings, 'listeners' | 'closedListeners' | 'admin'> {
  const { listeners, closedListeners } = new Listeners(values, resources, readFile, faults).all({
    mqtt: resources === null && !isGiven('mqtt', flags, environment),
    ws: resources === null && !isGiven('ws', flags, environment),
  })
  const { admin } = values
  if (admin !== null && !values.allowAnonymousRemote && !isLoopback(admin.host)) {
    faults.push(remoteFault(`flag ${flagName('admin')}`, admin))
  }
  return { listeners, closedListeners, admin }
}

function remoteFault(where: string, address: Address): string {
  return `${where}: ${addressText(address)} can be reached from other machines and this version has no authentication; bind to 127.0.0.1, or allow it with --allow-anonymous-remote`
}

/** Ports from flags and from resources. */
class Listeners {
  readonly #values: PortValues
  readonly #resources: Resources | null
  readonly #readFile: (path: string) => string
  readonly #faults: string[]

  constructor(values: PortValues, resources: Resources | null, readFile: (path: string) => string, faults: string[]) {
    this.#values = values
    this.#resources = resources
    this.#readFile = readFile
    this.#faults = faults
  }

  all(defaults: { readonly mqtt: boolean; readonly ws: boolean }): Pick<BrokerSettings, 'listeners' | 'closedListeners'> {
    const { mqtt, ws, mqtts, wss } = this.#values
    const tls = mqtts.length + wss.length > 0 ? this.#tlsOfFlags() : null
    const listeners = [
      ...this.#ofFlags('mqtt', 'Mqtt', defaults.mqtt ? [DEFAULT_MQTT] : mqtt, null),
      ...this.#ofFlags('ws', 'WebSockets', defaults.ws ? [DEFAULT_WS] : ws, null),
      ...this.#ofFlags('mqtts', 'Mqtt', mqtts, tls),
      ...this.#ofFlags('wss', 'WebSockets', wss, tls),
    ]
    const closedListeners: ClosedListener[] = []
    for (const requested of this.#resources?.ports ?? []) {
      const found = this.#ofResource(requested)
      if ('reason' in found) closedListeners.push(found)
      else listeners.push(found)
    }
    if (listeners.length + closedListeners.length === 0)
      this.#faults.push('no port to listen on: give --mqtt or --ws, or a BrokerListener in --config')
    return { listeners, closedListeners }
  }

  #ofFlags(
    flag: 'mqtt' | 'ws' | 'mqtts' | 'wss',
    protocol: 'Mqtt' | 'WebSockets',
    addresses: readonly Address[],
    tls: TlsSettings | null,
  ): ListenerSettings[] {
    const { proxyProtocol, websocketEngine } = this.#values
    return addresses.map(address => {
      this.#checkReach(`flag ${flagName(flag)}`, address, tls)
      return {
        name: `${flagName(flag)} ${addressText(address)}`,
        ...address,
        protocol,
        tls,
        proxyProtocol: proxyProtocol.length > 0 ? { trustedSources: proxyProtocol } : null,
        websocketEngine,
      }
    })
  }

  /** A client certificate is an authentication of sorts; without one, nobody knows who comes from another machine. */
  #checkReach(where: string, address: Address, tls: TlsSettings | null): void {
    const isOpen = tls === null || tls.clientCertificate === 'none'
    if (isOpen && !this.#values.allowAnonymousRemote && !isLoopback(address.host)) this.#faults.push(remoteFault(where, address))
  }

  #tlsOfFlags(): TlsSettings | null {
    const { tlsCert, tlsKey, tlsClientCa } = this.#values
    if (tlsCert === null || tlsKey === null) {
      this.#faults.push('flags --mqtts and --wss: need --tls-cert FILE and --tls-key FILE')
      return null
    }
    const cert = this.#readPem('tlsCert', tlsCert)
    const key = this.#readPem('tlsKey', tlsKey)
    const clientCa = tlsClientCa === null ? null : this.#readPem('tlsClientCa', tlsClientCa)
    if (cert === null || key === null || (tlsClientCa !== null && clientCa === null)) return null
    const tls: TlsSettings = { cert, key, clientCa, clientCertificate: clientCa === null ? 'none' : 'require' }
    const fault = tlsFault(tls)
    if (fault !== null) this.#faults.push(`flags --tls-cert, --tls-key: ${fault}`)
    return tls
  }

  #readPem(name: 'tlsCert' | 'tlsKey' | 'tlsClientCa', path: string): string | null {
    try {
      return this.#readFile(path)
    } catch (error) {
      this.#faults.push(`flag ${flagName(name)}: ${error instanceof Error ? error.message : String(error)}`)
      return null
    }
  }

  #ofResource({ name, where, port }: RequestedPort): ListenerSettings | ClosedListener {
    const host = port.host ?? (this.#values.allowAnonymousRemote ? '0.0.0.0' : '127.0.0.1')
    const address: Address = { host, port: port.port }
    const closed = (reason: string): ClosedListener => ({ name, ...address, reason })
    if (port.authenticationRef !== undefined) return closed('authentication is not available in this version')
    const tls = port.tls === undefined ? null : this.#tlsOfResource(port.tls)
    if (typeof tls === 'string') return closed(tls)
    this.#checkReach(where, address, tls)
    return {
      name,
      ...address,
      protocol: port.protocol ?? 'Mqtt',
      tls,
      proxyProtocol: port.proxyProtocol ?? null,
      websocketEngine: port.websocketEngine ?? this.#values.websocketEngine,
    }
  }

  /** The certificate, or why there is none. */
  #tlsOfResource(tls: NonNullable<RequestedPort['port']['tls']>): TlsSettings | string {
    if (tls.mode === 'Automatic' || tls.manual === undefined)
      return 'tls.mode Automatic needs cert-manager and is not available in this version'
    const name = tls.manual.secretRef
    const cert = this.#resources?.secret(name, 'tls.crt') ?? null
    const key = this.#resources?.secret(name, 'tls.key') ?? null
    if (cert === null || key === null) return `secret ${name} has no ${cert === null ? 'tls.crt' : 'tls.key'}`
    const found: TlsSettings = { cert, key, clientCa: null, clientCertificate: 'none' }
    const fault = tlsFault(found)
    return fault === null ? found : `secret ${name}: ${fault}`
  }
}

/** Why OpenSSL does not take the files; its messages hold nothing of the key. */
export function tlsFault(tls: Pick<TlsSettings, 'cert' | 'key' | 'clientCa'>): string | null {
  try {
    createSecureContext({ cert: tls.cert, key: tls.key, ...(tls.clientCa !== null && { ca: tls.clientCa }) })
    return null
  } catch (error) {
    return `certificate and key cannot be used: ${error instanceof Error ? error.message : String(error)}`
  }
}
