import type { Ack, AckType } from '#shared/mqtt/ack-codec.ts'
import { encodeClientDisconnect, encodeConnect, encodeSubscribe, encodeUnsubscribe, type ServerPacket } from '#shared/mqtt/client-codec.ts'
import type { Message } from '#shared/mqtt/message.ts'
import { PacketType } from '#shared/mqtt/packet-type.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { REQUEST_TOPIC } from '#shared/state-store/topics.ts'
import { encodeClientAck, encodeClientPublish, PacketReader, type PacketTaker } from './client-packets.ts'
import type { History, Qos } from './history.ts'
import { type ClientPort, SimSocket, type SocketListener } from './sim-transport.ts'
import type { StoreUser } from './sim-store-user.ts'
import type { World } from './world.ts'

/** Without CONNACK for so long a client tries elsewhere. */
const CONNACK_TIMEOUT_MS = 15_000
const NEVER_EXPIRES_SECONDS = 0xffff_ffff

/** What a client is like for its whole life. */
export interface ClientKind {
  readonly clientId: string
  readonly version: 4 | 5
  /** Its session outlives its connections; else each connection starts a session that ends with it. */
  readonly isPersistent: boolean
  /** Unacknowledged QoS 1 and 2 deliveries that it takes (MQTT 5). */
  readonly receiveMaximum: number
  /** It waits up to so long before it acknowledges a delivery; 0: not at all. */
  readonly ackDelayMsMax: number
  /** Topic of its Will, or null. */
  readonly willTopic: string | null
}

interface Outgoing {
  readonly message: string
  readonly topic: string
  readonly qos: Qos
  readonly retain: boolean
  readonly packetId: number
  /** release: PUBREC has come. */
  stage: 'publish' | 'release'
}

interface Request {
  readonly kind: 'subscribe' | 'unsubscribe'
  readonly filter: string
}

/** An MQTT client that follows the specification, resends what it must after a reconnect, and writes down what it sees. */
export class SimClient implements PacketTaker {
  readonly kind: ClientKind
  readonly #world: World
  readonly #history: History
  readonly #address: string
  #connection: Connection | null = null
  #isOnline = false
  /** Its last Clean Start was not answered: what is there now it must not go on with. */
  #mustStartClean = false
  readonly #outgoing = new Map<number, Outgoing>()
  readonly #requests = new Map<number, Request>()
  /** Of this connection: requests to the state store without PUBACK. They are never sent again. */
  readonly #storeRequests = new Map<number, string>()
  /** QoS 2 messages received and not released (§4.3.3). */
  readonly #held = new Map<number, string>()
  /** Of this connection: delivered to us and not fully acknowledged by us. */
  readonly #inFlight = new Set<number>()
  #nextPacketId = 1
  #nextMessage = 1
  #connections = 0
  #lastAckMs = 0
  /** No delays any more. */
  isPrompt = false
  onOffline: () => void = () => {}
  /** Uses the state store; null: it does not. */
  store: StoreUser | null = null

  constructor(world: World, history: History, kind: ClientKind, address: string) {
    this.#world = world
    this.#history = history
    this.kind = kind
    this.#address = address
  }

  get clientId(): string {
    return this.kind.clientId
  }

  get isOnline(): boolean {
    return this.#isOnline
  }

  get isOffline(): boolean {
    return this.#connection === null
  }

  get unanswered(): number {
    return this.#outgoing.size + this.#requests.size + this.#storeRequests.size + (this.store?.waitingCount ?? 0)
  }

