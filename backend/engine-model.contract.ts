import { expect } from 'vitest'
import type { ManualClock } from '#shared/base/clock.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { filterCovers, filterMatches } from '#shared/mqtt/topic.ts'
import type { AttachReply, SessionRights, WillRequest } from '#shared/rpc/backend-port.ts'
import { SeededRandom } from '#shared/testing/seeded-random.ts'
import { BackendRig, NEVER, nextTurn, rightsTo, type FrontendEvent, type RigClient, type Sent } from './backend-rig.contract.ts'
import { leftovers, retainedOf, stateDump } from './state-dump.contract.ts'

const CLIENT_IDS = ['ada', 'bob', 'cyd', 'dan', 'eve', 'fay']
const TOPICS = ['a', 'a/1', 'a/2', 'b']
const FILTERS = ['a', 'a/1', 'a/+', 'a/#', '+', 'b']
/** Only these have Shared Subscriptions, and only those, so that each delivery on them belongs to the group. */
const GROUP_TOPIC = 's/1'
const GROUP_FILTER = '$share/g/s/1'
/** What a client may be restricted to; null: nothing is said. */
const RIGHTS: readonly (readonly string[] | null)[] = [null, null, ['#'], ['a/#', 's/1'], ['a', 'b'], ['a/+', 's/1'], ['+'], []]
const SHORT_EXPIRY_SECONDS = 60
const TICK_MS = 1_000
/** Begins the payload of a Will, of which nobody is told whether it went out. */
const WILL = 'will of '

/** An Application Message of a client, from PUBLISH to the end of the exchange. */
interface Publishing {
  readonly payload: string
  readonly topic: string
  readonly qos: 0 | 1 | 2
  readonly retain: boolean
  readonly packetId: number
  /** -1: never. What may expire is owed to nobody. */
  readonly expirySeconds: number
  stage: 'publish' | 'release'
  /** Session States that must get it, once it is acknowledged. */
  owedTo: ModelSession[]
  owedToGroup: boolean
}

/** What the test believes of one Session State. */
class ModelSession {
  readonly expirySeconds: number
  /** Filter → QoS and No Local, as the engine holds them now. */
  readonly subscriptions = new Map<string, { qos: 0 | 1 | 2; noLocal: boolean }>()
  /** Filter → the texts of all options that a crash may bring back: the last acknowledged and everything after it. */
  readonly durable = new Map<string, Possible<string>[]>()
  readonly owed = new Set<string>()
  readonly firstSeen = new Set<string>()
  readonly exactlyOnce = new Map<string, number>()
  readonly lastOrder = new Map<string, number>()
  /** Packet Identifiers of QoS 2 messages that came and were not released: what a receiver must remember (§4.3.3). */
  readonly held = new Map<number, string>()
  hasEnded = false

  constructor(expirySeconds: number) {
    this.expirySeconds = expirySeconds
  }
}

/** A client that follows the specification, and remembers what it must across connections. */
class ModelClient {
  readonly clientId: string
  session: ModelSession | null = null
  rig: RigClient | null = null
  attaching: { readonly rig: RigClient; readonly session: ModelSession; reply: AttachReply | null; confirm(): void } | null = null
  /** What it may subscribe to since the last time that it was said. */
  rights: readonly string[] | null = null
  /** Of its connection: what was said and is not known to be in force, after what is. Nothing may come that none of them allows. */
  mayHear: (readonly string[] | null)[] = []
  /** Its last Clean Start may not have been stored: it must repeat it. */
  mustStartClean = false
  readonly outgoing = new Map<number, Publishing>()
  readonly tickets = new Map<number, { readonly run: (event: FrontendEvent) => void }>()
  readonly unsent: { readonly kind: 'puback' | 'pubrec' | 'pubcomp'; readonly packetId: number }[] = []
  readonly inFlight = new Map<number, string>()
  receiveMaximum = 0
  nextPacketId = 1

  constructor(clientId: string) {
    this.clientId = clientId
  }
}

/** What a run did, to see that it did something. */
export interface ModelFigures {
  published: number
  delivered: number
  redelivered: number
  crashes: number
  snapshots: number
  attached: number
  restricted: number
}

/**
 * Random operations on a backend whose disk is late, with crashes, against what MQTT and the architecture promise: nothing
 * acknowledged is lost, QoS 2 comes once, order holds, state comes back as it was acknowledged, and nothing is left over.
 */
