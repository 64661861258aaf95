import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { launchBroker, RealBroker, ROOT, scratchDirectory, startBroker } from './real-broker.ts'

const KEPT = { clientId: 'kept', cleanStart: false, properties: { sessionExpiryInterval: 1_000 } } as const

describe('SIGTERM', () => {
  test('MQTT 5 clients get 0x8B, older ones are cut off, the Will goes out, sessions are kept, exit code 0', async () => {
    const data = await scratchDirectory()
    const broker = await startBroker('--store', 'lmdb', '--data', data)
    const subscriber = await broker.connect(KEPT)
    await subscriber.subscribe([
      { filter: 'q/#', qos: 1 },
      { filter: 'last', qos: 1 },
    ])
    const older = await broker.connect({ version: 4 })
    const withWill = await broker.connect({ will: { topic: 'last', payload: 'words', qos: 1 } })
    await older.publish({ topic: 'q/1', qos: 1, payload: 'unread' })
    await subscriber.take('publish')
    const ended = broker.terminate()
    await subscriber.expectDisconnect(0x8b)
    await withWill.expectDisconnect(0x8b)
    await older.expectClosed()
    expect(await ended).toEqual({ code: 0, signal: null })

    const again = await startBroker('--store', 'lmdb', '--data', data)
    const back = await again.connect(KEPT)
    expect(back.connack.sessionPresent).toBe(true)
    expect([(await back.receive()).payload.toString(), (await back.receive()).payload.toString()].sort()).toEqual(['unread', 'words'])
  })

  test('with a Server Reference: 0x9C and the reference', async () => {
    const broker = await startBroker('--server-reference', 'elsewhere:1883')
    const client = await broker.connect()
    const ended = broker.terminate()
    const { properties } = await client.expectDisconnect(0x9c)
    expect(properties.serverReference).toBe('elsewhere:1883')
    expect((await ended).code).toBe(0)
  })

  test('clients that never read do not hold it up for long', async () => {
    const broker = await startBroker()
    const stuck = await broker.connect()
    await stuck.subscribe({ filter: 'flood' })
    stuck.pause()
    const publisher = await broker.connect()
    for (let i = 0; i < 20; i++) await publisher.publish({ topic: 'flood', payload: Buffer.alloc(1_000_000) })
    expect((await broker.terminate()).code).toBe(0)
  })
})

describe('health and metrics', () => {
  test('/livez, /readyz and /metrics', async () => {
    const broker = await startBroker()
    expect((await fetch(`${broker.metricsUrl}/livez`)).status).toBe(200)
    const ready = await fetch(`${broker.metricsUrl}/readyz`)
    expect([ready.status, await ready.json()]).toMatchObject([200, { ready: true, waitingFor: [] }])
    const client = await broker.connect()
    await client.publish({ topic: 't', qos: 1 })
    expect(await broker.metric('aio_broker_publishes_received')).toBe(1)
    expect(await broker.metric('millrace_connections')).toBe(1)
  })

  test('/readyz says no while draining', async () => {
    const broker = await startBroker('--drain-disconnects-per-second', '1', '--drain-timeout-ms', '600000')
    const clients = [await broker.connect(), await broker.connect()]
    const ended = broker.terminate()
    await Promise.race(clients.map(client => client.ended()))
    const ready = await fetch(`${broker.metricsUrl}/readyz`)
    expect([ready.status, await ready.json()]).toMatchObject([503, { ready: false, waitingFor: ['draining'] }])
    for (const client of clients) client.drop()
    expect((await ended).code).toBe(0)
  })
})

describe('a start that cannot be', () => {
  test('the port of a running broker: exit code 1, naming it, and the running one is not disturbed', async () => {
    const first = await startBroker()
    const second = await launchBroker('--store', 'memory', '--mqtt', `127.0.0.1:${first.port}`)
    expect((await second.ended).code).toBe(1)
    expect(second.err).toContain(`127.0.0.1:${first.port}`)
    await first.connect()
  })

  test('a port that something else took', async () => {
    const taken = createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const { port } = taken.address() as { port: number }
    const broker = await launchBroker('--store', 'memory', '--mqtts', '127.0.0.1:0', '--mqtt', `127.0.0.1:${port}`)
    // Without a certificate the flags are wrong already, and that is said first.
    expect((await broker.ended).code).toBe(2)
    expect(broker.err).toContain('--tls-cert')
    taken.close()
  })

  test.each<[flags: string[], says: string[]]>([
    [
      ['--queue-strategy', 'Random'],
      ['--queue-strategy', 'None', 'DropOldest'],
    ],
    [
      ['--receive-maximum', '0'],
      ['--receive-maximum', '1 to 65535'],
    ],
    [['--mqtt', '0.0.0.0:0'], ['--allow-anonymous-remote']],
    [['--nonsense'], ['--nonsense']],
    [
      ['--packet-bytes-max', 'lots'],
      ['--packet-bytes-max', '256 MiB'],
    ],
  ])('flags %j: exit code 2 and what is allowed', async (flags, says) => {
    const broker = await launchBroker('--store', 'memory', ...flags)
    expect((await broker.ended).code).toBe(2)
    for (const text of says) expect(broker.err).toContain(text)
    expect(broker.err).not.toContain('    at ')
  })

  test.each<[what: string, yaml: string, says: string[]]>([
    ['bad syntax', 'apiVersion: [\n', ['broker.yaml:']],
    [
      'an unknown field',
      'apiVersion: mqttbroker.iotoperations.azure.com/v1\nkind: BrokerListener\nmetadata: {name: a}\nspec:\n  prots: []\n',
      ['broker.yaml:5', 'prots', 'ports'],
    ],
    [
      'a value out of range',
      'apiVersion: mqttbroker.iotoperations.azure.com/v1\nkind: BrokerListener\nmetadata: {name: a}\nspec:\n  ports:\n  - {port: 99999}\n',
      ['broker.yaml:6', 'port'],
    ],
  ])('YAML with %s: exit code 2, file, line and field', async (_, yaml, says) => {
    const directory = await scratchDirectory()
    await writeFile(join(directory, 'broker.yaml'), yaml)
    const broker = await launchBroker('--store', 'memory', '--config', directory)
    expect((await broker.ended).code).toBe(2)
    for (const text of says) expect(broker.err).toContain(text)
  })
})

test.each(['the broker', 'npx'])('npx millrace start, as it is written in the README: SIGTERM to %s drains it', async target => {
  const ports = ['--mqtt', '--ws', '--admin', '--metrics'].flatMap(flag => [flag, '127.0.0.1:0'])
  const args = ['millrace', 'start', '--store', 'memory', ...ports]
  const child = spawn('npx', args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  try {
    const broker = await new RealBroker(child).serving()
    const client = await broker.connect()
    await client.publish({ topic: 't', qos: 1 })
    const pid = Number(/"pid":(\d+)/.exec(broker.err)![1])
    process.kill(target === 'npx' ? broker.pid : pid, 'SIGTERM')
    await client.expectDisconnect(0x8b)
    // The broker holds npx's standard output: its end is the end of both. npx reports the signal that it got.
    const { code } = await broker.ended
    if (target !== 'npx') expect(code).toBe(0)
  } finally {
    // npx, its shell and the broker are one process group; none of it is left when all went well.
    try {
      process.kill(-child.pid!, 'SIGKILL')
    } catch {
      // It is gone.
    }
  }
})