  /** A request for this filter waits for its answer. */
  isAsking(filter: string): boolean {
    return [...this.#requests.values()].some(request => request.filter === filter)
  }

  // ---- PacketTaker

  get isDone(): boolean {
    return this.#connection === null
  }

  // ---- connection

  /** @param wantsClean not with MQTT 3.1.1, where a session that starts clean also ends with its connection */
  connect(port: ClientPort, wantsClean: boolean): void {
    if (this.#connection !== null) throw new Error(`${this.clientId} is connected`)
    const { kind } = this
    const isClean = wantsClean || this.#mustStartClean || !kind.isPersistent
    this.#history.add({
      is: 'connect',
      client: this.clientId,
      isClean,
      isPersistent: kind.isPersistent,
      to: port.process.name,
    })
    if (isClean) {
      this.#mustStartClean = kind.isPersistent
      this.#held.clear()
    }
    const connection = new Connection(this, new PacketReader(kind.version))
    this.#connection = connection
    this.#connections++
    connection.socket = new SimSocket(this.#world, port, this.#address, connection)
    connection.socket.send(this.#connectPacket(isClean))
    this.#world.after(CONNACK_TIMEOUT_MS, () => {
      if (this.#connection === connection && !this.#isOnline) this.cut()
    })
  }

  #connectPacket(isClean: boolean): Buffer {
    const { version, clientId, isPersistent, receiveMaximum, willTopic } = this.kind
    const properties = version === 5 ? { sessionExpiryInterval: isPersistent ? NEVER_EXPIRES_SECONDS : 0, receiveMaximum } : undefined
    return encodeConnect(version, clientId, {
      cleanStart: isClean,
      ...(willTopic === null ? {} : { will: { topic: willTopic, payload: `will:${clientId}:${this.#connections}`, qos: 1 as const } }),
      ...(properties === undefined ? {} : { properties }),
    })
  }

