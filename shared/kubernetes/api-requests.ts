import type { ClientRequest, IncomingMessage } from 'node:http'
import { Agent, request } from 'node:https'
import { thrownText } from '../base/thrown.ts'
import { systemTimers, type Timers } from '../base/timers.ts'
import { KubernetesUnavailable } from './kubernetes-access.ts'
import type { Credentials, KubernetesEndpoint } from './kubernetes-endpoint.ts'
import { LineSplitter } from './line-splitter.ts'

/** From the call to the last byte of the answer, waiting for a place in flight included. */
export const REQUEST_TIMEOUT_MS = 5_000
/** Requests on their way at once; further ones wait. */
const IN_FLIGHT_MAX = 32
/** Requests that wait; a further one is refused at once. */
const WAITING_MAX = 1_000
/** Bytes of an answer; a page of a list of large Secrets stays below. */
const ANSWER_BYTES_MAX = 32 * 1024 * 1024
/** Bytes of one event of a watch. etcd refuses objects over 1.5 MiB. */
const EVENT_BYTES_MAX = 8 * 1024 * 1024
const KEEP_ALIVE_MS = 15_000
const MESSAGE_LENGTH_MAX = 512

export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PATCH'
  /** Below the address of the API server, with its query. */
  readonly path: string
  readonly body?: object
  /** Default `application/json`. */
  readonly contentType?: string
}

export interface ApiAnswer {
  readonly status: number
  /** JSON; null when there is none. Untrusted in its shape. */
  readonly body: unknown
}

export interface WatchHandlers {
  /** The server has accepted: events follow. */
  onOpen(): void
  /** One line of JSON. */
  onLine(line: string): void
  /** Once, at last, unless the caller ended it. Refused: the answer. Broken: why. Null: the server ended it in order. */
  onEnd(fault: ApiAnswer | KubernetesUnavailable | null): void
}

export interface ApiRequestsOptions {
  readonly timers?: Timers
  readonly timeoutMs?: number
  readonly inFlightMax?: number
}

/**
 * Requests to a Kubernetes API server over HTTPS. Connections are kept. Error texts name method, path and fault: never a header or a body, which hold tokens
 * and Secrets.
 */
export class ApiRequests {
  readonly endpoint: KubernetesEndpoint
  readonly #timers: Timers
  readonly #timeoutMs: number
  readonly #inFlightMax: number
  readonly #agent = new Agent({ keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS, maxFreeSockets: 4 })
  readonly #open = new Set<ClientRequest>()
  readonly #waiting: (() => void)[] = []
  #inFlight = 0
  #isClosed = false

  constructor(endpoint: KubernetesEndpoint, options: ApiRequestsOptions = {}) {
    this.endpoint = endpoint
    this.#timers = options.timers ?? systemTimers
    this.#timeoutMs = options.timeoutMs ?? REQUEST_TIMEOUT_MS
    this.#inFlightMax = options.inFlightMax ?? IN_FLIGHT_MAX
  }