export class EngineModel {
  readonly figures: ModelFigures = { published: 0, delivered: 0, redelivered: 0, crashes: 0, snapshots: 0, attached: 0, restricted: 0 }
  readonly #random: SeededRandom
  readonly #clients = CLIENT_IDS.map(id => new ModelClient(id))
  readonly #clock: ManualClock
  /** Topic → payloads (null: none) that a crash may bring back: the last acknowledged and everything after it. */
  readonly #retained = new Map<string, Possible<string | null>[]>()
  /** Messages for the group that some member must get, and those that came. */
  readonly #owedToGroup = new Map<string, 1 | 2>()
  readonly #repeated = new Set<string>()
  readonly #topicOf = new Map<string, string>()
  readonly #seenByGroup = new Set<string>()
  readonly #groupExactlyOnce = new Map<string, number>()
  #rig: BackendRig
  #nextMessage = 1

  private constructor(seed: number, rig: BackendRig) {
    this.#random = new SeededRandom(seed)
    this.#rig = rig
    this.#clock = rig.clock
  }

  static async run(seed: number, steps: number): Promise<ModelFigures> {
    const model = new EngineModel(seed, await BackendRig.open({ isLate: true }))
    for (let step = 0; step < steps; step++) await model.#step()
    await model.#finish()
    return model.figures
  }