  /** Leaves as MQTT wants it. */
  disconnect(): void {
    const connection = this.#connection
    if (connection === null) return
    if (this.#isOnline) connection.socket!.send(encodeClientDisconnect(this.kind.version))
    connection.socket!.close()
    this.#offline('disconnected', 0)
  }

  /** Its network breaks. */
  cut(): void {
    if (this.#connection === null) return
    this.#connection.socket!.cut()
    this.#offline('cut', 0)
  }

  stall(isStalled: boolean): void {
    this.#connection?.socket!.stall(isStalled)
  }

  onBytes(connection: Connection, bytes: Buffer): void {
    if (this.#connection !== connection) return
    try {
      connection.reader.read(bytes, this)
    } catch (error) {
      this.#wrong(`a packet that cannot be read: ${String(error)}`)
      this.cut()
    }
  }

  onClosed(connection: Connection): void {
    if (this.#connection === connection) this.#offline('byServer', connection.reason)
  }

  #offline(how: 'disconnected' | 'cut' | 'byServer', reason: number): void {
    this.#history.add({ is: 'closed', client: this.clientId, how, reason })
    this.#connection = null
    this.#isOnline = false
    this.#requests.clear()
    this.#inFlight.clear()
    this.#storeRequests.clear()
    this.store?.onOffline()
    this.onOffline()
  }

  // ---- requests

  subscribe(filter: string, qos: Qos, noLocal = false): void {
    const packetId = this.#takePacketId()
    this.#requests.set(packetId, { kind: 'subscribe', filter })
    this.#history.add({ is: 'subscribe', client: this.clientId, filter, qos, noLocal })
    this.#send(encodeSubscribe(this.kind.version, packetId, [{ filter, qos, noLocal }]))
  }

  unsubscribe(filter: string): void {
    const packetId = this.#takePacketId()
    this.#requests.set(packetId, { kind: 'unsubscribe', filter })
    this.#history.add({ is: 'unsubscribe', client: this.clientId, filter })
    this.#send(encodeUnsubscribe(this.kind.version, packetId, [filter]))
  }

  publish(topic: string, qos: Qos, retain: boolean): void {
    const packetId = qos === 0 ? 0 : this.#takePacketId()
    const outgoing: Outgoing = { message: `${this.clientId}:${this.#nextMessage++}`, topic, qos, retain, packetId, stage: 'publish' }
    if (qos > 0) this.#outgoing.set(packetId, outgoing)
    this.#sendPublish(outgoing, false, false)
  }

  /** @param properties encoded, Correlation Data among them */
  askStore(request: string, payload: Buffer, properties: Buffer): void {
    const packetId = this.#takePacketId()
    this.#storeRequests.set(packetId, request)
    this.#send(
      encodeClientPublish(this.kind.version, { topic: REQUEST_TOPIC, payload, qos: 1, retain: false, dup: false, packetId, properties }),
    )
  }

  #sendPublish({ message, topic, qos, retain, packetId }: Outgoing, isRepeat: boolean, dup: boolean): void {
    this.#history.add({ is: 'publish', client: this.clientId, message, topic, qos, retain, isRepeat })
    this.#send(encodeClientPublish(this.kind.version, { topic, payload: message, qos, retain, dup, packetId }))
  }

  #takePacketId(): number {
    do this.#nextPacketId = (this.#nextPacketId % 500) + 1
    while ([this.#outgoing, this.#requests, this.#storeRequests].some(used => used.has(this.#nextPacketId)))
    return this.#nextPacketId
  }

  #send(bytes: Buffer): void {
    this.#connection?.socket!.send(bytes)
  }

  // ---- what comes

  onPacket(packet: ServerPacket): void {
    switch (packet.cmd) {
      case 'connack':
        return this.#onConnack(packet.reasonCode ?? packet.returnCode ?? 0, packet.sessionPresent)
      case 'suback':
        return this.#onAnswer(packet.messageId!, 'subscribe', Number(packet.granted[0]))
      case 'unsuback':
        return this.#onAnswer(packet.messageId!, 'unsubscribe', 0)
      case 'disconnect':
        this.#connection!.reason = packet.reasonCode ?? 0
        return
      default:
        this.#wrong(`${packet.cmd} from the server`)
    }
  }

  #onConnack(reason: number, isPresent: boolean): void {
    if (this.#isOnline) return this.#wrong('a second CONNACK')
    if (reason !== 0) {
      this.#history.add({ is: 'refused', client: this.clientId, reason })
      this.#connection!.reason = reason
      return
    }
    this.#isOnline = true
    this.#mustStartClean = false
    this.#history.add({ is: 'connack', client: this.clientId, isPresent })
    if (!isPresent) this.#onSessionLost()
    this.store?.onOnline()
    // [MQTT-4.4.0-1]: in the order in which it went.
    for (const outgoing of this.#outgoing.values()) {
      if (outgoing.stage === 'publish') this.#sendPublish(outgoing, true, isPresent)
      else this.#sendAck(PacketType.PUBREL, outgoing.packetId)
    }
  }

  /** QoS 2 without its session would be a new message, and might be the second; QoS 1 may. */
  #onSessionLost(): void {
    this.#held.clear()
    for (const [packetId, { qos, message, stage }] of this.#outgoing) {
      if (qos !== 2) continue
      this.#outgoing.delete(packetId)
      if (stage === 'publish') this.#history.add({ is: 'abandoned', client: this.clientId, message })
    }
  }

