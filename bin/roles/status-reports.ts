import type { LiveSettings } from '#shared/config/live-settings.ts'
import type { ResourceStatus } from '#shared/resources/resource-snapshot.ts'
import type { OwnAuthentication } from './own-authentication.ts'

/** The condition Ready of a BrokerListener, from what is wrong with its ports. */
export function listenerStatus(name: string, faults: readonly string[]): ResourceStatus {
  return faults.length === 0
    ? { kind: 'BrokerListener', name, type: 'Ready', isTrue: true, reason: 'PortsOpen', message: 'all ports are open' }
    : { kind: 'BrokerListener', name, type: 'Ready', isTrue: false, reason: 'PortClosed', message: faults.join('; ') }
}

/** Says of every BrokerAuthentication whether it can be used. */
export function reportAuthentications<S>(live: LiveSettings<S>, authentication: OwnAuthentication | null): void {
  for (const name of live.snapshot?.authentications.keys() ?? [])
    live.report(authenticationStatus(name, authentication?.service.faultOf(name) ?? null))
}

function authenticationStatus(name: string, fault: string | null): ResourceStatus {
  return fault === null
    ? { kind: 'BrokerAuthentication', name, type: 'Ready', isTrue: true, reason: 'MethodsReady', message: 'all methods can be used' }
    : { kind: 'BrokerAuthentication', name, type: 'Ready', isTrue: false, reason: 'MethodFault', message: fault }
}
