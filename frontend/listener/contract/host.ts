import { ManualTimers } from '#shared/base/timers.ts'
import { listen } from '../listen.ts'
import type { Listener, ListenerLimits, ListenerSettings, Refusal } from '../listener.ts'
import type { Transport, TransportHandler } from '../transport.ts'
import { PatternCheck, pattern } from './pattern.ts'

/** What the suite may ask of the server side; plain values, because the uws engine answers from another process. */
export type HostCommand =
  | { readonly op: 'listen'; readonly settings: ListenerSettings; readonly limits: ListenerLimits; readonly takes: boolean }
  | { readonly op: 'accept' | 'refusal' | 'stopAccepting' | 'close' }
  | { readonly op: 'advance'; readonly ms: number }
  | { readonly op: 'write'; readonly id: number; readonly chunks: readonly number[] }
  | { readonly op: 'writeUntilBuffered'; readonly id: number; readonly bufferedBytes: number }
  | { readonly op: 'writeReusing'; readonly id: number; readonly chunkBytes: number; readonly count: number }
  | { readonly op: 'pause' | 'resume' | 'end' | 'destroy' | 'state' | 'throwNext'; readonly id: number }
  | { readonly op: 'until'; readonly id: number; readonly receivedBytes?: number; readonly drains?: number; readonly closes?: number }

/** Everything observed of one Transport. */
export interface TransportState {
  readonly receivedBytes: number
  readonly mismatchAt: number
  readonly drains: number
  readonly closes: readonly (string | null)[]
  readonly bufferedBytes: number
  readonly writtenBytes: number
  /** `onClose` calls that came from inside our own call of this command. */
  readonly closesInside: number
}

export interface AcceptedTransport {
  readonly id: number
  readonly kind: string
  readonly remoteAddress: string
  readonly remotePort: number
  readonly serverName: string | null
  readonly peerCertificates: number
}

export interface ListenReply {
  readonly port: number
  readonly engine: string
}

export type HostReply = AcceptedTransport | ListenReply | Refusal | TransportState | null

/** Runs commands one by one in the order in which they come; one that waits does not hold up the next. */
export type Host = (command: HostCommand) => Promise<HostReply>

const CHUNK_BYTES = 65_536
/** No kernel buffers so much for one loopback connection. */
const WRITTEN_BYTES_MAX = 64 * 1_048_576

/** One listener and its Transports under remote control. */
export class ContractHost {
  readonly #timers = new ManualTimers()
  readonly #seats: Seat[] = []
  readonly #refusals: Refusal[] = []
  #listener: Listener | null = null
  #accepted = 0
  readonly #waiting = new Set<() => void>()

  readonly run: Host = async command => {
    switch (command.op) {
      case 'listen':
        return this.#listen(command.settings, command.limits, command.takes)
      case 'accept':
        await this.#until(() => this.#seats.length > this.#accepted)
        return this.#seats[this.#accepted++]!.facts
      case 'refusal':
        await this.#until(() => this.#refusals.length > 0)
        return this.#refusals.shift()!
      case 'advance':
        this.#timers.advance(command.ms)
        return null
      case 'stopAccepting':
        await this.#listener?.stopAccepting()
        return null
      case 'close':
        await this.#listener?.close()
        return null
      case 'until': {
        const seat = this.#seats[command.id]!
        await this.#until(() => seat.has(command))
        return seat.state(0)
      }
      default: {
        const seat = this.#seats[command.id]!
        return seat.run(command)
      }
    }
  }

  async #listen(settings: ListenerSettings, limits: ListenerLimits, takes: boolean): Promise<ListenReply> {
    const onTransport = (transport: Transport): TransportHandler | null => {
      if (!takes) return null
      const seat = new Seat(this.#seats.length, transport, this.#wake)
      this.#seats.push(seat)
      this.#wake()
      return seat
    }
    const onRefused = (refusal: Refusal): void => {
      this.#refusals.push(refusal)
      this.#wake()
    }
    this.#listener = await listen(settings, limits, onTransport, onRefused, this.#timers)
    return { port: this.#listener.address.port, engine: this.#listener.engine }
  }

  readonly #wake = (): void => {
    for (const look of this.#waiting) look()
  }

  #until(holds: () => boolean): Promise<void> {
    return new Promise(resolve => {
      const look = (): void => {
        if (!holds()) return
        this.#waiting.delete(look)
        resolve()
      }
      this.#waiting.add(look)
      look()
    })
  }
}

