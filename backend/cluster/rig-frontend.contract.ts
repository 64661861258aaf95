import type { Message } from '#shared/mqtt/message.ts'
import { isFailure, ReasonCode } from '#shared/mqtt/reason-code.ts'
import { parseTopicFilter } from '#shared/mqtt/topic.ts'
import type { AttachReply, ConnectionEnd, ConnectionId, SessionRights, SubscriptionRequest } from '#shared/rpc/backend-port.ts'
import type { BoundSession, CallerPort } from '#shared/rpc/caller-port.ts'
import type { DispatchParts } from '#shared/rpc/dispatch.ts'
import type { Link } from '#shared/rpc/link.ts'
import { OwnerCalls } from '#shared/rpc/owner-calls.ts'
import { NO_CONNECTION, type OutstandingDelivery, type OwnerPort, type ResumedSession } from '#shared/rpc/owner-port.ts'
import { RECIPIENT_DUP, RECIPIENT_QOS, RECIPIENT_RETAIN, type Recipients } from '#shared/rpc/recipients.ts'
import { Shards } from '#shared/rpc/shards.ts'
import type { ConnectOptions, FrontendEvent, MessageOptions, Sent, SubscribeOptions } from '../backend-rig.contract.ts'
import type { ClusterRig } from './cluster-rig.contract.ts'

interface RigOwner {
  readonly backend: string
  readonly link: Link
  readonly calls: OwnerPort
}

export interface ToldRoutes {
  readonly epoch: number
  readonly count: number
  readonly digest: number
}

/** Of SUBSCRIBE and UNSUBSCRIBE: one that no publish here uses. */
const PACKET_ID_OF_REQUESTS = 65_000

/** What may be done by hand instead. */
export interface RigFrontendManners {
  /** False: it does not say that it has applied routes. */
  appliesRoutes: boolean
  /** False: `owned` is noted, and `resume` left to the test. */
  resumes: boolean
}

/** A frontend as a test plays it: it keeps what a router keeps of its connections, resumes them, and repeats what is unanswered. */
export class RigFrontend {
  readonly rig: ClusterRig
  readonly id: string
  instance: string
  readonly manners: RigFrontendManners = { appliesRoutes: true, resumes: true }
  readonly clients = new Map<ConnectionId, RigClusterClient>()
  /** By shard: who was the last to say that it owns it. */
  readonly owners = new Map<number, RigOwner>()
  readonly told = new Map<number, ToldRoutes>()
  /** By shard: how often somebody was said to own it. */
  readonly terms = new Map<number, number>()
  /** Answers to `publish`, in order of coming. */
  readonly published: { sequence: number; reason: ReasonCode; moved: readonly number[] | null }[] = []
  /** Every call of CallerPort that is about shards or answers, as text. */
  readonly calls: string[] = []
  readonly #links = new Map<string, RigOwner>()
  readonly detaches = new Map<ConnectionId, { shard: number; clientId: string; end: ConnectionEnd }>()
  #lastConnection = 0
  #lastRequest = 0
  #lastSequence = 0

  constructor(rig: ClusterRig, id: string, instance: string) {
    this.rig = rig
    this.id = id
    this.instance = instance
  }

  get parts(): DispatchParts {
    return this.rig.parts
  }

  /** The raw calls to a backend. */
  owner(backend: string): OwnerPort {
    return this.#links.get(backend)!.calls
  }

  ownerOf(shard: number): OwnerPort | undefined {
    return this.owners.get(shard)?.calls
  }

