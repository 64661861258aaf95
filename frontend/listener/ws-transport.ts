import type { Socket } from 'node:net'
import type { WebSocket } from 'ws'
import type { Timers } from '#shared/base/timers.ts'
import { errorText } from './arrival.ts'
import { GuardedTransport } from './guarded-transport.ts'
import type { TransportFacts, TransportHome } from './guarded-transport.ts'
import { LINGER_MS } from './transport.ts'
import {
  CLOSE_ABNORMAL,
  CLOSE_NORMAL,
  CLOSE_UNSUPPORTED_DATA,
  FIRST_MESSAGE_BYTES_MAX,
  FIRST_MESSAGE_TOO_LONG,
  NO_CLOSE_FRAME,
  TEXT_FRAME,
} from './websocket-rules.ts'

const BINARY_MESSAGE = { binary: true, compress: false, fin: true } as const

/** WebSocket through `ws`: one write is one binary message; what comes in is a byte stream, wherever its frames end [MQTT-6.0.0-2]. */
export class WsTransport extends GuardedTransport {
  readonly #websocket: WebSocket
  readonly #timers: Timers
  #drainDue = false
  #error: string | null = null
  #cancelLinger: (() => void) | null = null

  constructor(websocket: WebSocket, socket: Socket, facts: TransportFacts, home: TransportHome, timers: Timers) {
    super(facts, home)
    this.#websocket = websocket
    this.#timers = timers
    websocket.on('message', this.#onMessage)
    this.#limitFirstMessage(websocket, socket)
    websocket.on('error', error => (this.#error = errorText(error)))
    websocket.on('close', this.#onClosed)
    socket.on('end', this.#onEnd)
  }

  write(bytes: Uint8Array): void {
    // `ws` is not open any more once a Close frame came, and counts what it is then given as buffered for ever.
    if (this.phase !== 'open' || this.#websocket.readyState !== this.#websocket.OPEN) return
    this.#websocket.send(bytes, BINARY_MESSAGE, this.#onWritten)
    if (this.#websocket.bufferedAmount !== 0) this.#drainDue = true
  }

  get bufferedBytes(): number {
    return this.phase === 'closed' ? 0 : this.#websocket.bufferedAmount
  }

  pause(): void {
    if (this.phase === 'open') this.#websocket.pause()
  }

  resume(): void {
    if (this.phase === 'open') this.#websocket.resume()
  }

  end(): void {
    this.#close(CLOSE_NORMAL)
  }

  destroy(): void {
    if (this.phase === 'closing' || this.phase === 'closed') return
    this.phase = 'closing'
    this.#websocket.terminate()
  }

  #close(code: number): void {
    if (this.phase !== 'open') return
    this.phase = 'ending'
    this.#websocket.close(code)
    // The client's own Close frame is to be read, and what comes before it dropped.
    this.#websocket.resume()
    this.#linger()
  }

  #limitFirstMessage(websocket: WebSocket, socket: Socket): void {
    let receivedBytes = 0
    const count = (chunk: Buffer): void => {
      receivedBytes += chunk.length
      if (receivedBytes <= FIRST_MESSAGE_BYTES_MAX) return
      this.#error = FIRST_MESSAGE_TOO_LONG
      this.#websocket.terminate()
    }
    socket.on('data', count)
    websocket.once('message', () => socket.off('data', count))
  }

  readonly #onMessage = (message: unknown, isBinary: boolean): void => {
    if (isBinary) return this.deliver(message as Buffer)
    this.#error ??= TEXT_FRAME
    this.#close(CLOSE_UNSUPPORTED_DATA)
  }

  readonly #onWritten = (): void => {
    if (!this.#drainDue || this.#websocket.bufferedAmount !== 0) return
    this.#drainDue = false
    this.drained()
  }

  /** The client's FIN, with or without a Close frame before it: what is buffered may go out, but not for ever. */
  readonly #onEnd = (): void => {
    if (this.phase === 'open') this.#linger()
  }

  readonly #onClosed = (code: number): void => {
    this.#cancelLinger?.()
    this.closed(this.#error ?? (code === CLOSE_ABNORMAL ? NO_CLOSE_FRAME : null))
  }

  #linger(): void {
    this.#cancelLinger?.()
    this.#cancelLinger = this.#timers.after(LINGER_MS, () => this.destroy())
  }
}
