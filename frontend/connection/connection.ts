import { thrownField } from '#shared/base/thrown.ts'
import type { TimerHandle } from '#shared/base/timer-wheel.ts'
import type { Message } from '#shared/mqtt/message.ts'
import { PacketType } from '#shared/mqtt/packet-type.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import type { ProtocolVersion } from '#shared/mqtt/protocol-version.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { PublishDecoder } from '#shared/mqtt/publish-decoder.ts'
import type { Topic } from '#shared/mqtt/topic.ts'
import type { Auth } from '#shared/mqtt/auth-codec.ts'
import type { Permit } from '#shared/authorization/permit.ts'
import type { ConnectionId, SessionHandle, SessionRights } from '#shared/rpc/backend-port.ts'
import type { CategoryCounts } from '../categories.ts'
import type { ClientPort } from '../client-port.ts'
import type { Frontend } from '../frontend.ts'
import type { Kept } from '../delivery/kept.ts'
import type { Duty } from '../live-change/duty.ts'
import type { Transport, TransportHandler } from '../listener/transport.ts'
import { answer } from './answering.ts'
import { close, disconnect } from './closing.ts'
import type { ConnectionGrant } from './grant.ts'
import { Input, type FrameTaker } from './input.ts'
import { Output } from './output.ts'
import type { Reauthentication } from './reauthentication.ts'
import { AnswerKind, PENDING_ANSWERS_MAX, PendingAnswers, type AnswerSender } from './pending-answers.ts'

/** Of one client's input this much is handled in a turn, and the packet that goes beyond it. */
const TURN_INPUT_BYTES = 256 * 1024

/**
 *   awaitingConnect ─CONNECT→ connecting ─accepted→ open ─DISCONNECT, error, take-over→ closing ─socket closed→ closed
 *                              │  ↑   └─refused→ closing
 *                    challenge ↓  │ AUTH
 *                          authenticating ─other packet, too late→ closing
 *
 *   open ─its rights are out of date→ held ─new rights→ open, ─no rights→ closing: nothing is read from or sent to one that is held.
 */
export type ConnectionPhase = 'awaitingConnect' | 'connecting' | 'authenticating' | 'open' | 'held' | 'closing' | 'closed'

/**
 * One whole Control Packet of a client, `bytes[start, end)`, to its handler. False: read no more for now; whoever made it so resumes.
 * @throws {ProtocolError} what the packet breaks; the connection then ends with that reason
 */
export type OnPacket = (connection: Connection, bytes: Buffer, start: number, end: number) => boolean

/** How a message of the client goes on: to subscribers, or to the state store. */
export type PassOn = (connection: Connection, ticket: number, message: Message) => void

function publishToBackend({ frontend, session, id }: Connection, ticket: number, message: Message): void {
  frontend.backend.publish(session, id, ticket, message)
}

/** The life of one Network Connection: what it agreed on in CONNECT, what it waits for, its input and output. */
export class Connection implements TransportHandler, FrameTaker, AnswerSender {
  readonly frontend: Frontend
  readonly id: ConnectionId
  readonly transport: Transport
  readonly port: ClientPort
  readonly output: Output
  readonly #onPacket: OnPacket
  readonly #input = new Input()
  readonly answers = new PendingAnswers()

  phase: ConnectionPhase = 'awaitingConnect'
  version: ProtocolVersion = 5
  clientId = ''
  session: SessionHandle = -1
  /** Authentication Method of CONNECT (§3.1.2.11.9). */
  authenticationMethod: string | null = null
  /** Takes the client's answer to a challenge while `authenticating`. */
  onAnswer: ((auth: Auth) => void) | null = null
  /** Made with the first AUTH of an open connection. */
  reauthentication: Reauthentication | null = null
  category: CategoryCounts
  /** Who it is, by whose word; null on a port without authentication. */
  grant: ConnectionGrant | null = null
  /** Null: everything is allowed. */
  permit: Permit | null = null
  /** What is to happen to it because its rules have changed. */
  duty: Duty | null = null
  /** QoS 1 and 2 messages that were on their way when it was held. */
  kept: Kept[] | null = null
  /** Made with the first PUBLISH. */
  decoder: PublishDecoder | null = null
  /** The topic that `permit` allowed last: publishers repeat themselves. */
  permittedTopic: Topic | null = null
  /** Where the state store was to answer last, which is a topic that it may answer to. */
  responseTopic: Topic | null = null
  /** The Response Topic that `permit` allowed last. */
  permittedResponseTopic: Topic | null = null
  /** It has asked to be told of changes in the state store. */
  mayWatch = false

