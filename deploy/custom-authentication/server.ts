import { createServer } from 'node:https'
import type { Server } from 'node:https'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { decide } from './decide.ts'
import type { Decision } from './decide.ts'
import { parseQuestion } from './question.ts'
import type { UsersFile } from './users-file.ts'

const SUPPORTED_VERSIONS = ['0.5.0']
/** Certificates of a chain are the most of it. A longer body is refused and its connection closed. */
const BODY_BYTES_MAX = 262_144
/** The broker gives up after five seconds unless told otherwise. */
const REQUEST_MS_MAX = 5_000

export interface ServerTls {
  readonly cert: Buffer
  readonly key: Buffer
  /** Only brokers with a certificate of this authority may ask; left out: whoever reaches the port may. */
  readonly ca?: Buffer
}

export interface ServerOptions {
  readonly tls: ServerTls
  readonly users: UsersFile
  /** Milliseconds since 1970. */
  readonly nowMs: () => number
  readonly log: (event: string, fields: Readonly<Record<string, unknown>>) => void
}

interface Reply {
  readonly status: number
  /** A text as it is, an object as JSON. */
  readonly body: string | object
}

/** A server of the Custom Authentication API 0.5.0 (openapi.yaml). Whoever calls lets it listen. */
export function openServer(options: ServerOptions): Server {
  const { tls, log } = options
  const asksForCertificate = tls.ca !== undefined
  const context = { ...secureContextOf(tls), requestCert: asksForCertificate, rejectUnauthorized: asksForCertificate }
  const server = createServer({ ...context, requestTimeout: REQUEST_MS_MAX, headersTimeout: REQUEST_MS_MAX }, (request, response) => {
    answer(request, options)
      .catch((error: unknown): Reply => {
        log('failed', { error: String(error) })
        return { status: 500, body: 'internal error' }
      })
      .then(
        reply => send(response, reply),
        // Nobody is there any more.
        () => response.destroy(),
      )
  })
  // Longer than the broker keeps a connection that nothing is asked over: so that it is the broker who closes it.
  server.keepAliveTimeout = 60_000
  return server
}

/** What TLS goes by, at the start and after a SIGHUP. */
export function secureContextOf(tls: ServerTls): ServerTls & { readonly minVersion: 'TLSv1.2' } {
  return { ...tls, minVersion: 'TLSv1.2' }
}

async function answer(request: IncomingMessage, { users, nowMs, log }: ServerOptions): Promise<Reply> {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'https://localhost')
  if (pathname !== '/') return { status: 404, body: 'the API is at /' }
  if (request.method !== 'POST') return { status: 405, body: 'POST alone' }
  const version = searchParams.get('api-version')
  if (version === null) return { status: 400, body: 'api-version is missing' }
  if (!SUPPORTED_VERSIONS.includes(version)) return { status: 422, body: { supportedVersions: SUPPORTED_VERSIONS } }
  if (request.headers['content-type']?.split(';')[0]?.trim().toLowerCase() !== 'application/json') {
    return { status: 400, body: 'Content-Type must be application/json' }
  }
  const text = await readBody(request)
  if (text === null) return { status: 413, body: 'too large' }
  const question = parseQuestion(text)
  if (question === null) return { status: 400, body: 'not a request of this API' }

  const decision = await decide(question, await users.current())
  const userName = question.type === 'connect' ? question.username : null
  log(decision.is, {
    type: question.type,
    userName: userName?.slice(0, 256) ?? null,
    ...(decision.is === 'denied' && { why: decision.message }),
  })
  return replyOf(decision, nowMs())
}

function replyOf(decision: Decision, nowMs: number): Reply {
  if (decision.is === 'denied') return { status: 403, body: { reason: decision.reason, message: decision.message } }
  const { attributes, expiresInSeconds } = decision.user
  const expiry = expiresInSeconds === null ? null : new Date(nowMs + expiresInSeconds * 1_000).toISOString()
  return { status: 200, body: { ...(expiry !== null && { expiry }), attributes } }
}

/** Null: longer than BODY_BYTES_MAX. */
async function readBody(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > BODY_BYTES_MAX) return null
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function send(response: ServerResponse, { status, body }: Reply): void {
  const isText = typeof body === 'string'
  const headers = {
    'content-type': isText ? 'text/plain; charset=utf-8' : 'application/json',
    ...(status === 413 && { connection: 'close' }),
  }
  response.writeHead(status, headers).end(isText ? body : JSON.stringify(body))
}
