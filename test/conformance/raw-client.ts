import { connect as connectTcp } from 'node:net'
import type { Duplex } from 'node:stream'
import { expect } from 'vitest'
import {
  decodePacket,
  type Connack,
  type Disconnect,
  type Packet,
  type Publish as Received,
  type Suback,
  type Unsuback,
  type Ack,
} from './decode.ts'
import * as packets from './packets.ts'
import type { Properties } from './properties.ts'

/** How long a test waits for something that must come. Only a failing test waits this long. */
export const PATIENCE_MS = 12_000

type OfType<T extends Packet['type']> = Extract<Packet, { type: T }>

/**
 * One Network Connection of a test, byte by byte. Nothing is sent that the test did not ask for: no acknowledgement, no PINGREQ.
 * What arrives is decoded strictly and checked against what the client announced in CONNECT (Maximum Packet Size, Request Problem Information).
 */
export class RawClient {
  readonly version: packets.Version
  connack!: Connack
  /** Packets sent by the broker so far, in order, also those that a test has already taken. */
  readonly received: Packet[] = []
  /** How long it waits for what must come. */
  patienceMs = PATIENCE_MS
  readonly #stream: Duplex
  readonly #queue: Packet[] = []
  readonly #aliases = new Map<number, string>()
  #announced: Properties = {}
  #pending: Buffer = Buffer.alloc(0)
  #raw: Buffer = Buffer.alloc(0)
  #closed = false
  #opaque = false
  #fault: Error | null = null
  readonly #waiting = new Set<() => void>()
  #packetId = 1_000

  constructor(stream: Duplex, version: packets.Version = 5) {
    this.version = version
    this.#stream = stream
    stream.on('data', (bytes: Buffer) => this.#onBytes(bytes))
    stream.on('error', () => {})
    stream.on('close', () => {
      this.#closed = true
      this.#wake()
    })
    stream.on('end', () => {
      this.#closed = true
      stream.end()
      this.#wake()
    })
  }

  /** A TCP connection without any MQTT on it. */
  static async open(host: string, port: number, version: packets.Version = 5): Promise<RawClient> {
    const socket = connectTcp({ host, port, noDelay: true })
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    return new RawClient(socket, version)
  }

  #onBytes(bytes: Buffer): void {
    if (this.#raw.length < 256) this.#raw = Buffer.concat([this.#raw, bytes])
    this.#pending = Buffer.concat([this.#pending, bytes])
    try {
      for (let packet = decodePacket(this.#pending, this.version); packet; packet = decodePacket(this.#pending, this.version)) {
        this.#pending = this.#pending.subarray(packet.bytes)
        this.#check(packet)
        this.received.push(packet)
        this.#queue.push(packet)
      }
    } catch (fault) {
      this.#fault ??= fault as Error
    }
    this.#wake()
  }

  #check(packet: Packet): void {
    const { maximumPacketSize, requestProblemInformation, topicAliasMaximum = 0 } = this.#announced
    if (packet.bytes > (maximumPacketSize ?? Infinity))
      throw new Error(`the broker sent a ${packet.type} of ${packet.bytes} bytes, more than Maximum Packet Size`)
    if (packet.type === 'publish') this.#resolveAlias(packet, topicAliasMaximum)
    else if ('properties' in packet && packet.type !== 'connack' && packet.type !== 'disconnect') {
      const { reasonString, userProperty } = packet.properties
      if (requestProblemInformation === 0 && (reasonString !== undefined || userProperty))
        throw new Error(`the broker explained a ${packet.type} unasked`)
    }
  }

  #resolveAlias(packet: Received, topicAliasMaximum: number): void {
    const alias = packet.properties.topicAlias
    if (alias === undefined) {
      if (packet.topic === '') throw new Error('the broker sent neither a Topic Name nor a Topic Alias')
      return
    }
    if (alias === 0 || alias > topicAliasMaximum) throw new Error(`the broker sent Topic Alias ${alias}`)
    if (packet.topic !== '') this.#aliases.set(alias, packet.topic)
    else if (!this.#aliases.has(alias)) throw new Error(`the broker used Topic Alias ${alias} before defining it`)
  }

  /** The Topic Name that a PUBLISH stands for, aliases resolved. */
  topicOf(packet: Received): string {
    return packet.topic === '' ? (this.#aliases.get(packet.properties.topicAlias ?? 0) ?? '') : packet.topic
  }

  /** Bytes as they are, in one write. */
  send(...bytes: Buffer[]): void {
    this.#stream.write(Buffer.concat(bytes))
  }

  #wake(): void {
    for (const wake of this.#waiting) wake()
  }

  /** Waits until `find` answers something else than undefined, asked anew after each arrival. */
  async #until<T>(what: string, find: () => T | undefined): Promise<T> {
    const deadline = performance.now() + this.patienceMs
    for (;;) {
      if (this.#fault && !this.#opaque) throw this.#fault
      const found = find()
      if (found !== undefined) return found
      const left = deadline - performance.now()
      if (left <= 0) throw new Error(`${what} did not come; queued: ${describe(this.#queue)}, ${this.#closed ? 'closed' : 'open'}`)
      await new Promise<void>(resolve => {
        const wake = (): void => {
          clearTimeout(timer)
          this.#waiting.delete(wake)
          resolve()
        }
        const timer = setTimeout(wake, left)
        this.#waiting.add(wake)
      })
    }
  }

  /** The next packet, whatever it is, or 'closed'. */
  next(): Promise<Packet | 'closed'> {
    return this.#until('a packet', () => this.#queue.shift() ?? (this.#closed ? 'closed' : undefined))
  }

  /** The next packet, which must be of this type. */
  async expect<T extends Packet['type']>(type: T): Promise<OfType<T>> {
    const packet = await this.next()
    if (packet === 'closed') throw new Error(`the broker closed the connection instead of sending ${type}`)
    if (packet.type !== type) throw new Error(`expected ${type}, got ${describe([packet])}`)
    return packet as OfType<T>
  }

  /** The first packet of this type, now or later; others stay queued. For clients that wait for several things at once. */
  async take<T extends Packet['type']>(type: T, packetId?: number): Promise<OfType<T>> {
    return this.#until(type, () => {
      const at = this.#queue.findIndex(
        each => each.type === type && (packetId === undefined || ('packetId' in each && each.packetId === packetId)),
      )
      if (at >= 0) return this.#queue.splice(at, 1)[0] as OfType<T>
      if (this.#closed) throw new Error(`closed while waiting for ${type}; queued: ${describe(this.#queue)}`)
      return undefined
    })
  }