  /**
   * Any answer of the server, refusals included. A 401 is tried once more when our credentials have changed since they were read.
   * @throws {KubernetesUnavailable} no answer, none in time, or one over the limit; closed; too many wait
   */
  async send(asked: ApiRequest): Promise<ApiAnswer> {
    return await new Promise((resolve, reject) => {
      const deadline = new Deadline()
      const settle = (): void => {
        cancel()
        deadline.isOver = true
      }
      const cancel = this.#timers.after(this.#timeoutMs, () => {
        settle()
        deadline.request?.destroy()
        reject(this.#unavailable(asked, `no answer within ${this.#timeoutMs} ms`))
      })
      this.#sendInTurn(asked, deadline).then(
        answer => {
          settle()
          resolve(answer)
        },
        (error: unknown) => {
          settle()
          reject(error instanceof KubernetesUnavailable ? error : this.#unavailable(asked, thrownText(error)))
        },
      )
    })
  }

  /** @returns ends it without a word */
  watch(path: string, handlers: WatchHandlers): () => void {
    const watch = new Watching(handlers)
    const asked = { method: 'GET', path } as const
    this.#startWatch(asked, watch).catch((error: unknown) => watch.end(this.#unavailable(asked, thrownText(error))))
    return () => watch.cancel()
  }

  /** Ends everything that is on its way. */
  close(): void {
    this.#isClosed = true
    for (const open of this.#open) open.destroy()
    this.#agent.destroy()
    for (const go of this.#waiting.splice(0)) go()
  }

  async #sendInTurn(asked: ApiRequest, deadline: Deadline): Promise<ApiAnswer> {
    if (this.#inFlight >= this.#inFlightMax) {
      if (this.#waiting.length >= WAITING_MAX) throw this.#unavailable(asked, `${WAITING_MAX} requests wait already`)
      await new Promise<void>(resolve => this.#waiting.push(resolve))
    }
    this.#inFlight++
    try {
      const credentials = await this.endpoint.credentials()
      const answer = await this.#sendOnce(asked, credentials, deadline)
      if (answer.status !== 401) return answer
      this.endpoint.renew()
      const renewed = await this.endpoint.credentials()
      if (renewed.headers['authorization'] === credentials.headers['authorization']) return answer
      return await this.#sendOnce(asked, renewed, deadline)
    } finally {
      this.#inFlight--
      this.#waiting.shift()?.()
    }
  }

  async #sendOnce(asked: ApiRequest, credentials: Credentials, deadline: Deadline): Promise<ApiAnswer> {
    try {
      return await this.#exchange(asked, credentials, deadline)
    } catch (error) {
      // The server may end a kept connection at the moment at which it is used again: nothing has been done then.
      const isLate = deadline.request?.reusedSocket === true && (error as NodeJS.ErrnoException).code === 'ECONNRESET'
      if (!isLate) throw error
      return await this.#exchange(asked, credentials, deadline)
    }
  }

  async #exchange(asked: ApiRequest, credentials: Credentials, deadline: Deadline): Promise<ApiAnswer> {
    return await new Promise((resolve, reject) => {
      // The caller has been told already.
      if (deadline.isOver) return reject(this.#unavailable(asked, 'is too late'))
      const sent = this.#request(asked, credentials)
      deadline.request = sent
      sent.on('error', reject)
      sent.once('response', (response: IncomingMessage) => void readAnswer(response).then(resolve, reject))
      sent.end(asked.body === undefined ? undefined : JSON.stringify(asked.body))
    })
  }

  async #startWatch(asked: ApiRequest, watch: Watching): Promise<void> {
    const credentials = await this.endpoint.credentials()
    if (watch.isOver) return
    const sent = this.#request(asked, credentials)
    watch.request = sent
    const onFault = (error: Error): void => watch.end(this.#unavailable(asked, error.message))
    sent.on('error', onFault)
    sent.once('socket', socket => socket.setKeepAlive(true, KEEP_ALIVE_MS))
    sent.once('response', (response: IncomingMessage) => {
      if (response.statusCode !== 200) {
        if (response.statusCode === 401) this.endpoint.renew()
        readAnswer(response).then(answer => watch.end(answer), onFault)
        return
      }
      watch.read(response, onFault)
    })
    sent.end()
  }

  #request({ method, path, body, contentType = 'application/json' }: ApiRequest, { headers, tls, agent }: Credentials): ClientRequest {
    if (this.#isClosed) throw new Error('is closed')
    const { url } = this.endpoint
    const sent = request({
      ...tls,
      method,
      hostname: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port === '' ? 443 : Number(url.port),
      path: `${url.pathname.replace(/\/$/, '')}${path}`,
      headers: { accept: 'application/json', ...(body !== undefined && { 'content-type': contentType }), ...headers },
      agent: agent ?? this.#agent,
    })
    this.#open.add(sent)
    sent.once('close', () => this.#open.delete(sent))
    return sent
  }

  #unavailable({ method, path }: ApiRequest, why: string): KubernetesUnavailable {
    return new KubernetesUnavailable(`Kubernetes API ${this.endpoint.url.origin}: ${method} ${path.split('?', 1)[0]}: ${why}`)
  }
}

/** What the end of a request's time must reach. */
class Deadline {
  isOver = false
  request: ClientRequest | null = null
}

class Watching {
  readonly #handlers: WatchHandlers
  request: ClientRequest | null = null
  isOver = false

  constructor(handlers: WatchHandlers) {
    this.#handlers = handlers
  }

  read(response: IncomingMessage, onFault: (error: Error) => void): void {
    if (this.isOver) return
    this.#handlers.onOpen()
    const lines = new LineSplitter(EVENT_BYTES_MAX, line => {
      // A handler may have ended it at a line before.
      if (!this.isOver) this.#handlers.onLine(line)
    })
    response.on('data', (bytes: Buffer) => {
      try {
        lines.feed(bytes)
      } catch (error) {
        onFault(error as Error)
      }
    })
    response.on('error', onFault)
    response.once('aborted', () => onFault(new Error('the connection broke')))
    response.once('end', () => this.end(null))
  }

  end(fault: ApiAnswer | KubernetesUnavailable | null): void {
    if (this.isOver) return
    this.cancel()
    this.#handlers.onEnd(fault)
  }

  cancel(): void {
    this.isOver = true
    // Its end is ours: the error that may come of it is no news.
    this.request?.on('error', () => undefined)
    this.request?.destroy()
  }
}

async function readAnswer(response: IncomingMessage): Promise<ApiAnswer> {
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of response as AsyncIterable<Buffer>) {
    bytes += piece.length
    if (bytes > ANSWER_BYTES_MAX) throw new Error(`an answer of more than ${ANSWER_BYTES_MAX} bytes`)
    pieces.push(piece)
  }
  const status = response.statusCode ?? 0
  try {
    return { status, body: JSON.parse(Buffer.concat(pieces).toString('utf8')) as unknown }
  } catch {
    // A proxy between us and the server says what it says in HTML. A success that is no JSON is none.
    if (status >= 200 && status < 300) throw new Error('the answer is no JSON')
    return { status, body: null }
  }
}

/** Why the server refused, in its own words; bounded, because they come from outside. */
export function refusalText({ status, body }: ApiAnswer): string {
  const message = typeof body === 'object' && body !== null && 'message' in body ? body.message : null
  return typeof message === 'string' && message !== '' ? `${status} ${message.slice(0, MESSAGE_LENGTH_MAX)}` : `HTTP status ${status}`
}
