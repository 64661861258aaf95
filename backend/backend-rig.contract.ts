import { ManualClock } from '#shared/base/clock.ts'
import type { Turn } from '#shared/base/turn.ts'
import { Permit, permitBytes } from '#shared/authorization/permit.ts'
import { newMessage, type Message } from '#shared/mqtt/message.ts'
import { Property } from '#shared/mqtt/property.ts'
import { AWAITING_PUBACK, AWAITING_PUBCOMP, AWAITING_PUBREC } from './session/packet-identifiers.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { parseTopicFilter, TopicCache } from '#shared/mqtt/topic.ts'
import type {
  AttachReply,
  AttachRequest,
  ConnectionEnd,
  ConnectionId,
  SessionRights,
  SubscriptionRequest,
  WillRequest,
} from '#shared/rpc/backend-port.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import { RECIPIENT_DUP, RECIPIENT_QOS, RECIPIENT_RETAIN, type Recipients } from '#shared/rpc/recipients.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import { Backend } from './backend.ts'
import type { BackendSettings } from './config.ts'
import type { WillJudge } from './engine.ts'
import type { PersistencePolicy } from './shard/persistence.ts'
import type { ShardStore } from './store/shard-store.ts'
import { LateStore } from './store/late-store.contract.ts'

/** A PUBLISH as a frontend would send it. */
export interface Sent {
  readonly is: 'publish'
  readonly topic: string
  readonly payload: string
  readonly qos: number
  readonly retain: boolean
  readonly dup: boolean
  readonly packetId: number
  readonly identifiers: readonly number[] | null
  readonly expirySeconds: number
}

export type FrontendEvent =
  | Sent
  | { readonly is: 'acknowledged'; readonly ticket: number; readonly reason: ReasonCode }
  | { readonly is: 'subscribed'; readonly ticket: number; readonly reasons: readonly ReasonCode[] }
  | { readonly is: 'released'; readonly packetId: number; readonly reason: ReasonCode }
  | { readonly is: 'disconnect'; readonly reason: ReasonCode }

/** Remembers what it is told, by connection. */
export class RecordingFrontend implements FrontendPort {
  readonly events = new Map<ConnectionId, FrontendEvent[]>()
  readonly pressures: boolean[] = []

  of(connection: ConnectionId): FrontendEvent[] {
    let events = this.events.get(connection)
    if (events === undefined) this.events.set(connection, (events = []))
    return events
  }

  deliver(message: Message, recipients: Recipients): void {
    for (let i = 0; i < recipients.count; i++) {
      const flags = recipients.flags[i]!
      this.of(recipients.connections[i]!).push({
        is: 'publish',
        topic: message.topic.name,
        payload: message.payload.toString(),
        qos: flags & RECIPIENT_QOS,
        retain: (flags & RECIPIENT_RETAIN) !== 0,
        dup: (flags & RECIPIENT_DUP) !== 0,
        packetId: recipients.packetIds[i]!,
        identifiers: recipients.identifiers[i]!,
        expirySeconds: message.expirySeconds,
      })
    }
  }

  acknowledged(connection: ConnectionId, ticket: number, reason: ReasonCode): void {
    this.of(connection).push({ is: 'acknowledged', ticket, reason })
  }

  subscribed(connection: ConnectionId, ticket: number, reasons: readonly ReasonCode[]): void {
    this.of(connection).push({ is: 'subscribed', ticket, reasons })
  }

  released(connection: ConnectionId, packetId: number, reason: ReasonCode): void {
    this.of(connection).push({ is: 'released', packetId, reason })
  }

  pressure(isFull: boolean): void {
    this.pressures.push(isFull)
  }

  disconnect(connection: ConnectionId, reason: ReasonCode): void {
    this.of(connection).push({ is: 'disconnect', reason })
  }
}

/** A Turn that ends when the test says so. */
export class ManualTurn implements Turn {
  isRequested = false

  request(): void {
    this.isRequested = true
  }
}

