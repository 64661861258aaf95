import type { Socket } from 'node:net'
import type { Timers } from '../base/timers.ts'
import { FRAME_HEADER_BYTES, FrameError, FrameSplitter } from './frame-splitter.ts'
import type { OnFrame } from './frame-splitter.ts'

/** A socket that was told to end gets this long to get rid of what was written last. */
const LINGER_MS = 1_000

/** Who receives what comes over a socket. Nothing more after `onEnd`, `onMalformed`, or once the socket was told to end. */
export interface FrameSink {
  readonly onFrame: OnFrame
  /** After all frames of a chunk. */
  onChunk(): void
  onMalformed(detail: string): void
  /** The connection is gone. */
  onEnd(reason: string): void
}

/** Frames over a socket, TCP, Unix or TLS. The handshake is its first sink, the link its second. */
export class FramedSocket {
  readonly socket: Socket
  /** Monotonic milliseconds when bytes last came. */
  heardMs: number
  readonly #timers: Timers
  readonly #splitter: FrameSplitter
  #sink: FrameSink
  #onFrame: OnFrame
  #isOver = false
  #error: string | null = null
  #cancelLinger: (() => void) | null = null

  constructor(socket: Socket, frameBytesMax: number, timers: Timers, sink: FrameSink) {
    this.socket = socket
    this.#timers = timers
    this.#splitter = new FrameSplitter(frameBytesMax)
    this.#sink = sink
    this.#onFrame = sink.onFrame
    this.heardMs = timers.nowMs()
    socket.on('data', this.#onData)
    socket.on('error', error => (this.#error = socketErrorText(error)))
    socket.on('end', this.#onEnd)
    socket.on('close', this.#onClose)
  }

  /** Everything from the next frame on goes to `sink`. */
  handOver(sink: FrameSink, frameBytesMax: number): void {
    this.#sink = sink
    this.#splitter.frameBytesMax = frameBytesMax
    // Not `sink.onFrame` of whoever is the sink when a chunk began: the frames behind the last one of the handshake are the link's.
    this.#onFrame = sink.onFrame
  }

  /** A frame of the handshake, at once: links write what they gathered. */
  writeFrame(method: number, body: Buffer): void {
    const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + body.length)
    frame.writeUInt32LE(body.length + 1)
    frame[FRAME_HEADER_BYTES - 1] = method
    body.copy(frame, FRAME_HEADER_BYTES)
    this.socket.write(frame)
  }

  /** Lets what was written go out, then closes. The sink hears nothing any more. */
  end(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.socket.end()
    // What still comes is read and dropped: closing with unread bytes would reset the connection, and with it what we wrote last.
    this.socket.resume()
    this.#cancelLinger = this.#timers.after(LINGER_MS, () => this.socket.destroy())
  }

  /** Closes now. The sink hears nothing any more. */
  destroy(): void {
    this.#isOver = true
    this.socket.destroy()
  }

  readonly #dispatch: OnFrame = (method, bytes, start, end) => this.#onFrame(method, bytes, start, end)

  readonly #onData = (chunk: Buffer): void => {
    if (this.#isOver) return
    this.heardMs = this.#timers.nowMs()
    try {
      this.#splitter.feed(chunk, this.#dispatch)
    } catch (error) {
      if (!(error instanceof FrameError)) throw error
      const sink = this.#sink
      this.destroy()
      return sink.onMalformed(error.message)
    }
    if (!this.#isOver) this.#sink.onChunk()
  }

  /** There is no half-open link: whoever sends no more does not want to hear more. */
  readonly #onEnd = (): void => this.#finish('closed by the peer')

  readonly #onClose = (): void => {
    this.#cancelLinger?.()
    this.#finish(this.#error ?? 'closed')
  }

  #finish(reason: string): void {
    if (this.#isOver) return
    this.destroy()
    this.#sink.onEnd(reason)
  }
}

/** Code of the operating system or of TLS where there is one; never what the peer wrote. */
export function socketErrorText(error: Error): string {
  const code: unknown = 'code' in error ? error.code : undefined
  return typeof code === 'string' ? code : error.message
}
