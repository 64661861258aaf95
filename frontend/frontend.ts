import type { Clock } from '#shared/base/clock.ts'
import type { Random } from '#shared/base/random.ts'
import type { Turn } from '#shared/base/turn.ts'
import { PermitCache } from '#shared/authorization/permit-cache.ts'
import { Message } from '#shared/mqtt/message.ts'
import { PacketType } from '#shared/mqtt/packet-type.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { TopicCache } from '#shared/mqtt/topic.ts'
import type { AuthenticationPort } from '#shared/rpc/authentication.ts'
import type { BackendPort, ConnectionId } from '#shared/rpc/backend-port.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import type { PortRules } from '#shared/rpc/port-rules.ts'
import type { Recipients } from '#shared/rpc/recipients.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { ClientPort } from './client-port.ts'
import type { FrontendSettings } from './config.ts'
import { sendAck } from './connection/answering.ts'
import { disconnect, onSocketClosed } from './connection/closing.ts'
import { Connection } from './connection/connection.ts'
import { ConnectionTable } from './connection/connection-table.ts'
import { Deadlines } from './connection/deadlines.ts'
import { OutputBuffers } from './connection/output.ts'
import { Unauthenticated } from './connection/unauthenticated.ts'
import { NO_AUDIT, type RefusalAudit } from './audit.ts'
import { FrontendCounters } from './counters.ts'
import { deliver, SharedFrames } from './delivery/deliver.ts'
import { featuresOf, type Features } from './features.ts'
import { dispatch } from './handlers/dispatch.ts'
import { LiveChange } from './live-change/live-change.ts'
import type { Transport, TransportHandler } from './listener/transport.ts'

export interface FrontendParts {
  readonly settings: FrontendSettings
  readonly backend: BackendPort
  readonly authentication: AuthenticationPort
  readonly clock: Clock
  readonly random: Random
  readonly turn: Turn
  readonly topics: TopicCache
  /** Rate-limited: clients can cause these lines. */
  readonly log: Log
  /** Where it is told who was refused what; nowhere when there is none. */
  readonly audit?: RefusalAudit
  /**
   * The backend learns of Subscriptions by another way than of publishes: what a client publishes behind a SUBSCRIBE waits for its answer,
   * so that its packets take effect in order.
   */
  readonly holdsPublishesForSubscribe?: boolean
}

/** The connections of one frontend process and what they share. */
export class Frontend implements FrontendPort {
  readonly settings: FrontendSettings
  readonly features: Features
  readonly backend: BackendPort
  readonly authentication: AuthenticationPort
  readonly random: Random
  readonly topics: TopicCache
  readonly log: Log
  readonly audit: RefusalAudit
  readonly counters = new FrontendCounters()
  readonly buffers = new OutputBuffers()
  readonly sharedFrames = new SharedFrames()
  /** Decoded into again and again: a message is valid only while its handler runs. */
  readonly message = new Message()
  readonly permits = new PermitCache()
  readonly connections = new ConnectionTable()
  readonly deadlines: Deadlines
  readonly unauthenticated: Unauthenticated
  readonly liveChange: LiveChange
  readonly holdsPublishesForSubscribe: boolean
  readonly #turn: Turn
  #dirty: Connection[] = []
  #yielding: Connection[] = []
  /** Grows with each turn in which there was something to do. */
  turnNumber = 0
  #discarded: { readonly connection: Connection; readonly packetId: number; readonly qos: number }[] = []
  /** The backend is short of memory. */
  isUnderPressure = false
  readonly #pausedByPressure = new Set<Connection>()

  constructor(parts: FrontendParts) {
    this.settings = parts.settings
    this.features = featuresOf(parts.settings)
    this.backend = parts.backend
    this.authentication = parts.authentication
    this.random = parts.random
    this.topics = parts.topics
    this.log = parts.log
    this.audit = parts.audit ?? NO_AUDIT
    this.holdsPublishesForSubscribe = parts.holdsPublishesForSubscribe ?? false
    this.#turn = parts.turn
    this.deadlines = new Deadlines(parts.clock, parts.turn)
    this.unauthenticated = new Unauthenticated(parts.settings)
    this.liveChange = new LiveChange(this, () => parts.turn.request())
    parts.authentication.listen(name => this.liveChange.onChangedBehind(name))
  }

