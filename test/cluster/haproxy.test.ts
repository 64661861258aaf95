import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { RawClient } from '../conformance/raw-client.ts'
import { isRunning } from './cluster-process.ts'
import { startCluster } from './start-cluster.ts'
import { startLoadBalancer } from './load-balancer.ts'

const POLL_MS = 20
const CLIENTS = 8
const SERVER_SHUTTING_DOWN = 0x8b

test('a frontend that drains gets no new clients, those it has are told, and nobody is refused', { timeout: 120_000 }, async () => {
  const flags = ['--frontends', '2', '--backends', '2', '--proxy-protocol', '127.0.0.0/8', '--no-restart', '--drain-delay-ms', '2000']
  const cluster = await startCluster(...flags)
  const balancer = await startLoadBalancer(cluster.frontends)
  const connect = async (clientId: string): Promise<RawClient> =>
    (await RawClient.open('127.0.0.1', balancer.mqtt)).connect({ clientId, cleanStart: false, properties: { sessionExpiryInterval: 60 } })
  const clients = await Promise.all(Array.from({ length: CLIENTS }, (_, index) => connect(`c${index}`)))
  for (const { metrics } of cluster.frontends) expect(await cluster.metric(metrics, 'millrace_connections')).toBe(CLIENTS / 2)
  for (const client of clients) await client.subscribe({ filter: 'all', qos: 1 })

  cluster.kill('frontend', 0, 'SIGTERM')
  // From here on the balancer notices at some time, and then the port closes; nobody is refused at any.
  while (await isRunning(cluster.frontends[0]!.pid)) await (await connect('late')).disconnect()
  let told = 0
  for (const [index, client] of clients.entries()) {
    const disconnect = client.poll('disconnect')
    if (disconnect === undefined) continue
    told++
    expect(disconnect.reason).toBe(SERVER_SHUTTING_DOWN)
    clients[index] = await connect(`c${index}`)
    expect(clients[index]!.connack.sessionPresent).toBe(true)
  }
  expect(told).toBe(CLIENTS / 2)
  while (!(await balancer.isDown(0))) await sleep(POLL_MS)

  const publisher = await connect('publisher')
  await publisher.publish({ topic: 'all', qos: 1, payload: Buffer.from('x') })
  for (const client of clients) await client.acknowledge(await client.receive())
  expect(await cluster.stop()).toEqual({ code: 0, signal: null })
})