  /** The first packet of this type that has already arrived, if any. */
  poll<T extends Packet['type']>(type: T): OfType<T> | undefined {
    const at = this.#queue.findIndex(each => each.type === type)
    return at < 0 ? undefined : (this.#queue.splice(at, 1)[0] as OfType<T>)
  }

  /** The broker must close, and send nothing more before it does. */
  async expectClosed(): Promise<void> {
    const packet = await this.next()
    if (packet !== 'closed') throw new Error(`expected the connection to close, got ${describe([packet])}`)
  }

  /** DISCONNECT with one of `reasons`, then the end of the connection. Packets sent before the DISCONNECT are passed over. */
  async expectDisconnect(...reasons: number[]): Promise<Disconnect> {
    const packet = await this.take('disconnect')
    expect(hexCodes(reasons), 'reason of DISCONNECT').toContain(hexCodes([packet.reason])[0])
    await this.ended()
    if (this.received.at(-1) !== packet) throw new Error(`the broker sent something after DISCONNECT: ${describe(this.received.slice(-1))}`)
    return packet
  }

  /** A refusing CONNACK with one of `reasons`, then the end of the connection. */
  async expectRefused(...reasons: number[]): Promise<Connack> {
    const packet = await this.expect('connack')
    expect(hexCodes(reasons), 'reason of CONNACK').toContain(hexCodes([packet.reason])[0])
    expect(packet.sessionPresent).toBe(false)
    await this.expectClosed()
    return packet
  }

  /** The broker must give the connection up; it may say why first, with a reason of 0x80 or more. */
  async expectGivenUp(): Promise<void> {
    for (;;) {
      const packet = await this.next()
      if (packet === 'closed') return
      if (packet.type === 'disconnect' || packet.type === 'connack') expect(packet.reason).not.toBe(0)
    }
  }

  /** Sends CONNECT and awaits CONNACK 0x00. */
  async connect(options: Omit<packets.Connect, 'version'> = {}): Promise<this> {
    this.sendConnect(options)
    this.connack = await this.expect('connack')
    expect(this.connack.reason, 'reason of CONNACK').toBe(0)
    return this
  }

  /** Sends CONNECT and remembers the limits it announces. */
  sendConnect(options: Omit<packets.Connect, 'version'> = {}): void {
    this.#announced = Buffer.isBuffer(options.properties) ? {} : (options.properties ?? {})
    this.send(packets.connect({ ...options, version: this.version }))
  }

  nextPacketId(): number {
    return this.#packetId++
  }

  async subscribe(subscriptions: packets.Subscription | packets.Subscription[], properties?: Properties): Promise<Suback> {
    const packetId = this.nextPacketId()
    this.send(packets.subscribe(packetId, Array.isArray(subscriptions) ? subscriptions : [subscriptions], this.version, properties))
    return this.take('suback', packetId)
  }

  async unsubscribe(...filters: string[]): Promise<Unsuback> {
    const packetId = this.nextPacketId()
    this.send(packets.unsubscribe(packetId, filters, this.version))
    return this.take('unsuback', packetId)
  }

  /** Publishes and carries the QoS 1 or 2 exchange to its end; answers PUBACK or PUBREC. QoS 0 is followed by a PINGREQ, so it has been read. */
  async publish(packet: packets.Publish): Promise<Ack | null> {
    const packetId = packet.packetId ?? this.nextPacketId()
    this.send(packets.publish({ ...packet, packetId }, this.version))
    if (!packet.qos) {
      await this.ping()
      return null
    }
    if (packet.qos === 1) return this.take('puback', packetId)
    const pubrec = await this.take('pubrec', packetId)
    if (pubrec.reason < 0x80) {
      this.send(packets.ack('pubrel', packetId))
      await this.take('pubcomp', packetId)
    }
    return pubrec
  }

  /** The next PUBLISH, acknowledged to the end of its exchange. */
  async receive(): Promise<Received> {
    const packet = await this.take('publish')
    await this.acknowledge(packet)
    return packet
  }

  async acknowledge(packet: Received): Promise<void> {
    if (packet.qos === 1) this.send(packets.ack('puback', packet.packetId))
    if (packet.qos !== 2) return
    this.send(packets.ack('pubrec', packet.packetId))
    await this.take('pubrel', packet.packetId)
    this.send(packets.ack('pubcomp', packet.packetId))
  }

  async ping(): Promise<void> {
    this.send(packets.PINGREQ)
    await this.take('pingresp')
  }

  /** Proves by a PINGREQ exchange that the broker has sent nothing that the test has not taken. */
  async expectNothing(): Promise<void> {
    await this.ping()
    if (this.#queue.length > 0) throw new Error(`expected nothing, got ${describe(this.#queue)}`)
  }

  /** Orderly end; returns when the connection is closed. */
  async disconnect(reason?: number, properties?: Properties): Promise<void> {
    this.send(packets.disconnect(reason, properties))
    await this.ended()
  }

  /** Waits for the end of the connection, whatever is still queued. */
  async ended(): Promise<void> {
    await this.#until('the end of the connection', () => (this.#closed ? true : undefined))
  }

  /** Waits for the end of the connection and answers its first bytes as hex, for answers in no particular MQTT version. */
  async endedWith(): Promise<string> {
    this.#opaque = true
    await this.ended()
    return this.#raw.toString('hex')
  }

  /** Cuts the connection without DISCONNECT. */
  drop(): void {
    this.#stream.destroy()
  }

  /** Ends our side of the connection after what was sent. */
  finish(): void {
    this.#stream.end()
  }

  /** Stops and resumes taking bytes from the operating system. */
  pause(): void {
    this.#stream.pause()
  }

  resume(): void {
    this.#stream.resume()
  }
}

function hexCodes(reasons: number[]): string[] {
  return reasons.map(reason => `0x${reason.toString(16).padStart(2, '0')}`)
}

function describe(queue: Packet[]): string {
  return `[${queue
    .map(packet =>
      JSON.stringify(packet, (key, value: unknown) =>
        key === 'payload'
          ? Buffer.from((value as { data: number[] }).data)
              .toString()
              .slice(0, 40)
          : value,
      ),
    )
    .join(', ')}]`
}
