import { z } from 'zod'
import { isHost } from '../config/address.ts'
import { isNetwork } from '../config/network.ts'
import { Refusal } from '../config/setting.ts'
import { checked, metadata, oneOf, resourceName, text, wholeNumber } from './field.ts'
import type { YamlDocument } from './yaml-document.ts'

const network = checked(value =>
  typeof value === 'string' && isNetwork(value) ? value : new Refusal('expected a network such as 10.0.0.0/8 or fd00::/8, or an address'),
)

const tls = z.strictObject({
  mode: oneOf(['Automatic', 'Manual']),
  manual: z.strictObject({ secretRef: resourceName() }).optional(),
  certManagerCertificateSpec: z.looseObject({}).optional(),
})

/** `host`, `proxyProtocol` and `websocketEngine` are extensions. */
const port = z.strictObject({
  port: wholeNumber(0, 65_535),
  nodePort: wholeNumber(0, 65_535).optional(),
  protocol: oneOf(['Mqtt', 'WebSockets']).optional(),
  authenticationRef: text().optional(),
  authorizationRef: text().optional(),
  tls: tls.optional(),
  host: checked(value =>
    typeof value === 'string' && isHost(value) ? value : new Refusal('expected an address or a host name'),
  ).optional(),
  proxyProtocol: z.strictObject({ trustedSources: z.array(network) }).optional(),
  websocketEngine: oneOf(['auto', 'uws', 'ws']).optional(),
})

export const brokerListenerSchema = z.strictObject({
  apiVersion: z.unknown(),
  kind: z.unknown(),
  metadata,
  status: z.unknown().optional(),
  spec: z.strictObject({
    brokerRef: text().optional(),
    serviceName: text().optional(),
    serviceType: oneOf(['ClusterIp', 'LoadBalancer', 'NodePort']).optional(),
    ports: z.array(port),
  }),
})

export type BrokerListener = z.infer<typeof brokerListenerSchema>
export type BrokerListenerSpec = BrokerListener['spec']
export type ListenerPort = BrokerListener['spec']['ports'][number]

/** The resource, with what its schema cannot say checked as well; null with faults. */
export function readBrokerListener(document: YamlDocument, faults: string[]): BrokerListener | null {
  const listener = document.check(brokerListenerSchema, faults)
  if (listener === null) return null
  for (const [index, found] of listener.spec.ports.entries()) {
    const fault = (field: readonly string[], message: string): void => {
      faults.push(document.fault(['spec', 'ports', index, ...field], message))
    }
    const isManual = found.tls?.mode === 'Manual'
    if (isManual && found.tls?.manual === undefined) fault(['tls', 'manual'], 'is missing: mode Manual needs secretRef')
    if (isManual && found.tls?.certManagerCertificateSpec !== undefined)
      fault(['tls', 'certManagerCertificateSpec'], 'belongs to mode Automatic')
    if (found.tls?.mode === 'Automatic' && found.tls.manual !== undefined) fault(['tls', 'manual'], 'belongs to mode Manual')
    if (found.nodePort !== undefined && listener.spec.serviceType !== 'NodePort') fault(['nodePort'], 'needs serviceType NodePort')
    if (found.websocketEngine !== undefined && found.protocol !== 'WebSockets') fault(['websocketEngine'], 'needs protocol WebSockets')
    if (found.proxyProtocol?.trustedSources.length === 0) fault(['proxyProtocol', 'trustedSources'], 'needs at least one network')
  }
  return listener
}
