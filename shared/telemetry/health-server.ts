import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Address } from '../config/address.ts'

export interface HealthServerParts {
  /** What keeps us from serving, one short text each; empty when we serve. */
  readonly waitingFor: () => readonly string[]
  /** What does not work while the rest serves, such as a port that stays closed. */
  readonly impaired: () => readonly string[]
  /** Text of /metrics. When it rejects, the scrape gets 500 and the cause goes to `metricsFailed`. */
  readonly metrics: () => Promise<string>
  readonly metricsFailed: (cause: unknown) => void
}

export interface HealthServer {
  /** Port 0 of the settings is the real one here. */
  readonly address: Address
  close(): Promise<void>
}

const CONNECTIONS_MAX = 64
const HEADER_BYTES_MAX = 8 * 1024
const HEADERS_TIMEOUT_MS = 5_000
const REQUEST_TIMEOUT_MS = 10_000
const TEXT_TYPE = 'text/plain; charset=utf-8'
const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

/**
 * `/livez`, `/readyz` and `/metrics`. Without authentication, hence without anything secret; connections, header size and
 * durations are bounded, and a request body is never read.
 * Rejects with the system's error when the port cannot be opened.
 */
export async function openHealthServer(address: Address, parts: HealthServerParts): Promise<HealthServer> {
  const server = createServer(
    { maxHeaderSize: HEADER_BYTES_MAX, headersTimeout: HEADERS_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS, keepAliveTimeout: 5_000 },
    (request, response) => answer(request, response, parts),
  )
  server.maxConnections = CONNECTIONS_MAX
  await listen(server, address)
  return {
    address: { host: address.host, port: (server.address() as AddressInfo).port },
    close: () => close(server),
  }
}

function answer(request: IncomingMessage, response: ServerResponse, parts: HealthServerParts): void {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('Allow', 'GET, HEAD')
    return send(request, response, 405, TEXT_TYPE, 'Only GET and HEAD.\n')
  }
  switch (request.url?.split('?', 1)[0]) {
    case '/livez':
      return sendJson(request, response, 200, { live: true })
    case '/readyz': {
      const waitingFor = parts.waitingFor()
      return sendJson(request, response, waitingFor.length === 0 ? 200 : 503, {
        ready: waitingFor.length === 0,
        waitingFor,
        impaired: parts.impaired(),
      })
    }
    case '/metrics':
      return sendMetrics(request, response, parts)
    default:
      return send(request, response, 404, TEXT_TYPE, 'Here are /livez, /readyz and /metrics.\n')
  }
}

function sendMetrics(request: IncomingMessage, response: ServerResponse, parts: HealthServerParts): void {
  parts.metrics().then(
    text => send(request, response, 200, METRICS_TYPE, text),
    (cause: unknown) => {
      parts.metricsFailed(cause)
      send(request, response, 500, TEXT_TYPE, 'The metrics cannot be read; the log says why.\n')
    },
  )
}

function sendJson(request: IncomingMessage, response: ServerResponse, status: number, body: object): void {
  send(request, response, status, 'application/json', `${JSON.stringify(body)}\n`)
}

function send(request: IncomingMessage, response: ServerResponse, status: number, type: string, body: string): void {
  const bytes = Buffer.from(body)
  response.writeHead(status, {
    'Content-Type': type,
    'Content-Length': bytes.length,
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    // What a client sends as a body stays unread, so the connection cannot be used again.
    ...(request.headers['content-length'] !== undefined || request.headers['transfer-encoding'] !== undefined
      ? { Connection: 'close' }
      : {}),
  })
  response.end(request.method === 'HEAD' ? undefined : bytes)
}

function listen(server: Server, address: Address): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host: address.host, port: address.port }, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

function close(server: Server): Promise<void> {
  return new Promise(resolve => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