export const MIB = 1024 * 1024
export const DEFAULT_SETTINGS: BackendSettings = {
  sessionsMax: 1_000,
  subscriptionsPerSessionMax: 1_000,
  queueMessagesMax: 100_000,
  queueBytesMax: 256 * MIB,
  queueStrategy: 'None',
  inflightMax: 1_024,
  retainedMessagesMax: 10_000,
  retainedBytesMax: 256 * MIB,
  stateStoreKeysPerShardMax: 10_000,
  stateStoreKeysPerClientMax: 0,
  stateStoreBytesPerShardMax: 100_000_000,
  stateStoreWatchesPerClientMax: 1_000,
  stateStoreWatchersPerKeyMax: 1_000,
  stateStoreWatchBytesPerShardMax: 10_000_000,
  stateStoreKeepSecondsMax: 3_600,
  stateStoreKeptChangesPerKeyMax: 100,
  stateStoreKeptBytesPerShardMax: 10_000_000,
  maxMessageExpirySeconds: null,
  memoryBytesMax: 1_024 * MIB,
  memoryWatermarkPercent: 75,
  highPriorityMessagesBackpressureHandling: 'Accept',
}

export interface RigOptions {
  readonly settings?: Partial<BackendSettings>
  readonly store?: ShardStore
  readonly shards?: number
  readonly clock?: ManualClock
  readonly willJudge?: WillJudge | null
  readonly persistence?: PersistencePolicy
  /** Commits wait for `settle` or `store.complete`; by default they are stored at once. */
  readonly isLate?: boolean
}

/** A backend alone: the test is its clock, its turn, its frontend and, unless told otherwise, its disk. */
export class BackendRig {
  readonly clock: ManualClock
  readonly turn: ManualTurn
  readonly store: LateStore
  readonly backend: Backend
  readonly frontend = new RecordingFrontend()
  readonly failures: Error[]
  readonly log: RecordingLog
  readonly #options: RigOptions
  #lastConnection = 0

  private constructor(
    options: RigOptions,
    backend: Backend,
    clock: ManualClock,
    turn: ManualTurn,
    store: LateStore,
    failures: Error[],
    log: RecordingLog,
  ) {
    this.#options = options
    this.backend = backend
    this.clock = clock
    this.turn = turn
    this.store = store
    this.failures = failures
    this.log = log
  }

  static async open(options: RigOptions = {}): Promise<BackendRig> {
    const clock = options.clock ?? new ManualClock()
    const turn = new ManualTurn()
    const late = LateStore.empty(options.shards ?? 3)
    const store = options.store ?? late
    if (store instanceof LateStore) store.isPrompt = true
    const failures: Error[] = []
    const log = new RecordingLog()
    const backend = await Backend.open({
      settings: { ...DEFAULT_SETTINGS, ...options.settings },
      clock,
      turn,
      store,
      topics: new TopicCache({ topicsMax: 1_000, levelsMax: 128 }),
      log,
      willJudge: options.willJudge ?? null,
      persistence: options.persistence ?? null,
      onFailure: error => failures.push(error),
    })
    if (store instanceof LateStore) store.isPrompt = options.isLate !== true
    return new BackendRig(options, backend, clock, turn, store instanceof LateStore ? store : late, failures, log)
  }

