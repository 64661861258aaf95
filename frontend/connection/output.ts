import type { FrontendCounters } from '../counters.ts'
import type { Transport } from '../listener/transport.ts'

const LARGE_BYTES = 64 * 1024
/**
 * Sizes of gather buffers and how many of each are kept for the next turn; beyond, they are left to the garbage collector. Most turns
 * have a few hundred bytes for a connection, but some have them for ten thousand connections at once: hence the smallest size.
 */
const TIERS = [
  { bytes: 512, keptMax: 8_192 },
  { bytes: 4 * 1024, keptMax: 1_024 },
  { bytes: LARGE_BYTES, keptMax: 64 },
] as const

/** Buffers that outgoing packets are gathered in: one for each connection that is written to in a turn, then the next one's. */
export class OutputBuffers {
  readonly #kept: readonly Buffer[][] = TIERS.map(() => [])

  /** At least `bytes` long, at most LARGE_BYTES. */
  take(bytes: number): Buffer {
    const tier = tierOf(bytes)
    return this.#kept[tier]!.pop() ?? Buffer.allocUnsafeSlow(TIERS[tier]!.bytes)
  }

  give(buffer: Buffer): void {
    const tier = tierOf(buffer.length)
    const kept = this.#kept[tier]!
    if (kept.length < TIERS[tier]!.keptMax) kept.push(buffer)
  }
}

function tierOf(bytes: number): number {
  if (bytes <= TIERS[0].bytes) return 0
  return bytes <= TIERS[1].bytes ? 1 : 2
}

/**
 * The packets of one turn to one client, gathered so that they cost one write. While the socket is slow the
 * buffers lent to it come back on drain, and what the following turns bring is gathered until then: a buffer for each turn would
 * hold many times the bytes that are in it.
 */
export class Output {
  /** A frame larger than this does not fit a gather buffer: it is written by itself. */
  static readonly FRAME_MAX = LARGE_BYTES
  readonly #transport: Transport
  readonly #buffers: OutputBuffers
  readonly #counters: FrontendCounters
  #buffer: Buffer | null = null
  #length = 0
  #lent: Buffer[] | null = null
  #writtenBytes = 0

  constructor(transport: Transport, buffers: OutputBuffers, counters: FrontendCounters) {
    this.#transport = transport
    this.#buffers = buffers
    this.#counters = counters
  }

  /** Bytes that the client has not taken: gathered here or waiting in the socket. */
  get waitingBytes(): number {
    return this.#length + this.#transport.bufferedBytes
  }

  /** Bytes that the client's socket has taken since it was opened, as far as the engine counts them. */
  get takenBytes(): number {
    return this.#writtenBytes - this.#transport.bufferedBytes
  }

  /** A buffer with room for `bytes` (at most FRAME_MAX) behind `at`; `advance` says how far it was filled. */
  room(bytes: number): Buffer {
    const buffer = this.#buffer
    if (buffer !== null && this.#length + bytes <= buffer.length) return buffer
    return this.#makeRoom(bytes)
  }

  get at(): number {
    return this.#length
  }

  advance(to: number): void {
    this.#length = to
  }

  append(bytes: Uint8Array): void {
    if (bytes.length > LARGE_BYTES) return this.writeThrough(bytes)
    this.room(bytes.length).set(bytes, this.#length)
    this.#length += bytes.length
  }

  /** Bytes that nobody will change any more go to the socket as they are, after what was gathered. */
  writeThrough(bytes: Uint8Array): void {
    this.flush()
    this.#counters.bytesSent += bytes.length
    this.#writtenBytes += bytes.length
    this.#transport.write(bytes)
  }

  /** One write for what the turn brought, unless the socket is busy: then it goes out on drain or with a full buffer. */
  endTurn(): void {
    if (this.#buffer !== null && this.#transport.bufferedBytes === 0) this.flush()
  }

  /** Writes what is gathered, busy socket or not. */
  flush(): void {
    const buffer = this.#buffer
    if (buffer === null) return
    this.#buffer = null
    this.#counters.bytesSent += this.#length
    this.#writtenBytes += this.#length
    this.#transport.write(buffer.subarray(0, this.#length))
    this.#length = 0
    if (this.#transport.bufferedBytes === 0) this.#buffers.give(buffer)
    else (this.#lent ??= []).push(buffer)
  }

  /** The socket has taken everything. */
  onDrain(): void {
    if (this.#lent !== null) {
      for (const buffer of this.#lent) this.#buffers.give(buffer)
      this.#lent = null
    }
    this.flush()
  }

  #makeRoom(bytes: number): Buffer {
    const full = this.#buffer
    if (full !== null && this.#length + bytes > LARGE_BYTES) this.flush()
    const larger = this.#buffers.take(this.#length + bytes)
    if (this.#buffer !== null) {
      this.#buffer.copy(larger, 0, 0, this.#length)
      this.#buffers.give(this.#buffer)
    }
    this.#buffer = larger
    return larger
  }
}
