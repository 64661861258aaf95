import { type BrokerAuthenticationSpec, DEFAULT_CLIENT_CA } from '../resources/broker-authentication.ts'
import type { BrokerListenerSpec } from '../resources/broker-listener.ts'
import type { Resource, ResourceSnapshot } from '../resources/resource-snapshot.ts'
import { portSecret } from '../resources/source-references.ts'
import type { PortPolicy, ResourceRef } from '../rpc/authentication.ts'
import { OPEN_TO_ALL, type PortRules } from '../rpc/port-rules.ts'
import type { PlannedPort, PortClosed, TlsSettings } from './port-settings.ts'
import { tlsFault } from './tls-fault.ts'

type ListenerPort = BrokerListenerSpec['ports'][number]

const DISCONNECT_WITHIN_SECONDS = 5

/** What flags decide for ports of resources. */
export interface ResourcePortOptions {
  readonly allowAnonymousRemote: boolean
  readonly websocketEngine: 'auto' | 'uws' | 'ws'
}

/** Ports that stay closed carry the reason as an exception to where the port is put together. */
class Closed extends Error {
  readonly closed: Omit<PortClosed, 'isTls'>

  constructor(because: PortClosed['because'], reason: string) {
    super(reason)
    this.closed = { because, reason }
  }
}

/** Every port that the BrokerListeners ask for, with its certificate and its rules; closed where something that it refers to is missing. */
export function portsOfResources(snapshot: ResourceSnapshot, options: ResourcePortOptions): readonly PlannedPort[] {
  return [...snapshot.listeners.values()].flatMap(listener =>
    listener.spec.ports.map(port => plannedPort(snapshot, listener, port, options)),
  )
}

function plannedPort(
  snapshot: ResourceSnapshot,
  { name: listener }: Resource<BrokerListenerSpec>,
  port: ListenerPort,
  { allowAnonymousRemote, websocketEngine }: ResourcePortOptions,
): PlannedPort {
  const isOpen = port.authenticationRef === undefined
  const bare: PlannedPort = {
    name: `BrokerListener ${listener} port ${port.port}`,
    resource: listener,
    host: port.host ?? (isOpen && !allowAnonymousRemote ? '127.0.0.1' : '0.0.0.0'),
    port: port.port,
    protocol: port.protocol ?? 'Mqtt',
    tls: null,
    proxyProtocol: port.proxyProtocol ?? null,
    websocketEngine: port.websocketEngine ?? websocketEngine,
    rules: OPEN_TO_ALL,
    closed: null,
  }
  try {
    const rules = rulesOf(snapshot, port)
    return { ...bare, rules, tls: port.tls === undefined ? null : tlsOf(snapshot, listener, port) }
  } catch (error) {
    if (error instanceof Closed) return { ...bare, closed: { ...error.closed, isTls: port.tls !== undefined } }
    throw error
  }
}

/** @throws {Closed} */
function rulesOf(snapshot: ResourceSnapshot, { authenticationRef, authorizationRef }: ListenerPort): PortRules {
  if (authenticationRef === undefined) return OPEN_TO_ALL
  const authentication = snapshot.authentications.get(authenticationRef)
  if (authentication === undefined) throw new Closed('policy', `there is no BrokerAuthentication ${authenticationRef}`)
  const names = authorizationRef === undefined ? [] : [authorizationRef].flat()
  const authorizations = names.map(name => {
    const found = snapshot.authorizations.get(name)
    if (found === undefined) throw new Closed('policy', `there is no BrokerAuthorization ${name}`)
    return found
  })
  const policies = authorizations.map(({ spec }) => spec.authorizationPolicies)
  const policy: PortPolicy = { authentication: refOf(authentication), authorizations: authorizations.map(refOf) }
  return {
    policy,
    onUpdate: policies.length > 0 && policies.every(({ onUpdate }) => onUpdate === 'Reevaluate') ? 'Reevaluate' : 'Disconnect',
    disconnectWithinMs: 1_000 * Math.max(0, ...policies.map(each => each.disconnectWithinSeconds ?? DISCONNECT_WITHIN_SECONDS)),
    disconnectsOnExpiry: authentication.spec.expiryDisconnect === 'Enabled',
  }
}

function refOf({ name, version }: Resource<unknown>): ResourceRef {
  return { name, version }
}

/** @throws {Closed} */
function tlsOf(snapshot: ResourceSnapshot, listener: string, port: ListenerPort): TlsSettings {
  const secretName = portSecret(listener, port)
  if (secretName === null) throw new Closed('certificate', 'tls names no secret')
  const secret = snapshot.secret(secretName)
  const [cert, key] = ['tls.crt', 'tls.key'].map(file => {
    const bytes = secret?.get(file)
    if (bytes === undefined) throw new Closed('certificate', `secret ${secretName} has no ${file}${issuedHint(port)}`)
    return Buffer.from(bytes).toString('utf8')
  }) as [string, string]
  const authentication = port.authenticationRef === undefined ? undefined : snapshot.authentications.get(port.authenticationRef)
  const tls: TlsSettings = { cert, key, ...clientCertificates(snapshot, authentication?.spec ?? null) }
  const fault = tlsFault(tls)
  if (fault !== null) throw new Closed('certificate', `secret ${secretName}: ${fault}`)
  return tls
}

function issuedHint({ tls }: ListenerPort): string {
  return tls?.mode === 'Automatic' ? ', which cert-manager writes in Kubernetes' : ''
}

/**
 * Whether clients are asked for a certificate, and what it must chain to. Asked for when the methods hold X509 or Custom, required only when
 * there is nothing but X509; for Custom alone it is handed on unverified, as the custom server decides.
 * @throws {Closed}
 */
function clientCertificates(
  snapshot: ResourceSnapshot,
  spec: BrokerAuthenticationSpec | null,
): Pick<TlsSettings, 'clientCa' | 'clientCertificate'> {
  const methods = spec?.authenticationMethods ?? []
  const certified = methods.filter(({ method }) => method === 'X509')
  if (certified.length === 0) {
    const isForwarded = methods.some(({ method }) => method === 'Custom')
    return { clientCa: null, clientCertificate: isForwarded ? 'request' : 'none' }
  }
  const anchors = certified.flatMap(({ x509Settings }) => {
    const name = x509Settings?.trustedClientCaCert ?? DEFAULT_CLIENT_CA
    const found = [...(snapshot.configMap(name)?.values() ?? [])]
    if (found.length === 0) throw new Closed('policy', `ConfigMap ${name} has no certificate to trust`)
    return found
  })
  const clientCertificate = certified.length === methods.length ? 'require' : 'request'
  return { clientCa: anchors.join('\n'), clientCertificate }
}