  /** Maximum Packet Size of the client in bytes (§3.1.2.11.4). */
  packetBytesMaxOut = Infinity
  /** Topic Aliases towards the client: how many it takes, and those that it knows (§3.3.2.3.4). */
  topicAliasesMax = 0
  aliases: Map<string, number> | null = null
  /** Reason Strings may be sent on any packet (§3.1.2.11.7). */
  wantsProblemInformation = true
  sessionExpirySeconds = 0
  /** QoS 1 and 2 publishes of the client that we have not finished acknowledging (§4.9). */
  unfinishedPublishes = 0

  /** In milliseconds; 0: none. */
  keepAliveMs = 0
  lastInputMs = 0
  timer: TimerHandle | null = null

  /** SUBSCRIBE and UNSUBSCRIBE without an answer; counted where publishes wait for them. */
  #unansweredSubscribes = 0
  /** The socket was closed while CONNECT was being decided. */
  #earlyEnd: { readonly error: string | null } | null = null
  /** Who waits for the answer to `restrict`, by ticket. */
  #restricted: Map<number, () => void> | null = null
  #held: { readonly ticket: number; readonly message: Message; readonly pass: PassOn } | null = null

  #gatheredBytes = 0
  #inputTurn = 0
  #inputBytes = 0
  /** Has had its share of this turn, and goes on in the next. */
  isYielding = false
  /** Of `isUnheard`. */
  #takenBytes = -1
  /** In the frontend's list for the end of this turn. */
  isDirty = false
  /** The backend was told that the socket does not take more. */
  isBehind = false
  /** Of CONNECT, and of each AUTH before CONNACK: what they hold is kept while it is being decided, longer than the input that they came in. */
  undecidedBytes = 0
  /** Bytes of ours counted in the frontend's limit for those who are not authenticated. */
  countedBytes = 0

  constructor(frontend: Frontend, id: ConnectionId, transport: Transport, port: ClientPort, onPacket: OnPacket) {
    this.frontend = frontend
    this.id = id
    this.transport = transport
    this.port = port
    this.#onPacket = onPacket
    this.category = frontend.counters.categories.uncategorized
    this.output = new Output(transport, frontend.buffers, frontend.counters)
  }

  /** CONNECT was accepted: the backend knows it. */
  get isAttached(): boolean {
    return this.phase === 'open' || this.phase === 'held'
  }

