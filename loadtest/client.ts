import net from 'node:net'
import tls from 'node:tls'
import type { Engine, Flushable } from './engine.ts'
import type { ConnectFields, ProtocolVersion, Qos } from './frames.ts'
import { connectFrame, disconnectFrame, PacketType, subscribeFrame, unsubscribeFrame } from './frames.ts'
import { nowMs } from './monotonic.ts'
import type { FrameSink } from './splitter.ts'
import { FrameSplitter } from './splitter.ts'

export interface Target {
  readonly host: string
  readonly port: number
  readonly protocol: ProtocolVersion
  /** PEM texts; null: plain TCP. Without `ca` the server's certificate is not checked. */
  readonly tls: {
    readonly ca?: string | undefined
    readonly cert?: string | undefined
    readonly key?: string | undefined
    /** Instead of the texts: what was made of them before. */
    readonly secureContext?: tls.SecureContext | undefined
  } | null
}

/** Who wants the PUBLISH packets of a client. `bytes` is valid only during the call; properties are between `propertiesAt` and `payloadAt`. */
export interface DeliverySink {
  delivered(firstByte: number, bytes: Uint8Array, payloadAt: number, end: number, propertiesAt: number): void
}

/** Who wants to know that a Packet Identifier is free again (PUBACK, PUBCOMP, or a PUBREC that refuses). */
export interface AckSink {
  acked(packetId: number): void
}

const OUT_BYTES_START = 256

/**
 * One MQTT client on raw frames. Acknowledgements that the protocol asks for are sent by themselves; everything written
 * in one event-loop turn leaves in one write. It is made for sending load, not for being told lies: what the broker
 * sends is read by offsets without checks beyond the frame's length.
 */
export class LoadClient implements FrameSink, Flushable {
  readonly #engine: Engine
  readonly #target: Target
  #splitter = new FrameSplitter()
  #socket: net.Socket | null = null
  #out: Buffer = Buffer.allocUnsafeSlow(OUT_BYTES_START)
  #outBytes = 0
  #dirty = false
  #phase: 'closed' | 'opening' | 'ready' | 'leaving' = 'closed'
  #packetId = 0
  #opened: { resolve: () => void; reject: (cause: Error) => void } | null = null
  #closed: (() => void) | null = null
  #pendingAcks = 0
  #acksDone: (() => void) | null = null
  /** SUBACK and UNSUBACK packets received. */
  ackCount = 0
  refusedFilters = 0
  sessionPresent = false
  /** The broker's Receive Maximum (§3.2.2.3.3); 65535 unless it named one. */
  receiveMaximum = 65_535
  /** From the start of the TCP handshake to CONNACK. */
  connectUs = 0
  deliveries: DeliverySink | null = null
  acks: AckSink | null = null
  /** Called when the connection is lost without `disconnect` or `destroy`. */
  onLost: ((why: string) => void) | null = null
  /** Called for each SUBACK and UNSUBACK. */
  onControlAck: (() => void) | null = null

  constructor(engine: Engine, target: Target) {
    this.#engine = engine
    this.#target = target
  }

  get isReady(): boolean {
    return this.#phase === 'ready'
  }

  /** SUBSCRIBE and UNSUBSCRIBE packets not answered yet. */
  get pendingAcks(): number {
    return this.#pendingAcks
  }

  /** Bytes that the kernel has not taken yet. */
  get unsentBytes(): number {
    return this.#outBytes + (this.#socket?.writableLength ?? 0)
  }