  async #step(): Promise<void> {
    await this.#act()
    if (this.#random.chance(0.5) && this.#rig.turn.isRequested) this.#rig.endTurn()
    if (this.#random.chance(0.5)) this.#rig.store.complete(this.#random.int(0, 3))
    await nextTurn()
    this.#hearAttached()
    if (this.#random.chance(0.02)) this.#checkRetained()
  }

  async #act(): Promise<void> {
    const client = this.#random.pick(this.#clients)
    const choice = this.#random.int(0, 99)
    if (choice < 2) return this.#crash()
    if (choice < 5) return this.#snapshot()
    if (choice < 7) return this.#passTime()
    if (client.attaching !== null) return
    if (client.rig === null) return this.#attach(client)
    if (choice < 9) return this.#attach(client)
    if (choice < 13) return this.#detach(client)
    if (choice < 16) return client.rig.writable(this.#random.chance(0.7))
    if (choice < 18) return this.#restrict(client)
    if (choice < 26) return this.#subscribe(client)
    if (choice < 31) return this.#unsubscribe(client)
    if (choice < 55) return this.#publish(client)
    if (choice < 80) return this.#hear(client, this.#random.int(1, 20))
    return this.#answer(client, this.#random.int(1, 10))
  }

  // ---- connections

  #attach(client: ModelClient): void {
    const isClean = client.mustStartClean || this.#random.chance(0.1)
    const expirySeconds = this.#random.pick([0, SHORT_EXPIRY_SECONDS, NEVER, NEVER, NEVER])
    const before = client.session
    this.#lose(client)
    // A session without expiry ended with its connection; the old one may go before the new one starts.
    if (isClean || before?.expirySeconds === 0) this.#endSession(client)
    const session = new ModelSession(expirySeconds)
    if (client.session !== null) copySession(client.session, session)
    client.session = session
    client.mustStartClean = isClean
    client.receiveMaximum = this.#random.pick([1, 2, 5, 100])
    const rig = this.#rig.client(client.clientId)
    if (this.#random.chance(0.3)) client.rights = this.#random.pick(RIGHTS)
    client.mayHear = [client.rights]
    client.attaching = { rig, session, reply: null, confirm: () => {} }
    const { attaching } = client
    const isWritable = this.#random.chance(0.9)
    const rights = rightsOf(client)
    void rig
      .attach({ cleanStart: isClean, expirySeconds, receiveMaximum: client.receiveMaximum, isWritable, will: this.#will(client), rights })
      .then(reply => (attaching.reply = reply))
    if (before !== null) replaceOwed(this.#clients, before, session)
    attaching.confirm = this.#withdraw(client)
    if (expirySeconds === 0) this.#memberEnded()
  }

  #will({ clientId }: ModelClient): WillRequest | null {
    if (this.#random.chance(0.7)) return null
    const qos = this.#random.pick([0, 1, 2] as const)
    const message = this.#rig.message(this.#random.pick(TOPICS), `${WILL}${clientId}`, { qos })
    return { message, delaySeconds: this.#random.pick([0, 0, 30]) }
  }

  #hearAttached(): void {
    for (const client of this.#clients) {
      const { attaching } = client
      if (attaching === null || attaching.reply === null) continue
      client.attaching = null
      attaching.rig.opened(attaching.reply)
      attaching.confirm()
      client.rig = attaching.rig
      client.mustStartClean = false
      this.figures.attached++
      if (!attaching.rig.sessionPresent) {
        client.outgoing.clear()
        client.session!.held.clear()
      }
      this.#resend(client)
    }
  }

  /** [MQTT-4.4.0-1]: what was not acknowledged goes again, in the order in which it went. */
  #resend(client: ModelClient): void {
    for (const publishing of client.outgoing.values()) {
      if (publishing.stage === 'release') this.#release(client, publishing)
      else this.#send(client, publishing, true)
    }
  }

  #detach(client: ModelClient): void {
    const { rig, session } = client
    if (this.#random.chance(0.5)) this.#hear(client, this.#random.int(0, 30))
    rig!.detach({ discardWill: this.#random.chance(0.3) })
    this.#lose(client)
    if (session!.expirySeconds === 0) this.#endSession(client)
  }

  /** What was on its way to or from the client is lost with the connection. */
  #lose(client: ModelClient): void {
    client.rig = null
    client.attaching = null
    client.tickets.clear()
    client.unsent.length = 0
    client.inFlight.clear()
  }

  #endSession(client: ModelClient): void {
    const { session } = client
    client.session = null
    client.outgoing.clear()
    if (session !== null) session.hasEnded = true
    this.#memberEnded()
  }

  /** A QoS 2 message that went to a member which is gone may be lost [MQTT-4.8.2-5]; all are when nobody is left. */
  #memberEnded(): void {
    const isOwed = this.#groupOwes
    for (const [payload, qos] of this.#owedToGroup) if (!isOwed || qos === 2) this.#owedToGroup.delete(payload)
    for (const { outgoing } of this.#clients) {
      for (const publishing of outgoing.values()) if (!isOwed || publishing.qos === 2) publishing.owedToGroup = false
    }
  }

  /** The group has members, and all of them outlive a crash with what they hold. */
  get #groupOwes(): boolean {
    const members = this.#clients.flatMap(({ session }) => (session?.subscriptions.has(GROUP_FILTER) === true ? [session] : []))
    return members.length > 0 && members.every(({ expirySeconds }) => expirySeconds > 0)
  }

  /** What the client may do has changed; null is for everything, which only an attach can say. */
  #restrict(client: ModelClient): void {
    client.rights = this.#random.pick(RIGHTS.filter(each => each !== null))
    client.mayHear.push(client.rights)
    const confirm = this.#withdraw(client)
    this.figures.restricted++
    client.tickets.set(client.rig!.restrict(rightsOf(client)!), {
      run: event => {
        expect(event).toMatchObject({ is: 'subscribed', reasons: [] })
        confirm()
        client.mayHear.shift()
      },
    })
  }

  /** The client's session loses what its rights do not cover, and is owed nothing for it. The answer is called when that is acknowledged. */
  #withdraw({ session, rights }: ModelClient): () => void {
    if (session === null || rights === null) return () => {}
    const confirms: (() => void)[] = []
    for (const filter of session.subscriptions.keys()) {
      if (mayHave(rights, filter)) continue
      session.subscriptions.delete(filter)
      confirms.push(remember(session.durable, filter, NOT_SUBSCRIBED, NOT_SUBSCRIBED))
      if (filter === GROUP_FILTER) this.#memberEnded()
    }
    const wants = (topic: string): boolean => [...session.subscriptions.keys()].some(filter => matches(filter, topic))
    for (const payload of session.owed) if (!wants(this.#topicOf.get(payload)!)) session.owed.delete(payload)
    for (const { outgoing } of this.#clients) {
      for (const publishing of outgoing.values()) {
        if (!wants(publishing.topic)) publishing.owedTo = publishing.owedTo.filter(each => each !== session)
      }
    }
    return () => {
      for (const confirm of confirms) confirm()
    }
  }

  // ---- requests

  #subscribe(client: ModelClient): void {
    const { session } = client
    const filter = this.#random.chance(0.2) ? GROUP_FILTER : this.#random.pick(FILTERS)
    if (client.rights !== null && !mayHave(client.rights, filter)) return
    const isShared = filter.startsWith('$share/')
    const options = {
      qos: isShared ? (2 as const) : this.#random.pick([0, 1, 2, 2] as const),
      noLocal: !isShared && this.#random.chance(0.1),
    }
    session!.subscriptions.set(filter, options)
    const text = optionsText(options)
    const confirm = remember(session!.durable, filter, text, NOT_SUBSCRIBED)
    const ticket = client.rig!.subscribe(filter, { ...options, retainHandling: this.#random.pick([0, 1, 2] as const) })
    client.tickets.set(ticket, { run: confirm })
    if (isShared && session!.expirySeconds === 0) this.#memberEnded()
  }

  #unsubscribe(client: ModelClient): void {
    const { session } = client
    const filter = this.#random.chance(0.1) ? GROUP_FILTER : this.#random.pick(FILTERS)
    const had = session!.subscriptions.delete(filter)
    const confirm = remember(session!.durable, filter, NOT_SUBSCRIBED, NOT_SUBSCRIBED)
    const ticket = client.rig!.unsubscribe(filter)
    client.tickets.set(ticket, {
      run: event => {
        expect(event).toMatchObject({ is: 'subscribed', reasons: [had ? ReasonCode.Success : ReasonCode.NoSubscriptionExisted] })
        confirm()
      },
    })
    // Nothing new is picked for this member, but the others may be gone already.
    if (had && filter.startsWith('$share/')) this.#memberEnded()
  }

  #publish(client: ModelClient): void {
    const qos = this.#random.pick([0, 1, 1, 2, 2] as const)
    const isToGroup = this.#random.chance(0.2)
    if (client.outgoing.size >= 20) return
    const expirySeconds = this.#random.chance(0.15) ? this.#random.int(1, 60) : -1
    let packetId = 0
    if (qos > 0) {
      while (client.outgoing.has(client.nextPacketId)) client.nextPacketId = (client.nextPacketId % 50) + 1
      packetId = client.nextPacketId
      client.nextPacketId = (client.nextPacketId % 50) + 1
    }
    const publishing: Publishing = {
      payload: this.#random.chance(0.03) ? '' : `${client.clientId}:${this.#nextMessage++}`,
      topic: isToGroup ? GROUP_TOPIC : this.#random.pick(TOPICS),
      qos,
      retain: !isToGroup && expirySeconds === -1 && this.#random.chance(0.2),
      packetId,
      expirySeconds,
      stage: 'publish',
      owedTo: [],
      owedToGroup: false,
    }
    this.figures.published++
    this.#topicOf.set(publishing.payload, publishing.topic)
    if (qos > 0) client.outgoing.set(packetId, publishing)
    this.#send(client, publishing, false)
  }

  #send(client: ModelClient, publishing: Publishing, dup: boolean): void {
    const { topic, payload, qos, retain, packetId, expirySeconds } = publishing
    const shard = this.#rig.engine.shardFor(client.clientId)
    const isHeld = qos === 2 && shard.sessions.get(client.clientId)?.receivedQos2?.has(packetId) === true
    expect(isHeld && !dup, `${client.clientId}: a new message takes identifier ${packetId}, which the broker holds`).toBe(false)
    if (dup) this.#repeated.add(payload)
    let confirm = (): void => {}
    if (!isHeld) {
      publishing.owedTo = qos === 0 || expirySeconds >= 0 ? [] : this.#subscribersOf(client, topic)
      publishing.owedToGroup = qos > 0 && expirySeconds === -1 && topic === GROUP_TOPIC && this.#groupOwes
      if (retain) confirm = remember(this.#retained, topic, payload === '' ? null : payload, null)
    }
    const ticket = client.rig!.publish(topic, payload, { qos, retain, packetId, dup, expirySeconds })
    if (qos === 0) return
    client.tickets.set(ticket, {
      run: event => {
        expect(
          event.is === 'acknowledged' && (event.reason === ReasonCode.Success || event.reason === ReasonCode.NoMatchingSubscribers),
        ).toBe(true)
        confirm()
        for (const session of publishing.owedTo)
          if (!session.hasEnded && payload !== '' && !session.firstSeen.has(payload)) session.owed.add(payload)
        if (publishing.owedToGroup && !this.#seenByGroup.has(payload) && payload !== '') this.#owedToGroup.set(payload, qos)
        if (qos === 1) client.outgoing.delete(packetId)
        else {
          publishing.stage = 'release'
          this.#release(client, publishing)
        }
      },
    })
  }

  #release(client: ModelClient, { packetId }: Publishing): void {
    const ticket = client.rig!.release(packetId)
    client.tickets.set(ticket, { run: () => void client.outgoing.delete(packetId) })
  }

  /** Persistent sessions that must get a message on `topic` at QoS 1 or 2. */
  #subscribersOf(publisher: ModelClient, topic: string): ModelSession[] {
    const found: ModelSession[] = []
    for (const { session } of this.#clients) {
      if (session === null || session.expirySeconds === 0) continue
      for (const [filter, { qos, noLocal }] of session.subscriptions) {
        if (qos === 0 || !matches(filter, topic) || (noLocal && session === publisher.session)) continue
        found.push(session)
        break
      }
    }
    return found
  }

  // ---- what comes

  #hear(client: ModelClient, count: number): void {
    for (const event of this.#rig.frontend.of(client.rig!.connection).splice(0, count)) {
      if (event.is === 'publish') this.#onSent(client, event)
      else if (event.is === 'released') {
        client.session!.held.delete(event.packetId)
        client.unsent.push({ kind: 'pubcomp', packetId: event.packetId })
      } else if (event.is === 'acknowledged' || event.is === 'subscribed') {
        const waiting = client.tickets.get(event.ticket)
        expect(waiting, `ticket ${event.ticket} of ${client.clientId} is answered once`).toBeDefined()
        client.tickets.delete(event.ticket)
        waiting!.run(event)
      }
    }
  }

