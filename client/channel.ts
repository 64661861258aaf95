import { randomBytes } from 'node:crypto'
import { Socket } from 'node:net'
import type { IPublishPacket, MqttClient, Packet } from 'mqtt'
import {
  BrokerRefusedError,
  ClosedError,
  ConnectionLostError,
  RequestTimeoutError,
  type StateStoreError,
  TooManyRequestsError,
  UnexpectedAnswerError,
} from './errors.ts'
import { REQUEST_TOPIC } from './topics.ts'

export interface ChannelOptions {
  readonly responseTopic: string
  readonly inflightMax: number
  readonly queuedMax: number
}

export interface Request {
  readonly payload: Buffer
  readonly userProperties: () => Record<string, string>
  readonly timeoutMs: number
  readonly signal: AbortSignal | undefined
  /** It changes nothing, or doing it twice is the same as once: repeated when the connection is lost. */
  readonly isRepeatable: boolean
}

export interface Reply {
  readonly payload: Uint8Array
  /** `__ts` */
  readonly version: string | undefined
}

interface Pending extends Request {
  readonly correlation: Buffer
  readonly resolve: (reply: Reply) => void
  readonly reject: (error: unknown) => void
  readonly deadlineMs: number
  isSent: boolean
  end: () => void
}

/** A PUBLISH that carries a request and is not acknowledged. */
interface Sent {
  readonly correlation: string
  /** Null: mqtt.js has not written it yet. */
  packetId: number | null
}

const CORRELATION_BYTES = 16
const FAILURE = 0x80

/** Requests out, answers in, over one connection at a time: in order, each with its own correlation, a limited number at once. */
export class Channel {
  readonly #mqtt: MqttClient
  readonly #options: ChannelOptions
  readonly #inFlight = new Map<string, Pending>()
  #waiting: Pending[] = []
  /** By correlation: PUBLISHes without PUBACK. An answer may overtake it, and Receive Maximum counts what is not acknowledged. */
  readonly #unacknowledged = new Map<string, Sent>()
  /** Answers can come: the broker has granted the subscription on this connection. */
  #isOpen = false
  #closedBy: StateStoreError | null = null
  /** Counts connections: what was begun on an earlier one is no longer of interest. */
  #connection = 0
  /** Called on each connection, before anything that waits is sent. */
  onOpen: () => void = () => undefined
  /** It is over: the broker does not grant the subscription, the MQTT client was ended, or `close` was called. */
  onClosed: (error: StateStoreError) => void = () => undefined