  get #isAccepted(): boolean {
    return this.phase !== 'awaitingConnect' && this.phase !== 'connecting' && this.phase !== 'authenticating'
  }

  onBytes(bytes: Buffer): void {
    if (this.phase === 'closing' || this.phase === 'closed') return
    this.frontend.counters.bytesReceived += bytes.length
    this.lastInputMs = this.frontend.deadlines.nowMs
    try {
      if (this.phase === 'awaitingConnect' && this.#input.heldBytes === 0 && bytes.length > 0) checkFirstByte(bytes)
      this.#input.feed(bytes, this.#packetBytesMax, this)
      if (!this.#isAccepted) this.frontend.admitUnauthenticated(this, this.#input.heldBytes + this.undecidedBytes)
    } catch (error) {
      this.#onError(error)
    }
  }

  onDrain(): void {
    this.output.onDrain()
    if (!this.isBehind) return
    this.isBehind = false
    if (this.phase !== 'open') return
    this.frontend.backend.writable(this.session, this.id, true)
    this.resumeInput()
  }

  /** What came before the end is done first, as it was sent: while CONNECT is being decided, the end waits with it. */
  onClose(error: string | null): void {
    if (this.phase === 'connecting' && this.#input.heldBytes > 0) this.#earlyEnd = { error }
    else this.frontend.onClosed(this, error)
  }

  /** CONNECT is decided, and what came behind it was handled. */
  onDecided(): void {
    if (this.#earlyEnd !== null) this.frontend.onClosed(this, this.#earlyEnd.error)
    this.#earlyEnd = null
  }

  /** Goes on reading after OnPacket asked to wait, once nothing is left to wait for. */
  resumeInput(): void {
    if ((this.phase !== 'open' && this.phase !== 'authenticating') || !this.#input.isBlocked || this.#mustWait) return
    // Whatever it sent meanwhile was not read: its silence begins now.
    this.lastInputMs = this.frontend.deadlines.nowMs
    try {
      this.#input.resume(this.#packetBytesMax, this)
    } catch (error) {
      return this.#onError(error)
    }
    if (!this.#input.isBlocked) this.transport.resume()
  }

  /** Takes no more packets until `resumeInput`; what arrives nevertheless waits. */
  pauseInput(): void {
    this.#input.block()
    this.transport.pause()
  }

  /** There may be several reasons at a time: that one is gone must not let in what another one holds back. */
  get #mustWait(): boolean {
    return (
      this.isBehind ||
      this.isHolding ||
      this.isYielding ||
      this.answers.length > PENDING_ANSWERS_MAX / 2 ||
      this.frontend.isPausedByPressure(this)
    )
  }

  /**
   * We do not read what it sends, so its silence says nothing about it (§3.1.2.10). Of one that must take bytes first it is asked that
   * it took some since the last call.
   */
  isUnheard(): boolean {
    if (!this.#input.isBlocked) return false
    if (!this.isBehind) return true
    const before = this.#takenBytes
    this.#takenBytes = this.output.takenBytes
    return this.#takenBytes !== before
  }

  /** Takes a ticket for the answer to a request; see PendingAnswers. */
  expectAnswer(kind: AnswerKind, packetId: number): number {
    if (kind === AnswerKind.Suback || kind === AnswerKind.Unsuback) this.#unansweredSubscribes++
    return this.answers.add(kind, packetId)
  }

  /** A publish of the client goes to the backend: in its turn, where a SUBSCRIBE before it is not answered yet. */
  publish(ticket: number, message: Message, pass: PassOn = publishToBackend): void {
    if (this.#unansweredSubscribes > 0 && this.frontend.holdsPublishesForSubscribe) this.#held = { ticket, message: message.keep(), pass }
    else pass(this, ticket, message)
  }

  /**
   * The session is to go by `rights`: who may take what from it, and what becomes of its Will.
   * @param onDone once that is stored, unless the connection has ended
   */
  restrict(rights: SessionRights, onDone: () => void): void {
    const ticket = this.answers.add(AnswerKind.Restricted, 0)
    ;(this.#restricted ??= new Map()).set(ticket, onDone)
    this.frontend.backend.restrict(this.session, this.id, ticket, rights)
  }

  /** Its session does not go by its newest rights yet. */
  get isRestricting(): boolean {
    return this.#restricted !== null && this.#restricted.size > 0
  }

  /** Nothing more is read until the answer that a publish waits for has come. */
  get isHolding(): boolean {
    return this.#held !== null
  }

  /** The backend answered. */
  settle(ticket: number, reason: ReasonCode, reasons: readonly ReasonCode[] | null, text: string | null = null): void {
    if (!this.isAttached) return
    this.answers.settle(ticket, reason, reasons, this, text)
    if (this.#restricted !== null) this.#settleRestricted(ticket)
    if (this.phase === 'open') this.publishHeld()
    if (this.#input.isBlocked) this.resumeInput()
  }

  /** Not in the order of the other answers: nothing is sent for it, and a publish may wait for what comes of it. */
  #settleRestricted(ticket: number): void {
    const onDone = this.#restricted?.get(ticket)
    if (onDone === undefined) return
    this.#restricted!.delete(ticket)
    onDone()
  }

  /** The publish that waits for the answer to a SUBSCRIBE before it, if that has come. */
  publishHeld(): void {
    if (this.#held === null || this.#unansweredSubscribes > 0) return
    const { ticket, message, pass } = this.#held
    this.#held = null
    pass(this, ticket, message)
  }

  /** That publish; null when there is none. */
  get heldPublish(): Message | null {
    return this.#held?.message ?? null
  }

  /** It is not published: its answer, where it has one, is `reason`. */
  refuseHeld(reason: ReasonCode): void {
    if (this.#held === null) return
    const { ticket, message } = this.#held
    this.#held = null
    if (message.qos > 0) this.settle(ticket, reason, null)
  }

  /** A packet that is larger than the client takes cannot be left out either: without its answer the client would wait for ever. */
  send(packet: Uint8Array): void {
    if (packet.length > this.packetBytesMaxOut) return close(this, { discardWill: false, sessionExpirySeconds: null })
    this.output.append(packet)
    this.gathered(packet.length)
  }

  markDirty(): void {
    if (this.isDirty) return
    this.isDirty = true
    this.frontend.addDirty(this)
  }

  /** Bytes were gathered for the client: one that does not read is noticed within the turn, not after it. */
  gathered(bytes: number): void {
    this.#gatheredBytes += bytes
    if (this.#gatheredBytes >= BEHIND_BYTES) this.#writeOut()
    else this.markDirty()
  }

  /** End of a turn: one write for all that was gathered. */
  flush(): void {
    this.isDirty = false
    this.#writeOut()
  }

  #writeOut(): void {
    this.#gatheredBytes = 0
    // What is gathered while it is held are acknowledgements of what it sent before: a limited number.
    if (this.phase === 'held') return
    this.output.endTurn()
    if (this.isBehind || this.phase !== 'open' || this.output.waitingBytes < BEHIND_BYTES) return
    this.isBehind = true
    this.frontend.backend.writable(this.session, this.id, false)
  }

  get #packetBytesMax(): number {
    const { settings } = this.frontend
    return this.#isAccepted ? settings.packetBytesMax : Math.min(settings.packetBytesMax, settings.unauthenticatedBytesPerConnection)
  }

  onFrame(bytes: Buffer, start: number, end: number): boolean {
    let goesOn = this.#onPacket(this, bytes, start, end)
    if (this.phase === 'open' && this.#hasHadItsTurn(end - start)) {
      this.isYielding = true
      this.frontend.resumeNextTurn(this)
      goesOn = false
    }
    if (!goesOn) this.transport.pause()
    return goesOn
  }

  /** What one client sends at once must not hold up the others: a WebSocket message may be as large as the largest packet. */
  #hasHadItsTurn(bytes: number): boolean {
    if (this.#inputTurn !== this.frontend.turnNumber) {
      this.#inputTurn = this.frontend.turnNumber
      this.#inputBytes = 0
    }
    this.#inputBytes += bytes
    return this.#inputBytes > TURN_INPUT_BYTES
  }

  sendAnswer(kind: AnswerKind, packetId: number, reason: ReasonCode, reasons: readonly ReasonCode[] | null, text: string | null): void {
    answer(this, kind, packetId, reason, reasons, text)
  }

  /** The client's send quota grows by one [MQTT-4.9.0-2]; never above what it began with, whatever a former connection left over. */
  finishedPublish(): void {
    if (this.unfinishedPublishes > 0) this.unfinishedPublishes--
  }

  /** A SUBSCRIBE or UNSUBSCRIBE of the client has its answer. */
  answeredSubscribe(): void {
    this.#unansweredSubscribes--
  }

  #onError(error: unknown): void {
    if (error instanceof ProtocolError) {
      this.frontend.counters.protocolErrors++
      this.frontend.log.warn('protocol_error', {
        listener: this.port.name,
        remote: this.transport.remoteAddress,
        client: this.clientId,
        reason: error.message,
      })
      return disconnect(this, error.reason, error.message)
    }
    this.frontend.log.error('connection_failed', { client: this.clientId, error: thrownField(error) })
    disconnect(this, ReasonCode.ImplementationSpecificError, 'internal error')
  }
}

/** What cannot become a CONNECT is refused at once [MQTT-3.1.0-1]: other protocols may never send what looks like a whole packet. */
function checkFirstByte(bytes: Buffer): void {
  if (bytes[0]! >> 4 !== PacketType.CONNECT)
    throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-3.1.0-1', 'the first packet is not CONNECT')
}

/**
 * A socket that holds back this much is behind: QoS 1 and 2 wait in the session until it drains, and the client's own requests wait
 * unread, so that their answers do not pile up.
 */
const BEHIND_BYTES = 64 * 1024
