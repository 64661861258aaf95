import type { BrokerAuthenticationSpec } from './broker-authentication.ts'
import type { BrokerListenerSpec } from './broker-listener.ts'
import type { Resource, ResourceSnapshot } from './resource-snapshot.ts'
import { portSecret } from './source-references.ts'

/** ConfigMap of trust anchors where an X509 entry names none. */
const CLIENT_CA = 'client-ca'

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
  return spec.authenticationMethods.flatMap((method, index) => {
    const { x509Settings: x509, customSettings: custom, jwtSettings: jwt } = method
    const configMaps: [field: string, name: string | undefined][] = [
      ['x509Settings.trustedClientCaCert', x509 === undefined ? undefined : (x509.trustedClientCaCert ?? CLIENT_CA)],
      ['x509Settings.revocationListConfigMap', x509?.revocationListConfigMap],
      ['x509Settings.deviceRegistryConfigMap', x509?.deviceRegistryConfigMap],
      ['customSettings.caCertConfigMap', custom?.caCertConfigMap],
      ['jwtSettings.jwksConfigMap', jwt?.jwksConfigMap],
      ['jwtSettings.caCertConfigMap', jwt?.caCertConfigMap],
    ]
    const secrets: [field: string, name: string | undefined][] = [
      ['customSettings.auth.x509.secretRef', custom?.auth?.x509.secretRef],
      ['scramSettings.secretRef', method.scramSettings?.secretRef],
      ['passwordSettings.secretRef', method.passwordSettings?.secretRef],
    ]
    const missing = (field: string, what: string): string =>
      `${where}: spec.authenticationMethods[${index}].${field}: there is no ${what}; ports that need it stay closed until there is one`
    return [
      ...configMaps.flatMap(([field, name]) =>
        name === undefined || snapshot.configMap(name) !== null ? [] : [missing(field, `ConfigMap ${name}`)],
      ),
      ...secrets.flatMap(([field, name]) =>
        name === undefined || snapshot.secret(name) !== null ? [] : [missing(field, `Secret ${name}`)],
      ),
    ]
  })
}