  constructor(mqtt: MqttClient, options: ChannelOptions) {
    this.#mqtt = mqtt
    this.#options = options
    mqtt.on('connect', this.#onConnect)
    mqtt.on('close', this.#onClose)
    mqtt.on('message', this.#onMessage)
    mqtt.on('packetsend', this.#onPacketSend)
    mqtt.on('end', this.#onEnd)
    if (mqtt.connected) this.#onConnect()
  }

  /**
   * @throws {RequestTimeoutError} {ConnectionLostError} {BrokerRefusedError} {TooManyRequestsError} {ClosedError} {UnexpectedAnswerError} and
   * the reason of the signal
   */
  request(request: Request): Promise<Reply> {
    const refusal = this.#refusalOf(request)
    if (refusal !== null) return Promise.reject(refusal)
    return new Promise<Reply>((resolve, reject) => {
      const pending: Pending = {
        ...request,
        correlation: randomBytes(CORRELATION_BYTES),
        resolve,
        reject,
        deadlineMs: performance.now() + request.timeoutMs,
        isSent: false,
        end: () => undefined,
      }
      const timer = setTimeout(() => this.#fail(pending, this.#timeoutOf(pending)), request.timeoutMs)
      const onAbort = (): void => this.#fail(pending, request.signal?.reason)
      request.signal?.addEventListener('abort', onAbort, { once: true })
      pending.end = () => {
        clearTimeout(timer)
        request.signal?.removeEventListener('abort', onAbort)
      }
      this.#waiting.push(pending)
      this.#pump()
    })
  }

  /** Ends every request with that error, and lets go of the connection. */
  close(error: StateStoreError): void {
    if (this.#closedBy !== null) return
    this.#closedBy = error
    this.#isOpen = false
    this.#mqtt.off('connect', this.#onConnect)
    this.#mqtt.off('close', this.#onClose)
    this.#mqtt.off('message', this.#onMessage)
    this.#mqtt.off('packetsend', this.#onPacketSend)
    this.#mqtt.off('end', this.#onEnd)
    this.onClosed(error)
    for (const pending of this.#waiting) this.#fail(pending, error)
    for (const pending of this.#inFlight.values()) this.#fail(pending, new ClosedError(error.message, { isUncertain: true, cause: error }))
    // mqtt.js would wait for their PUBACKs before it ends.
    for (const correlation of this.#unacknowledged.keys()) this.#forget(correlation)
  }

  #refusalOf({ signal }: Request): unknown {
    if (this.#closedBy !== null) return this.#closedBy
    if (signal?.aborted === true) return signal.reason
    if (this.#waiting.length < this.#options.queuedMax) return null
    return new TooManyRequestsError(`${this.#waiting.length} requests wait for their turn already`)
  }

  #timeoutOf({ isSent, timeoutMs }: Pending): RequestTimeoutError {
    const what = isSent ? 'no answer' : 'not sent, as there is no connection or too much is in flight,'
    return new RequestTimeoutError(`${what} within ${timeoutMs} ms`, { isUncertain: isSent })
  }

  readonly #onConnect = (): void => {
    this.#isOpen = false
    const connection = ++this.#connection
    const { responseTopic } = this.#options
    // Requests are small and wait for each other: with Nagle's algorithm one costs 80 ms instead of less than one.
    if (this.#mqtt.stream instanceof Socket) this.#mqtt.stream.setNoDelay(true)
    // Without `resubscribe` mqtt.js says yes by itself to what it has asked for before.
    const asked = Object.assign({ [responseTopic]: { qos: 1 as const } }, { resubscribe: true })
    this.#mqtt.subscribe(asked, (error, _, suback) => {
      if (connection !== this.#connection || this.#closedBy !== null) return
      const code = suback?.granted.find(granted => typeof granted === 'number' && granted >= FAILURE)
      // Without a code the connection was lost, and the next one will tell.
      if (code === undefined && error) return
      if (typeof code === 'number') return this.close(new BrokerRefusedError(`the subscription to ${responseTopic}`, code))
      this.#isOpen = true
      const waiting = this.#waiting
      this.#waiting = []
      this.onOpen()
      this.#waiting.push(...waiting)
      this.#pump()
    })
  }

  /** mqtt.js would send again what is not acknowledged, and the store would do it again, over what others have done meanwhile. */
  readonly #onClose = (): void => {
    this.#isOpen = false
    this.#connection++
    const again: Pending[] = []
    // Those that have their answer already as well.
    for (const correlation of this.#unacknowledged.keys()) this.#forget(correlation)
    for (const pending of this.#inFlight.values()) {
      this.#inFlight.delete(keyOf(pending.correlation))
      if (pending.isRepeatable) again.push(pending)
      else this.#fail(pending, new ConnectionLostError('the connection was lost before the answer came', { isUncertain: true }))
    }
    this.#waiting.unshift(...again)
  }

  readonly #onEnd = (): void => this.close(new ClosedError('the MQTT client was ended'))

  #pump(): void {
    while (this.#isOpen && Math.max(this.#inFlight.size, this.#unacknowledged.size) < this.#options.inflightMax) {
      const pending = this.#waiting.shift()
      if (pending === undefined) return
      this.#send(pending)
    }
  }

  #send(pending: Pending): void {
    const { correlation, payload } = pending
    this.#inFlight.set(keyOf(correlation), pending)
    pending.isSent = true
    const properties = {
      responseTopic: this.#options.responseTopic,
      correlationData: correlation,
      // Dropped by the broker when nobody waits for its answer any more.
      messageExpiryInterval: Math.max(1, Math.ceil((pending.deadlineMs - performance.now()) / 1_000)),
      userProperties: pending.userProperties(),
    }
    const sent: Sent = { correlation: keyOf(correlation), packetId: null }
    this.#unacknowledged.set(sent.correlation, sent)
    this.#mqtt.publish(REQUEST_TOPIC, payload, { qos: 1, properties }, error => {
      // A request that is repeated on the next connection has the same correlation.
      if (this.#unacknowledged.get(sent.correlation) === sent) this.#unacknowledged.delete(sent.correlation)
      const code = codeOf(error)
      if (code === undefined) this.#pump()
      else this.#fail(pending, new BrokerRefusedError('the request', code))
    })
  }

  readonly #onPacketSend = (packet: Packet): void => {
    if (packet.cmd !== 'publish' || packet.topic !== REQUEST_TOPIC) return
    const correlation = packet.properties?.correlationData
    const sent = correlation === undefined ? undefined : this.#unacknowledged.get(keyOf(correlation))
    if (sent !== undefined) sent.packetId = packet.messageId ?? null
  }

  readonly #onMessage = (topic: string, payload: Buffer, packet: IPublishPacket): void => {
    const correlation = packet.properties?.correlationData
    if (topic !== this.#options.responseTopic || correlation === undefined) return
    const pending = this.#inFlight.get(keyOf(correlation))
    // Too late, or for another one who listens to this topic.
    if (pending === undefined) return
    const status = userPropertyOf(packet, '__stat')
    if (status !== '200') {
      const what = userPropertyOf(packet, '__stMsg') ?? ''
      return this.#fail(pending, new UnexpectedAnswerError(`an answer with status ${status ?? '(none)'} ${what}`.trimEnd()))
    }
    this.#settle(pending)
    pending.resolve({ payload, version: userPropertyOf(packet, '__ts') })
    this.#pump()
  }

  #fail(pending: Pending, error: unknown): void {
    this.#settle(pending)
    this.#forget(keyOf(pending.correlation))
    pending.reject(error)
    this.#pump()
  }

  #settle(pending: Pending): void {
    pending.end()
    if (!this.#inFlight.delete(keyOf(pending.correlation))) this.#waiting = this.#waiting.filter(each => each !== pending)
  }

  /** It shall not be sent once more by mqtt.js. */
  #forget(correlation: string): void {
    const packetId = this.#unacknowledged.get(correlation)?.packetId
    this.#unacknowledged.delete(correlation)
    if (typeof packetId === 'number') this.#mqtt.removeOutgoingMessage(packetId)
  }
}

function keyOf(correlation: Buffer): string {
  return correlation.toString('latin1')
}

/** The first value, as the store itself reads a repeated property. */
export function userPropertyOf({ properties }: IPublishPacket, name: string): string | undefined {
  const found = properties?.userProperties?.[name]
  return typeof found === 'string' ? found : found?.[0]
}

/** Reason Code of a PUBACK that is a failure. */
function codeOf(error: unknown): number | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'number' && code >= FAILURE ? code : undefined
}
