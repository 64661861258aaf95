import type { Timers } from '#shared/base/timers.ts'
import { GuardedTransport } from './guarded-transport.ts'
import type { TransportFacts, TransportHome } from './guarded-transport.ts'
import { LINGER_MS } from './transport.ts'
import type { UwsSocket } from './uws-loading.ts'
import {
  CLOSE_ABNORMAL,
  CLOSE_NORMAL,
  CLOSE_UNSUPPORTED_DATA,
  FIRST_MESSAGE_BYTES_MAX,
  FIRST_MESSAGE_TOO_LONG,
  NO_CLOSE_FRAME,
  TEXT_FRAME,
} from './websocket-rules.ts'

/**
 * The engine cannot stop reading, so what arrives while we are paused is kept: up to this many bytes, then the connection is closed.
 * From the first `resume` on the Maximum Packet Size counts on top, so that one packet of any legal size always fits: until then
 * it is anyone's, who may not be a client yet.
 */
export const PAUSED_BYTES_MAX = 1_048_576
/** What keeping one message costs besides its bytes, so that a flood of tiny ones counts for what it is. */
const HELD_MESSAGE_BYTES = 128

/** What uWebSockets.js carries for us from upgrade to close. */
export interface UwsGuest {
  readonly facts: TransportFacts
  transport: UwsTransport | null
}

/** WebSocket through uWebSockets.js. `write` copies what the kernel does not take at once. */
export class UwsTransport extends GuardedTransport {
  /** Null once the engine has closed it: each of its methods would throw. */
  #websocket: UwsSocket<UwsGuest> | null
  readonly #timers: Timers
  readonly #packetBytesMax: number
  #heldBytesMax = PAUSED_BYTES_MAX
  #isFirstMessage = true
  #drainDue = false
  #paused = false
  readonly #held: Buffer[] = []
  #heldBytes = 0
  #flushDue = false
  #error: string | null = null
  #cancelLinger: (() => void) | null = null

  constructor(websocket: UwsSocket<UwsGuest>, facts: TransportFacts, home: TransportHome, timers: Timers, packetBytesMax: number) {
    super(facts, home)
    this.#websocket = websocket
    this.#timers = timers
    this.#packetBytesMax = packetBytesMax
  }

  write(bytes: Uint8Array): void {
    if (this.phase !== 'open' || this.#websocket === null) return
    this.#websocket.send(bytes, true, false)
    if (this.#websocket.getBufferedAmount() !== 0) this.#drainDue = true
  }

  get bufferedBytes(): number {
    return this.#websocket === null ? 0 : this.#websocket.getBufferedAmount()
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    this.#heldBytesMax = PAUSED_BYTES_MAX + this.#packetBytesMax
    this.#flushLater()
  }

  end(): void {
    this.#close(CLOSE_NORMAL)
  }

  destroy(): void {
    if (this.phase === 'closing' || this.phase === 'closed') return
    this.phase = 'closing'
    this.#drop()
    if (this.#websocket !== null) this.#websocket.close()
    else this.#flushLater()
  }

  /** The engine's 'message'. `message` dies with the call. */
  onMessage(message: ArrayBuffer, isBinary: boolean): void {
    if (this.phase !== 'open') return
    if (!isBinary) {
      this.#error = TEXT_FRAME
      return this.#close(CLOSE_UNSUPPORTED_DATA)
    }
    if (this.#isFirstMessage && message.byteLength > FIRST_MESSAGE_BYTES_MAX) return this.#cut(FIRST_MESSAGE_TOO_LONG)
    this.#isFirstMessage = false
    const bytes = Buffer.from(message)
    if (this.#paused || this.#held.length > 0) this.#hold(bytes)
    else this.deliver(bytes)
  }

  /** The engine's 'drain': less is buffered than before. */
  onWritable(): void {
    if (this.bufferedBytes !== 0) return
    if (this.phase === 'ending') return this.#websocket?.end(CLOSE_NORMAL)
    if (!this.#drainDue) return
    this.#drainDue = false
    this.drained()
  }

  /** The engine's 'close'; also from inside our own `end` and `destroy`, hence never straight on to the handler. */
  onClosedByEngine(code: number): void {
    this.#websocket = null
    this.#cancelLinger?.()
    this.#error ??= code === CLOSE_ABNORMAL ? NO_CLOSE_FRAME : null
    this.#flushLater()
  }

  #close(code: number): void {
    if (this.phase !== 'open') return
    this.phase = 'ending'
    this.#drop()
    if (this.#websocket === null) return this.#flushLater()
    // The engine forgets a socket when it is told to end it, whatever is still buffered: so first the bytes, under our own deadline.
    if (this.bufferedBytes === 0 || code !== CLOSE_NORMAL) return this.#websocket.end(code)
    this.#cancelLinger = this.#timers.after(LINGER_MS, () => this.destroy())
  }

  #hold(bytes: Buffer): void {
    this.#heldBytes += bytes.length + HELD_MESSAGE_BYTES
    if (this.#heldBytes > this.#heldBytesMax) return this.#cut(`over ${this.#heldBytesMax} bytes arrived while the connection was paused`)
    this.#held.push(Buffer.from(bytes))
  }

  #cut(error: string): void {
    this.#error = error
    this.#drop()
    this.#websocket?.close()
  }

  #drop(): void {
    this.#held.length = 0
    this.#heldBytes = 0
  }

  #flushLater(): void {
    if (this.#flushDue) return
    this.#flushDue = true
    process.nextTick(this.#flush)
  }

  /** Held bytes in order, as long as nobody pauses again; a connection that is gone is reported after the last of them. */
  readonly #flush = (): void => {
    this.#flushDue = false
    const held = this.#held
    let taken = 0
    while (taken < held.length && !this.#paused && this.phase === 'open') {
      const bytes = held[taken++]!
      this.#heldBytes -= bytes.length + HELD_MESSAGE_BYTES
      this.deliver(bytes)
    }
    held.splice(0, taken)
    if (this.#websocket === null && (this.#held.length === 0 || this.phase !== 'open')) this.closed(this.#error)
  }
}