  /** Resolves with CONNACK 0x00. @throws {Error} refused, or the connection broke first */
  open(fields: ConnectFields): Promise<void> {
    const startMs = nowMs()
    this.#phase = 'opening'
    this.#outBytes = 0
    this.#splitter = new FrameSplitter()
    this.sessionPresent = false
    const opened = new Promise<void>((resolve, reject) => {
      this.#opened = { resolve, reject }
    })
    const socket = this.#dial(() => this.write(connectFrame(this.#target.protocol, fields)))
    this.#socket = socket
    socket.on('error', error => this.#end(socket, error.message))
    socket.on('close', () => this.#end(socket, 'closed by the broker'))
    return opened.then(() => {
      this.connectUs = Math.round((nowMs() - startMs) * 1_000)
    })
  }

  #dial(onConnect: () => void): net.Socket {
    const { host, port } = this.#target
    if (this.#target.tls) {
      const { ca, cert, key, secureContext } = this.#target.tls
      const socket = tls.connect({
        host,
        port,
        ...(ca ? { ca } : {}),
        ...(cert && key ? { cert, key } : {}),
        ...(secureContext ? { secureContext } : {}),
        rejectUnauthorized: ca !== undefined,
      })
      socket.setNoDelay(true)
      socket.on('secureConnect', onConnect)
      socket.on('data', chunk => this.#receive(socket, chunk, chunk.length))
      return socket
    }
    const socket: net.Socket = net.connect({
      host,
      port,
      noDelay: true,
      onread: {
        buffer: this.#engine.readBuffer,
        callback: (bytes, buffer) => {
          this.#receive(socket, buffer, bytes)
          return true
        },
      },
    })
    socket.on('connect', onConnect)
    return socket
  }

  #receive(socket: net.Socket, bytes: Uint8Array, length: number): void {
    this.#engine.tick()
    try {
      this.#splitter.feed(bytes, length, this)
    } catch (error) {
      socket.destroy()
      this.#end(socket, error instanceof Error ? error.message : String(error))
    }
  }

  #end(socket: net.Socket, why: string): void {
    if (socket !== this.#socket) return
    const phase = this.#phase
    this.#phase = 'closed'
    this.#socket = null
    this.#outBytes = 0
    this.#closed?.()
    this.#closed = null
    this.#pendingAcks = 0
    this.#acksDone?.()
    this.#acksDone = null
    if (phase === 'opening') {
      this.#opened?.reject(new Error(why))
      this.#opened = null
    } else if (phase === 'ready') {
      this.#engine.fault(why)
      this.onLost?.(why)
    }
  }

  /** Resolves when the SUBACK is in. Many may be under way; all of them resolve together when none is pending. */
  async subscribe(filter: string, qos: Qos): Promise<void> {
    this.sendSubscribe(filter, qos)
    await this.acksSettled()
  }

  sendSubscribe(filter: string, qos: Qos): void {
    this.#pendingAcks++
    this.write(subscribeFrame(this.#target.protocol, this.#nextPacketId(), filter, qos))
  }

  sendUnsubscribe(filter: string): void {
    this.#pendingAcks++
    this.write(unsubscribeFrame(this.#target.protocol, this.#nextPacketId(), filter))
  }

  /** Resolves when no SUBACK or UNSUBACK is pending, or the connection is gone. */
  acksSettled(): Promise<void> {
    if (this.#pendingAcks === 0) return Promise.resolve()
    return new Promise(resolve => {
      const others = this.#acksDone
      this.#acksDone = () => {
        others?.()
        resolve()
      }
    })
  }

  /** DISCONNECT, then resolves when the broker has closed the connection. */
  disconnect(): Promise<void> {
    const socket = this.#socket
    if (this.#phase !== 'ready' || !socket) return this.destroy()
    this.#phase = 'leaving'
    const closed = new Promise<void>(resolve => {
      this.#closed = resolve
    })
    this.write(disconnectFrame())
    this.flush()
    socket.end()
    return closed
  }

  /** Ends the connection without DISCONNECT, so that a Will is due. */
  destroy(): Promise<void> {
    const socket = this.#socket
    if (!socket) return Promise.resolve()
    this.#phase = 'leaving'
    return new Promise(resolve => {
      this.#closed = resolve
      socket.resetAndDestroy()
    })
  }

  #nextPacketId(): number {
    this.#packetId = this.#packetId >= 65_535 ? 1 : this.#packetId + 1
    return this.#packetId
  }

  write(frame: Uint8Array): void {
    const at = this.reserve(frame.length)
    this.#out.set(frame, at)
  }

  /** Room for `bytes` in what this turn writes; fill them in `outBuffer` from the returned offset on, at once. */
  reserve(bytes: number): number {
    const at = this.#outBytes
    const needed = at + bytes
    if (needed > this.#out.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#out.length * 2))
      larger.set(this.#out.subarray(0, at))
      this.#out = larger
    }
    this.#outBytes = needed
    if (!this.#dirty) {
      this.#dirty = true
      this.#engine.flushLater(this)
    }
    return at
  }

  get outBuffer(): Uint8Array {
    return this.#out
  }

  flush(): void {
    this.#dirty = false
    const socket = this.#socket
    const bytes = this.#outBytes
    this.#outBytes = 0
    if (bytes === 0 || !socket || socket.destroyed) return
    socket.write(this.#out.subarray(0, bytes))
    // What the kernel did not take at once is still read from the buffer later: leave it alone and go on with another.
    if (socket.writableLength > 0) this.#out = Buffer.allocUnsafeSlow(OUT_BYTES_START)
  }

  frame(firstByte: number, bytes: Uint8Array, start: number, end: number): void {
    switch (firstByte >> 4) {
      case PacketType.publish:
        return this.#onPublish(firstByte, bytes, start, end)
      case PacketType.puback:
      case PacketType.pubcomp:
        this.acks?.acked((bytes[start]! << 8) | bytes[start + 1]!)
        return
      case PacketType.pubrec:
        return this.#onPubrec(bytes, start, end)
      case PacketType.pubrel:
        return this.#answer(0x70, (bytes[start]! << 8) | bytes[start + 1]!)
      case PacketType.connack:
        return this.#onConnack(bytes, start, end)
      case PacketType.suback:
      case PacketType.unsuback:
        return this.#onControlAck(firstByte, bytes, end)
      case PacketType.disconnect:
        this.#socket?.destroy(new Error(`DISCONNECT 0x${(end > start ? bytes[start]! : 0).toString(16)}`))
    }
  }

  #onPublish(firstByte: number, bytes: Uint8Array, start: number, end: number): void {
    const qos = (firstByte >> 1) & 3
    let at = start + 2 + ((bytes[start]! << 8) | bytes[start + 1]!)
    if (qos > 0) {
      this.#answer(qos === 1 ? 0x40 : 0x50, (bytes[at]! << 8) | bytes[at + 1]!)
      at += 2
    }
    let propertiesAt = at
    if (this.#target.protocol === 5) {
      let length = 0
      let shift = 0
      let digit: number
      do {
        digit = bytes[at++]!
        length |= (digit & 0x7f) << shift
        shift += 7
      } while (digit >= 0x80)
      propertiesAt = at
      at += length
    }
    this.deliveries?.delivered(firstByte, bytes, at, end, propertiesAt)
  }

  #onPubrec(bytes: Uint8Array, start: number, end: number): void {
    const packetId = (bytes[start]! << 8) | bytes[start + 1]!
    // A refusing PUBREC (0x80 and up) ends the exchange, §4.3.3.
    if (end - start > 2 && bytes[start + 2]! >= 0x80) this.acks?.acked(packetId)
    else this.#answer(0x62, packetId)
  }

  #answer(firstByte: number, packetId: number): void {
    const at = this.reserve(4)
    const out = this.#out
    out[at] = firstByte
    out[at + 1] = 2
    out[at + 2] = packetId >> 8
    out[at + 3] = packetId
  }

  #onControlAck(firstByte: number, bytes: Uint8Array, end: number): void {
    if (firstByte >> 4 === PacketType.suback && bytes[end - 1]! >= 0x80) this.refusedFilters++
    this.ackCount++
    if (this.#pendingAcks > 0) this.#pendingAcks--
    this.onControlAck?.()
    if (this.#pendingAcks > 0) return
    this.#acksDone?.()
    this.#acksDone = null
  }

  #onConnack(bytes: Uint8Array, start: number, end: number): void {
    const code = bytes[start + 1]!
    const opened = this.#opened
    this.#opened = null
    if (code !== 0) {
      this.#phase = 'leaving'
      this.#socket?.destroy()
      opened?.reject(new Error(`CONNACK 0x${code.toString(16)}`))
      return
    }
    this.sessionPresent = (bytes[start]! & 1) === 1
    if (this.#target.protocol === 5) this.receiveMaximum = receiveMaximumOf(bytes, start + 2, end)
    this.#phase = 'ready'
    opened?.resolve()
  }
}

/** Fixed sizes of the CONNACK properties (§3.2.2.3); the others start with a two-byte length. */
const CONNACK_PROPERTY_BYTES = new Map([
  [0x11, 4],
  [0x27, 4],
  [0x21, 2],
  [0x22, 2],
  [0x13, 2],
  [0x24, 1],
  [0x25, 1],
  [0x28, 1],
  [0x29, 1],
  [0x2a, 1],
])

function receiveMaximumOf(bytes: Uint8Array, start: number, end: number): number {
  let at = start
  while (at < end && bytes[at++]! >= 0x80); // the properties' length itself is of no interest: they fill the packet
  while (at < end) {
    const id = bytes[at++]!
    if (id === 0x21) return (bytes[at]! << 8) | bytes[at + 1]!
    at += CONNACK_PROPERTY_BYTES.get(id) ?? 2 + ((bytes[at]! << 8) | bytes[at + 1]!)
    if (id === 0x26) at += 2 + ((bytes[at]! << 8) | bytes[at + 1]!)
  }
  return 65_535
}
