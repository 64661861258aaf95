import { assert } from '../base/assert.ts'
import { ByteReader, ByteReaderError } from '../base/byte-reader.ts'
import { ByteWriter } from '../base/byte-writer.ts'
import { FRAME_HEADER_BYTES, LENGTH_BYTES } from './frame-splitter.ts'
import type { FrameSink, FramedSocket } from './framed-socket.ts'
import type { LinkCounters } from './link-counters.ts'
import type { LinkLimits } from './link-limits.ts'
import { CALL_METHOD_MAX, LinkMethod } from './link-methods.ts'
import type { Link, LinkHandler, PeerIdentity } from './link.ts'

/** One frame is larger than any peer takes: its maker must split it. The link stays as if it had not begun. */
export class FrameTooLargeError extends Error {
  override readonly name = 'FrameTooLargeError'
}

/** What a link needs of its process. */
export interface LinkHome {
  readonly counters: LinkCounters
  readonly limits: LinkLimits
  nowMs(): number
  /** The link has something to write at the end of this turn. */
  requestFlush(link: SocketLink): void
  onFault(peer: PeerIdentity, error: unknown): void
  onGone(link: SocketLink, reason: string): void
}

const WRITER_BYTES_INITIAL = 4_096
/** A send buffer up to this size is used again once the kernel has its content. */
const REUSED_BYTES_MAX = 256 * 1_024
/** Share of the peer's window after which it is told what was taken. */
const CREDIT_SHARE = 8

/** A link over a socket whose handshake is done. One write per turn; see LinkHub for who flushes and ticks. */
export class SocketLink implements Link, FrameSink {
  readonly peer: PeerIdentity
  readonly #stream: FramedSocket
  readonly #home: LinkHome
  readonly #writer = new ByteWriter(WRITER_BYTES_INITIAL)
  readonly #reader = new ByteReader(Buffer.alloc(0))
  #handler: LinkHandler | null = null
  #onEnded: (() => void) | null = null
  /** Where the open frame starts, or -1. */
  #frameAt = -1
  #method = 0
  #isFlushDue = false
  /** A written buffer that can be used again; `#lent` is with the socket. */
  #spare: Buffer | undefined
  #lent: Buffer | null = null
  #lastSentMs: number
  #unacknowledged = 0
  #isCongested = false
  #isCongestionTold = false
  /** Bytes of calls taken since the last credit. */
  #taken = 0
  readonly #creditAt: number
  #wasSilent = false
  #closed: string | null = null
  #isClosedTold = false

  constructor(stream: FramedSocket, peer: PeerIdentity, peerWindowBytes: number, home: LinkHome) {
    this.peer = peer
    this.#stream = stream
    this.#home = home
    this.#creditAt = Math.max(1, Math.floor(peerWindowBytes / CREDIT_SHARE))
    this.#lastSentMs = home.nowMs()
  }

  /**
   * Calls go to `handler` from now on.
   * @param onEnded after its `onClosed`
   */
  start(handler: LinkHandler, onEnded: (() => void) | null = null): void {
    this.#handler = handler
    this.#onEnded = onEnded
  }

  get isCongested(): boolean {
    return this.#isCongested
  }

  get heardMs(): number {
    return this.#stream.heardMs
  }

  /** Bytes of calls that the peer has not taken, those that are not written yet included. */
  get unacknowledgedBytes(): number {
    return this.#unacknowledged
  }

