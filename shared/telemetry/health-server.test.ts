import { once } from 'node:events'
import { connect } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { type HealthServer, type HealthServerParts, openHealthServer } from './health-server.ts'

let server: HealthServer | null = null
afterEach(async () => {
  await server?.close()
  server = null
})

const PARTS: HealthServerParts = {
  waitingFor: () => [],
  impaired: () => ['port 1: no certificate'],
  metrics: () => Promise.resolve('up 1\n'),
  metricsFailed: () => undefined,
}

async function open(parts: Partial<HealthServerParts> = {}): Promise<string> {
  server = await openHealthServer({ host: '127.0.0.1', port: 0 }, { ...PARTS, ...parts })
  return `http://127.0.0.1:${server.address.port}`
}

/** Sends `bytes` on a socket of its own and answers everything that came until the server closed it. */
async function raw(bytes: string): Promise<string> {
  const socket = connect(server!.address.port, '127.0.0.1')
  socket.end(bytes)
  let text = ''
  socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
  await once(socket, 'close')
  return text
}

describe('health server', () => {
  test('is alive while not ready, and says what is missing', async () => {
    const waiting = ['store: recovering']
    const url = await open({ waitingFor: () => waiting })
    expect((await fetch(`${url}/livez`)).status).toBe(200)
    const notReady = await fetch(`${url}/readyz`)
    expect([notReady.status, await notReady.json()]).toEqual([
      503,
      { ready: false, waitingFor: ['store: recovering'], impaired: ['port 1: no certificate'] },
    ])
    waiting.pop()
    const ready = await fetch(`${url}/readyz?verbose`)
    expect([ready.status, await ready.json()]).toEqual([200, { ready: true, waitingFor: [], impaired: ['port 1: no certificate'] }])
  })

  test('serves the metrics', async () => {
    const response = await fetch(`${await open()}/metrics`)
    expect(await response.text()).toBe('up 1\n')
    expect(response.headers.get('content-type')).toContain('version=0.0.4')
  })

  test('a metric that cannot be read fails the scrape alone, and its cause is handed on', async () => {
    const causes: unknown[] = []
    const cause = new Error('store is closed')
    const url = await open({ metrics: () => Promise.reject(cause), metricsFailed: found => causes.push(found) })
    const response = await fetch(`${url}/metrics`)
    expect([response.status, await response.text(), causes]).toEqual([500, 'The metrics cannot be read; the log says why.\n', [cause]])
    expect((await fetch(`${url}/livez`)).status).toBe(200)
  })

  test('answers HEAD without a body, other paths with 404, other methods with 405', async () => {
    const url = await open()
    const head = await fetch(`${url}/metrics`, { method: 'HEAD' })
    expect([head.status, await head.text()]).toEqual([200, ''])
    expect((await fetch(`${url}/`)).status).toBe(404)
    expect((await fetch(`${url}/../../etc/passwd`)).status).toBe(404)
    const post = await fetch(`${url}/metrics`, { method: 'POST', body: 'x' })
    expect([post.status, post.headers.get('allow')]).toEqual([405, 'GET, HEAD'])
  })

  test('survives what is no HTTP, and headers without end', async () => {
    const url = await open()
    expect(await raw('\x10\x00\x00\x00\r\n\r\n')).toContain('400')
    expect(await raw(`GET /livez HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(9_000)}\r\n\r\n`)).toContain('431')
    expect((await fetch(`${url}/livez`)).status).toBe(200)
  })

  test('says which port is taken', async () => {
    await open()
    await expect(openHealthServer(server!.address, PARTS)).rejects.toMatchObject({ code: 'EADDRINUSE' })
  })
})
