import type { Socket } from 'node:net'
import type { Timers } from '#shared/base/timers.ts'
import { errorText } from './arrival.ts'
import { GuardedTransport } from './guarded-transport.ts'
import type { TransportFacts, TransportHome } from './guarded-transport.ts'
import { LINGER_MS } from './transport.ts'

/** TCP and TLS: the socket is the byte stream. */
export class SocketTransport extends GuardedTransport {
  readonly #socket: Socket
  readonly #timers: Timers
  /** A write left bytes behind, and `onDrain` is owed. */
  #drainDue = false
  #error: string | null = null
  #cancelLinger: (() => void) | null = null

  constructor(socket: Socket, facts: TransportFacts, home: TransportHome, timers: Timers) {
    super(facts, home)
    this.#socket = socket
    this.#timers = timers
    socket.on('data', bytes => this.deliver(bytes))
    socket.on('end', this.#onEnd)
    socket.on('error', this.#onError)
    socket.on('close', this.#onClosed)
  }

  write(bytes: Uint8Array): void {
    if (this.phase !== 'open') return
    this.#socket.write(bytes, this.#onWritten)
    if (this.#socket.writableLength !== 0) this.#drainDue = true
  }

  get bufferedBytes(): number {
    return this.phase === 'closed' ? 0 : this.#socket.writableLength
  }

  pause(): void {
    if (this.phase === 'open') this.#socket.pause()
  }

  resume(): void {
    if (this.phase === 'open') this.#socket.resume()
  }

  end(): void {
    if (this.phase !== 'open') return
    this.phase = 'ending'
    this.#socket.end()
    // What still comes is read and dropped: closing with unread bytes would reset the connection, and with it what we wrote last.
    this.#socket.resume()
    this.#linger()
  }

  destroy(): void {
    if (this.phase === 'closing' || this.phase === 'closed') return
    this.phase = 'closing'
    this.#socket.destroy()
  }

  // Node's 'drain' comes only after its high water mark; the callback of each write comes always, and costs nothing measurable.
  readonly #onWritten = (): void => {
    if (!this.#drainDue || this.#socket.writableLength !== 0) return
    this.#drainDue = false
    this.drained()
  }

  /** The client has sent its last byte. There is no MQTT half-closed: what is buffered may still go out, then the socket closes by itself. */
  readonly #onEnd = (): void => {
    if (this.phase !== 'open') return
    this.phase = 'ending'
    this.#linger()
  }

  /** Node closes a socket that failed, but not one whose TLS did (a record that was changed on its way): that would stay until somebody gives up. */
  readonly #onError = (error: Error): void => {
    this.#error = errorText(error)
    this.#socket.destroy()
  }

  readonly #onClosed = (): void => {
    this.#cancelLinger?.()
    this.closed(this.#error)
  }

  #linger(): void {
    this.#cancelLinger = this.#timers.after(LINGER_MS, () => this.destroy())
  }
}
