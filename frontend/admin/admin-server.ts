import fastify from 'fastify'
import type { AddressInfo } from 'node:net'
import type { Address } from '#shared/config/address.ts'
import type { BrokerStatus } from './broker-status.ts'
import { STATUS_PAGE, STATUS_SCRIPT, STATUS_STYLE } from './status-page.ts'

export interface AdminServer {
  /** Port 0 of the settings is the real one here. */
  readonly address: Address
  close(): Promise<void>
}

const CONNECTIONS_MAX = 256
const HEADER_BYTES_MAX = 16 * 1024
const BODY_BYTES_MAX = 64 * 1024
const REQUEST_TIMEOUT_MS = 10_000

/** Everything the page needs comes from here; nothing may frame it or run in it that is not ours. */
const SECURITY_HEADERS = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cache-Control': 'no-store',
} as const

/**
 * Status page on `/`, the same facts as JSON on `/api/v1/status`. Read only. A request whose Host is neither an address, nor
 * localhost, nor the name that the port was bound by is refused, so that a page from elsewhere cannot read it through DNS.
 * Rejects with the system's error when the port cannot be opened.
 */
export async function openAdminServer(address: Address, readStatus: () => BrokerStatus): Promise<AdminServer> {
  const app = fastify({
    logger: false,
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_TIMEOUT_MS,
    forceCloseConnections: true,
    http: { maxHeaderSize: HEADER_BYTES_MAX, headersTimeout: REQUEST_TIMEOUT_MS },
  })
  app.server.maxConnections = CONNECTIONS_MAX
  app.addHook('onRequest', async (request, reply) => {
    reply.headers(SECURITY_HEADERS)
    if (!isOwnHost(request.headers.host, address.host)) await reply.code(421).send({ error: 'This host name is not served here.' })
  })
  app.get('/', (_, reply) => reply.type('text/html; charset=utf-8').send(STATUS_PAGE))
  app.get('/status.css', (_, reply) => reply.type('text/css; charset=utf-8').send(STATUS_STYLE))
  app.get('/status.js', (_, reply) => reply.type('text/javascript; charset=utf-8').send(STATUS_SCRIPT))
  app.get('/api/v1/status', () => readStatus())
  app.setNotFoundHandler((_, reply) => reply.code(404).send({ error: 'There is / and /api/v1/status.' }))
  await app.listen({ host: address.host, port: address.port })
  return {
    address: { host: address.host, port: (app.server.address() as AddressInfo).port },
    close: async () => {
      await app.close()
    },
  }
}

function isOwnHost(host: string | undefined, boundHost: string): boolean {
  const name = /^(\[[\da-f:.]+\]|[^:]+)(:\d+)?$/i.exec(host ?? '')?.[1]?.toLowerCase()
  return name !== undefined && (name === 'localhost' || name === boundHost.toLowerCase() || /^(\[.*\]|[\d.]+)$/.test(name))
}
