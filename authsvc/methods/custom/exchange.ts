import { Agent, request as httpsRequest } from 'node:https'
import type { IncomingMessage } from 'node:http'
import type { Endpoint } from './endpoint.ts'

/** Of an answer; no more than that and one chunk is ever held. */
export const BODY_BYTES_MAX = 65_536

/** What came of one request. */
export type Exchange =
  /** `body` null: longer than BODY_BYTES_MAX, the rest was not read. */
  | { readonly is: 'answered'; readonly status: number; readonly body: Buffer | null }
  /** DNS, TCP, TLS, or the time is over. */
  | { readonly is: 'unreachable'; readonly cause: string }
  /** What came is no HTTP. */
  | { readonly is: 'malformed'; readonly cause: string }

/** Keeps up to `socketsMax` connections to `endpoint`, each till nothing was asked over it for `idleMs`. */
export function openAgent(endpoint: Endpoint, socketsMax: number, idleMs: number): Agent {
  return new Agent({ ...tlsOf(endpoint), keepAlive: true, maxSockets: socketsMax, maxFreeSockets: socketsMax, timeout: idleMs })
}

/**
 * One POST. A kept connection that the server closed at the very moment is no sign that it is away: then once more over a fresh one.
 * Redirects are answers like any other. Never rejects.
 */
export async function exchange(endpoint: Endpoint, agent: Agent, body: Buffer, signal: AbortSignal): Promise<Exchange> {
  const first = await once(endpoint, agent, body, signal)
  const outcome = first.is === 'stale' ? await once(endpoint, new Agent(tlsOf(endpoint)), body, signal) : first
  return outcome.is === 'stale' ? { is: 'unreachable', cause: 'connection closed' } : outcome
}

function tlsOf(endpoint: Endpoint): { secureContext: Endpoint['context']; rejectUnauthorized: true } {
  return { secureContext: endpoint.context, rejectUnauthorized: true }
}

async function once(endpoint: Endpoint, agent: Agent, body: Buffer, signal: AbortSignal): Promise<Exchange | { is: 'stale' }> {
  return await new Promise(resolve => {
    const { hostname, port, path, headers } = endpoint
    const request = httpsRequest({
      agent,
      hostname,
      port,
      path,
      method: 'POST',
      headers: { ...Object.fromEntries(headers), 'content-length': body.length },
      signal,
    })
    request.once('response', response => void answered(response, signal).then(resolve))
    request.once('upgrade', (_response, socket) => {
      socket.destroy()
      resolve({ is: 'malformed', cause: 'status 101' })
    })
    request.on('error', (error: NodeJS.ErrnoException) => {
      const isStale = request.reusedSocket && !signal.aborted && (error.code === 'ECONNRESET' || error.code === 'EPIPE')
      resolve(isStale ? { is: 'stale' } : failure(error, signal))
    })
    request.end(body)
  })
}

async function answered(response: IncomingMessage, signal: AbortSignal): Promise<Exchange> {
  const status = response.statusCode ?? 0
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    // Leaving the loop destroys the connection.
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > BODY_BYTES_MAX) return { is: 'answered', status, body: null }
      chunks.push(chunk)
    }
    return { is: 'answered', status, body: Buffer.concat(chunks) }
  } catch (error) {
    return failure(error as NodeJS.ErrnoException, signal)
  }
}

/** Texts of errors are Node's and OpenSSL's; none of them holds what was sent. */
function failure(error: NodeJS.ErrnoException, signal: AbortSignal): Exchange {
  if (signal.aborted) return { is: 'unreachable', cause: 'no answer in time' }
  const cause = error.code ?? error.message
  return cause.startsWith('HPE_') ? { is: 'malformed', cause } : { is: 'unreachable', cause }
}