  /** The process dies and another one starts on what is stored. */
  async restart(changes: RigOptions = {}): Promise<BackendRig> {
    return BackendRig.open({ ...this.#options, clock: this.clock, store: this.store.crash(), ...changes })
  }

  get engine(): Backend['engine'] {
    return this.backend.engine
  }

  newConnection(): ConnectionId {
    return ++this.#lastConnection
  }

  /** Turns end and commits complete until nothing is left to do. */
  async settle(): Promise<void> {
    do {
      if (this.turn.isRequested) this.endTurn()
      this.store.complete()
      await nextTurn()
    } while (this.turn.isRequested || this.store.waiting > 0)
  }

  endTurn(): void {
    this.turn.isRequested = false
    this.backend.endTurn()
  }

  /** Lets time pass, in ticks as the process makes them, and settles. */
  async advance(ms: number): Promise<void> {
    this.clock.advance(ms)
    this.backend.tick()
    await this.settle()
  }

  /** A client that is connected and takes messages. */
  async connect(clientId: string, options: ConnectOptions = {}): Promise<RigClient> {
    const client = this.client(clientId)
    const reply = client.attach(options)
    await this.settle()
    client.opened(await reply)
    await this.settle()
    return client
  }

  client(clientId: string): RigClient {
    return new RigClient(this, clientId)
  }

  message(topic: string, payload: string, options: MessageOptions = {}): Message {
    const topics = this.engine.topics
    const message = newMessage(
      topics.fromName(topic),
      Buffer.from(payload),
      options.qos ?? 0,
      options.retain ?? false,
      userProperties(options.userProperties ?? []),
    )
    message.expirySeconds = options.expirySeconds ?? -1
    message.packetId = options.packetId ?? 0
    message.dup = options.dup ?? false
    return message
  }
}

/** May subscribe to `filters` and what they cover; its Will is judged by `guard`. */
export function rightsTo(filters: readonly string[], guard = 'guard'): SessionRights {
  const permit = new Permit({
    rules: [{ policy: 'policy', index: 0 }],
    publish: [],
    subscribe: filters.map(filter => ({ filter, isDenied: false, rule: 0 })),
    keys: null,
    isCached: true,
    disconnectsRefused311: false,
  })
  return { permit: permitBytes(permit), willGuard: Buffer.from(guard) }
}

export interface MessageOptions {
  readonly qos?: 0 | 1 | 2
  readonly retain?: boolean
  readonly dup?: boolean
  readonly packetId?: number
  readonly expirySeconds?: number
  readonly userProperties?: readonly (readonly [string, string])[]
}

export interface ConnectOptions {
  readonly cleanStart?: boolean
  readonly expirySeconds?: number
  readonly receiveMaximum?: number
  readonly protocolVersion?: 3 | 4 | 5
  readonly will?: WillRequest | null
  readonly rights?: SessionRights | null
  readonly isPersistenceRequested?: boolean
  /** False: the socket takes nothing until `writable(true)`. */
  readonly isWritable?: boolean
}

/** Options of a Subscription; QoS 2 unless told otherwise. */
export type SubscribeOptions = Partial<Omit<SubscriptionRequest, 'filter'>>

export const NEVER = 0xffff_ffff
const ABNORMAL: ConnectionEnd = { discardWill: false, sessionExpirySeconds: null }

/** One client's connection, as the frontend drives it. */
export class RigClient {
  readonly rig: BackendRig
  readonly clientId: string
  readonly connection: ConnectionId
  session = -1
  sessionPresent = false
  #nextTicket = 0
  #nextPacketId = 0
  #isWritable = true

  constructor(rig: BackendRig, clientId: string) {
    this.rig = rig
    this.clientId = clientId
    this.connection = rig.newConnection()
  }

  attach(options: ConnectOptions = {}): Promise<AttachReply> {
    this.#isWritable = options.isWritable ?? true
    const request: AttachRequest = {
      frontend: this.rig.frontend,
      connection: this.connection,
      clientId: this.clientId,
      protocolVersion: options.protocolVersion ?? 5,
      cleanStart: options.cleanStart ?? false,
      sessionExpirySeconds: options.expirySeconds ?? 0,
      receiveMaximum: options.receiveMaximum ?? 65_535,
      will: options.will ?? null,
      rights: options.rights ?? null,
      isPersistenceRequested: options.isPersistenceRequested ?? false,
    }
    return this.rig.backend.attach(request)
  }

  /** CONNACK goes out: from now on the client takes messages. */
  opened(reply: AttachReply): void {
    if (reply.is !== 'attached') throw new Error(`refused: ${reply.detail}`)
    this.session = reply.session
    this.sessionPresent = reply.sessionPresent
    if (this.#isWritable) this.writable(true)
  }

  writable(isWritable: boolean): void {
    this.rig.backend.writable(this.session, this.connection, isWritable)
  }

  detach(end: Partial<ConnectionEnd> = {}): void {
    this.rig.backend.detach(this.session, this.connection, { ...ABNORMAL, ...end })
  }

  /** Answers the ticket. QoS 1 and 2 take the next Packet Identifier unless one is given. */
  publish(topic: string, payload: string, options: MessageOptions = {}): number {
    const packetId = options.packetId ?? (options.qos === undefined || options.qos === 0 ? 0 : ++this.#nextPacketId)
    const ticket = this.#nextTicket++
    this.rig.backend.publish(this.session, this.connection, ticket, this.rig.message(topic, payload, { ...options, packetId }))
    return ticket
  }

  release(packetId: number): number {
    this.rig.backend.release(this.session, this.connection, this.#nextTicket, packetId)
    return this.#nextTicket++
  }

  /** This and the next two: whether the Packet Identifier was in use that way. */
  puback(packetId: number): boolean {
    const phase = this.#phase(packetId)
    this.rig.backend.puback(this.session, this.connection, packetId)
    return phase === AWAITING_PUBACK
  }

  pubrec(packetId: number, reason: ReasonCode = ReasonCode.Success): boolean {
    const phase = this.#phase(packetId)
    this.rig.backend.pubrec(this.session, this.connection, packetId, reason)
    return phase === AWAITING_PUBREC || phase === AWAITING_PUBCOMP
  }

  pubcomp(packetId: number): boolean {
    const phase = this.#phase(packetId)
    this.rig.backend.pubcomp(this.session, this.connection, packetId)
    return phase === AWAITING_PUBCOMP
  }

  #phase(packetId: number): number | undefined {
    return this.rig.engine.attached(this.session, this.connection)?.outbox?.ids.phase(packetId)
  }

  subscribe(filter: string, options: SubscribeOptions = {}): number {
    return this.subscribeAll([[filter, options]])
  }

  subscribeAll(filters: readonly (readonly [string, SubscribeOptions])[]): number {
    const ticket = this.#nextTicket++
    const requests = filters.map(([filter, options]) => ({
      refused: null,
      qos: 2 as const,
      noLocal: false,
      retainAsPublished: false,
      retainHandling: 0 as const,
      identifier: 0,
      ...options,
      filter: parseTopicFilter(filter),
    }))
    this.rig.backend.subscribe(this.session, this.connection, ticket, PACKET_ID_OF_REQUESTS, requests)
    return ticket
  }

  unsubscribe(...filters: string[]): number {
    const ticket = this.#nextTicket++
    this.rig.backend.unsubscribe(
      this.session,
      this.connection,
      ticket,
      PACKET_ID_OF_REQUESTS,
      filters.map(filter => parseTopicFilter(filter)),
    )
    return ticket
  }

  restrict(rights: SessionRights): number {
    const ticket = this.#nextTicket++
    this.rig.backend.restrict(this.session, this.connection, ticket, rights)
    return ticket
  }

  /** What the frontend was told about this connection since the last time. */
  take(): FrontendEvent[] {
    return this.rig.frontend.of(this.connection).splice(0)
  }

  /** Of these, the messages. */
  takeSent(): Sent[] {
    return this.take().filter(event => event.is === 'publish')
  }

  takePayloads(): string[] {
    return this.takeSent().map(({ payload }) => payload)
  }

  /** Acknowledges everything that comes, to the end of the exchange, until nothing more comes; answers the messages. */
  async drain(): Promise<Sent[]> {
    const all: Sent[] = []
    for (;;) {
      await this.rig.settle()
      const events = this.take()
      if (events.length === 0) return all
      for (const event of events) {
        if (event.is === 'released') this.pubcomp(event.packetId)
        if (event.is !== 'publish') continue
        all.push(event)
        if (event.qos === 1) this.puback(event.packetId)
        if (event.qos === 2) this.pubrec(event.packetId)
      }
    }
  }
}

/** Of SUBSCRIBE and UNSUBSCRIBE: one that no publish here uses. */
const PACKET_ID_OF_REQUESTS = 65_000

export const nextTurn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

function userProperties(pairs: readonly (readonly [string, string])[]): Buffer {
  return Buffer.concat(
    pairs.flatMap(pair => [Buffer.from([Property.UserProperty]), ...pair.flatMap(text => [lengthOf(text), Buffer.from(text)])]),
  )
}

function lengthOf(text: string): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(Buffer.byteLength(text))
  return bytes
}