  beginFrame(method: number): ByteWriter {
    assert(this.#frameAt === -1 && method <= CALL_METHOD_MAX, 'one frame of a call at a time')
    return this.#begin(method)
  }

  /** @throws {FrameTooLargeError} */
  endFrame(): void {
    assert(this.#frameAt !== -1, 'endFrame follows beginFrame')
    const bytes = this.#end()
    if (bytes === 0) return
    this.#unacknowledged += bytes
    const { limits, counters } = this.#home
    if (this.#unacknowledged > limits.windowBytes && !this.#isCongested) {
      this.#isCongested = true
      counters.congestions++
    }
    if (this.#unacknowledged > limits.hardLimitBytes) {
      counters.overHardLimit++
      this.#fail(`${this.#unacknowledged} bytes not taken`)
    }
  }

  close(reason: string): void {
    if (this.#closed !== null) return
    this.flush()
    this.#stream.end()
    this.#closeLater(reason)
  }

  /** The link was never wanted: nothing goes out, nobody is told. The socket is not touched. */
  abandon(reason: string): void {
    this.#closed ??= reason
    this.#isClosedTold = true
  }

  /** Writes what this turn appended. */
  flush(): void {
    this.#isFlushDue = false
    if (this.#closed !== null) return
    if (this.#writer.length > 0) this.#write()
    this.#tellCongestion()
  }

  /** Each 100 ms: heartbeat, credit that waits, silence. */
  tick(nowMs: number, tickMs: number): void {
    if (this.#closed !== null) return
    const { heartbeatMs, silenceMs } = this.#home.limits
    if (nowMs - this.heardMs < silenceMs) this.#wasSilent = false
    else if (this.#wasSilent) {
      this.#home.counters.silent++
      return this.#fail(`nothing heard for ${silenceMs} ms`)
    }
    // Silence counts from the second tick on: after a turn of ours that took seconds, what the peer sent meanwhile is still unread.
    else this.#wasSilent = true
    if (this.#taken > 0) this.#grant()
    else if (nowMs - this.#lastSentMs > heartbeatMs - tickMs / 2) {
      this.#begin(LinkMethod.Heartbeat)
      this.#end()
    }
  }

  onFrame = (method: number, bytes: Buffer, start: number, end: number): boolean => {
    if (this.#closed !== null) return false
    const { counters } = this.#home
    counters.receivedFrames[method]! += 1
    counters.receivedBytes[method]! += end - start + FRAME_HEADER_BYTES
    this.#reader.reset(bytes, start, end)
    try {
      if (method > CALL_METHOD_MAX) this.#onOwnFrame(method)
      else {
        this.#handler!.onFrame(method, this.#reader)
        this.#taken += end - start + FRAME_HEADER_BYTES
      }
    } catch (error) {
      this.#onThrown(method, error)
    }
    return this.#closed === null
  }

  onChunk(): void {
    if (this.#closed === null && this.#taken >= this.#creditAt) this.#grant()
  }

  onMalformed(detail: string): void {
    if (this.#closed !== null) return
    this.#home.counters.malformed++
    this.#closed = `malformed: ${detail}`
    this.#tellClosed()
  }

  onEnd(reason: string): void {
    this.#closed ??= reason
    this.#tellClosed()
  }

  #begin(method: number): ByteWriter {
    const writer = this.#writer
    this.#frameAt = writer.length
    this.#method = method
    // The length has its place; `#end` knows it.
    writer.room(FRAME_HEADER_BYTES)[writer.length + LENGTH_BYTES] = method
    writer.length += FRAME_HEADER_BYTES
    return writer
  }

  /** Bytes of the frame, header included; 0 when it goes nowhere because the link has ended. */
  #end(): number {
    const writer = this.#writer
    const at = this.#frameAt
    const length = writer.length - at - LENGTH_BYTES
    this.#frameAt = -1
    if (this.#closed !== null) {
      writer.length = 0
      return 0
    }
    if (length > this.#home.limits.frameBytesMax) {
      writer.length = at
      throw new FrameTooLargeError(`method ${this.#method}: ${length} bytes`)
    }
    writer.patchU32At(at, length)
    const { counters } = this.#home
    counters.sentFrames[this.#method]! += 1
    counters.sentBytes[this.#method]! += length + LENGTH_BYTES
    if (!this.#isFlushDue) {
      this.#isFlushDue = true
      this.#home.requestFlush(this)
    }
    return length + LENGTH_BYTES
  }

  /** A fresh buffer costs more than the copy into it (under TLS most of all), so one that the kernel is done with is taken again. */
  #write(): void {
    const { socket } = this.#stream
    const capacity = this.#writer.capacity
    const bytes = this.#writer.take(this.#spare)
    this.#spare = undefined
    this.#lent = capacity <= REUSED_BYTES_MAX ? Buffer.from(bytes.buffer, bytes.byteOffset, capacity) : null
    this.#lastSentMs = this.#home.nowMs()
    this.#home.counters.writes++
    socket.write(bytes, this.#onWritten)
    // Nothing left right after a write: the kernel took it at once.
    this.#onWritten()
  }

  readonly #onWritten = (): void => {
    if (this.#lent === null || this.#stream.socket.writableLength !== 0) return
    this.#spare = this.#lent
    this.#lent = null
  }

  #grant(): void {
    this.#begin(LinkMethod.Credit).varint(this.#taken)
    this.#taken = 0
    this.#end()
  }

  #onOwnFrame(method: number): void {
    if (method === LinkMethod.Heartbeat) return
    if (method !== LinkMethod.Credit) throw new ByteReaderError('not a method of an open link')
    const bytes = this.#reader.varint()
    if (bytes > this.#unacknowledged) throw new ByteReaderError('credit for more than was sent')
    this.#unacknowledged -= bytes
    if (this.#isCongested && this.#unacknowledged < this.#home.limits.windowBytes / 2) this.#isCongested = false
    this.#tellCongestion()
  }

  #onThrown(method: number, error: unknown): void {
    if (this.#closed !== null) return
    const { counters } = this.#home
    if (error instanceof ByteReaderError) counters.malformed++
    else {
      counters.handlerFaults++
      this.#home.onFault(this.peer, error)
    }
    this.#fail(`method ${method}: ${error instanceof ByteReaderError ? error.message : 'its handler failed'}`)
  }

  #tellCongestion(): void {
    if (this.#isCongestionTold === this.#isCongested) return
    this.#isCongestionTold = this.#isCongested
    this.#handler?.onCongestion(this.#isCongested)
  }

  #fail(reason: string): void {
    if (this.#closed !== null) return
    this.#stream.destroy()
    this.#closeLater(reason)
  }

  /** Not during the call that ends the link: whoever makes it may be in the middle of something. */
  #closeLater(reason: string): void {
    this.#closed = reason
    queueMicrotask(() => this.#tellClosed())
  }

  #tellClosed(): void {
    if (this.#isClosedTold) return
    this.#isClosedTold = true
    this.#spare = undefined
    this.#lent = null
    this.#unacknowledged = 0
    this.#isCongested = false
    if (this.#frameAt === -1) this.#writer.take(Buffer.alloc(0))
    this.#home.onGone(this, this.#closed ?? 'closed')
    this.#handler?.onClosed(this.#closed ?? 'closed')
    this.#onEnded?.()
  }
}
