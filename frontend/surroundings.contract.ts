import { ManualClock } from '#shared/base/clock.ts'
import type { Turn } from '#shared/base/turn.ts'
import { loadBrokerSettings, systemSurroundings } from '#shared/config/load-broker-settings.ts'
import { type ConnectOptions, decodeServerPacket, encodeConnect, type ServerPacket } from '#shared/mqtt/client-codec.ts'
import { frameEnd, INCOMPLETE } from '#shared/mqtt/framing.ts'
import { type Message, newMessage } from '#shared/mqtt/message.ts'
import type { ProtocolVersion } from '#shared/mqtt/protocol-version.ts'
import { encodePublish, publishFrameBytes, PublishShape } from '#shared/mqtt/publish-encoder.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { Topic, TopicCache } from '#shared/mqtt/topic.ts'
import { Permit, permitBytes, type PermitParts } from '#shared/authorization/permit.ts'
import type {
  AuthenticationPort,
  AuthenticationRequest,
  AuthorizationRequest,
  AuthorizationVerdict,
  Grant,
  RecheckRequest,
  RecheckVerdict,
  Verdict,
} from '#shared/rpc/authentication.ts'
import type { AttachReply, AttachRequest, BackendPort, ConnectionEnd, SessionRights } from '#shared/rpc/backend-port.ts'
import type { StoreCall } from '#shared/rpc/store-call.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import type { AuditedRefusal } from '#shared/telemetry/audit.ts'
import type { FrontendSettings } from './config.ts'
import type { Connection } from './connection/connection.ts'
import { OPEN_TO_ALL, type PortRules } from '#shared/rpc/port-rules.ts'
import { ClientPort } from './client-port.ts'
import { Frontend, type FrontendParts } from './frontend.ts'
import type { Transport, TransportHandler } from './listener/transport.ts'

// What stands around a frontend, made by hand: the tests of frontend/ share it.

/** A turn that ends when the test says so. */
export class HandTurn implements Turn {
  #requested = false
  #steps: readonly (() => void)[] = []

  begin(steps: readonly (() => void)[]): void {
    this.#steps = steps
  }

  request(): void {
    this.#requested = true
  }

  /** Ends turns until nobody asks for one. */
  run(): void {
    while (this.#requested) {
      this.#requested = false
      for (const step of this.#steps) step()
    }
  }
}

/**
 * A byte stream whose other end reads when told so. What it has not taken yet is kept as given, not copied: a caller that overwrites
 * bytes too early corrupts what the client receives, as it would on a real socket.
 */
export class FakeTransport implements Transport {
  readonly kind = 'tcp'
  readonly remoteAddress: string
  readonly remotePort = 4_711
  readonly peerCertificates = null
  readonly serverName = null
  readonly acceptedMs: number
  handler: TransportHandler | null = null
  /** Bytes of each write that the client has taken. */
  readonly taken: Buffer[] = []
  /** How many calls of `write` there were. */
  writes = 0
  isPaused = false
  isEnded = false
  isDestroyed = false
  #isReading = true
  #waiting: Uint8Array[] = []

  constructor(remoteAddress = '192.0.2.1', acceptedMs = 0) {
    this.remoteAddress = remoteAddress
    this.acceptedMs = acceptedMs
  }

  get bufferedBytes(): number {
    return this.#waiting.reduce((sum, bytes) => sum + bytes.length, 0)
  }

