import { isIP } from 'node:net'
import { z } from 'zod'
import { isHost } from '../config/address.ts'
import { isNetwork } from '../config/network.ts'
import { Refusal } from '../config/setting.ts'
import { keyAlgorithm, rotationPolicy } from './certificate-key.ts'
import { checked, duration, filledText, objectName, oneOf, resourceName, resourceSchema, wholeNumber } from './field.ts'
import type { Findings } from './findings.ts'
import type { FieldPath } from './resource-document.ts'

const network = checked(
  value =>
    typeof value === 'string' && isNetwork(value) ? value : new Refusal('expected a network such as 10.0.0.0/8 or fd00::/8, or an address'),
  { type: 'string' },
)

const ipAddress = checked(value => (typeof value === 'string' && isIP(value) !== 0 ? value : new Refusal('expected an IP address')), {
  type: 'string',
})

const host = checked(value => (typeof value === 'string' && isHost(value) ? value : new Refusal('expected an address or a host name')), {
  type: 'string',
})

const certManagerCertificateSpec = z.strictObject({
  duration: duration().optional(),
  renewBefore: duration().optional(),
  secretName: objectName().optional(),
  issuerRef: z.strictObject({ group: filledText().optional(), kind: oneOf(['Issuer', 'ClusterIssuer']), name: filledText() }),
  privateKey: z.strictObject({ algorithm: keyAlgorithm.optional(), rotationPolicy: rotationPolicy.optional() }).optional(),
  san: z.strictObject({ dns: z.array(filledText()).optional(), ip: z.array(ipAddress).optional() }).optional(),
})

const tls = z.strictObject({
  mode: oneOf(['Automatic', 'Manual']),
  manual: z.strictObject({ secretRef: objectName() }).optional(),
  certManagerCertificateSpec: certManagerCertificateSpec.optional(),
})

const NAMES_EXPECTED = 'expected the name of a BrokerAuthorization, or a list of names'

/** One name, or a list of them (an extension: their union counts); read as a list, each name once. */
const authorizationRef = checked<readonly string[]>(
  value => {
    const names: readonly unknown[] = Array.isArray(value) ? value : [value]
    const all = z.array(resourceName()).min(1).safeParse(names)
    return all.success ? [...new Set(all.data)] : new Refusal(NAMES_EXPECTED)
  },
  { 'x-kubernetes-preserve-unknown-fields': true, description: 'Name of a BrokerAuthorization, or a list of names.' },
)

/** `host`, `proxyProtocol` and `websocketEngine` are extensions. */
const port = z.strictObject({
  port: wholeNumber(0, 65_535),
  nodePort: wholeNumber(0, 65_535).optional(),
  protocol: oneOf(['Mqtt', 'WebSockets']).optional(),
  authenticationRef: resourceName().optional(),
  authorizationRef: authorizationRef.optional(),
  tls: tls.optional(),
  host: host.optional(),
  proxyProtocol: z.strictObject({ trustedSources: z.array(network) }).optional(),
  websocketEngine: oneOf(['auto', 'uws', 'ws']).optional(),
})

export const brokerListenerSchema = resourceSchema(
  z.strictObject({
    brokerRef: filledText().optional(),
    serviceName: resourceName().optional(),
    serviceType: oneOf(['ClusterIp', 'LoadBalancer', 'NodePort']).optional(),
    ports: z.array(port),
  }),
)

export type BrokerListenerSpec = z.infer<typeof brokerListenerSchema>['spec']
export type ListenerPort = BrokerListenerSpec['ports'][number]

/** The spec, with what its schema cannot say checked as well; null with faults. */
export function readBrokerListener(findings: Findings): BrokerListenerSpec | null {
  const listener = findings.document.check(brokerListenerSchema, findings.faults)
  if (listener === null) return null
  const { spec } = listener
  if (spec.brokerRef !== undefined && spec.brokerRef !== 'default')
    findings.warn(['spec', 'brokerRef'], 'there is one Broker, default, and this listener belongs to it')
  for (const [index, found] of spec.ports.entries()) checkPort(findings, ['spec', 'ports', index], found, spec.serviceType)
  return spec
}

function checkPort(findings: Findings, path: FieldPath, port: ListenerPort, serviceType: BrokerListenerSpec['serviceType']): void {
  const fault = (field: readonly string[], message: string): void => findings.fault([...path, ...field], message)
  if (port.tls !== undefined) checkTls(port.tls, fault)
  if (port.nodePort !== undefined && serviceType !== 'NodePort') fault(['nodePort'], 'needs serviceType NodePort')
  if (port.websocketEngine !== undefined && port.protocol !== 'WebSockets') fault(['websocketEngine'], 'needs protocol WebSockets')
  if (port.proxyProtocol?.trustedSources.length === 0) fault(['proxyProtocol', 'trustedSources'], 'needs at least one network')
  if (port.authorizationRef !== undefined && port.authenticationRef === undefined)
    findings.warn([...path, 'authorizationRef'], 'has no effect without authenticationRef: everything is allowed')
}

function checkTls(tls: NonNullable<ListenerPort['tls']>, fault: (field: readonly string[], message: string) => void): void {
  const isManual = tls.mode === 'Manual'
  if (isManual && tls.manual === undefined) fault(['tls', 'manual'], 'is missing: mode Manual needs secretRef')
  if (isManual && tls.certManagerCertificateSpec !== undefined) fault(['tls', 'certManagerCertificateSpec'], 'belongs to mode Automatic')
  if (!isManual && tls.certManagerCertificateSpec === undefined)
    fault(['tls', 'certManagerCertificateSpec'], 'is missing: mode Automatic needs issuerRef')
  if (!isManual && tls.manual !== undefined) fault(['tls', 'manual'], 'belongs to mode Manual')
}
