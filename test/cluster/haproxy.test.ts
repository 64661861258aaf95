import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { RawClient } from '../conformance/raw-client.ts'
import { type ClusterProcess, type Endpoint, isRunning, startCluster } from './cluster-process.ts'

/** A Debian package puts it where not every user looks. */
const HAPROXY = ['/usr/sbin/haproxy', '/usr/local/sbin/haproxy'].find(existsSync) ?? 'haproxy'
const CONFIGURATION = join(import.meta.dirname, '../../deploy/haproxy/haproxy.cfg')
const POLL_MS = 20
const CLIENTS = 8
const SERVER_SHUTTING_DOWN = 0x8b

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
})

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  await new Promise(resolve => server.close(resolve))
  return port
}

const textOf = ({ host, port }: Endpoint): string => `${host}:${port}`

/** HAProxy as deploy/ has it, in front of the cluster. */
class LoadBalancer {
  readonly mqtt: number
  readonly ws: number
  readonly #stats: number

  private constructor([mqtt, ws, stats]: readonly number[]) {
    this.mqtt = mqtt!
    this.ws = ws!
    this.#stats = stats!
  }

  static async start(cluster: ClusterProcess): Promise<LoadBalancer> {
    const balancer = new LoadBalancer(await Promise.all([freePort(), freePort(), freePort()]))
    const frontends = cluster.frontends.flatMap(({ mqtt, ws, metrics }, index) => [
      [`MILLRACE_FRONTEND_${index + 1}_MQTT`, textOf(mqtt)],
      [`MILLRACE_FRONTEND_${index + 1}_WS`, textOf(ws)],
      [`MILLRACE_FRONTEND_${index + 1}_METRICS`, textOf(metrics)],
    ])
    const env = {
      ...process.env,
      ...(Object.fromEntries(frontends) as Record<string, string>),
      MILLRACE_LB_MQTT: `127.0.0.1:${balancer.mqtt}`,
      MILLRACE_LB_WS: `127.0.0.1:${balancer.ws}`,
      MILLRACE_LB_STATS: `127.0.0.1:${balancer.#stats}`,
    }
    const child = spawn(HAPROXY, ['-db', '-f', CONFIGURATION], { stdio: 'ignore', env })
    const ended = once(child, 'close')
    stops.push(async () => {
      child.kill('SIGKILL')
      await ended
    })
    for (const index of cluster.frontends.keys()) {
      while (!(await balancer.#isUp(index))) {
        if (child.exitCode !== null) throw new Error(`haproxy ended with ${child.exitCode}`)
        await sleep(POLL_MS)
      }
    }
    return balancer
  }

  async isDown(index: number): Promise<boolean> {
    return (await this.#states()).includes(`haproxy_server_status{proxy="ws",server="frontend${index + 1}",state="DOWN"} 1`)
  }

  async #isUp(index: number): Promise<boolean> {
    const states = await this.#states()
    return ['mqtt', 'ws'].every(proxy =>
      states.includes(`haproxy_server_status{proxy="${proxy}",server="frontend${index + 1}",state="UP"} 1`),
    )
  }

  async #states(): Promise<string> {
    return fetch(`http://127.0.0.1:${this.#stats}/metrics`)
      .then(response => response.text())
      .catch(() => '')
  }

  async connect(clientId: string): Promise<RawClient> {
    return (await RawClient.open('127.0.0.1', this.mqtt)).connect({
      clientId,
      cleanStart: false,
      properties: { sessionExpiryInterval: 60 },
    })
  }
}

test('a frontend that drains gets no new clients, those it has are told, and nobody is refused', { timeout: 120_000 }, async () => {
  const flags = ['--frontends', '2', '--backends', '2', '--proxy-protocol', '127.0.0.0/8', '--no-restart', '--drain-delay-ms', '2000']
  const cluster = await startCluster(...flags)
  const balancer = await LoadBalancer.start(cluster)
  const clients = await Promise.all(Array.from({ length: CLIENTS }, (_, index) => balancer.connect(`c${index}`)))
  for (const { metrics } of cluster.frontends) expect(await cluster.metric(metrics, 'millrace_connections')).toBe(CLIENTS / 2)
  for (const client of clients) await client.subscribe({ filter: 'all', qos: 1 })

  cluster.kill('frontend', 0, 'SIGTERM')
  // From here on the balancer notices at some time, and then the port closes; nobody is refused at any.
  while (await isRunning(cluster.frontends[0]!.pid)) await (await balancer.connect('late')).disconnect()
  let told = 0
  for (const [index, client] of clients.entries()) {
    const disconnect = client.poll('disconnect')
    if (disconnect === undefined) continue
    told++
    expect(disconnect.reason).toBe(SERVER_SHUTTING_DOWN)
    clients[index] = await balancer.connect(`c${index}`)
    expect(clients[index]!.connack.sessionPresent).toBe(true)
  }
  expect(told).toBe(CLIENTS / 2)
  while (!(await balancer.isDown(0))) await sleep(POLL_MS)

  const publisher = await balancer.connect('publisher')
  await publisher.publish({ topic: 'all', qos: 1, payload: Buffer.from('x') })
  for (const client of clients) await client.acknowledge(await client.receive())
  expect(await cluster.stop()).toEqual({ code: 0, signal: null })
})
