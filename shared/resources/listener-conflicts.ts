import type { BrokerListenerSpec } from './broker-listener.ts'
import type { Findings } from './findings.ts'
import type { Resource } from './resource-snapshot.ts'

interface ClaimedPort {
  readonly port: number
  readonly host: string | undefined
  readonly where: string
}

/** What listeners may have only once: a port, the name of a Service, a type of Service. */
export class ListenerConflicts {
  readonly #ports: ClaimedPort[] = []
  /** Name of a Service → the listener's. */
  readonly #serviceNames = new Map<string, string>()
  readonly #serviceTypes = new Map<string, string>()

  /** Against the listeners before, and the ports of the listener against each other. */
  check(findings: Findings, { name, spec }: Resource<BrokerListenerSpec>): void {
    const own: ClaimedPort[] = []
    for (const claim of claimsOf(findings, spec)) {
      const before = [...this.#ports, ...own].find(other => isSame(other, claim))
      if (before !== undefined) findings.fault(['spec', 'ports', own.length, 'port'], `port ${claim.port} is taken by ${before.where}`)
      own.push(claim)
    }
    const type = spec.serviceType ?? 'ClusterIp'
    const ofType = this.#serviceTypes.get(type)
    if (ofType !== undefined)
      findings.fault(
        ['spec', 'serviceType'],
        `BrokerListener ${ofType} has type ${type} already; one listener has each type, and may have many ports`,
      )
    const ofName = this.#serviceNames.get(spec.serviceName ?? name)
    if (ofName !== undefined)
      findings.fault(['spec', 'serviceName'], `BrokerListener ${ofName} has the service name ${spec.serviceName ?? name} already`)
  }

  /** Of a listener without a fault. */
  claim(findings: Findings, { name, spec }: Resource<BrokerListenerSpec>): void {
    this.#ports.push(...claimsOf(findings, spec))
    this.#serviceTypes.set(spec.serviceType ?? 'ClusterIp', name)
    this.#serviceNames.set(spec.serviceName ?? name, name)
  }
}

function claimsOf({ document }: Findings, { ports }: BrokerListenerSpec): readonly ClaimedPort[] {
  return ports.map(({ port, host }, index) => ({
    port,
    host,
    where: `${document.whereOf(['spec', 'ports', index])}: spec.ports[${index}]`,
  }))
}

/** Port 0 is another one each time; a port without a host is on every address that another may name. */
function isSame(a: ClaimedPort, b: ClaimedPort): boolean {
  return a.port === b.port && a.port !== 0 && (a.host === undefined || b.host === undefined || a.host === b.host)
}