  /** Memory behind what waits, each piece once. */
  get waitingMemory(): ArrayBufferLike[] {
    return [...new Set(this.#waiting.map(bytes => bytes.buffer))]
  }

  get waitingMemoryBytes(): number {
    return this.waitingMemory.reduce((sum, memory) => sum + memory.byteLength, 0)
  }

  write(bytes: Uint8Array): void {
    if (this.isEnded || this.isDestroyed) return
    this.writes++
    if (this.#isReading && this.#waiting.length === 0) this.taken.push(Buffer.from(bytes))
    else this.#waiting.push(bytes)
  }

  pause(): void {
    this.isPaused = true
  }

  resume(): void {
    this.isPaused = false
  }

  end(): void {
    this.isEnded = true
  }

  destroy(): void {
    this.isDestroyed = true
  }

  /** The client reads no more. */
  stall(): void {
    this.#isReading = false
  }

  /** It takes the first `count` writes that wait; the handler hears of it only once none is left. */
  takeSome(count: number): void {
    for (const bytes of this.#waiting.splice(0, count)) this.taken.push(Buffer.from(bytes))
  }

  /** It takes all that waits, and the next writes at once. */
  drain(): void {
    this.#isReading = true
    const waiting = this.#waiting
    this.#waiting = []
    for (const bytes of waiting) this.taken.push(Buffer.from(bytes))
    if (waiting.length > 0) this.handler?.onDrain()
  }

  /** The network or the client is gone. */
  cut(error: string | null = 'ECONNRESET'): void {
    this.handler?.onClose(error)
  }
}

/** A publish as the backend got it. */
export interface Published {
  readonly connection: number
  readonly ticket: number
  readonly message: Message
}

/** A backend that remembers what it was asked and answers nothing by itself but `attach`. */
export class FakeBackend implements BackendPort {
  readonly attached: AttachRequest[] = []
  readonly detached: { readonly connection: number; readonly end: ConnectionEnd }[] = []
  readonly published: Published[] = []
  readonly asked: ({ readonly ticket: number } & StoreCall)[] = []
  /** `release`, `subscribe`, `unsubscribe`, `puback`, `pubrec`, `pubcomp` with what they were given behind the connection. */
  readonly calls: (readonly unknown[])[] = []
  readonly writableCalls: { readonly connection: number; readonly isWritable: boolean }[] = []
  /** What `attach` answers. */
  attach: (request: AttachRequest) => Promise<AttachReply> = request => {
    this.attached.push(request)
    return Promise.resolve({ is: 'attached', session: request.connection, sessionPresent: false })
  }
  onPublish: (published: Published) => void = () => {}

  detach(_session: number, connection: number, end: ConnectionEnd): void {
    this.detached.push({ connection, end })
  }

  publish(_session: number, connection: number, ticket: number, message: Message): void {
    const published = { connection, ticket, message: message.keep() }
    this.published.push(published)
    this.onPublish(published)
  }

  release(_session: number, _connection: number, ticket: number, packetId: number): void {
    this.calls.push(['release', ticket, packetId])
  }

  puback(_session: number, _connection: number, packetId: number): void {
    this.calls.push(['puback', packetId])
  }

  pubrec(_session: number, _connection: number, packetId: number, reason: ReasonCode): void {
    this.calls.push(['pubrec', packetId, reason])
  }

  pubcomp(_session: number, _connection: number, packetId: number): void {
    this.calls.push(['pubcomp', packetId])
  }

  subscribe(_session: number, _connection: number, ticket: number, packetId: number, subscriptions: readonly unknown[]): void {
    this.calls.push(['subscribe', ticket, packetId, subscriptions])
  }

  askStore(_session: number, _connection: number, ticket: number, call: StoreCall): void {
    this.asked.push({ ticket, ...call, message: call.message.keep() })
  }

  restrict(_session: number, _connection: number, ticket: number, rights: SessionRights): void {
    this.calls.push(['restrict', ticket, rights])
  }

  unsubscribe(_session: number, _connection: number, ticket: number, packetId: number, filters: readonly unknown[]): void {
    this.calls.push(['unsubscribe', ticket, packetId, filters])
  }

  writable(_session: number, connection: number, isWritable: boolean): void {
    this.writableCalls.push({ connection, isWritable })
  }
}

/** What the rules of one policy allow. */
export function permitOf(publish: readonly string[], subscribe: readonly string[] = ['#'], options: Partial<PermitParts> = {}): Permit {
  const rules = (filters: readonly string[]) => filters.map(filter => ({ filter, isDenied: false, rule: 0 }))
  return new Permit({
    rules: [{ policy: 'test', index: 0 }],
    publish: rules(publish),
    subscribe: rules(subscribe),
    keys: null,
    isCached: true,
    disconnectsRefused311: false,
    ...options,
  })
}

export type Accepted = Extract<Verdict, { readonly is: 'accepted' }>

/** An authentication service that accepts everybody unless told otherwise: judges as the test sets it up. */
export class FakeAuthentication implements AuthenticationPort {
  readonly requests: AuthenticationRequest[] = []
  readonly authorizeRequests: AuthorizationRequest[] = []
  readonly recheckRequests: RecheckRequest[] = []
  permit: Permit | null = null
  verdict: (request: AuthenticationRequest) => Promise<Verdict> = () => Promise.resolve(this.accepted())
  authorization: (request: AuthorizationRequest) => Promise<AuthorizationVerdict> = () =>
    Promise.resolve({ is: 'unavailable', cause: 'not set in this test' })
  recheckVerdict: (request: RecheckRequest) => Promise<RecheckVerdict> = () =>
    Promise.resolve({ is: 'unavailable', cause: 'not set in this test' })
  #onChanged: (authentication: string) => void = () => undefined

  authenticate(request: AuthenticationRequest): Promise<Verdict> {
    this.requests.push(request)
    return this.verdict(request)
  }

  accepted(grant: Partial<Grant> = {}): Accepted {
    const permit = this.permit === null ? null : permitBytes(this.permit)
    const identity = { userName: '', attributes: new Map() }
    const proof = new Uint8Array(0)
    return { is: 'accepted', grant: { method: 'Test', identity, permit, expiresMs: null, authenticationData: null, proof, ...grant } }
  }

  refused(reason: ReasonCode = ReasonCode.NotAuthorized): Verdict {
    return { is: 'refused', reason, detail: 'no', cause: 'the policy says so', method: 'Test' }
  }

  allowed(permit: Permit | null): AuthorizationVerdict {
    return { is: 'allowed', permit: permit === null ? null : permitBytes(permit) }
  }

  authorize(request: AuthorizationRequest): Promise<AuthorizationVerdict> {
    this.authorizeRequests.push(request)
    return this.authorization(request)
  }

  recheck(request: RecheckRequest): Promise<RecheckVerdict> {
    this.recheckRequests.push(request)
    return this.recheckVerdict(request)
  }

  listen(onChanged: (authentication: string) => void): () => void {
    this.#onChanged = onChanged
    return () => undefined
  }

  /** Something behind it has changed that the port's rules do not show. */
  changeBehind(authentication = 'default'): void {
    this.#onChanged(authentication)
  }
}

/** Rules of a port: its BrokerAuthentication and BrokerAuthorization `default` in these versions. */
export function rulesOf(authentication: string, authorization: string | null, rules: Partial<PortRules> = {}): PortRules {
  const authorizations = authorization === null ? [] : [{ name: 'default', version: authorization }]
  return { ...OPEN_TO_ALL, policy: { authentication: { name: 'default', version: authentication }, authorizations }, ...rules }
}

/** Wall clock and monotonic clock apart: the one may be set. */
export class SettableClock extends ManualClock {
  aheadMs = 0

  override wallMs(): number {
    return super.wallMs() + this.aheadMs
  }
}

/** PUBLISH as a client sends it; QoS 1 when it has a Packet Identifier and nothing else is said. */
export function publishPacket(topic: string, packetId = 0, version: ProtocolVersion = 5, qos = packetId === 0 ? 0 : 1): Buffer {
  const message = newMessage(new Topic(topic, Buffer.from(topic)), Buffer.from('p'))
  const shape = Object.assign(new PublishShape(), { qos, version })
  const bytes = Buffer.alloc(publishFrameBytes(message, shape))
  encodePublish(bytes, 0, message, shape, packetId)
  return bytes
}

/** The defaults of `millrace start`. */
export const DEFAULT_SETTINGS: FrontendSettings = loadBrokerSettings([], systemSurroundings({})).settings.limits

/** One client's end of a connection. */
export class FakeClient {
  readonly transport: FakeTransport
  readonly handler: TransportHandler
  readonly connection: Connection
  version: ProtocolVersion = 5
  readonly #turn: HandTurn

  constructor(transport: FakeTransport, handler: TransportHandler, turn: HandTurn) {
    this.transport = transport
    this.handler = handler
    this.connection = handler as Connection
    this.#turn = turn
  }

  /** Bytes arrive, in one chunk, and the turn ends. */
  send(...packets: readonly Uint8Array[]): void {
    this.arrive(Buffer.concat(packets))
    this.#turn.run()
  }

  /** As `send`, within the turn. The chunk's memory is scribbled over afterwards, as a socket does that reuses it. */
  arrive(bytes: Buffer): void {
    const chunk = Buffer.from(bytes)
    this.handler.onBytes(chunk)
    chunk.fill(0xee)
  }

  /** Everything that the client has taken. */
  get bytes(): Buffer {
    return Buffer.concat(this.transport.taken)
  }

  /** The packets in it. */
  get packets(): ServerPacket[] {
    const { bytes, version } = this
    const found: ServerPacket[] = []
    for (let at = 0; at < bytes.length; ) {
      const end = frameEnd(bytes, at, bytes.length, Infinity)
      if (end === INCOMPLETE) throw new Error(`a packet that is not whole at ${at}`)
      found.push(decodeServerPacket(bytes, at, end, version))
      at = end
    }
    return found
  }

  /** Forgets what was taken so far. */
  forget(): this {
    this.transport.taken.length = 0
    return this
  }
}

/** A frontend and all that it is given from outside. */
export class Surroundings {
  readonly clock = new SettableClock()
  readonly turn = new HandTurn()
  readonly backend = new FakeBackend()
  readonly authentication = new FakeAuthentication()
  readonly port = new ClientPort('test', rulesOf('1', '1'))
  /** What the audit was told. */
  readonly refusals: AuditedRefusal[] = []
  readonly log = new RecordingLog()
  readonly topics: TopicCache
  readonly frontend: Frontend
  #clients = 0

  constructor(settings: Partial<FrontendSettings> = {}, parts: Pick<FrontendParts, 'holdsPublishesForSubscribe'> = {}) {
    const all = { ...DEFAULT_SETTINGS, ...settings }
    this.topics = new TopicCache({ topicsMax: 1_000, levelsMax: all.topicLevelsMax })
    this.frontend = new Frontend({
      settings: all,
      backend: this.backend,
      authentication: this.authentication,
      clock: this.clock,
      random: { uuid: () => `uuid-${++this.#clients}` },
      turn: this.turn,
      topics: this.topics,
      log: this.log,
      ...parts,
      audit: { refused: refusal => this.refusals.push(refusal) },
    })
    this.turn.begin([this.frontend.endTurn])
  }

  /** A connection that has sent nothing; null when it was refused. */
  tryOpen(remoteAddress?: string): FakeClient | null {
    const transport = new FakeTransport(remoteAddress, this.clock.monotonicMs())
    const handler = this.frontend.onTransport(transport, this.port)
    if (handler === null) return null
    transport.handler = handler
    return new FakeClient(transport, handler, this.turn)
  }

  open(remoteAddress?: string): FakeClient {
    const client = this.tryOpen(remoteAddress)
    if (client === null) throw new Error('the connection was refused')
    return client
  }

  /** A client whose CONNECT was answered; its CONNACK stays in what it has received. */
  async connect(version: ProtocolVersion = 5, options: ConnectOptions = {}, clientId = `c${++this.#clients}`): Promise<FakeClient> {
    const client = this.open()
    client.version = version
    client.send(encodeConnect(version, clientId, options))
    await this.settled()
    return client
  }

  /** Promises that are under way have gone on, and turns have ended. */
  async settled(): Promise<void> {
    await new Promise(resolve => setImmediate(resolve))
    this.turn.run()
  }

  /** Time passes as the process would notice it. */
  pass(ms: number): void {
    for (let left = ms; left > 0; left -= TICK_MS) {
      this.clock.advance(Math.min(left, TICK_MS))
      this.frontend.deadlines.tick()
      this.turn.run()
    }
  }
}

const TICK_MS = 100