  client(clientId: string): RigClusterClient {
    const client = new RigClusterClient(this, clientId, ++this.#lastConnection)
    this.clients.set(client.connection, client)
    return client
  }

  async connect(clientId: string, options: ConnectOptions = {}): Promise<RigClusterClient> {
    const client = this.client(clientId)
    client.attach(options)
    await this.rig.settle()
    if (client.reply?.is !== 'attached')
      throw new Error(`${clientId}: ${client.reply === null ? 'no answer' : JSON.stringify(client.reply)}`)
    return client
  }

  nextRequest(): number {
    return ++this.#lastRequest
  }

  /** To one shard, if anybody is known to own it. Answers the sequence, 0 for nobody. */
  publishTo(shard: number, message: Message): number {
    const owner = this.ownerOf(shard)
    if (owner === undefined) return 0
    const shards = new Shards()
    shards.add(shard)
    owner.publish(++this.#lastSequence, NO_CONNECTION, true, shards, message)
    return this.#lastSequence
  }

  /** To every owner, for all of its shards: one sequence each. Answers them. */
  publish(topic: string, payload: string, options: MessageOptions = {}, connection: ConnectionId = NO_CONNECTION): number[] {
    const sequences: number[] = []
    for (const owner of this.#links.values()) {
      const shards = new Shards()
      for (const [shard, { backend }] of this.owners) if (backend === owner.backend) shards.add(shard)
      if (shards.count === 0) continue
      const sequence = (options.qos ?? 0) === 0 ? 0 : ++this.#lastSequence
      owner.calls.publish(sequence, connection, true, shards, this.rig.message(topic, payload, options))
      sequences.push(sequence)
    }
    return sequences
  }

  onLinkOpen(backend: string, link: Link): { port: CallerPort; onClosed: () => void } {
    const owner: RigOwner = { backend, link, calls: new OwnerCalls(link) }
    this.#links.set(backend, owner)
    return { port: new RigCallerPort(this, owner), onClosed: () => this.#onClosed(owner) }
  }

  /** OwnerPort.resume, of all connections in the shard. */
  resume(shard: number, owner: OwnerPort = this.owners.get(shard)!.calls): void {
    for (const [connection, { shard: of, clientId, end }] of this.detaches) if (of === shard) owner.detach(shard, clientId, connection, end)
    const ofShard = [...this.clients.values()].filter(client => client.shard === shard && !client.isGone)
    owner.resume(
      shard,
      ofShard.filter(({ reply }) => reply !== null).map(client => client.resumed),
      true,
    )
    for (const client of ofShard) if (client.reply === null) client.askAttach(owner)
  }

  onOwned(owner: RigOwner, shard: number, epoch: number, count: number, digest: number): void {
    const known = this.told.get(shard)
    if (known !== undefined && known.epoch > epoch) return
    this.told.set(shard, { epoch, count, digest })
    this.owners.set(shard, owner)
    this.terms.set(shard, (this.terms.get(shard) ?? 0) + 1)
    for (const client of this.clients.values()) if (client.shard === shard) client.unbind()
    if (this.manners.resumes) this.resume(shard)
  }

  onLost(owner: RigOwner, shard: number): void {
    if (this.owners.get(shard) !== owner) return
    this.owners.delete(shard)
    for (const client of this.clients.values()) if (client.shard === shard) client.unbind()
  }

  #onClosed(owner: RigOwner): void {
    if (this.#links.get(owner.backend) === owner) this.#links.delete(owner.backend)
    for (const [shard, of] of this.owners) if (of === owner) this.onLost(owner, shard)
  }
}

/** What comes from one backend. */
class RigCallerPort implements CallerPort {
  readonly #frontend: RigFrontend
  readonly #owner: RigOwner

  constructor(frontend: RigFrontend, owner: RigOwner) {
    this.#frontend = frontend
    this.#owner = owner
  }

  #client(connection: ConnectionId): RigClusterClient | null {
    const client = this.#frontend.clients.get(connection)
    return client === undefined || client.isGone || this.#frontend.owners.get(client.shard) !== this.#owner ? null : client
  }

  #note(text: string): void {
    this.#frontend.calls.push(`${this.#owner.backend} ${text}`)
  }

  deliver(message: Message, recipients: Recipients): void {
    for (let at = 0; at < recipients.count; at++) {
      const { connections, flags, packetIds, identifiers, sequences } = recipients
      const qos = flags[at]! & RECIPIENT_QOS
      this.#client(connections[at]!)?.onSent(
        {
          is: 'publish',
          topic: message.topic.name,
          payload: message.payload.toString(),
          qos,
          retain: (flags[at]! & RECIPIENT_RETAIN) !== 0,
          dup: (flags[at]! & RECIPIENT_DUP) !== 0,
          packetId: packetIds[at]!,
          identifiers: identifiers[at]!,
          expirySeconds: message.expirySeconds,
        },
        sequences[at]!,
      )
    }
  }

