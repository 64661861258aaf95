import { type BrokerAuthenticationSpec, DEFAULT_CLIENT_CA } from './broker-authentication.ts'
import type { ListenerPort } from './broker-listener.ts'
import type { ResourceSnapshot } from './resource-snapshot.ts'

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
  for (const { spec } of snapshot.authentications.values())
    for (const { kind, name } of methodReferences(spec)) (kind === 'Secret' ? secrets : configMaps).add(name)
  return { secrets, configMaps }
}

/** Name of the TLS Secret of a port: given, or derived for one that cert-manager makes; null for a port without TLS. */
export function portSecret(listener: string, { port, tls }: Pick<ListenerPort, 'port' | 'tls'>): string | null {
  if (tls === undefined) return null
  if (tls.mode === 'Manual') return tls.manual?.secretRef ?? null
  return tls.certManagerCertificateSpec?.secretName ?? `${listener}-${port}-tls`
}

/** One object that a method needs. */
export interface MethodReference {
  /** Of `authenticationMethods`, with its index. */
  readonly field: string
  readonly kind: 'ConfigMap' | 'Secret'
  readonly name: string
}

/** Everything that the methods of a BrokerAuthentication refer to, in their order. */
export function methodReferences({ authenticationMethods }: BrokerAuthenticationSpec): readonly MethodReference[] {
  return authenticationMethods.flatMap((entry, index) => {
    const { method, x509Settings, customSettings, jwtSettings, scramSettings, passwordSettings } = entry
    const trusted = method === 'X509' ? (x509Settings?.trustedClientCaCert ?? DEFAULT_CLIENT_CA) : undefined
    const named: readonly [field: string, kind: MethodReference['kind'], name: string | undefined][] = [
      ['x509Settings.trustedClientCaCert', 'ConfigMap', trusted],
      ['x509Settings.revocationListConfigMap', 'ConfigMap', x509Settings?.revocationListConfigMap],
      ['x509Settings.deviceRegistryConfigMap', 'ConfigMap', x509Settings?.deviceRegistryConfigMap],
      ['customSettings.caCertConfigMap', 'ConfigMap', customSettings?.caCertConfigMap],
      ['customSettings.auth.x509.secretRef', 'Secret', customSettings?.auth?.x509.secretRef],
      ['jwtSettings.jwksConfigMap', 'ConfigMap', jwtSettings?.jwksConfigMap],
      ['jwtSettings.caCertConfigMap', 'ConfigMap', jwtSettings?.caCertConfigMap],
      ['scramSettings.secretRef', 'Secret', scramSettings?.secretRef],
      ['passwordSettings.secretRef', 'Secret', passwordSettings?.secretRef],
    ]
    return named.flatMap(([field, kind, name]) => (name === undefined ? [] : [{ field: `[${index}].${field}`, kind, name }]))
  })
}
