import { portSecret } from '../resources/source-references.ts'
import type { BrokerListenerSpec, ListenerPort } from '../resources/broker-listener.ts'
import { fieldsOf, type KubernetesObject } from './kubernetes-object.ts'

const PRIVATE_KEYS: Readonly<Record<string, { readonly algorithm: string; readonly size?: number }>> = {
  Ec256: { algorithm: 'ECDSA', size: 256 },
  Ec384: { algorithm: 'ECDSA', size: 384 },
  Ec521: { algorithm: 'ECDSA', size: 521 },
  Ed25519: { algorithm: 'Ed25519' },
  Rsa2048: { algorithm: 'RSA', size: 2_048 },
  Rsa4096: { algorithm: 'RSA', size: 4_096 },
  Rsa8192: { algorithm: 'RSA', size: 8_192 },
}
const DEFAULT_GROUP = 'cert-manager.io'
const MANAGED_BY = 'app.kubernetes.io/managed-by'
const US = 'millrace'

/** Fields of a Certificate that we decide. */
export interface WantedCertificate {
  /** Of the Certificate, and of the Secret that it fills. */
  readonly name: string
  readonly spec: Readonly<Record<string, unknown>>
}

/**
 * What cert-manager is to issue for the ports of a listener whose certificate is automatic. Names: those of the listener's Service, short and full, then those that the
 * port asks for. Ports that name one Secret have one certificate; what the first of them says counts.
 */
export function wantedCertificates(listener: string, spec: BrokerListenerSpec, namespace: string): readonly WantedCertificate[] {
  const wanted = new Map<string, WantedCertificate>()
  for (const port of spec.ports) {
    const name = portSecret(listener, port)
    if (port.tls?.mode !== 'Automatic' || name === null || wanted.has(name)) continue
    const found = certificateSpec(port.tls, name, spec.serviceName ?? listener, namespace)
    if (found !== null) wanted.set(name, { name, spec: found })
  }
  return [...wanted.values()]
}

function certificateSpec(
  tls: NonNullable<ListenerPort['tls']>,
  secretName: string,
  service: string,
  namespace: string,
): Readonly<Record<string, unknown>> | null {
  const given = tls.certManagerCertificateSpec
  if (given === undefined) return null
  const { issuerRef, duration, renewBefore, privateKey, san } = given
  const key = privateKey?.algorithm === undefined ? {} : PRIVATE_KEYS[privateKey.algorithm]
  const rotationPolicy = privateKey?.rotationPolicy
  const serviceNames = [service, `${service}.${namespace}`, `${service}.${namespace}.svc`, `${service}.${namespace}.svc.cluster.local`]
  return {
    secretName,
    issuerRef: { name: issuerRef.name, kind: issuerRef.kind, group: issuerRef.group ?? DEFAULT_GROUP },
    ...(duration !== undefined && { duration }),
    ...(renewBefore !== undefined && { renewBefore }),
    ...(privateKey !== undefined && { privateKey: { ...key, ...(rotationPolicy !== undefined && { rotationPolicy }) } }),
    dnsNames: [...new Set([...serviceNames, ...(san?.dns ?? [])])],
    ...(san?.ip !== undefined && san.ip.length > 0 && { ipAddresses: san.ip }),
    usages: ['server auth', 'digital signature', 'key encipherment'],
  }
}

/** The object to be created; it goes with its listener. */
export function newCertificate({ name, spec }: WantedCertificate, listener: KubernetesObject): object {
  const { apiVersion, kind, metadata } = listener
  const owner = { apiVersion, kind, name: metadata.name, uid: metadata.uid }
  return {
    apiVersion: 'cert-manager.io/v1',
    kind: 'Certificate',
    metadata: { name, namespace: metadata.namespace, labels: { [MANAGED_BY]: US }, ownerReferences: [owner] },
    spec,
  }
}

/** Whether we made it: one that somebody else made is left alone. */
export function isOurs({ metadata }: KubernetesObject): boolean {
  return fieldsOf(metadata['labels'])[MANAGED_BY] === US
}

/** Fields of `spec` that say something else than we want: a merge patch; null when there are none. What others added, defaults for instance, may stay. */
export function certificatePatch(present: KubernetesObject, { spec }: WantedCertificate): object | null {
  const before = fieldsOf(present['spec'])
  const different = Object.entries(spec).filter(([field, value]) => !says(before[field], value))
  // A field that a listener gave once and does not give any more.
  const gone = ['duration', 'renewBefore', 'privateKey', 'ipAddresses'].filter(field => before[field] !== undefined && !(field in spec))
  if (different.length === 0 && gone.length === 0) return null
  return Object.fromEntries([...different, ...gone.map(field => [field, null] as const)])
}

function says(present: unknown, wanted: unknown): boolean {
  if (Array.isArray(wanted)) {
    return Array.isArray(present) && present.length === wanted.length && wanted.every((item, index) => says(present[index], item))
  }
  if (typeof wanted === 'object' && wanted !== null) {
    return Object.entries(wanted).every(([field, value]) => says(fieldsOf(present)[field], value))
  }
  if (present === wanted) return true
  return typeof wanted === 'string' && typeof present === 'string' && seconds(wanted) !== null && seconds(wanted) === seconds(present)
}

const DURATION = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$/

/** `240h` is `240h0m0s`: servers write durations their own way. Null: no duration. */
function seconds(text: string): number | null {
  const found = DURATION.exec(text)
  if (found === null || text === '') return null
  const [, hours = '0', minutes = '0', rest = '0'] = found
  return Number(hours) * 3_600 + Number(minutes) * 60 + Number(rest)
}