  acknowledged(connection: ConnectionId, ticket: number, reason: ReasonCode): void {
    this.#client(connection)?.onAnswer(ticket, { is: 'acknowledged', ticket, reason })
  }

  subscribed(connection: ConnectionId, ticket: number, reasons: readonly ReasonCode[]): void {
    this.#client(connection)?.onAnswer(ticket, { is: 'subscribed', ticket, reasons })
  }

  released(connection: ConnectionId, packetId: number, reason: ReasonCode): void {
    this.#client(connection)?.onReleased(packetId, reason)
  }

  pressure(isFull: boolean): void {
    this.#note(`pressure ${isFull}`)
  }

  disconnect(connection: ConnectionId, reason: ReasonCode): void {
    const client = this.#frontend.clients.get(connection)
    if (client === undefined || client.isGone) return
    client.events.push({ is: 'disconnect', reason })
    client.isGone = true
  }

  attached(request: number, reply: AttachReply): void {
    for (const client of this.#frontend.clients.values()) if (client.request === request) client.onAttached(reply)
  }

  attachMoved(request: number): void {
    this.#note(`attachMoved ${request}`)
  }

  detached(connection: ConnectionId): void {
    this.#frontend.detaches.delete(connection)
    this.#note(`detached ${connection}`)
  }

  published(sequence: number, reason: ReasonCode, moved: readonly number[] | null): void {
    this.#frontend.published.push({ sequence, reason, moved })
  }

  storeAsked(sequence: number, reason: ReasonCode): void {
    this.#note(`storeAsked ${sequence} ${reason}`)
  }

  storeRead(sequence: number, values: readonly (Uint8Array | null)[] | null): void {
    const shown = values?.map(value => (value === null ? 'none' : `<${Buffer.from(value).toString()}>`)).join(' ') ?? 'too long'
    this.#note(`storeRead ${sequence} ${shown}`)
  }

  unwatched(shard: number, connection: ConnectionId): void {
    this.#note(`unwatched ${shard} ${connection}`)
  }

  resumed(shard: number, sessions: readonly BoundSession[]): void {
    this.#note(`resumed ${shard} ${sessions.map(({ connection }) => connection).join()}`)
    for (const { connection, session } of sessions) this.#client(connection)?.onResumed(session, this.#owner.calls)
  }

  owned(shard: number, epoch: number, routes: number, routesDigest: number): void {
    this.#note(`owned ${shard} ${epoch}`)
    this.#frontend.onOwned(this.#owner, shard, epoch, routes, routesDigest)
  }

  allOwned(): void {
    this.#note('allOwned')
  }

  lost(shard: number): void {
    this.#note(`lost ${shard}`)
    this.#frontend.onLost(this.#owner, shard)
  }

  routes(shard: number, barrier: number, isWhole: boolean, added: readonly string[], removed: readonly string[]): void {
    this.#note(
      `routes ${shard} ${isWhole ? '= ' : ''}${[...added.map(filter => `+${filter}`), ...removed.map(filter => `-${filter}`)].join(' ')}`,
    )
    if (this.#frontend.manners.appliesRoutes) this.#owner.calls.routesApplied(barrier)
  }

  handedOver(fromShard: number, sequence: number, shards: readonly number[], outcome: 'done' | 'moved' | 'gone'): void {
    this.#note(`handedOver ${fromShard} ${sequence} ${shards.join()} ${outcome}`)
  }

  retained(query: number, messages: readonly Message[], isDone: boolean): void {
    this.#note(`retained ${query} ${messages.map(({ topic }) => topic.name).join()} ${isDone}`)
  }

  membersApplied(request: number): void {
    this.#note(`membersApplied ${request}`)
  }

  shardReleased(shard: number, isReleased: boolean): void {
    this.#note(`shardReleased ${shard} ${isReleased}`)
  }
}

const ABNORMAL: ConnectionEnd = { discardWill: false, sessionExpirySeconds: null }

/** A client's connection, and what its frontend keeps of it. */
export class RigClusterClient {
  readonly frontend: RigFrontend
  readonly clientId: string
  readonly connection: ConnectionId
  readonly shard: number
  readonly events: FrontendEvent[] = []
  /** Answer to attach; null while there is none. */
  reply: AttachReply | null = null
  request = 0
  isGone = false
  session = -1
  #bound: OwnerPort | null = null
  #options: ConnectOptions = {}
  isWritable = true
  lastSequence = 0
  /** Of every QoS 1 and 2 message that was passed on, in order. */
  readonly sequences: number[] = []
  readonly outstanding = new Map<number, OutstandingDelivery>()
  /** By ticket: what is unanswered, to be asked again. */
  readonly #requests = new Map<number, (owner: OwnerPort, isRetry: boolean) => void>()
  #late: (() => void)[] = []
  #nextTicket = 0
  #nextPacketId = 0