  #onSent(client: ModelClient, sent: Sent): void {
    const session = client.session!
    this.figures.delivered++
    const isAllowed = client.mayHear.some(rights => rights === null || rights.some(filter => filterMatches(filter, sent.topic)))
    expect(isAllowed, `${sent.payload} on ${sent.topic} to ${client.clientId}, which may hear ${JSON.stringify(client.mayHear)}`).toBe(true)
    if (sent.qos === 0) return
    const known = client.inFlight.get(sent.packetId)
    expect(known, `identifier ${sent.packetId} to ${client.clientId} is in use for ${known}`).toBeUndefined()
    client.inFlight.set(sent.packetId, sent.payload)
    expect(client.inFlight.size, `in flight to ${client.clientId}`).toBeLessThanOrEqual(client.receiveMaximum)
    client.unsent.push({ kind: sent.qos === 1 ? 'puback' : 'pubrec', packetId: sent.packetId })
    if (sent.dup) this.figures.redelivered++
    if (sent.qos === 2) {
      const held = session.held.get(sent.packetId)
      if (held !== undefined)
        return expect([sent.payload, sent.dup], `repeat of ${sent.packetId} to ${client.clientId}`).toEqual([held, true])
      session.held.set(sent.packetId, sent.payload)
    }
    this.#onMessage(client, session, sent)
  }

  /** The application of the client gets it. */
  #onMessage(client: ModelClient, session: ModelSession, sent: Sent): void {
    if (sent.payload === '' || sent.retain || sent.payload.startsWith(WILL)) return
    const where = `${sent.payload} on ${sent.topic} (QoS ${sent.qos}) to ${client.clientId}`
    if (sent.qos === 2) {
      // What a member without Session State had is forgotten with a crash, and what was not acknowledged then goes to another one.
      const isOfGroup = sent.topic === GROUP_TOPIC && session.expirySeconds > 0
      const counts = isOfGroup ? this.#groupExactlyOnce : session.exactlyOnce
      const count = (counts.get(sent.payload) ?? 0) + 1
      counts.set(sent.payload, count)
      expect(count, `${where} comes once`).toBe(1)
    }
    if (sent.topic === GROUP_TOPIC) this.#seenByGroup.add(sent.payload)
    session.owed.delete(sent.payload)
    this.#owedToGroup.delete(sent.payload)
    if (session.firstSeen.has(sent.payload)) return
    session.firstSeen.add(sent.payload)
    if (sent.topic === GROUP_TOPIC || this.#repeated.has(sent.payload)) return
    const [publisher, order] = sent.payload.split(':') as [string, string]
    const stream = `${publisher} ${sent.topic} ${sent.qos}`
    expect(Number(order), `${where} comes in order`).toBeGreaterThan(session.lastOrder.get(stream) ?? 0)
    session.lastOrder.set(stream, Number(order))
  }

  #answer(client: ModelClient, count: number): void {
    for (const { kind, packetId } of client.unsent.splice(0, count)) {
      const isKnown = client.rig![kind](packetId)
      expect(isKnown, `${kind} ${packetId} from ${client.clientId}`).toBe(true)
      if (kind !== 'pubrec') client.inFlight.delete(packetId)
    }
  }

  // ---- time, snapshots, crashes

  async #passTime(): Promise<void> {
    this.#clock.advance(this.#random.int(1, 20) * TICK_MS)
    this.#rig.backend.tick()
    this.#forgetExpired()
    // Sessions that only a crash brought back may have expired too.
    if (this.#clients.some(({ mustStartClean }) => mustStartClean)) this.#memberEnded()
  }

  /** Sessions of which the engine says that they expired; that it may is checked. */
  #forgetExpired(): void {
    for (const client of this.#clients) {
      if (client.session === null || client.rig !== null || client.attaching !== null) continue
      if (this.#rig.engine.shardFor(client.clientId).sessions.has(client.clientId)) continue
      expect(client.session.expirySeconds, `only what expires may go: ${client.clientId}`).not.toBe(NEVER)
      this.#endSession(client)
      // A crash may bring it back: its end is not stored yet.
      client.mustStartClean = true
    }
  }

  async #snapshot(): Promise<void> {
    this.#rig.store.snapshotDue = this.#random.int(0, this.#rig.store.shardCount - 1)
    this.#rig.backend.tick()
    this.figures.snapshots++
    await nextTurn()
  }

  async #crash(): Promise<void> {
    this.figures.crashes++
    const store = this.#rig.store.crash(this.#random.int(0, 4))
    // What was sent before the crash may still arrive.
    for (const client of this.#clients) if (client.rig !== null && this.#random.chance(0.5)) this.#hear(client, this.#random.int(0, 30))
    const again = store.crash()
    const logOnly = await BackendRig.open({ store: store.withoutSnapshots(), clock: this.#clock })
    this.#rig = await BackendRig.open({ store, clock: this.#clock, isLate: true })
    const state = stateDump(this.#rig.engine)
    expect(state, 'a snapshot and the log after it are worth the whole log').toEqual(stateDump(logOnly.engine))
    const first = await BackendRig.open({ store: again, clock: this.#clock })
    const second = await BackendRig.open({ store: first.store.crash(), clock: this.#clock })
    expect(stateDump(second.engine), 'recovered again, the same comes back').toEqual(state)
    for (const client of this.#clients) this.#afterCrash(client)
    this.#adoptRetained()
  }

  #afterCrash(client: ModelClient): void {
    const wasAttaching = client.attaching !== null
    this.#lose(client)
    const { session } = client
    const found = this.#rig.engine.shardFor(client.clientId).sessions.get(client.clientId)
    if (session === null) return
    if (wasAttaching) {
      // It never heard of the new connection: whatever session is there, it starts anew.
      client.mustStartClean = true
      return this.#endSession(client)
    }
    if (found === undefined) {
      expect(session.expirySeconds, `${client.clientId} was told of its session`).not.toBe(NEVER)
      return this.#endSession(client)
    }
    for (const filter of new Set([...session.durable.keys(), ...(found.subscriptions?.keys() ?? [])])) {
      const known = found.subscriptions?.get(filter)
      const text = known === undefined ? NOT_SUBSCRIBED : optionsText(known)
      const possible = session.durable.get(filter)?.map(({ value }) => value) ?? [NOT_SUBSCRIBED]
      expect(possible, `${client.clientId} and ${filter}`).toContain(text)
      session.durable.set(filter, [{ value: text }])
      if (known === undefined) session.subscriptions.delete(filter)
      else session.subscriptions.set(filter, { qos: known.qos, noLocal: known.noLocal })
    }
    this.#memberEnded()
  }

  #adoptRetained(): void {
    for (const [topic, possible] of this.#retained) {
      const payload = this.#rig.engine.retained.get(topic)?.payload.toString() ?? null
      expect(
        possible.map(({ value }) => value),
        `Retained Message of ${topic}`,
      ).toContain(payload)
      this.#retained.set(topic, [{ value: payload }])
    }
  }

  #checkRetained(): void {
    const actual = Object.keys(retainedOf(this.#rig.engine))
    const expected = [...this.#retained].filter(([, possible]) => possible.at(-1)!.value !== null).map(([topic]) => topic)
    expect(actual.sort()).toEqual(expected.sort())
  }

  // ---- the end

  /** Everybody comes back and takes all there is; then everybody leaves for good, and nothing may stay. */
  async #finish(): Promise<void> {
    await this.#rig.settle()
    this.#hearAttached()
    for (const client of this.#clients) {
      if (client.rig === null && client.session !== null) await this.#comeBack(client)
      client.rig?.writable(true)
    }
    await this.#exchangeAll()
    for (const { clientId, session } of this.#clients)
      expect([...(session?.owed ?? [])], `acknowledged, and owed to ${clientId}`).toEqual([])
    expect([...this.#owedToGroup.keys()], 'acknowledged, and owed to the group').toEqual([])
    for (const topic of TOPICS) {
      const publisher = await this.#rig.connect(`last ${topic}`)
      publisher.publish(topic, '', { retain: true })
      publisher.detach()
    }
    for (const { clientId } of this.#clients) (await this.#rig.connect(clientId, { cleanStart: true })).detach()
    await this.#rig.settle()
    for (const [name, left] of Object.entries(leftovers(this.#rig.engine))) expect(left, `${name} when all are gone`).toBe(0)
  }

  async #comeBack(client: ModelClient): Promise<void> {
    client.receiveMaximum = 100
    client.mayHear = [null]
    client.rig = this.#rig.client(client.clientId)
    const attached = client.rig.attach({ expirySeconds: NEVER, receiveMaximum: 100 })
    await this.#rig.settle()
    client.rig.opened(await attached)
    expect(client.rig.sessionPresent).toBe(true)
    this.#resend(client)
  }

  async #exchangeAll(): Promise<void> {
    for (let isQuiet = false; !isQuiet; ) {
      await this.#rig.settle()
      isQuiet = true
      for (const client of this.#clients) {
        if (client.rig === null) continue
        if (this.#rig.frontend.of(client.rig.connection).length > 0 || client.unsent.length > 0) isQuiet = false
        this.#hear(client, Infinity)
        this.#answer(client, Infinity)
      }
    }
  }
}

const NOT_SUBSCRIBED = 'not subscribed'

function optionsText({ qos, noLocal }: { qos: number; noLocal: boolean }): string {
  return `QoS ${qos}${noLocal ? ', No Local' : ''}`
}

function mayHave(rights: readonly string[], filter: string): boolean {
  const requested = filter === GROUP_FILTER ? GROUP_TOPIC : filter
  return rights.some(allowed => filterCovers(allowed, requested))
}

function rightsOf({ rights }: ModelClient): SessionRights | null {
  return rights === null ? null : rightsTo(rights)
}

/** Adds a value; the answer is called when it is acknowledged: nothing from before it can come back then. */
function remember<V>(durable: Map<string, Possible<V>[]>, key: string, value: V, initially: V): () => void {
  let possible = durable.get(key)
  if (possible === undefined) durable.set(key, (possible = [{ value: initially }]))
  const latest = { value }
  possible.push(latest)
  return () => {
    const at = durable.get(key)!.indexOf(latest)
    if (at > 0) durable.get(key)!.splice(0, at)
  }
}

/** What a crash may bring back. */
interface Possible<V> {
  readonly value: V
}

function matches(filter: string, topic: string): boolean {
  if (filter === topic || (filter === '+' && !topic.includes('/'))) return true
  if (filter === 'a/#') return topic.startsWith('a')
  return filter === 'a/+' && topic.startsWith('a/')
}

/** The session goes on under another Session Expiry Interval. */
function copySession(from: ModelSession, to: ModelSession): void {
  for (const [filter, options] of from.subscriptions) to.subscriptions.set(filter, options)
  for (const [filter, candidates] of from.durable) to.durable.set(filter, candidates)
  for (const payload of from.owed) to.owed.add(payload)
  for (const payload of from.firstSeen) to.firstSeen.add(payload)
  for (const [payload, count] of from.exactlyOnce) to.exactlyOnce.set(payload, count)
  for (const [stream, order] of from.lastOrder) to.lastOrder.set(stream, order)
  for (const [packetId, payload] of from.held) to.held.set(packetId, payload)
}

function replaceOwed(clients: readonly ModelClient[], before: ModelSession, after: ModelSession): void {
  if (before.hasEnded) return
  for (const { outgoing } of clients) {
    for (const publishing of outgoing.values()) publishing.owedTo = publishing.owedTo.map(session => (session === before ? after : session))
  }
}
