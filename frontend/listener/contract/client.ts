import { connect as connectTcp } from 'node:net'
import type { Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { ConnectionOptions } from 'node:tls'
import { WebSocket } from 'ws'
import type { TransportKind } from '../transport.ts'
import { PatternCheck } from './pattern.ts'

interface Stream {
  send(bytes: Uint8Array): void
  leave(): void
  pause(): void
  resume(): void
  /** Null where the byte stream is bare. */
  readonly websocket: WebSocket | null
}

/** The client's end of a Transport, with control of the bare TCP connection beneath it. */
export class ContractClient {
  /** The TCP connection. */
  readonly raw: Socket
  readonly #stream: Stream
  readonly #check = new PatternCheck()
  readonly #waiting = new Set<() => void>()
  readonly closed: Promise<void>
  /** WebSocket close code that the server sent, 1006 for none. */
  closeCode: Promise<number> | null = null

  constructor(raw: Socket, stream: Stream) {
    this.raw = raw
    this.#stream = stream
    this.closed = new Promise(resolve => raw.once('close', () => resolve()))
  }

  get receivedBytes(): number {
    return this.#check.receivedBytes
  }

  get mismatchAt(): number {
    return this.#check.mismatchAt
  }

  readonly take = (bytes: Uint8Array): void => {
    this.#check.take(bytes)
    for (const look of this.#waiting) look()
  }

  /** On WebSocket: one binary message. */
  send(bytes: Uint8Array): void {
    this.#stream.send(bytes)
  }

  /** For what only WebSocket has. */
  get websocket(): WebSocket {
    if (this.#stream.websocket === null) throw new Error('not a WebSocket')
    return this.#stream.websocket
  }

  /** The protocol's orderly end: FIN, or a Close frame. */
  leave(): void {
    this.#stream.leave()
  }

  /** The operating system stops taking bytes from the network once its buffers are full. */
  stopReading(): void {
    this.#stream.pause()
  }

  startReading(): void {
    this.#stream.resume()
  }

  untilReceived(bytes: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (this.receivedBytes < bytes) return
        this.#waiting.delete(look)
        resolve()
      }
      this.#waiting.add(look)
      void this.closed.then(() => reject(new Error(`closed after ${this.receivedBytes} of ${bytes} bytes`)))
      look()
    })
  }
}

export interface ConnectOptions {
  readonly port: number
  readonly tls?: ConnectionOptions
  readonly subprotocol?: string
}

/** The answer to an HTTP request as text, read until the server closes the connection or upgrades it. */
export async function httpAnswer(kind: TransportKind, options: ConnectOptions, request: string): Promise<string> {
  const { stream } = await openStream(kind, options)
  stream.write(request)
  let answer = ''
  for await (const chunk of stream) {
    answer += String(chunk)
    if (answer.startsWith('HTTP/1.1 101') && answer.includes('\r\n\r\n')) break
  }
  stream.destroy()
  return answer
}

/** Connects as a client of `kind`; rejects when the server refuses before the byte stream begins. */
export async function connectClient(kind: TransportKind, options: ConnectOptions): Promise<ContractClient> {
  const { raw, stream } = await openStream(kind, options)
  return kind === 'ws' || kind === 'wss' ? connectWebSocket(raw, stream, options) : connectStream(raw, stream)
}

async function openStream(kind: TransportKind, options: ConnectOptions): Promise<{ readonly raw: Socket; readonly stream: Socket }> {
  const raw = connectTcp({ port: options.port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true })
  raw.on('error', () => {})
  const isTls = kind === 'tls' || kind === 'wss'
  const stream = isTls ? connectTls({ socket: raw, servername: 'localhost', ...options.tls }) : raw
  stream.on('error', () => {})
  await opened(stream, isTls ? 'secureConnect' : 'connect')
  return { raw, stream }
}

function connectStream(raw: Socket, stream: Socket): ContractClient {
  const client = new ContractClient(raw, {
    send: bytes => void stream.write(bytes),
    leave: () => void stream.end(),
    pause: () => void stream.pause(),
    resume: () => void stream.resume(),
    websocket: null,
  })
  stream.on('data', client.take)
  stream.on('end', () => stream.end())
  return client
}

async function connectWebSocket(raw: Socket, stream: Socket, { port, subprotocol = 'mqtt' }: ConnectOptions): Promise<ContractClient> {
  const websocket = new WebSocket(`ws://127.0.0.1:${port}/any/path`, subprotocol, { createConnection: () => stream })
  const client = new ContractClient(raw, {
    send: bytes => websocket.send(bytes),
    leave: () => websocket.close(1_000),
    pause: () => websocket.pause(),
    resume: () => websocket.resume(),
    websocket,
  })
  client.closeCode = new Promise(resolve => websocket.once('close', resolve))
  websocket.on('message', bytes => client.take(bytes as Buffer))
  await new Promise<void>((resolve, reject) => {
    websocket.on('error', reject)
    websocket.once('open', resolve)
  })
  return client
}

function opened(stream: Socket, event: string): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.once(event, resolve)
    stream.once('close', () => reject(new Error('closed before it was open')))
    stream.once('error', reject)
  })
}
