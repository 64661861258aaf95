import type { Clock } from '#shared/base/clock.ts'
import type { Random } from '#shared/base/random.ts'
import { TimerWheel, type TimerHandle } from '#shared/base/timer-wheel.ts'
import type { Turn } from '#shared/base/turn.ts'
import { Message } from '#shared/mqtt/message.ts'
import { PacketType } from '#shared/mqtt/packet-type.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { TopicCache } from '#shared/mqtt/topic.ts'
import type { Authenticator } from '#shared/rpc/authentication.ts'
import type { BackendPort, ConnectionId } from '#shared/rpc/backend-port.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import type { Recipients } from '#shared/rpc/recipients.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { FrontendSettings } from './config.ts'
import { disconnect, onSocketClosed } from './connection/closing.ts'
import { Connection } from './connection/connection.ts'
import { OutputBuffers } from './connection/output.ts'
import { FrontendCounters } from './counters.ts'
import { deliver, SharedFrames } from './delivery/deliver.ts'
import { featuresOf, type Features } from './features.ts'
import { dispatch } from './handlers/dispatch.ts'
import type { Transport, TransportHandler } from './listener/transport.ts'

const WHEEL_TICK_MS = 100
/** A ConnectionId is the slot in the table and, above it, how often that slot was used: never the same twice. */
const SLOTS = 2 ** 24
/** [MQTT-3.1.2-22]: one and a half times the Keep Alive. */
const KEEP_ALIVE_FACTOR = 1.5

export interface FrontendParts {
  readonly settings: FrontendSettings
  readonly backend: BackendPort
  readonly authenticator: Authenticator
  readonly clock: Clock
  readonly random: Random
  readonly turn: Turn
  readonly topics: TopicCache
  /** Rate-limited: clients can cause these lines. */
  readonly log: Log
}

/** The connections of one frontend process and what they share. */
export class Frontend implements FrontendPort {
  readonly settings: FrontendSettings
  readonly features: Features
  readonly backend: BackendPort
  readonly authenticator: Authenticator
  readonly random: Random
  readonly topics: TopicCache
  readonly log: Log
  readonly counters = new FrontendCounters()
  readonly buffers = new OutputBuffers()
  readonly sharedFrames = new SharedFrames()
  /** Decoded into again and again: a message is valid only while its handler runs. */
  readonly message = new Message()
  /** Monotonic time, as of the last tick: exact enough for Keep Alive. */
  nowMs: number
  readonly #clock: Clock
  readonly #turn: Turn
  readonly #wheel: TimerWheel<() => void>
  readonly #slots: (Connection | null)[] = []
  readonly #generations: number[] = []
  readonly #freeSlots: number[] = []
  #dirty: Connection[] = []
  #yielding: Connection[] = []
  /** Grows with each turn in which there was something to do. */
  turnNumber = 0
  #discarded: { readonly connection: Connection; readonly packetId: number; readonly qos: number }[] = []
  #unauthenticated = 0
  #unauthenticatedBytes = 0
  /** The backend is short of memory. */
  isUnderPressure = false
  readonly #pausedByPressure = new Set<Connection>()
  readonly #unauthenticatedByAddress = new Map<string, number>()

  constructor(parts: FrontendParts) {
    this.settings = parts.settings
    this.features = featuresOf(parts.settings)
    this.backend = parts.backend
    this.authenticator = parts.authenticator
    this.random = parts.random
    this.topics = parts.topics
    this.log = parts.log
    this.#clock = parts.clock
    this.#turn = parts.turn
    this.nowMs = parts.clock.monotonicMs()
    this.#wheel = new TimerWheel(WHEEL_TICK_MS, this.nowMs)
  }