  /** What it counts, by the `$SYS` topic that shows it (docs/mqtt.md): figures that add up over a cluster. */
  get figures(): Map<string, number> {
    const { connectionsTotal, bytesReceived, bytesSent } = this.counters
    return new Map([
      ['connections/total', connectionsTotal],
      ['bytes/received', bytesReceived],
      ['bytes/sent', bytesSent],
    ])
  }

  /** A new Network Connection; null when a limit refuses it. It has `connectDeadlineMs` to become a client. */
  onTransport(transport: Transport, port: ClientPort): TransportHandler | null {
    const { settings, counters } = this
    if (counters.connectionsOpen >= settings.connectionsMax || !this.unauthenticated.hasRoomFor(transport)) {
      counters.connectionsRefused++
      this.refused(port.name, transport.remoteAddress, 'too many connections')
      return null
    }
    const connection = this.connections.add(id => new Connection(this, id, transport, port, dispatch))
    counters.connectionsOpen++
    counters.connectionsTotal++
    this.unauthenticated.add(connection)
    this.deadlines.expectConnect(connection, settings.connectDeadlineMs)
    return connection
  }

  /** `port` has other rules from now on: its clients are held to them as docs/authorization.md says. Before the first rules nobody is connected. */
  changeRules(port: ClientPort, rules: PortRules): void {
    this.liveChange.changeRules(port, rules)
  }

  /** `port` takes no more connections: those that it has are disconnected within `disconnectWithinMs` of its rules. */
  portClosed(port: ClientPort): void {
    this.liveChange.portClosed(port)
  }

  /** One line for a connection that did not get as far as CONNACK. */
  refused(listener: string, remote: string, reason: string): void {
    this.log.warn('connection_refused', { listener, remote, reason })
  }

  deliver(message: Message, recipients: Recipients): void {
    deliver(this, message, recipients)
  }

  acknowledged(id: ConnectionId, ticket: number, reason: ReasonCode): void {
    const connection = this.connections.get(id)
    if (connection === null) return
    if (reason === ReasonCode.QuotaExceeded && connection.version !== 5) {
      // Older clients have no code for a refusal, and PUBACK would end the message for them: cut off, they send it again.
      return disconnect(connection, reason, null)
    }
    connection.settle(ticket, reason, null)
  }

  subscribed(id: ConnectionId, ticket: number, reasons: readonly ReasonCode[]): void {
    this.connections.get(id)?.settle(ticket, ReasonCode.Success, reasons)
  }

  released(id: ConnectionId, packetId: number, reason: ReasonCode): void {
    const connection = this.connections.get(id)
    if (connection !== null && connection.isAttached) sendAck(connection, PacketType.PUBREL, packetId, reason)
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
    const connection = this.connections.get(id)
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
    this.deadlines.catchUp()
    this.liveChange.catchUp()
  }

  /** It has had its share of this turn's work: it goes on when the others have had theirs. */
  resumeNextTurn(connection: Connection): void {
    this.#yielding.push(connection)
    this.#turn.request()
  }

  /** What it makes us hold before its CONNECT is accepted is bounded; beyond, it is closed. */
  admitUnauthenticated(connection: Connection, heldBytes: number): void {
    if (this.unauthenticated.hold(connection, heldBytes)) return
    this.refused(connection.port.name, connection.transport.remoteAddress, 'too much before CONNACK')
    disconnect(connection, ReasonCode.PacketTooLarge, null)
  }

  onClosed(connection: Connection, error: string | null): void {
    if (connection.phase === 'closed') return
    onSocketClosed(connection)
    this.#pausedByPressure.delete(connection)
    this.counters.connectionsOpen--
    this.connections.remove(connection)
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
}
