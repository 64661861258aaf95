import { thrownText } from '../base/thrown.ts'
import type { ResourceSnapshot } from '../resources/resource-snapshot.ts'
import { OPEN_TO_ALL } from '../rpc/port-rules.ts'
import { type Address, addressText, isLoopback } from './address.ts'
import type { BrokerSettings, portSettings } from './broker-settings.ts'
import type { PlannedPort, TlsSettings } from './port-settings.ts'
import { type Environment, flagName, type GivenFlags, isGiven } from './read-settings.ts'
import { portsOfResources } from './resource-ports.ts'
import type { ValuesOf } from './setting.ts'
import { tlsFault } from './tls-fault.ts'

const DEFAULT_MQTT: Address = { host: '127.0.0.1', port: 1883 }
const DEFAULT_WS: Address = { host: '127.0.0.1', port: 8083 }

type PortValues = ValuesOf<typeof portSettings>

/** What decides which ports are opened: flags and environment, and the resources of `--config`. */
export interface PortSources {
  readonly values: PortValues
  readonly flags: GivenFlags
  readonly environment: Environment
  /** Null without `--config`; then two ports are opened that nobody asked for. */
  readonly snapshot: ResourceSnapshot | null
  /** @throws an error that names the file */
  readonly readFile: (path: string) => string
}

/** The ports of a broker or frontend, the one of its admin API included; what is wrong with them goes to `faults`. */
export function readPorts(
  { values, flags, environment, snapshot, readFile }: PortSources,
  faults: string[],
): Pick<BrokerSettings, 'ports' | 'admin'> {
  const ports = new Listeners(values, snapshot, readFile, faults).all({
    mqtt: snapshot === null && !isGiven('mqtt', flags, environment),
    ws: snapshot === null && !isGiven('ws', flags, environment),
  })
  const { admin } = values
  if (admin !== null && !values.allowAnonymousRemote && !isLoopback(admin.host)) {
    faults.push(remoteFault(`flag ${flagName('admin')}`, admin))
  }
  return { ports, admin }
}

function remoteFault(where: string, address: Address): string {
  return `${where}: ${addressText(address)} can be reached from other machines and lets everybody in; bind to 127.0.0.1, or allow it with --allow-anonymous-remote`
}

/** Ports from flags and from resources. */
class Listeners {
  readonly #values: PortValues
  readonly #snapshot: ResourceSnapshot | null
  readonly #readFile: (path: string) => string
  readonly #faults: string[]

  constructor(values: PortValues, snapshot: ResourceSnapshot | null, readFile: (path: string) => string, faults: string[]) {
    this.#values = values
    this.#snapshot = snapshot
    this.#readFile = readFile
    this.#faults = faults
  }

  all(defaults: { readonly mqtt: boolean; readonly ws: boolean }): readonly PlannedPort[] {
    const { mqtt, ws, mqtts, wss } = this.#values
    const tls = mqtts.length + wss.length > 0 ? this.#tlsOfFlags() : null
    const ports = [
      ...this.#ofFlags('mqtt', 'Mqtt', defaults.mqtt ? [DEFAULT_MQTT] : mqtt, null),
      ...this.#ofFlags('ws', 'WebSockets', defaults.ws ? [DEFAULT_WS] : ws, null),
      ...this.#ofFlags('mqtts', 'Mqtt', mqtts, tls),
      ...this.#ofFlags('wss', 'WebSockets', wss, tls),
      ...this.#ofResources(),
    ]
    if (ports.length === 0) this.#faults.push('no port to listen on: give --mqtt or --ws, or a BrokerListener in --config')
    return ports
  }

  #ofResources(): readonly PlannedPort[] {
    if (this.#snapshot === null) return []
    const ports = portsOfResources(this.#snapshot, this.#values)
    for (const port of ports) if (port.closed === null && port.rules.policy === null) this.#checkReach(port.name, port, port.tls)
    return ports
  }

  #ofFlags(
    flag: 'mqtt' | 'ws' | 'mqtts' | 'wss',
    protocol: 'Mqtt' | 'WebSockets',
    addresses: readonly Address[],
    tls: TlsSettings | null,
  ): PlannedPort[] {
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
        resource: null,
        rules: OPEN_TO_ALL,
        closed: null,
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
      this.#faults.push(`flag ${flagName(name)}: ${thrownText(error)}`)
      return null
    }
  }
}