  /** A new Network Connection; null when a limit refuses it. It has `connectDeadlineMs` to become a client. */
  onTransport(transport: Transport, listener: string): TransportHandler | null {
    const { settings, counters } = this
    const fromAddress = this.#unauthenticatedByAddress.get(transport.remoteAddress) ?? 0
    if (
      counters.connectionsOpen >= settings.connectionsMax ||
      this.#unauthenticated >= settings.unauthenticatedConnectionsMax ||
      fromAddress >= settings.unauthenticatedPerAddressMax
    ) {
      counters.connectionsRefused++
      this.log.warn('connection_refused', { listener, remote: transport.remoteAddress, reason: 'too many connections' })
      return null
    }
    const slot = this.#freeSlots.pop() ?? this.#slots.length
    const generation = (this.#generations[slot] ?? 0) + 1
    this.#generations[slot] = generation
    const connection = new Connection(this, slot + generation * SLOTS, transport, listener, dispatch)
    this.#slots[slot] = connection
    counters.connectionsOpen++
    counters.connectionsTotal++
    this.#unauthenticated++
    this.#unauthenticatedByAddress.set(transport.remoteAddress, fromAddress + 1)
    connection.timer = this.#wheel.schedule(() => this.#onConnectDeadline(connection), transport.acceptedMs + settings.connectDeadlineMs)
    return connection
  }

  connection(id: ConnectionId): Connection | null {
    // Exact for whole numbers up to 2^53, and three times as fast as the remainder of numbers beyond 32 bits.
    const connection = this.#slots[(id >>> 0) & (SLOTS - 1)]
    return connection && connection.id === id ? connection : null
  }

  /** All connections there are now. */
  *connections(): Iterable<Connection> {
    for (const connection of this.#slots) if (connection) yield connection
  }

  deliver(message: Message, recipients: Recipients): void {
    deliver(this, message, recipients)
  }

  acknowledged(id: ConnectionId, ticket: number, reason: ReasonCode): void {
    const connection = this.connection(id)
    if (connection === null) return
    if (reason === ReasonCode.QuotaExceeded && connection.version !== 5) {
      // Older clients have no code for a refusal, and PUBACK would end the message for them: cut off, they send it again.
      return disconnect(connection, reason, null)
    }
    connection.settle(ticket, reason, null)
  }

  subscribed(id: ConnectionId, ticket: number, reasons: readonly ReasonCode[]): void {
    this.connection(id)?.settle(ticket, ReasonCode.Success, reasons)
  }

  released(id: ConnectionId, packetId: number): void {
    const connection = this.connection(id)
    if (connection !== null && connection.phase === 'open') connection.sendAck(PacketType.PUBREL, packetId, ReasonCode.Success)
  }

  pressure(isFull: boolean): void {
    this.isUnderPressure = isFull
    if (isFull) return
    const paused = [...this.#pausedByPressure]
    this.#pausedByPressure.clear()
    for (const connection of paused) connection.resumeInput()
  }

  /** Reads no more from this publisher until `pressure` says that messages are taken again. */
  pauseForPressure(connection: Connection): void {
    this.#pausedByPressure.add(connection)
  }

  isPausedByPressure(connection: Connection): boolean {
    return this.#pausedByPressure.has(connection)
  }

  disconnect(id: ConnectionId, reason: ReasonCode, detail: string): void {
    const connection = this.connection(id)
    if (connection !== null) disconnect(connection, reason, detail)
  }

  /** The message cannot be sent to this client: after the delivery under way it counts as acknowledged. */
  discard(connection: Connection, packetId: number, qos: number): void {
    this.#discarded.push({ connection, packetId, qos })
    this.#turn.request()
  }

  addDirty(connection: Connection): void {
    this.#dirty.push(connection)
    this.#turn.request()
  }

  /** End of an event-loop turn: one write for each connection that something was gathered for. The last step of the Turn. */
  readonly endTurn = (): void => {
    if (this.#discarded.length > 0) this.#settleDiscarded()
    const dirty = this.#dirty
    this.#dirty = []
    for (const connection of dirty) connection.flush()
    this.turnNumber++
    if (this.#yielding.length > 0) this.#resumeYielding()
  }

  /** It has had its share of this turn's work: it goes on when the others have had theirs. */
  resumeNextTurn(connection: Connection): void {
    this.#yielding.push(connection)
    this.#turn.request()
  }

  /** A few times a second: deadlines and Keep Alive. */
  tick(): void {
    this.nowMs = this.#clock.monotonicMs()
    this.#wheel.advance(this.nowMs, run => run())
  }

  startKeepAlive(connection: Connection, seconds: number): void {
    connection.timer = this.cancel(connection.timer)
    connection.keepAliveMs = seconds * 1_000 * KEEP_ALIVE_FACTOR
    if (seconds > 0) this.#scheduleKeepAlive(connection)
  }

  cancel(timer: TimerHandle | null): null {
    if (timer !== null) this.#wheel.cancel(timer)
    return null
  }

  /** Counts what an unauthenticated connection makes us hold; over the limit of all of them it is closed. */
  admitUnauthenticated(connection: Connection, heldBytes: number): void {
    this.#unauthenticatedBytes += heldBytes - connection.countedBytes
    connection.countedBytes = heldBytes
    const { unauthenticatedBytesPerConnection, unauthenticatedBytesTotal } = this.settings
    if (heldBytes <= unauthenticatedBytesPerConnection && this.#unauthenticatedBytes <= unauthenticatedBytesTotal) return
    this.log.warn('connection_refused', {
      listener: connection.listener,
      remote: connection.transport.remoteAddress,
      reason: 'too much before CONNACK',
    })
    disconnect(connection, ReasonCode.PacketTooLarge, null)
  }

  /** The connection became a client or ends: it does not count as unauthenticated any more. */
  forgetUnauthenticated(connection: Connection): void {
    if (connection.countedBytes === NOT_COUNTED) return
    this.#unauthenticatedBytes -= connection.countedBytes
    connection.countedBytes = NOT_COUNTED
    this.#unauthenticated--
    const { remoteAddress } = connection.transport
    const left = (this.#unauthenticatedByAddress.get(remoteAddress) ?? 1) - 1
    if (left === 0) this.#unauthenticatedByAddress.delete(remoteAddress)
    else this.#unauthenticatedByAddress.set(remoteAddress, left)
  }

  onClosed(connection: Connection, error: string | null): void {
    if (connection.phase === 'closed') return
    onSocketClosed(connection)
    this.#pausedByPressure.delete(connection)
    this.counters.connectionsOpen--
    const slot = connection.id % SLOTS
    this.#slots[slot] = null
    this.#freeSlots.push(slot)
    if (error !== null) this.log.debug('connection_lost', { client: connection.clientId, error })
  }

  #resumeYielding(): void {
    const yielding = this.#yielding
    this.#yielding = []
    for (const connection of yielding) {
      connection.isYielding = false
      connection.resumeInput()
    }
  }

  #settleDiscarded(): void {
    const discarded = this.#discarded
    this.#discarded = []
    for (const { connection, packetId, qos } of discarded) {
      if (qos === 1) this.backend.puback(connection.session, connection.id, packetId)
      else this.backend.pubrec(connection.session, connection.id, packetId, ReasonCode.PacketTooLarge)
    }
  }

  #scheduleKeepAlive(connection: Connection): void {
    const dueMs = connection.lastInputMs + connection.keepAliveMs
    connection.timer = this.#wheel.schedule(() => this.#onKeepAlive(connection), dueMs)
  }

  #onKeepAlive(connection: Connection): void {
    connection.timer = null
    if (connection.phase !== 'open') return
    if (connection.isUnheard()) connection.lastInputMs = this.nowMs
    if (connection.lastInputMs + connection.keepAliveMs > this.nowMs) return this.#scheduleKeepAlive(connection)
    this.counters.keepAliveTimeouts++
    this.log.info('keep_alive_timeout', { client: connection.clientId })
    disconnect(connection, ReasonCode.KeepAliveTimeout, null)
  }

  #onConnectDeadline(connection: Connection): void {
    connection.timer = null
    if (connection.phase === 'open') return
    this.log.warn('connection_refused', {
      listener: connection.listener,
      remote: connection.transport.remoteAddress,
      reason: 'no CONNECT in time',
    })
    disconnect(connection, ReasonCode.UnspecifiedError, null)
  }
}

/** In Connection.countedBytes: the connection is a client or gone. */
const NOT_COUNTED = -1
