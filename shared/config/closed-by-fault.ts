import type { PlannedPort } from './port-settings.ts'

/** Ports whose BrokerAuthentication cannot be used (`faultOf` says why) stay closed: nobody could be judged. */
export function closedByFault(ports: readonly PlannedPort[], faultOf: (authentication: string) => string | null): readonly PlannedPort[] {
  return ports.map(port => {
    const name = port.rules.policy?.authentication.name
    const fault = name === undefined || port.closed !== null ? null : faultOf(name)
    if (fault === null) return port
    return { ...port, closed: { reason: `BrokerAuthentication ${name}: ${fault}`, because: 'policy', isTls: port.tls !== null } }
  })
}
