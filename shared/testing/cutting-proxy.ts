import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { freePort } from './free-ports.ts'

/** Bytes that wait for their delay, per direction; at the limit nothing more is read until some have gone. */
const DELAYED_BYTES_MAX = 1024 * 1024
/** A port that was given up for a while may be somebody else's: it is tried again for so long. */
const LISTEN_TIMEOUT_MS = 30_000
const LISTEN_RETRY_MS = 20

export type Direction = 'toServer' | 'toClient'

/** What becomes of the bytes. Half-open: they stay where they are, in the kernels, as if the network had lost its way; nobody is told. */
export type Flow =
  | { readonly is: 'passing' }
  | { readonly is: 'delayed'; readonly delayMs: number }
  | { readonly is: 'halfOpen'; readonly stopped: readonly Direction[] }

export const PASSING: Flow = { is: 'passing' }

/** One direction of one connection. */
class Lane {
  readonly #from: Socket
  readonly #to: Socket
  readonly #direction: Direction
  /** Chunks that wait for their time; null is the end of the stream. */
  readonly #delayed: { readonly chunk: Buffer | null; readonly dueMs: number }[] = []
  #delayedBytes = 0
  #delayMs = 0
  #isStopped = false
  #isFull = false
  /** The sender is gone, and the receiver does not know. */
  #isGone = false
  #timer: NodeJS.Timeout | null = null

