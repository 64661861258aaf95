import type { BrokerListenerSpec } from './broker-listener.ts'
import type { Findings } from './findings.ts'
import type { Resource } from './resource-snapshot.ts'

/** Who listens on one port number: by host, and the first of all. */
interface Claims {
  readonly first: string
  readonly byHost: Map<string | undefined, string>
}

/** What listeners may have only once: a port, the name of a Service, a type of Service. */
export class ListenerConflicts {
  readonly #ports = new Map<number, Claims>()
  /** Name of a Service → the listener's. */
  readonly #serviceNames = new Map<string, string>()
  readonly #serviceTypes = new Map<string, string>()

  /** Compares with the listeners before; only one without a fault counts for those behind it. */
  add(findings: Findings, { name, spec }: Resource<BrokerListenerSpec>): void {
    const { serviceType = 'ClusterIp', serviceName = name } = spec
    const ofType = this.#serviceTypes.get(serviceType)
    if (ofType !== undefined)
      findings.fault(
        ['spec', 'serviceType'],
        `BrokerListener ${ofType} has type ${serviceType} already: there is one listener of each type, with any number of ports`,
      )
    const ofName = this.#serviceNames.get(serviceName)
    if (ofName !== undefined)
      findings.fault(['spec', 'serviceName'], `BrokerListener ${ofName} has the service name ${serviceName} already`)
    this.#addPorts(findings, spec)
    if (findings.faults.length > 0) return
    this.#serviceTypes.set(serviceType, name)
    this.#serviceNames.set(serviceName, name)
  }

  /** Port 0 is another one each time; a port without a host is on every address that another may name. */
  #addPorts(findings: Findings, { ports }: BrokerListenerSpec): void {
    for (const [index, { port, host }] of ports.entries()) {
      if (port === 0) continue
      const where = `${findings.document.whereOf(['spec', 'ports', index])}: spec.ports[${index}]`
      const claims = this.#ports.get(port)
      const before = host === undefined ? claims?.first : (claims?.byHost.get(host) ?? claims?.byHost.get(undefined))
      if (before !== undefined) findings.fault(['spec', 'ports', index, 'port'], `port ${port} is taken by ${before}`)
      else if (claims === undefined) this.#ports.set(port, { first: where, byHost: new Map([[host, where]]) })
      else claims.byHost.set(host, where)
    }
  }
}
