import type { OnTransport, Transport, TransportHandler } from '../../frontend/listener/transport.ts'
import type { SimProcess, World } from './world.ts'

/** Milliseconds one way between a client and a frontend, at most. */
const DELAY_MS_MAX = 3
/** How long it takes until a cut connection is noticed where it is not the one who cuts. */
const NOTICE_MS_MAX = 1_500
const SPLIT_CHANCE = 0.1

/** What a client's socket tells it. */
export interface SocketListener {
  onBytes(bytes: Buffer): void
  /** Once. */
  onClosed(): void
}

/** Where clients connect to: a process that listens. */
export interface ClientPort {
  readonly process: SimProcess
  readonly onTransport: OnTransport
  /** It is draining or not ready: the load balancer sends nobody there. */
  readonly isReady: boolean
}

/** A client's Network Connection, and at its other end the frontend's Transport. */
export class SimSocket {
  readonly #world: World
  readonly #process: SimProcess
  readonly #listener: SocketListener
  readonly #transport: SimTransport
  readonly #delayMs: number
  #toClientMs = 0
  #toServerMs = 0
  #isOpen = true

  constructor(world: World, port: ClientPort, address: string, listener: SocketListener) {
    this.#world = world
    this.#process = port.process
    this.#listener = listener
    this.#delayMs = world.between(0.05, DELAY_MS_MAX)
    this.#transport = new SimTransport(this, port.process, address)
    if (port.process.isDead) {
      this.#tellClosed(this.#delayMs)
      return
    }
    port.process.arrive(this.#delayMs, () => this.#transport.open(port.onTransport))
    port.process.onEnd(() => this.#tellClosed(this.#toClientMs - world.nowMs + this.#delayMs))
  }

  /** The client sends. */
  send(bytes: Buffer): void {
    if (!this.#isOpen) return
    const splitAt = this.#world.random.chance(SPLIT_CHANCE) ? this.#world.random.int(0, bytes.length) : 0
    for (const part of [bytes.subarray(0, splitAt), bytes.subarray(splitAt)]) {
      if (part.length === 0) continue
      const copy = Buffer.from(part)
      this.#arriveAtServer(() => this.#transport.receive(copy))
    }
  }

  /** The client stops reading, or reads again. */
  stall(isStalled: boolean): void {
    this.#transport.stall(isStalled)
  }

  /** The client closes in order: what it sent before arrives. */
  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#arriveAtServer(() => this.#transport.closed(null))
  }

  /** The network loses the connection: what is on its way is lost. The client notices now, the frontend some time later. */
  cut(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#transport.isCut = true
    this.#process.arrive(this.#world.random.next() * NOTICE_MS_MAX, () => this.#transport.closed('ECONNRESET'))
  }

  /** From the transport: bytes for the client. */
  deliver(bytes: Buffer): void {
    this.#toClientMs = Math.max(this.#toClientMs, this.#world.nowMs + this.#delayMs)
    this.#world.after(this.#toClientMs - this.#world.nowMs, () => {
      if (this.#isOpen) this.#listener.onBytes(bytes)
    })
  }

  /** From the transport: the frontend has closed, after all that it wrote. */
  endedByServer(): void {
    this.#toClientMs = Math.max(this.#toClientMs, this.#world.nowMs + this.#delayMs)
    this.#tellClosed(this.#toClientMs - this.#world.nowMs)
  }

  #tellClosed(delayMs: number): void {
    this.#world.after(delayMs, () => {
      if (!this.#isOpen) return
      this.#isOpen = false
      this.#listener.onClosed()
    })
  }

  #arriveAtServer(run: () => void): void {
    this.#toServerMs = Math.max(this.#toServerMs, this.#world.nowMs + this.#delayMs)
    this.#process.arrive(this.#toServerMs - this.#world.nowMs, run)
  }
}

class SimTransport implements Transport {
  readonly kind = 'tcp'
  readonly remoteAddress: string
  readonly remotePort = 4_711
  readonly peerCertificates = null
  readonly serverName = null
  acceptedMs = 0
  isCut = false
  readonly #socket: SimSocket
  readonly #process: SimProcess
  #handler: TransportHandler | null = null
  #phase: 'opening' | 'open' | 'ending' | 'closed' = 'opening'
  #isPaused = false
  #unread: Buffer[] = []
  /** The client has closed behind `unread`. */
  #closedWith: string | null | undefined
  #isStalled = false
  /** Kept as given: whoever overwrites it too early corrupts what the client gets. */
  #waiting: Uint8Array[] = []

  constructor(socket: SimSocket, process: SimProcess, remoteAddress: string) {
    this.#socket = socket
    this.#process = process
    this.remoteAddress = remoteAddress
  }

  open(onTransport: OnTransport): void {
    this.acceptedMs = this.#process.clock.monotonicMs()
    this.#phase = 'open'
    this.#handler = onTransport(this)
    if (this.#handler === null) {
      this.#phase = 'closed'
      this.#socket.endedByServer()
    }
  }

  // ---- Transport

  write(bytes: Uint8Array): void {
    if (this.#phase !== 'open' || this.isCut) return
    if (this.#isStalled) this.#waiting.push(bytes)
    else this.#socket.deliver(Buffer.from(bytes))
  }

  get bufferedBytes(): number {
    return this.#waiting.reduce((sum, bytes) => sum + bytes.length, 0)
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    if (this.#unread.length > 0 || this.#closedWith !== undefined) this.#process.arrive(0, () => this.#read())
  }

  end(): void {
    if (this.#phase !== 'open') return
    for (const bytes of this.#waiting.splice(0)) this.#socket.deliver(Buffer.from(bytes))
    this.#finish()
  }

  destroy(): void {
    if (this.#phase === 'open') this.#finish()
  }

  #finish(): void {
    this.#phase = 'ending'
    this.#socket.endedByServer()
    this.#process.arrive(0, () => this.#tellClosed(null))
  }

  // ---- the client's side

  receive(bytes: Buffer): void {
    if (this.#phase !== 'open' || this.isCut) return
    this.#unread.push(bytes)
    this.#read()
  }

  closed(error: string | null): void {
    this.#closedWith = error
    this.#read()
  }

  stall(isStalled: boolean): void {
    this.#isStalled = isStalled
    if (isStalled || this.#waiting.length === 0) return
    for (const bytes of this.#waiting.splice(0)) this.#socket.deliver(Buffer.from(bytes))
    this.#process.arrive(0, () => {
      if (this.#phase === 'open') this.#handler!.onDrain()
    })
  }

  /** A chunk's memory is used again at once, as a socket does. */
  #read(): void {
    while (!this.#isPaused && this.#phase === 'open' && this.#unread.length > 0) {
      const chunk = Buffer.concat(this.#unread.splice(0))
      this.#handler!.onBytes(chunk)
      chunk.fill(0xee)
    }
    if (this.#closedWith === undefined || (this.#isPaused && this.#phase === 'open' && this.#closedWith === null)) return
    this.#tellClosed(this.#closedWith)
  }

  #tellClosed(error: string | null): void {
    if (this.#phase === 'closed' || this.#phase === 'opening') return
    this.#phase = 'closed'
    this.#handler?.onClose(error)
  }
}
