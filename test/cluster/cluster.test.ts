import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { RawClient } from '../conformance/raw-client.ts'
import { type ClusterProcess, type Endpoint, isRunning } from './cluster-process.ts'
import { CLUSTER_TEST_MS, startCluster } from './start-cluster.ts'

const LAUNCHER = join(import.meta.dirname, '../../bin/millrace.js')
const POLL_MS = 20

/** Subscribes with mosquitto_sub; `received` is its output once it has got one message. */
async function subscribe({ host, port }: Endpoint, topic: string, qos: number): Promise<{ readonly received: Promise<string> }> {
  const args = ['-h', host, '-p', String(port), '-t', topic, '-q', String(qos), '-C', '1', '-d']
  const child = spawn('stdbuf', ['-oL', 'mosquitto_sub', ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  let out = ''
  child.stdout.on('data', (text: Buffer) => (out += text.toString()))
  const received = once(child, 'close').then(() => out)
  while (!out.includes('Subscribed (mid')) await Promise.race([once(child.stdout, 'data'), received])
  return { received }
}

async function publish({ host, port }: Endpoint, topic: string, qos: number, payload: string): Promise<void> {
  const args = ['-h', host, '-p', String(port), '-t', topic, '-q', String(qos), '-m', payload]
  const [code] = (await once(spawn('mosquitto_pub', args, { stdio: 'inherit' }), 'close')) as [number]
  expect(code).toBe(0)
}

async function allGone(cluster: ClusterProcess): Promise<void> {
  for (const pid of cluster.pids) while (await isRunning(pid)) await sleep(POLL_MS)
}

/** Runs the command to its end. */
async function finish(args: readonly string[], path = process.env['PATH'] ?? ''): Promise<{ readonly code: number; readonly err: string }> {
  const child = spawn(process.execPath, [LAUNCHER, 'cluster', ...args], { stdio: ['ignore', 'ignore', 'pipe'], env: { PATH: path } })
  let err = ''
  child.stderr.on('data', (text: Buffer) => (err += text.toString()))
  const [code] = (await once(child, 'close')) as [number]
  return { code, err }
}

describe('millrace cluster that cannot start', () => {
  test('names the package of redis-server when that is missing', async () => {
    const { code, err } = await finish(['--base-port', '0'], '/nowhere')
    expect([code, err]).toEqual([
      1,
      expect.stringMatching(/^millrace cluster: redis-server is not installed.*apt-get install redis-server/),
    ])
  })

  test('says which process ended, and leaves none', { timeout: CLUSTER_TEST_MS }, async () => {
    const certificate = ['--rpc-tls-cert', 'none', '--rpc-tls-key', 'none', '--rpc-tls-ca', 'none']
    const { code, err } = await finish(['--base-port', '0', ...certificate])
    const last = err.trim().split('\n').at(-1)
    expect([code, last]).toEqual([
      1,
      expect.stringMatching(/^millrace cluster: \w+-\d ended while starting \(exit code 2\); its lines are above$/),
    ])
    expect(err).toContain('flag --rpc-tls-cert: ENOENT')
  })
})

describe('millrace cluster', () => {
  test('serves through every frontend, says so, and leaves nothing behind on SIGTERM', { timeout: CLUSTER_TEST_MS }, async () => {
    const cluster = await startCluster('--frontends', '2', '--backends', '2')
    expect([cluster.frontends.length, cluster.backends.length, cluster.authsvcs.length, cluster.redis.length]).toEqual([2, 2, 1, 1])
    for (const { metrics } of [...cluster.frontends, ...cluster.backends, ...cluster.authsvcs]) {
      const ready = await fetch(`http://${metrics.host}:${metrics.port}/readyz`)
      expect([ready.status, await ready.json()]).toEqual([200, { ready: true, waitingFor: [], impaired: [] }])
    }
    const [one, other] = cluster.frontends
    for (const qos of [0, 1, 2]) {
      const { received } = await subscribe(one!.mqtt, `to/${qos}`, qos)
      await publish(other!.mqtt, `to/${qos}`, qos, `at ${qos}`)
      expect(await received).toContain(`at ${qos}\n`)
    }
    for (const line of cluster.lines()) expect(line).toMatchObject({ level: expect.any(String), event: expect.any(String) })
    expect(await cluster.stop()).toEqual({ code: 0, signal: null })
    expect(cluster.pids.length).toBeGreaterThanOrEqual(6)
    for (const pid of cluster.pids) expect(await isRunning(pid)).toBe(false)
  })

  test('a killed backend and a killed Redis come back, with what was retained', { timeout: CLUSTER_TEST_MS }, async () => {
    const cluster = await startCluster('--frontends', '1', '--backends', '2', '--authsvcs', '0')
    const { mqtt } = cluster.frontends[0]!
    const client = await (await RawClient.open(mqtt.host, mqtt.port)).connect({ clientId: 'writer' })
    for (let index = 0; index < 16; index++)
      await client.publish({ topic: `kept/${index}`, qos: 1, retain: true, payload: Buffer.from('x') })
    const before = cluster.pidOf('backend', 0)
    cluster.kill('backend', 0)
    cluster.kill('redis', 0)
    await cluster.servesAgain('backend', 0, before)
    await client.subscribe({ filter: 'kept/#', qos: 1 })
    const topics = new Set<string>()
    while (topics.size < 16) {
      const message = await client.receive()
      topics.add(client.topicOf(message))
      await client.acknowledge(message)
    }
    await cluster.stop()
  })

  test('killed, it takes everything with it', { timeout: CLUSTER_TEST_MS }, async () => {
    const cluster = await startCluster('--frontends', '1', '--backends', '1', '--workers', '2', '--redundancy-factor', '2')
    expect(cluster.redis.map(({ role }) => role)).toEqual(['primary', 'replica'])
    await cluster.abandon()
    await allGone(cluster)
  })

  test('workers of a frontend share its ports, and one that dies is replaced', { timeout: CLUSTER_TEST_MS }, async () => {
    const cluster = await startCluster('--frontends', '1', '--backends', '1', '--authsvcs', '0', '--workers', '2')
    const { mqtt, metrics } = cluster.frontends[0]!
    const workersServing = (): readonly number[] =>
      cluster
        .lines()
        .flatMap(({ worker, event, pid }) => (worker !== undefined && event === 'serving' && typeof pid === 'number' ? [pid] : []))
    const clients = await Promise.all(
      Array.from({ length: 12 }, async (_, index) => (await RawClient.open(mqtt.host, mqtt.port)).connect({ clientId: `c${index}` })),
    )
    expect(await cluster.metric(metrics, 'millrace_connections')).toBe(clients.length)
    process.kill(workersServing()[0]!, 'SIGKILL')
    while (workersServing().length < 3) await sleep(POLL_MS)
    const late = await (await RawClient.open(mqtt.host, mqtt.port)).connect({ clientId: 'late' })
    await late.ping()
    expect(await cluster.stop()).toEqual({ code: 0, signal: null })
    await allGone(cluster)
  })
})
