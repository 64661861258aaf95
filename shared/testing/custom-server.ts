import { createServer as createHttpsServer } from 'node:https'
import type { Server as HttpsServer } from 'node:https'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { TestPki } from './pki.ts'

/** What the server does with one request. */
export type CustomBehaviour =
  /** `body`: a text as it is, anything else as JSON; left out: none. */
  | {
      readonly is: 'answer'
      readonly status: number
      readonly body?: unknown
      readonly headers?: Readonly<Record<string, string>>
      /** Closes the connection after it, without saying so. */
      readonly closes?: true
    }
  /** Takes it and never answers, until `release` (then status 200 with an empty object). */
  | { readonly is: 'hold' }
  /** Status and headers, and then nothing. */
  | { readonly is: 'headersOnly' }
  /** A body that goes on as long as the client reads. */
  | { readonly is: 'endless'; readonly status: number }
  /** Half of a body, then the connection ends. */
  | { readonly is: 'cutInBody' }
  /** The connection ends without a word. */
  | { readonly is: 'cut' }
  /** These bytes in place of HTTP. */
  | { readonly is: 'raw'; readonly text: string }

export interface CustomRequest {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  /** Of the JSON body; the text of any other. */
  readonly body: unknown
  /** Common name of the client's certificate; null without one. */
  readonly clientName: string | null
  /** Which connection, counted from 0. */
  readonly connection: number
}

export interface CustomServerOptions {
  readonly tls: Pick<TestPki, 'serverCert' | 'serverKey'>
  /** Clients must show a certificate of this authority. */
  readonly clientCa?: Buffer
  /** Default: Node's. */
  readonly maxVersion?: 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3'
}

const ACCEPTED: CustomBehaviour = { is: 'answer', status: 200, body: {} }

/** A server of the Custom Authentication API that does what a test tells it: over real HTTPS on a free port of 127.0.0.1. */
export class CustomServer {
  /** Asked for each request. Default: accepts everybody. */
  behave: (request: CustomRequest) => CustomBehaviour = () => ACCEPTED
  readonly requests: CustomRequest[] = []
  /** Bytes of endless bodies that the client's side has taken. */
  endlessBytes = 0
  readonly #server: HttpsServer
  readonly #sockets = new Map<Socket, number>()
  readonly #held = new Set<ServerResponse>()
  readonly #watchers = new Set<() => void>()
  #connections = 0

  static async start(options: CustomServerOptions): Promise<CustomServer> {
    const server = new CustomServer(options)
    await listening(server.#server, 0)
    return server
  }

  private constructor({ tls, clientCa, maxVersion }: CustomServerOptions) {
    const options = {
      cert: tls.serverCert,
      key: tls.serverKey,
      // What OpenSSL needs to speak the old versions at all.
      ...(maxVersion !== undefined && { minVersion: 'TLSv1' as const, maxVersion, ciphers: 'DEFAULT@SECLEVEL=0' }),
      ...(clientCa !== undefined && { ca: clientCa, requestCert: true, rejectUnauthorized: true }),
    }
    this.#server = createHttpsServer(options, (request, response) => void this.#onRequest(request, response))
    this.#server.on('secureConnection', socket => {
      this.#sockets.set(socket, this.#connections++)
      socket.on('error', () => undefined)
      socket.once('close', () => {
        this.#sockets.delete(socket)
        this.#changed()
      })
      this.#changed()
    })
    this.#server.on('tlsClientError', () => undefined)
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}`
  }

  /** TLS connections that ever stood, and those that stand now. */
  get connectionCount(): number {
    return this.#connections
  }

  get openConnectionCount(): number {
    return this.#sockets.size
  }

  /** Resolves once `condition` holds; it is asked whenever a connection comes or goes and a request comes. */
  async when(condition: () => boolean): Promise<void> {
    if (condition()) return
    await new Promise<void>(resolve => {
      const watcher = (): void => {
        if (!condition()) return
        this.#watchers.delete(watcher)
        resolve()
      }
      this.#watchers.add(watcher)
    })
  }

  /** Resolves once it has had so many requests in all. */
  async received(count: number): Promise<void> {
    await this.when(() => this.requests.length >= count)
  }

  /** Answers everything that is held. */
  release(): void {
    for (const response of this.#held) respond(response, 200, {}, '{}')
    this.#held.clear()
  }

  /** Ends all connections; further ones are taken. */
  dropConnections(): void {
    for (const socket of this.#sockets.keys()) socket.destroy()
  }

  async close(): Promise<void> {
    this.dropConnections()
    await new Promise<void>(resolve => this.#server.close(() => resolve()))
  }

  async #onRequest(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of incoming as AsyncIterable<Buffer>) chunks.push(chunk)
    const request: CustomRequest = {
      method: incoming.method ?? '',
      path: incoming.url ?? '',
      headers: incoming.headers,
      body: parsed(Buffer.concat(chunks).toString('utf8')),
      clientName: clientName(incoming.socket as TLSSocket),
      connection: this.#sockets.get(incoming.socket) ?? -1,
    }
    this.requests.push(request)
    this.#changed()
    this.#act(this.behave(request), response)
  }

  #act(behaviour: CustomBehaviour, response: ServerResponse): void {
    switch (behaviour.is) {
      case 'answer': {
        const { status, body, headers = {}, closes } = behaviour
        if (closes === true) response.once('finish', () => response.socket?.destroySoon())
        respond(response, status, headers, body === undefined || typeof body === 'string' ? (body ?? '') : JSON.stringify(body))
        return
      }
      case 'hold':
        this.#held.add(response)
        return
      case 'headersOnly':
        response.writeHead(200, { 'content-type': 'application/json', 'content-length': 100 }).flushHeaders()
        return
      case 'endless':
        response.writeHead(behaviour.status, { 'content-type': 'application/json' })
        this.#pour(response)
        return
      case 'cutInBody':
        response.writeHead(200, { 'content-length': 100 }).write('{"attributes"', () => response.socket?.destroySoon())
        return
      case 'cut':
        response.socket?.destroy()
        return
      default:
        response.socket?.end(behaviour.text)
    }
  }

  #pour(response: ServerResponse): void {
    const chunk = Buffer.alloc(16_384, 0x20)
    const pour = (): void => {
      if (response.destroyed) return
      this.endlessBytes += chunk.length
      response.write(chunk, error => {
        if (error === undefined || error === null) pour()
      })
    }
    pour()
  }

  #changed(): void {
    for (const watcher of this.#watchers) watcher()
  }
}

/** Accepts TCP connections and never says a word: a TLS handshake with it does not end. */
export class DeafServer {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #onConnection: () => void = () => undefined

  static async start(): Promise<DeafServer> {
    const server = new DeafServer()
    await listening(server.#server, 0)
    return server
  }

  private constructor() {
    this.#server = createTcpServer(socket => {
      this.#sockets.add(socket)
      socket.on('error', () => undefined)
      this.#onConnection()
    })
  }

  get url(): string {
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Resolves once somebody is connected. */
  async connected(): Promise<void> {
    if (this.#sockets.size > 0) return
    await new Promise<void>(resolve => {
      this.#onConnection = resolve
    })
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise<void>(resolve => this.#server.close(() => resolve()))
  }
}

async function listening(server: Server, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
}

function respond(response: ServerResponse, status: number, headers: Readonly<Record<string, string>>, body: string): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body)
}

function clientName(socket: TLSSocket): string | null {
  const name: unknown = socket.getPeerCertificate().subject?.CN
  return typeof name === 'string' ? name : null
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