  constructor(frontend: RigFrontend, clientId: string, connection: ConnectionId) {
    this.frontend = frontend
    this.clientId = clientId
    this.connection = connection
    this.shard = frontend.rig.shardOf(clientId)
  }

  get sessionPresent(): boolean {
    return this.reply?.is === 'attached' && this.reply.sessionPresent
  }

  get isBound(): boolean {
    return this.#bound !== null
  }

  get resumed(): ResumedSession {
    return {
      connection: this.connection,
      clientId: this.clientId,
      protocolVersion: this.#options.protocolVersion ?? 5,
      receiveMaximum: this.#options.receiveMaximum ?? 65_535,
      isWritable: this.isWritable,
      lastSequence: this.lastSequence,
      outstanding: [...this.outstanding.values()],
    }
  }

  attach(options: ConnectOptions = {}): void {
    this.#options = options
    this.isWritable = options.isWritable ?? true
    const owner = this.frontend.ownerOf(this.shard)
    if (owner !== undefined) this.askAttach(owner)
  }

  askAttach(owner: OwnerPort): void {
    const isRetry = this.request !== 0
    this.request = this.frontend.nextRequest()
    const {
      protocolVersion = 5,
      cleanStart = false,
      expirySeconds = 0,
      receiveMaximum = 65_535,
      will = null,
      rights = null,
    } = this.#options
    owner.attach(
      this.request,
      {
        connection: this.connection,
        clientId: this.clientId,
        protocolVersion,
        cleanStart,
        sessionExpirySeconds: expirySeconds,
        receiveMaximum,
        will,
        rights,
      },
      isRetry,
    )
  }

  onAttached(reply: AttachReply): void {
    this.reply = reply
    this.request = -1
    if (reply.is === 'refused') {
      this.isGone = true
      return
    }
    this.session = reply.session
    this.#bound = this.frontend.ownerOf(this.shard)!
    if (this.isWritable) this.#bound.writable(this.session, this.connection, true)
  }

