import { request } from 'node:http'
import { Script } from 'node:vm'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type AdminServer, openAdminServer } from './admin-server.ts'
import type { BrokerStatus } from './broker-status.ts'

const STATUS: BrokerStatus = {
  version: '1.2.3',
  uptimeSeconds: 5,
  waitingFor: [],
  listeners: [{ name: '</script><b>', address: '127.0.0.1:1883', protocol: 'Mqtt', tls: false, engine: 'net', closedReason: null }],
  connections: 1,
  sessions: 2,
  subscriptions: 3,
  retainedMessages: 4,
  publishesReceived: 5,
  publishesSent: 6,
  residentBytes: 7,
}

let server: AdminServer
let url = ''

beforeEach(async () => {
  server = await openAdminServer({ host: '127.0.0.1', port: 0 }, () => STATUS)
  url = `http://127.0.0.1:${server.address.port}`
})

afterEach(() => server.close())

function statusFor(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    request({ port: server.address.port, host: '127.0.0.1', path: '/api/v1/status', headers: { Host: host } }, response => {
      response.resume()
      resolve(response.statusCode!)
    })
      .once('error', reject)
      .end()
  })
}

test('serves the status as JSON', async () => {
  const response = await fetch(`${url}/api/v1/status`)
  expect(response.headers.get('content-type')).toContain('application/json')
  expect(await response.json()).toEqual(STATUS)
})

test('serves a page whose parts all come from here, and lets nothing else run in it', async () => {
  const response = await fetch(url)
  const page = await response.text()
  expect(response.headers.get('content-security-policy')).toContain("default-src 'none'; script-src 'self'")
  expect(page).not.toMatch(/https?:|<script>|style=|\son\w+=/)
  for (const [, asset] of page.matchAll(/(?:href|src)="([^"]+)"/g)) expect((await fetch(url + asset!)).status).toBe(200)
})

test('the script of the page is JavaScript and writes no HTML', async () => {
  const script = await (await fetch(`${url}/status.js`)).text()
  expect(() => new Script(script)).not.toThrow()
  expect(script).not.toMatch(/innerHTML|insertAdjacentHTML|document\.write/)
})

test.each([
  ['127.0.0.1:1', 200],
  ['localhost:1', 200],
  ['[::1]:1', 200],
  ['evil.example', 421],
  ['127.0.0.1.evil.example', 421],
  ['a/b', 421],
])('Host %j: %d, so that a foreign page cannot come in by a name of its own', async (host, status) => {
  expect(await statusFor(host)).toBe(status)
})

test('is read only, and says what there is', async () => {
  expect((await fetch(`${url}/api/v1/status`, { method: 'POST', body: '{}' })).status).toBe(404)
  const missing = await fetch(`${url}/nothing`)
  expect([missing.status, await missing.json()]).toEqual([404, { error: 'There is / and /api/v1/status.' }])
})
