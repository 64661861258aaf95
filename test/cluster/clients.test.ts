import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createPki, type PkiFiles } from '#shared/config/pki.ts'
import { type BrokerUnderTest, CLIENTS_TIMEOUT_MS } from '../clients/broker-under-test.ts'
import { describeMosquitto } from '../clients/mosquitto.contract.ts'
import { describeMqttJs } from '../clients/mqtt-js.contract.ts'
import type { ClusterProcess, Endpoint } from './cluster-process.ts'
import { startClusterForFile } from './start-cluster.ts'
import { startLoadBalancerForFile } from './load-balancer.ts'

const FRONTENDS = 2
const BACKENDS = 3
const BROKER = `a cluster of ${FRONTENDS} frontends and ${BACKENDS} backends behind HAProxy`

let shared: Promise<{ readonly cluster: ClusterProcess; readonly subject: BrokerUnderTest }> | null = null

/** One cluster for the file: what a single broker does, it must do too. */
function sharedCluster(): NonNullable<typeof shared> {
  shared ??= startShared()
  return shared
}

const open = async (): Promise<BrokerUnderTest> => (await sharedCluster()).subject
describeMqttJs(BROKER, open)
describeMosquitto(BROKER, open)

test('every frontend had clients, and every backend shards', { timeout: CLIENTS_TIMEOUT_MS }, async () => {
  const { cluster } = await sharedCluster()
  for (const { metrics } of cluster.frontends) expect(await cluster.metric(metrics, 'millrace_connections_total')).toBeGreaterThan(0)
  for (const { metrics } of cluster.backends) expect(await cluster.metric(metrics, 'millrace_shards_owned')).toBeGreaterThan(0)
})

async function startShared(): Promise<{ readonly cluster: ClusterProcess; readonly subject: BrokerUnderTest }> {
  let pki: PkiFiles
  const cluster = await startClusterForFile(async directory => {
    pki = await createPki(directory)
    const size = ['--frontends', String(FRONTENDS), '--backends', String(BACKENDS)]
    return [...size, '--proxy-protocol', '127.0.0.0/8', '--config', await writeTlsPorts(directory, pki)]
  })
  const plain = await startLoadBalancerForFile(cluster.frontends)
  // TLS passes through it: a second one, with the same configuration, in front of the TLS ports.
  const tls = await startLoadBalancerForFile(
    cluster.frontends.map(({ metrics }, index) => ({
      mqtt: portOf(cluster, index, 'mqtts'),
      ws: portOf(cluster, index, 'wss'),
      metrics,
    })),
  )
  return { cluster, subject: { ports: { mqtt: plain.mqtt, mqtts: tls.mqtt, ws: plain.ws, wss: tls.ws }, pki: pki! } }
}

/** BrokerListener resources `mqtts` and `wss`, whose ports the system chooses for each frontend; answers their directory. */
async function writeTlsPorts(directory: string, pki: PkiFiles): Promise<string> {
  const config = join(directory, 'config')
  const secret = join(config, 'secrets/server')
  await mkdir(secret, { recursive: true })
  await copyFile(pki.serverCert, join(secret, 'tls.crt'))
  await copyFile(pki.serverKey, join(secret, 'tls.key'))
  // One of each type: only one is allowed.
  const listener = (name: string, serviceType: 'ClusterIp' | 'LoadBalancer', protocol: 'Mqtt' | 'WebSockets'): object => ({
    apiVersion: 'mqttbroker.iotoperations.azure.com/v1',
    kind: 'BrokerListener',
    metadata: { name },
    spec: {
      serviceType,
      ports: [
        {
          port: 0,
          host: '127.0.0.1',
          protocol,
          proxyProtocol: { trustedSources: ['127.0.0.0/8'] },
          tls: { mode: 'Manual', manual: { secretRef: 'server' } },
        },
      ],
    },
  })
  // JSON is YAML.
  const documents = [listener('mqtts', 'ClusterIp', 'Mqtt'), listener('wss', 'LoadBalancer', 'WebSockets')].map(each =>
    JSON.stringify(each),
  )
  await writeFile(join(config, 'listeners.yaml'), documents.join('\n---\n'))
  return config
}

/** Where frontend `index` listens for the BrokerListener `name`, as its log says. */
function portOf(cluster: ClusterProcess, index: number, name: string): Endpoint {
  const line = cluster
    .lines()
    .find(
      ({ process, event, listener }) =>
        process === `frontend-${index}` && event === 'listening' && String(listener).startsWith(`BrokerListener ${name} `),
    )
  const address = String(line?.['address'])
  return { host: '127.0.0.1', port: Number(address.slice(address.lastIndexOf(':') + 1)) }
}
