import { createPki, type PkiFiles } from '#shared/config/pki.ts'
import { startBrokerForFile } from '../limits/real-broker.ts'

/** For a test or a hook that starts processes or talks to them, on a machine that has much else to do. */
export const CLIENTS_TIMEOUT_MS = 60_000

/** As URLs say it. */
export type Scheme = 'mqtt' | 'mqtts' | 'ws' | 'wss'

/** What clients need to know of a broker, be it one process or a cluster. */
export interface BrokerUnderTest {
  /** On 127.0.0.1; none asks for a client certificate. */
  readonly ports: Readonly<Record<Scheme, number>>
  /** `ca` issued the certificate of the TLS ports. */
  readonly pki: PkiFiles
}

/** `millrace start`, for all tests of the file. */
export async function startStandalone(): Promise<BrokerUnderTest> {
  let pki: PkiFiles
  const broker = await startBrokerForFile(async directory => {
    pki = await createPki(directory)
    return ['--tls-cert', pki.serverCert, '--tls-key', pki.serverKey, '--mqtts', '127.0.0.1:0', '--wss', '127.0.0.1:0']
  })
  const ports = {
    mqtt: broker.portOf('MQTT'),
    mqtts: broker.portOf('MQTT over TLS'),
    ws: broker.portOf('MQTT over WebSocket'),
    wss: broker.portOf('MQTT over WebSocket over TLS'),
  }
  return { ports, pki: pki! }
}