type SeatCommand = Extract<HostCommand, { readonly id: number }>

class Seat implements TransportHandler {
  readonly #id: number
  readonly #transport: Transport
  readonly #wake: () => void
  readonly #check = new PatternCheck()
  readonly #closes: (string | null)[] = []
  #drains = 0
  #writtenBytes = 0
  #throwNext = false

  constructor(id: number, transport: Transport, wake: () => void) {
    this.#id = id
    this.#transport = transport
    this.#wake = wake
  }

  get facts(): AcceptedTransport {
    const { kind, remoteAddress, remotePort, serverName, peerCertificates } = this.#transport
    return { id: this.#id, kind, remoteAddress, remotePort, serverName, peerCertificates: peerCertificates?.length ?? 0 }
  }

  onBytes(bytes: Buffer): void {
    this.#check.take(bytes)
    // The engine may do so after the call; whoever kept the bytes would notice.
    bytes.fill(0)
    this.#wake()
    if (this.#throwNext) throw new Error('thrown on purpose')
  }

  onDrain(): void {
    this.#drains++
    this.#wake()
  }

  onClose(error: string | null): void {
    this.#closes.push(error)
    this.#wake()
  }

  has(wanted: { readonly receivedBytes?: number; readonly drains?: number; readonly closes?: number }): boolean {
    const { receivedBytes = 0, drains = 0, closes = 0 } = wanted
    return this.#check.receivedBytes >= receivedBytes && this.#drains >= drains && this.#closes.length >= closes
  }

  state(closesBefore: number): TransportState {
    const { receivedBytes, mismatchAt } = this.#check
    return {
      receivedBytes,
      mismatchAt,
      drains: this.#drains,
      closes: [...this.#closes],
      bufferedBytes: this.#transport.bufferedBytes,
      writtenBytes: this.#writtenBytes,
      closesInside: this.#closes.length - closesBefore,
    }
  }

  async run(command: SeatCommand): Promise<TransportState> {
    const closesBefore = this.#closes.length
    switch (command.op) {
      case 'write':
        for (const length of command.chunks) this.#write(length)
        break
      case 'writeUntilBuffered':
        while (this.#transport.bufferedBytes < command.bufferedBytes && this.#writtenBytes < WRITTEN_BYTES_MAX) this.#write(CHUNK_BYTES)
        break
      case 'writeReusing':
        await this.#writeReusing(command.chunkBytes, command.count)
        break
      case 'throwNext':
        this.#throwNext = true
        break
      case 'state':
      case 'until':
        break
      default:
        this.#transport[command.op]()
    }
    return this.state(closesBefore)
  }

  #write(length: number): void {
    this.#transport.write(pattern(this.#writtenBytes, length))
    this.#writtenBytes += length
  }

  /** One buffer for all writes, overwritten whenever the contract allows it, with other bytes in between to make a breach show. */
  async #writeReusing(chunkBytes: number, count: number): Promise<void> {
    const buffer = Buffer.alloc(chunkBytes)
    for (let index = 0; index < count; index++) {
      pattern(this.#writtenBytes, chunkBytes).copy(buffer)
      this.#transport.write(buffer)
      this.#writtenBytes += chunkBytes
      while (this.#transport.bufferedBytes !== 0) await this.#nextDrain()
      buffer.fill(0)
    }
  }

  async #nextDrain(): Promise<void> {
    const drains = this.#drains
    while (this.#drains === drains && this.#closes.length === 0) await new Promise<void>(resolve => setImmediate(resolve))
  }
}