  #onAnswer(packetId: number, kind: Request['kind'], granted: number): void {
    const request = this.#requests.get(packetId)
    if (request === undefined || request.kind !== kind) return this.#wrong(`an answer to ${kind} ${packetId}, which was not asked`)
    this.#requests.delete(packetId)
    const { filter } = request
    if (kind === 'subscribe') {
      this.#history.add({ is: 'suback', client: this.clientId, filter, granted })
      this.store?.onSubscribed(filter)
    } else this.#history.add({ is: 'unsuback', client: this.clientId, filter })
  }

  onAck(type: AckType, { packetId, reason }: Ack): void {
    if (type === PacketType.PUBREL) {
      this.#held.delete(packetId)
      return this.#answerLater(PacketType.PUBCOMP, packetId, true)
    }
    const request = this.#storeRequests.get(packetId)
    if (request !== undefined && type === PacketType.PUBACK) return this.#onStoreAck(packetId, request, reason)
    const outgoing = this.#outgoing.get(packetId)
    const isExpected =
      outgoing !== undefined &&
      (type === PacketType.PUBACK ? outgoing.qos === 1 : outgoing.qos === 2 && (type === PacketType.PUBREC || outgoing.stage === 'release'))
    if (!isExpected) return this.#wrong(`acknowledgement ${type} of ${packetId}, which is not in use so`)
    if (type === PacketType.PUBCOMP) return void this.#outgoing.delete(packetId)
    if (outgoing.stage === 'publish') this.#history.add({ is: 'acknowledged', client: this.clientId, message: outgoing.message, reason })
    if (type === PacketType.PUBACK || reason >= ReasonCode.UnspecifiedError) return void this.#outgoing.delete(packetId)
    outgoing.stage = 'release'
    this.#sendAck(PacketType.PUBREL, packetId)
  }

  #onStoreAck(packetId: number, request: string, reason: number): void {
    this.#storeRequests.delete(packetId)
    if (reason >= ReasonCode.UnspecifiedError) this.store!.onRefused(request, reason)
  }

  onPublish(publish: Message): void {
    const { topic, payload, qos, retain, dup, packetId } = publish
    const message = payload.toString()
    const held = qos === 2 ? this.#held.get(packetId) : undefined
    if (held !== undefined && held !== message) this.#wrong(`${message} under identifier ${packetId}, which ${held} holds`)
    if (this.store?.takes(publish) !== true)
      this.#history.add({
        is: 'received',
        client: this.clientId,
        message,
        topic: topic.name,
        qos: qos as Qos,
        retain,
        dup,
        isRepeat: held !== undefined,
      })
    if (qos === 0) return
    if (this.#inFlight.has(packetId)) this.#wrong(`${message} under identifier ${packetId}, which is in use on this connection`)
    this.#inFlight.add(packetId)
    if (this.kind.version === 5 && this.#inFlight.size > this.kind.receiveMaximum) this.#wrong(`${this.#inFlight.size} in flight`)
    if (qos === 2) this.#held.set(packetId, message)
    this.#answerLater(qos === 1 ? PacketType.PUBACK : PacketType.PUBREC, packetId, qos === 1)
  }

  /** In the order of what it answers [MQTT-4.6.0-2], after a while where the client is slow. */
  #answerLater(type: AckType, packetId: number, ends: boolean): void {
    const connection = this.#connection
    const delayMs = this.isPrompt ? 0 : this.#world.random.next() * this.kind.ackDelayMsMax
    this.#lastAckMs = Math.max(this.#lastAckMs, this.#world.nowMs + delayMs)
    const answer = (): void => {
      if (this.#connection !== connection) return
      if (ends) this.#inFlight.delete(packetId)
      this.#sendAck(type, packetId)
    }
    if (this.#lastAckMs <= this.#world.nowMs) answer()
    else this.#world.after(this.#lastAckMs - this.#world.nowMs, answer)
  }

  #sendAck(type: AckType, packetId: number): void {
    this.#send(encodeClientAck(this.kind.version, type, packetId, ReasonCode.Success))
  }

  #wrong(what: string): void {
    this.#history.add({ is: 'wrong', client: this.clientId, what })
  }

  /** What it still waits for, in words. */
  get waitsFor(): string[] {
    return [
      ...[...this.#outgoing.values()].map(({ message, stage }) => `${stage} of ${message}`),
      ...[...this.#requests.values()].map(({ kind, filter }) => `${kind} ${filter}`),
      ...[...this.#storeRequests.values()].map(request => `PUBACK of ${request}`),
      ...(this.store?.waitsFor ?? []),
      ...(this.#isOnline ? [] : ['a connection']),
    ]
  }
}

/** One Network Connection as the client sees it; calls of an older one are ignored. */
class Connection implements SocketListener {
  readonly client: SimClient
  readonly reader: PacketReader
  socket: SimSocket | null = null
  /** Of the server's DISCONNECT or CONNACK. */
  reason = 0

  constructor(client: SimClient, reader: PacketReader) {
    this.client = client
    this.reader = reader
  }

  onBytes(bytes: Buffer): void {
    this.client.onBytes(this, bytes)
  }

  onClosed(): void {
    this.client.onClosed(this)
  }
}