  onResumed(session: number, owner: OwnerPort): void {
    if (this.isBound) return
    this.session = session
    this.#bound = owner
    for (const late of this.#late.splice(0)) late()
    for (const ask of this.#requests.values()) ask(owner, true)
  }

  unbind(): void {
    this.#bound = null
    this.#late = []
  }

  detach(end: Partial<ConnectionEnd> = {}): void {
    this.isGone = true
    const whole = { ...ABNORMAL, ...end }
    this.frontend.detaches.set(this.connection, { shard: this.shard, clientId: this.clientId, end: whole })
    this.frontend.ownerOf(this.shard)?.detach(this.shard, this.clientId, this.connection, whole)
  }

  writable(isWritable: boolean): void {
    this.isWritable = isWritable
    this.#bound?.writable(this.session, this.connection, isWritable)
  }

  /** QoS 0 and 1: to all shards, see RigFrontend.publish. QoS 2: to its session; `take()` has the answer. */
  publish(topic: string, payload: string, options: MessageOptions = {}): number {
    if (options.qos !== 2) {
      this.frontend.publish(topic, payload, options, this.connection)
      return -1
    }
    const packetId = options.packetId ?? ++this.#nextPacketId
    return this.#ask((owner, _isRetry, ticket) =>
      owner.publishQos2(this.session, this.connection, ticket, this.frontend.rig.message(topic, payload, { ...options, packetId })),
    )
  }

  release(packetId: number): number {
    return this.#ask((owner, isRetry, ticket) => owner.release(this.session, this.connection, ticket, packetId, isRetry))
  }

  subscribe(filter: string, options: SubscribeOptions = {}): number {
    const request: SubscriptionRequest = {
      refused: null,
      qos: 2,
      noLocal: false,
      retainAsPublished: false,
      retainHandling: 0,
      identifier: 0,
      ...options,
      filter: parseTopicFilter(filter),
    }
    return this.#ask((owner, _isRetry, ticket) => owner.subscribe(this.session, this.connection, ticket, PACKET_ID_OF_REQUESTS, [request]))
  }

  unsubscribe(...filters: string[]): number {
    const parsed = filters.map(filter => parseTopicFilter(filter))
    return this.#ask((owner, isRetry, ticket) =>
      owner.unsubscribe(this.session, this.connection, ticket, PACKET_ID_OF_REQUESTS, parsed, isRetry),
    )
  }

  restrict(rights: SessionRights): number {
    return this.#ask((owner, _isRetry, ticket) => owner.restrict(this.session, this.connection, ticket, rights))
  }

  puback(packetId: number): void {
    this.outstanding.delete(packetId)
    this.#tell(owner => owner.puback(this.session, this.connection, packetId))
  }

  pubrec(packetId: number, reason: ReasonCode = ReasonCode.Success): void {
    const known = this.outstanding.get(packetId)
    if (isFailure(reason)) this.outstanding.delete(packetId)
    else if (known?.phase === 'sent') this.outstanding.set(packetId, { ...known, phase: 'received' })
    this.#tell(owner => owner.pubrec(this.session, this.connection, packetId, reason))
  }

  pubcomp(packetId: number): void {
    this.outstanding.delete(packetId)
    this.#tell(owner => owner.pubcomp(this.session, this.connection, packetId))
  }

  onSent(sent: Sent, sequence: number): void {
    if (sent.qos > 0) {
      if (!this.isBound) return
      this.lastSequence = Math.max(this.lastSequence, sequence)
      this.sequences.push(sequence)
      this.outstanding.set(sent.packetId, { packetId: sent.packetId, sequence, phase: 'sent' })
    }
    this.events.push(sent)
  }

  onReleased(packetId: number, reason: ReasonCode): void {
    const sequence = this.outstanding.get(packetId)?.sequence ?? 0
    if (reason === ReasonCode.Success) this.outstanding.set(packetId, { packetId, sequence, phase: 'released' })
    this.events.push({ is: 'released', packetId, reason })
  }

  onAnswer(ticket: number, event: FrontendEvent): void {
    if (this.#requests.delete(ticket)) this.events.push(event)
  }

  /** What the frontend was told about this connection since the last time. */
  take(): FrontendEvent[] {
    return this.events.splice(0)
  }

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
      await this.frontend.rig.settle()
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

  #ask(make: (owner: OwnerPort, isRetry: boolean, ticket: number) => void): number {
    const ticket = this.#nextTicket++
    const ask = (owner: OwnerPort, isRetry: boolean): void => make(owner, isRetry, ticket)
    this.#requests.set(ticket, ask)
    if (this.#bound !== null) ask(this.#bound, false)
    return ticket
  }

  /** Before `resume` it is never told: `resume` says where things stand; between `resume` and its answer, later. */
  #tell(make: (owner: OwnerPort) => void): void {
    const owner = this.#bound
    if (owner !== null) make(owner)
    else if (this.frontend.owners.has(this.shard)) this.#late.push(() => make(this.#bound!))
  }
}