  constructor(from: Socket, to: Socket, direction: Direction, flow: Flow) {
    this.#from = from
    this.#to = to
    this.#direction = direction
    this.flow(flow)
    from.on('data', (chunk: Buffer) => this.#take(chunk))
    from.on('end', () => this.#take(null))
    from.on('error', () => undefined)
    from.on('close', () => this.#onGone())
    to.on('drain', () => {
      this.#isFull = false
      this.#adjust()
    })
  }

  flow(flow: Flow): void {
    this.#delayMs = flow.is === 'delayed' ? flow.delayMs : 0
    this.#isStopped = flow.is === 'halfOpen' && flow.stopped.includes(this.#direction)
    if (flow.is === 'passing') this.#deliver(Infinity)
    this.#adjust()
    this.#wake()
    if (this.#isGone) this.#onGone()
  }

  /** Forgets what waits. */
  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#delayed.length = 0
  }

  #adjust(): void {
    if (this.#isStopped || this.#isFull || this.#delayedBytes > DELAYED_BYTES_MAX) this.#from.pause()
    else this.#from.resume()
  }

  #take(chunk: Buffer | null): void {
    if (this.#delayMs === 0 && this.#delayed.length === 0 && !this.#isStopped) return this.#send(chunk)
    this.#delayed.push({ chunk, dueMs: performance.now() + this.#delayMs })
    this.#delayedBytes += chunk?.length ?? 0
    this.#adjust()
    this.#wake()
  }

  #wake(): void {
    const first = this.#delayed[0]
    if (first === undefined || this.#timer !== null || this.#isStopped) return
    const waitMs = Math.max(0, first.dueMs - performance.now())
    this.#timer = setTimeout(() => {
      this.#timer = null
      if (this.#isStopped) return
      this.#deliver(performance.now())
      this.#adjust()
      this.#wake()
      if (this.#isGone) this.#onGone()
    }, waitMs)
  }

  #deliver(untilMs: number): void {
    for (let first = this.#delayed[0]; first !== undefined && first.dueMs <= untilMs; first = this.#delayed[0]) {
      this.#delayed.shift()
      this.#delayedBytes -= first.chunk?.length ?? 0
      this.#send(first.chunk)
    }
  }

  #send(chunk: Buffer | null): void {
    if (this.#to.destroyed) return
    if (chunk === null) this.#to.end()
    else if (!this.#to.write(chunk)) {
      this.#isFull = true
      this.#adjust()
    }
  }

  #onGone(): void {
    this.#isGone = true
    if (this.#isStopped || this.#delayed.length > 0) return
    // Everything has been written: what the kernel has not taken yet still goes out when the sender ended in order.
    if (this.#to.writableEnded) return
    this.#to.resetAndDestroy()
  }
}

/** One connection through the proxy. */
export class ProxiedConnection {
  readonly #client: Socket
  readonly #server: Socket
  readonly #lanes: readonly Lane[]

  constructor(client: Socket, server: Socket, flow: Flow) {
    this.#client = client
    this.#server = server
    this.#lanes = [new Lane(client, server, 'toServer', flow), new Lane(server, client, 'toClient', flow)]
  }

  flow(flow: Flow): void {
    for (const lane of this.#lanes) lane.flow(flow)
  }

  /** RST to both ends; bytes on their way are lost. */
  cut(): void {
    for (const lane of this.#lanes) lane.close()
    this.#client.resetAndDestroy()
    this.#server.resetAndDestroy()
  }

  /** Resolves when both ends are closed. */
  async closed(): Promise<void> {
    for (const socket of [this.#client, this.#server]) {
      if (!socket.closed) await new Promise(resolve => socket.once('close', resolve))
    }
  }
}

/**
 * A TCP proxy on loopback for tests that break the network between two processes: it passes, delays, cuts (RST), lets connections go
 * half-open, and refuses new ones. Its memory is bounded by back-pressure: what it may not pass on it does not read.
 */
export class CuttingProxy {
  /** Where new connections go; the server behind may have moved. */
  target: { readonly host: string; readonly port: number }
  readonly #connections = new Set<ProxiedConnection>()
  #server: Server | null = null
  #flow: Flow = PASSING
  #port = 0

  private constructor(target: { readonly host: string; readonly port: number }) {
    this.target = target
  }

  /** @param port 0: a free one */
  static async open(target: { readonly host: string; readonly port: number }, port = 0): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(target)
    proxy.#port = port
    await proxy.accept()
    return proxy
  }

  /** On 127.0.0.1; stays the same. */
  get port(): number {
    return this.#port
  }

  /** Those that stand now. */
  get connections(): readonly ProxiedConnection[] {
    return [...this.#connections]
  }

  /** Of all connections, also those to come. */
  flow(flow: Flow): void {
    this.#flow = flow
    for (const connection of this.#connections) connection.flow(flow)
  }

  /** RST to both ends of every connection. New ones are accepted. */
  cut(): void {
    for (const connection of this.#connections) connection.cut()
  }

  /** The port is closed: the kernel refuses new connections. Those that stand are left alone. */
  async refuse(): Promise<void> {
    const server = this.#server
    this.#server = null
    if (server === null) return
    // `close` waits for the connections that were accepted; the port itself is closed at once.
    server.close()
    await new Promise(resolve => setImmediate(resolve))
  }

  /** Takes connections (again). */
  async accept(): Promise<void> {
    if (this.#server !== null) return
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, socket => this.#onConnection(socket))
    this.#server = server
    const deadlineMs = performance.now() + LISTEN_TIMEOUT_MS
    if (this.#port === 0) this.#port = await freePort()
    for (;;) {
      try {
        server.listen(this.#port, '127.0.0.1')
        await once(server, 'listening')
        break
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || performance.now() > deadlineMs) throw error
        await new Promise(resolve => setTimeout(resolve, LISTEN_RETRY_MS))
      }
    }
  }

  /** Cuts everything and closes the port. */
  async close(): Promise<void> {
    await this.refuse()
    const connections = this.connections
    this.cut()
    await Promise.all(connections.map(connection => connection.closed()))
  }

  #onConnection(client: Socket): void {
    const server = connect({ ...this.target, allowHalfOpen: true, noDelay: true })
    const connection = new ProxiedConnection(client, server, this.#flow)
    this.#connections.add(connection)
    void connection.closed().then(() => this.#connections.delete(connection))
  }
}
