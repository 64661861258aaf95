import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { REQUEST_TOPIC } from '#shared/state-store/topics.ts'
import { clockOf, payloadOf } from '../cast/store-asker.ts'
import { decodePacket, type Packet, type Publish } from '../conformance/decode.ts'
import * as packets from '../conformance/packets.ts'
import type { Address } from './store-client.contract.ts'

const NOTHING = Buffer.alloc(0)
/** Requests that are sent and not answered: the broker's Receive Maximum is 100. */
const INFLIGHT_MAX = 50

/**
 * One connection of very many: it keeps only counts. Values of the keys that it watches are 1, 2, 3 and so on, so that it knows which
 * notification comes next.
 */
export class WatchingClient {
  readonly clientId: string
  /** What came that should not have. */
  readonly faults: string[] = []
  /** Notifications. */
  told = 0
  isClosed = false
  readonly #socket: Socket
  readonly #answerTopic: string
  readonly #onTold: () => void
  readonly #answers = new Map<string, (text: string) => void>()
  readonly #acknowledged = new Map<number, () => void>()
  /** By topic of notifications: the last value. */
  readonly #values = new Map<string, number>()
  #onPacket: ((packet: Packet) => void) | null = null
  #pending: Buffer = NOTHING
  #requests = 0

  private constructor(socket: Socket, clientId: string, onTold: () => void) {
    this.clientId = clientId
    this.#socket = socket
    this.#answerTopic = `answers/${clientId}`
    this.#onTold = onTold
    socket.on('data', (bytes: Buffer) => this.#onBytes(bytes))
    socket.on('error', () => undefined)
    socket.on('close', () => (this.isClosed = true))
  }

  /** Connected, and subscribed to its answers. @param onTold after each notification */
  static async open({ host, port }: Address, clientId: string, onTold: () => void = () => undefined): Promise<WatchingClient> {
    const socket = connect({ host, port, noDelay: true })
    await once(socket, 'connect')
    const client = new WatchingClient(socket, clientId, onTold)
    socket.write(packets.connect({ clientId }))
    await client.#next('connack')
    socket.write(packets.subscribe(1, [{ filter: client.#answerTopic, qos: 1 }]))
    await client.#next('suback')
    return client
  }

  /** The text of the answer, when PUBACK has come as well. */
  async ask(...parts: readonly string[]): Promise<string> {
    // 1 is that of SUBSCRIBE; an identifier is free again long before its turn comes.
    const packetId = 2 + (this.#requests++ % 60_000)
    const correlation = String(packetId)
    const properties = {
      responseTopic: this.#answerTopic,
      correlationData: Buffer.from(correlation),
      userProperty: [['__ts', clockOf(Date.now(), this.clientId)] as [string, string]],
    }
    this.#socket.write(packets.publish({ topic: REQUEST_TOPIC, qos: 1, packetId, payload: payloadOf(...parts), properties }))
    const acknowledged = new Promise<void>(resolve => this.#acknowledged.set(packetId, resolve))
    const text = await new Promise<string>(resolve => this.#answers.set(correlation, resolve))
    await acknowledged
    return text
  }

  /** So many requests, one for each number, some of them at a time. Answers how many had another answer than `expected`. */
  async askAll(count: number, partsOf: (number: number) => readonly string[], expected: string): Promise<number> {
    let others = 0
    for (let from = 0; from < count; from += INFLIGHT_MAX) {
      const numbers = Array.from({ length: Math.min(INFLIGHT_MAX, count - from) }, (_, at) => from + at)
      const answers = await Promise.all(numbers.map(number => this.ask(...partsOf(number))))
      others += answers.filter(answer => answer !== expected).length
    }
    return others
  }

  /** Its connection ends without DISCONNECT. */
  drop(): void {
    this.#socket.destroy()
  }

  async #next(type: Packet['type']): Promise<void> {
    const packet = await new Promise<Packet>(resolve => (this.#onPacket = resolve))
    this.#onPacket = null
    const isRefused = (packet.type === 'connack' && packet.reason !== 0) || (packet.type === 'suback' && packet.reasons[0] !== 1)
    if (packet.type !== type || isRefused) throw new Error(`${this.clientId}: ${JSON.stringify(packet)} instead of ${type}`)
  }

  #onBytes(bytes: Buffer): void {
    this.#pending = this.#pending.length === 0 ? bytes : Buffer.concat([this.#pending, bytes])
    const acknowledgements: Buffer[] = []
    for (let packet = decodePacket(this.#pending, 5); packet !== null; packet = decodePacket(this.#pending, 5)) {
      this.#pending = this.#pending.subarray(packet.bytes)
      this.#take(packet, acknowledgements)
    }
    if (acknowledgements.length > 0) this.#socket.write(Buffer.concat(acknowledgements))
  }

  #take(packet: Packet, acknowledgements: Buffer[]): void {
    if (packet.type === 'puback') {
      if (packet.reason !== 0) this.faults.push(`PUBACK 0x${packet.reason.toString(16)}`)
      this.#acknowledged.get(packet.packetId)?.()
      this.#acknowledged.delete(packet.packetId)
      return
    }
    if (packet.type !== 'publish') {
      if (this.#onPacket === null) this.faults.push(JSON.stringify(packet))
      return this.#onPacket?.(packet)
    }
    acknowledgements.push(packets.ack('puback', packet.packetId))
    if (packet.topic === this.#answerTopic) this.#onAnswer(packet)
    else this.#onNotification(packet)
  }

  #onAnswer({ payload, properties }: Publish): void {
    const correlation = properties.correlationData?.toString() ?? ''
    const resolve = this.#answers.get(correlation)
    if (resolve === undefined) this.faults.push('an answer that nobody waits for')
    this.#answers.delete(correlation)
    resolve?.(payload.toString('latin1'))
  }

  #onNotification({ topic, payload, dup }: Publish): void {
    const value = Number(/\r\n(\d+)\r\n$/.exec(payload.toString('latin1'))?.[1])
    const next = (this.#values.get(topic) ?? 0) + 1
    if (value !== next || dup) this.faults.push(`${topic}: ${value}${dup ? ' again' : ''} instead of ${next}`)
    this.#values.set(topic, value)
    this.told++
    this.#onTold()
  }
}
