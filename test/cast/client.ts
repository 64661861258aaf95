import { connect as connectTcp, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { decodePacket, type Packet, type Publish as Received } from '../conformance/decode.ts'
import * as packets from '../conformance/packets.ts'
import { Incoming } from './incoming.ts'
import { Outgoing, type PublishOutcome } from './outgoing.ts'

const RECONNECT_MS = 20
const NEVER_SECONDS = 0xffff_ffff
/** A CONNECT whose connection the client gave up may be read so much later, by a process that is stopped or slow. */
const LATE_CONNECT_MS = 15_000

/** Where a broker takes connections. */
export interface Address {
  readonly host: string
  readonly port: number
}

/** A Network Connection that ended although the client did not end it. */
export interface LostConnection {
  readonly port: number
  /** CONNACK came at this time (monotonic milliseconds); null: never. */
  readonly openedMs: number | null
  readonly closedMs: number
  /** Of the DISCONNECT or of the refusing CONNACK that came before, if one did. */
  readonly reason: number | null
  /** A CONNECT of the same client that it gave up before may have been read late: MQTT 3.1.1 has no packet that says so. */
  readonly mayBeTakenOver: boolean
}

export interface ClientOptions {
  readonly clientId: string
  readonly version: 4 | 5
  /** Clean Start 0 and a session that never expires; else Clean Start 1 and one that ends with the connection. */
  readonly isPersistent: boolean
  readonly receiveMaximum?: number
  readonly topicAliasMaximum?: number
  /** MQTT 5: instead of never. */
  readonly sessionExpirySeconds?: number
  readonly will?: packets.Will
  /** Another Client object may have had this Client Identifier before. */
  readonly mayBeKnown?: boolean
  /** Milliseconds to wait before an acknowledgement; asked for each. */
  readonly ackDelayMs?: () => number
  /** Gives up a connection on which no CONNACK came in time; without it, a client waits as long as the connection stands. */
  readonly connackTimeoutMs?: number
}

/** What happens to a client is told to these. */
export interface ClientObserver {
  /** A message for the application: once for QoS 2, at least once for QoS 1. */
  received(client: Client, packet: Received, topic: string): void
  /** The broker broke MQTT or a promise. */
  violation(client: Client, what: string): void
  /** When given, the client takes being refused or sent away as a fact of life: each connection lost is told here and is no violation. */
  lost?(client: Client, connection: LostConnection): void
}

/** A client of MQTT 3.1.1 or 5 that keeps its Session State across connections, and comes back by itself while it is wanted. */
export class Client {
  readonly options: ClientOptions
  /** Acknowledges without delay, whatever the options say. */
  isHurried = false
  /** Answers Session Present of the last CONNACK. */
  sessionPresent = false
  /** Where the present connection, or the last one, goes to. */
  port = 0
  readonly outgoing: Outgoing
  readonly incoming: Incoming
  readonly #address: () => Address
  readonly #observer: ClientObserver
  #socket: Socket | null = null
  #pending: Buffer = Buffer.alloc(0)
  #isOpen = false
  #isWanted = false
  #connectsSent = 0
  #isSessionKnown = false
  readonly #aliases = new Map<number, string>()
  /** SUBSCRIBE, UNSUBSCRIBE and PINGREQ that wait for their answer on this connection. */
  readonly #requests = new Map<number, (answer: readonly number[] | null) => void>()
  #pings: ((isAnswered: boolean) => void)[] = []
  #acks: { bytes: Buffer; packetId: number; isLast: boolean }[] = []
  #isAcknowledging = false
  /** The present connection ends by the client's own will. */
  #isLeaving = false
  #openedMs: number | null = null
  #toldReason: number | null = null
  /** The last time that a CONNECT was left without its CONNACK. */
  #unansweredMs = -Infinity
  #opened: (() => void)[] = []
  #closed: (() => void)[] = []

  constructor(options: ClientOptions, address: () => Address, observer: ClientObserver) {
    this.options = options
    this.#address = address
    this.#observer = observer
    this.outgoing = new Outgoing(options.version)
    this.incoming = new Incoming(options.receiveMaximum ?? 65_535, what => observer.violation(this, what))
  }

  /** CONNACK has come on the present connection. */
  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Connects now and whenever the connection is lost. Resolves with the first CONNACK. */
  async start(): Promise<void> {
    if (!this.#isWanted) {
      this.#isWanted = true
      void this.#stayConnected()
    }
    await this.opened()
  }

  /** Does not come back any more once the connection is lost, by whomever. */
  leaveBehind(): void {
    this.#isWanted = false
  }

  /** Cuts the connection without DISCONNECT and stays away. */
  async stop(): Promise<void> {
    this.#isWanted = false
    await this.drop()
  }

  /** Cuts the connection without DISCONNECT; a wanted client comes back. */
  async drop(): Promise<void> {
    this.#isLeaving = true
    this.#socket?.destroy()
    await this.closed()
  }

  /** DISCONNECT 0x00 and stays away; returns when the broker has closed. */
  async disconnect(): Promise<void> {
    this.#isWanted = false
    this.#isLeaving = true
    this.#socket?.write(packets.disconnect())
    await this.closed()
  }

  async opened(): Promise<void> {
    if (!this.#isOpen) await new Promise<void>(resolve => this.#opened.push(resolve))
  }

  async closed(): Promise<void> {
    if (this.#socket !== null) await new Promise<void>(resolve => this.#closed.push(resolve))
  }

  /** Resolves when the exchange is over, on however many connections that takes. Sent at once when connected, else on return. */
  publish(packet: packets.Publish): Promise<PublishOutcome> {
    return new Promise(resolve => {
      const bytes = this.outgoing.begin(packet, resolve)
      if (this.#isOpen) this.#socket!.write(bytes)
    })
  }

  /** Reason codes, or null when the connection was lost before they came. */
  subscribe(...subscriptions: packets.Subscription[]): Promise<readonly number[] | null> {
    return this.#request(packetId => packets.subscribe(packetId, subscriptions, this.options.version))
  }

  unsubscribe(...filters: string[]): Promise<readonly number[] | null> {
    return this.#request(packetId => packets.unsubscribe(packetId, filters, this.options.version))
  }

  /** PINGREQ; false when the connection was lost instead. */
  ping(): Promise<boolean> {
    if (!this.#isOpen) return Promise.resolve(false)
    this.#socket!.write(packets.PINGREQ)
    return new Promise(resolve => this.#pings.push(resolve))
  }

  #request(encode: (packetId: number) => Buffer): Promise<readonly number[] | null> {
    if (!this.#isOpen) return Promise.resolve(null)
    let packetId = this.outgoing.nextId()
    while (this.#requests.has(packetId)) packetId = this.outgoing.nextId()
    this.#socket!.write(encode(packetId))
    return new Promise(resolve => this.#requests.set(packetId, resolve))
  }

  async #stayConnected(): Promise<void> {
    while (this.#isWanted) {
      await this.#connectOnce()
      if (this.#isWanted) await sleep(RECONNECT_MS)
    }
  }

  /** One Network Connection from beginning to end. */
  async #connectOnce(): Promise<void> {
    const { host, port } = this.#address()
    const socket = connectTcp({ host, port, noDelay: true })
    this.#socket = socket
    this.port = port
    this.#isLeaving = false
    this.#openedMs = null
    this.#toldReason = null
    this.#pending = Buffer.alloc(0)
    this.#aliases.clear()
    socket.on('connect', () => {
      socket.write(this.#connectPacket())
      this.#connectsSent++
    })
    socket.on('data', (bytes: Buffer) => this.#onBytes(socket, bytes))
    socket.on('error', () => undefined)
    const { connackTimeoutMs } = this.options
    const timer = connackTimeoutMs === undefined ? null : setTimeout(() => this.#onConnackTimeout(), connackTimeoutMs)
    await new Promise<void>(resolve => socket.once('close', () => resolve()))
    if (timer !== null) clearTimeout(timer)
    const closedMs = performance.now()
    if (!this.#isLeaving) {
      const mayBeTakenOver = this.options.version === 4 && closedMs - this.#unansweredMs < LATE_CONNECT_MS
      this.#observer.lost?.(this, { port, openedMs: this.#openedMs, closedMs, reason: this.#toldReason, mayBeTakenOver })
    }
    if (this.#openedMs === null) this.#unansweredMs = closedMs
    this.#onClosed()
  }

  #onConnackTimeout(): void {
    if (this.#isOpen) return
    this.#isLeaving = true
    this.#socket?.destroy()
  }

  #onClosed(): void {
    this.#socket = null
    this.#isOpen = false
    this.#acks = []
    for (const resolve of this.#requests.values()) resolve(null)
    this.#requests.clear()
    for (const resolve of this.#pings.splice(0)) resolve(false)
    if (!this.options.isPersistent) this.outgoing.forget()
    for (const resolve of this.#closed.splice(0)) resolve()
  }

  #connectPacket(): Buffer {
    const { clientId, version, isPersistent, receiveMaximum, topicAliasMaximum, sessionExpirySeconds, will } = this.options
    const properties = {
      ...(isPersistent ? { sessionExpiryInterval: sessionExpirySeconds ?? NEVER_SECONDS } : {}),
      ...(receiveMaximum === undefined ? {} : { receiveMaximum }),
      ...(topicAliasMaximum === undefined ? {} : { topicAliasMaximum }),
    }
    return packets.connect({
      version,
      clientId,
      cleanStart: !isPersistent,
      ...(version === 5 ? { properties } : {}),
      ...(will === undefined ? {} : { will }),
    })
  }

  #onBytes(socket: Socket, bytes: Buffer): void {
    this.#pending = this.#pending.length === 0 ? bytes : Buffer.concat([this.#pending, bytes])
    try {
      for (let packet = this.#decode(); packet !== null; packet = this.#decode()) this.#onPacket(packet)
    } catch (error) {
      this.#observer.violation(this, `undecodable: ${(error as Error).message}`)
      socket.destroy()
    }
  }

  #decode(): Packet | null {
    const packet = decodePacket(this.#pending, this.options.version)
    if (packet !== null) this.#pending = this.#pending.subarray(packet.bytes)
    return packet
  }

  #onPacket(packet: Packet): void {
    switch (packet.type) {
      case 'connack':
        return this.#onConnack(packet.sessionPresent, packet.reason)
      case 'publish':
        return this.#onPublish(packet)
      case 'pubrel': {
        const isHeld = this.incoming.onPubrel(packet.packetId)
        const reason = isHeld || this.options.version === 4 ? undefined : 0x92
        return this.#acknowledge(packets.ack('pubcomp', packet.packetId, reason), packet.packetId, true)
      }
      case 'suback':
      case 'unsuback': {
        this.#requests.get(packet.packetId)?.(packet.reasons)
        this.#requests.delete(packet.packetId)
        return
      }
      case 'pingresp':
        return this.#pings.shift()?.(true)
      case 'disconnect':
        this.#toldReason = packet.reason
        if (packet.reason !== 0x8e && packet.reason !== 0x8b && this.#observer.lost === undefined)
          this.#observer.violation(this, `DISCONNECT 0x${packet.reason.toString(16)}`)
        return
      default:
        return this.#onAnswer(packet)
    }
  }

  /** PUBACK, PUBREC, PUBCOMP. */
  #onAnswer(packet: Packet): void {
    let isExpected: boolean | Buffer | null = false
    if (packet.type === 'puback') isExpected = this.outgoing.onPuback(packet.packetId, packet.reason)
    else if (packet.type === 'pubcomp') isExpected = this.outgoing.onPubcomp(packet.packetId)
    else if (packet.type === 'pubrec') isExpected = this.outgoing.onPubrec(packet.packetId, packet.reason)
    if (Buffer.isBuffer(isExpected)) this.#socket?.write(isExpected)
    if (isExpected === false) this.#observer.violation(this, `${packet.type} for nothing`)
  }

  #onConnack(sessionPresent: boolean, reason: number): void {
    if (reason !== 0) {
      this.#toldReason = reason
      if (this.#observer.lost === undefined) this.#observer.violation(this, `CONNACK 0x${reason.toString(16)}`)
      this.#socket?.destroy()
      return
    }
    const { isPersistent, mayBeKnown } = this.options
    if (this.#isSessionKnown && !sessionPresent) this.#observer.violation(this, 'Session Present 0 for a session that was acknowledged')
    if (sessionPresent && (!isPersistent || (this.#connectsSent === 1 && mayBeKnown !== true)))
      this.#observer.violation(this, 'Session Present 1 for a session that cannot be')
    this.#isSessionKnown = isPersistent && this.options.sessionExpirySeconds === undefined
    this.sessionPresent = sessionPresent
    this.#isOpen = true
    this.#openedMs = performance.now()
    this.incoming.restart(sessionPresent)
    if (sessionPresent || this.#connectsSent === 1) for (const bytes of this.outgoing.resumed()) this.#socket!.write(bytes)
    else this.outgoing.forget()
    for (const resolve of this.#opened.splice(0)) resolve()
  }

  #onPublish(packet: Received): void {
    const { topicAlias } = packet.properties
    if (topicAlias !== undefined && packet.topic !== '') this.#aliases.set(topicAlias, packet.topic)
    const topic = packet.topic === '' ? this.#aliases.get(topicAlias ?? 0) : packet.topic
    if (topic === undefined) return this.#observer.violation(this, `Topic Alias ${topicAlias} that was not set`)
    const reception =
      packet.qos === 0 ? 'deliver' : this.incoming.onPublish(packet, `${topic} ${packet.payload.subarray(0, 12).toString('latin1')}`)
    if (reception === 'deliver') this.#observer.received(this, packet, topic)
    if (packet.qos === 1) this.#acknowledge(packets.ack('puback', packet.packetId), packet.packetId, true)
    if (packet.qos === 2) this.#acknowledge(packets.ack('pubrec', packet.packetId), packet.packetId, false)
  }

  /** Acknowledgements keep the order of what they answer [MQTT-4.6.0-2]; `isLast` ends the exchange. */
  #acknowledge(bytes: Buffer, packetId: number, isLast: boolean): void {
    this.#acks.push({ bytes, packetId, isLast })
    if (!this.#isAcknowledging) void this.#sendAcks()
  }

  async #sendAcks(): Promise<void> {
    this.#isAcknowledging = true
    for (let ack = this.#acks[0]; ack !== undefined; ack = this.#acks[0]) {
      const delayMs = this.isHurried ? 0 : (this.options.ackDelayMs?.() ?? 0)
      if (delayMs > 0) await sleep(delayMs)
      // The connection may have ended meanwhile, and its acknowledgements with it.
      if (this.#acks[0] !== ack) continue
      this.#acks.shift()
      if (ack.isLast) this.incoming.finished(ack.packetId)
      this.#socket?.write(ack.bytes)
    }
    this.#isAcknowledging = false
  }
}
