import type { BrokerAuthenticationSpec } from './broker-authentication.ts'
import type { ListenerPort } from './broker-listener.ts'
import type { ResourceSnapshot } from './resource-snapshot.ts'

/** Where trusted client certificates are when a resource does not say it. */
const DEFAULT_CLIENT_CA = 'client-ca'

/** Names of what the resources of a snapshot refer to. */
export interface References {
  readonly secrets: ReadonlySet<string>
  readonly configMaps: ReadonlySet<string>
}

/**
 * Everything a snapshot will be asked for: in Kubernetes these objects are watched, and no others, so that a broker's Role can name the Secrets
 * that it may read.
 */
export function referencesOf(snapshot: Pick<ResourceSnapshot, 'listeners' | 'authentications'>): References {
  const secrets = new Set<string>()
  const configMaps = new Set<string>()
  for (const { name, spec } of snapshot.listeners.values()) {
    for (const port of spec.ports) {
      const secret = portSecret(name, port)
      if (secret !== null) secrets.add(secret)
    }
  }
  for (const { spec } of snapshot.authentications.values()) addAuthentication(spec, secrets, configMaps)
  return { secrets, configMaps }
}

/** Name of the TLS Secret of a port: given, or derived for one that cert-manager makes; null for a port without TLS. */
export function portSecret(listener: string, { port, tls }: Pick<ListenerPort, 'port' | 'tls'>): string | null {
  if (tls === undefined) return null
  if (tls.mode === 'Manual') return tls.manual?.secretRef ?? null
  return tls.certManagerCertificateSpec?.secretName ?? `${listener}-${port}-tls`
}

function addAuthentication(spec: BrokerAuthenticationSpec, secrets: Set<string>, configMaps: Set<string>): void {
  const add = (names: Set<string>, name: string | undefined): void => {
    if (name !== undefined) names.add(name)
  }
  for (const method of spec.authenticationMethods) {
    const { x509Settings, customSettings, jwtSettings } = method
    if (method.method === 'X509') add(configMaps, x509Settings?.trustedClientCaCert ?? DEFAULT_CLIENT_CA)
    add(configMaps, x509Settings?.revocationListConfigMap)
    add(configMaps, x509Settings?.deviceRegistryConfigMap)
    add(configMaps, customSettings?.caCertConfigMap)
    add(secrets, customSettings?.auth?.x509.secretRef)
    add(secrets, method.scramSettings?.secretRef)
    add(secrets, method.passwordSettings?.secretRef)
    add(configMaps, jwtSettings?.jwksConfigMap)
    add(configMaps, jwtSettings?.caCertConfigMap)
  }
}
