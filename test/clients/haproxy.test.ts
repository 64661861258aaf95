import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { RawClient } from '../conformance/raw-client.ts'
import { scratchDirectory, startBroker } from '../limits/real-broker.ts'

/** A Debian package puts it where not every user looks. */
const HAPROXY = ['/usr/sbin/haproxy', '/usr/local/sbin/haproxy'].find(existsSync) ?? 'haproxy'

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

/** HAProxy in front of `target`, which it sends PROXY headers as `send` says; answers its port. */
async function proxyTo(target: number, send: 'send-proxy' | 'send-proxy-v2'): Promise<number> {
  const port = await freePort()
  const file = join(await scratchDirectory(), 'haproxy.cfg')
  const lines = ['defaults', ' mode tcp', ' timeout connect 5s', ' timeout client 60s', ' timeout server 60s']
  await writeFile(file, [...lines, 'listen mqtt', ` bind 127.0.0.1:${port}`, ` server broker 127.0.0.1:${target} ${send}`, ''].join('\n'))
  const child = spawn(HAPROXY, ['-db', '-f', file], { stdio: 'ignore' })
  const ended = once(child, 'close')
  stops.push(async () => {
    child.kill('SIGKILL')
    await ended
  })
  while (!(await accepts(port))) {
    if (child.exitCode !== null) throw new Error(`haproxy ended with ${child.exitCode}`)
    await sleep(20)
  }
  return port
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  const accepted = await new Promise<boolean>(resolve => socket.once('connect', () => resolve(true)).once('error', () => resolve(false)))
  socket.destroy()
  return accepted
}

describe.each([['send-proxy'], ['send-proxy-v2']] as const)('behind HAProxy with %s', send => {
  test('clients are served, and known by their own address; who comes without a header is not', async () => {
    const broker = await startBroker('--proxy-protocol', '127.0.0.0/8', '--log-level', 'debug')
    const port = await proxyTo(broker.port, send)
    const client = await (await RawClient.open('127.0.0.1', port)).connect({ clientId: 'behind' })
    const other = await (await RawClient.open('127.0.0.1', port, 4)).connect({ clientId: 'older' })
    await client.subscribe({ filter: 't', qos: 1 })
    await other.publish({ topic: 't', qos: 1, payload: Buffer.alloc(100_000, 1) })
    expect((await client.receive()).payload).toHaveLength(100_000)
    const connected = broker.err.split('\n').find(line => line.includes('"connected"') && line.includes('behind'))
    expect(JSON.parse(connected!)).toMatchObject({ remote: '127.0.0.1' })

    const bare = await RawClient.open('127.0.0.1', broker.port)
    bare.sendConnect({ clientId: 'bare' })
    await bare.expectClosed()
    await client.ping()
  })
})

test('a source that is not trusted may not say who it is', async () => {
  const broker = await startBroker('--proxy-protocol', '192.0.2.0/24')
  const client = await RawClient.open('127.0.0.1', broker.port)
  client.send(Buffer.from('PROXY TCP4 198.51.100.7 127.0.0.1 5000 1883\r\n'))
  await client.expectClosed()
})
