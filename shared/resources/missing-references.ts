import type { BrokerAuthenticationSpec } from './broker-authentication.ts'
import type { BrokerListenerSpec } from './broker-listener.ts'
import type { Resource, ResourceSnapshot } from './resource-snapshot.ts'
import { type MethodReference, methodReferences, portSecret } from './source-references.ts'

/**
 * What resources refer to and what is not there, as `where: field: message`. No fault: what is missing may come later, and until then the
 * ports that need it stay closed.
 */
export function missingReferences(snapshot: ResourceSnapshot): readonly string[] {
  const listeners = [...snapshot.listeners.values()].flatMap(listener => ofListener(snapshot, listener))
  const authentications = [...snapshot.authentications.values()].flatMap(authentication => ofAuthentication(snapshot, authentication))
  return [...listeners, ...authentications]
}

function ofListener(snapshot: ResourceSnapshot, { name, where, spec }: Resource<BrokerListenerSpec>): readonly string[] {
  return spec.ports.flatMap((port, index) => {
    const missing: string[] = []
    const note = (field: string, what: string): void => {
      missing.push(`${where}: spec.ports[${index}].${field}: there is no ${what}; port ${port.port} stays closed until there is one`)
    }
    const { authenticationRef, authorizationRef, tls } = port
    const secret = portSecret(name, port)
    if (authenticationRef !== undefined && !snapshot.authentications.has(authenticationRef))
      note('authenticationRef', `BrokerAuthentication ${authenticationRef}`)
    for (const authorization of authenticationRef === undefined ? [] : (authorizationRef ?? []))
      if (!snapshot.authorizations.has(authorization)) note('authorizationRef', `BrokerAuthorization ${authorization}`)
    if (secret !== null && snapshot.secret(secret) === null)
      note(tls?.mode === 'Manual' ? 'tls.manual.secretRef' : 'tls', `Secret ${secret}`)
    return missing
  })
}

function ofAuthentication(snapshot: ResourceSnapshot, { where, spec }: Resource<BrokerAuthenticationSpec>): readonly string[] {
  return methodReferences(spec)
    .filter(reference => isMissing(snapshot, reference))
    .map(
      ({ field, kind, name }) =>
        `${where}: spec.authenticationMethods${field}: there is no ${kind} ${name}; ports that need it stay closed until there is one`,
    )
}

/** The first object that the methods of a BrokerAuthentication need and that is not there, as a text; null: all are, or there is no such BrokerAuthentication. */
export function missingForMethods(snapshot: ResourceSnapshot, authentication: string): string | null {
  const spec = snapshot.authentications.get(authentication)?.spec
  const missing = spec === undefined ? undefined : methodReferences(spec).find(reference => isMissing(snapshot, reference))
  return missing === undefined ? null : `there is no ${missing.kind} ${missing.name}`
}

function isMissing(snapshot: ResourceSnapshot, { kind, name }: MethodReference): boolean {
  return (kind === 'Secret' ? snapshot.secret(name) : snapshot.configMap(name)) === null
}
