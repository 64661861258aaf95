import { filterMatches } from '#shared/mqtt/topic.ts'
import type { HistoryEvent, Qos } from './history.ts'
import { Forgotten } from './forgotten.ts'
import { holdsThroughout, mayHoldWithin, NEVER, type Place, SessionModel, type Subscribed } from './session-model.ts'

/** Names the invariant of ARCHITECTURE.md, or of MQTT, that does not hold. */
export type Rule =
  | 'lost'
  | 'duplicate'
  | 'order'
  | 'unasked'
  | 'no-local'
  | 'unknown'
  | 'session-lost'
  | 'session-made-up'
  | 'group-lost'
  | 'group-duplicate'
  | 'retained'
  | 'two-owners'
  | 'store'
  | 'store-order'
  | 'store-unasked'
  | 'store-unknown'
  | 'store-missed'
  | 'store-kept'
  | 'wrong'
  | 'stuck'

export interface Violation {
  readonly rule: Rule
  readonly text: string
  /** What of the history tells about it. */
  readonly words: readonly string[]
}

/** Begins the payload of a Will: of those nobody is told whether they went out. */
const WILL = 'will:'
/** From here on a Reason Code is a failure. */
const FAILURE = 0x80

interface Publication {
  readonly message: string
  readonly client: string
  readonly topic: string
  readonly qos: Qos
  readonly retain: boolean
  /** Counts the messages of its client. */
  readonly order: number
  readonly sentAt: Place
  /** On which of the client's connections it was sent first. */
  readonly connection: number
  /** PUBACK or PUBREC without failure. */
  acknowledgedAt: Place
  isRepeated: boolean
}

interface ClientModel {
  session: SessionModel | null
  connections: number
  /** The CONNECT that is under way or was answered last. */
  attempt: { readonly isClean: boolean; readonly isPersistent: boolean; readonly at: Place } | null
  /** CONNECTs of a persistent client that were not answered since the session was last known: they may have made one. */
  mayHaveMade: boolean
  /** Stream → order of the last message that came for the first time. */
  lastOrder: Map<string, { readonly order: number; readonly message: string }>
}

/**
 * Whether a history keeps what MQTT and ARCHITECTURE.md promise. Where the client cannot know what the broker did, because an answer is
 * missing, everything that is then possible is allowed.
 */
export function check(events: readonly HistoryEvent[]): Violation[] {
  return new Checker(events).run()
}

class Checker {
  readonly #events: readonly HistoryEvent[]
  readonly #violations: Violation[] = []
  readonly #clients = new Map<string, ClientModel>()
  readonly #sessions: SessionModel[] = []
  readonly #publications = new Map<string, Publication>()
  readonly #orders = new Map<string, number>()
  readonly #owners = new Map<string, string>()
  readonly #retained = new Map<string, string | null>()
  readonly #forgotten: Forgotten

  constructor(events: readonly HistoryEvent[]) {
    this.#events = events
    this.#forgotten = new Forgotten(events)
  }

  run(): Violation[] {
    this.#events.forEach((event, place) => this.#take(event, place))
    this.#checkDelivered()
    this.#checkRetained()
    this.#checkGroups()
    return this.#violations
  }

  #take(event: HistoryEvent, at: Place): void {
    switch (event.is) {
      case 'connect':
        return this.#onConnect(event, at)
      case 'connack':
        return this.#onConnack(event, at)
      case 'closed':
        return this.#onClosed(event, at)
      case 'subscribe':
        return this.#sessionOf(event.client)?.ask(event.filter, event.qos, event.noLocal, at)
      case 'suback':
        if (event.granted >= FAILURE) return
        return this.#sessionOf(event.client)?.confirm(event.filter, at)
      case 'unsubscribe':
        return this.#sessionOf(event.client)?.unask(event.filter, at)
      case 'unsuback':
        return this.#sessionOf(event.client)?.unconfirm(event.filter, at)
      case 'publish':
        return this.#onPublish(event, at)
      case 'acknowledged': {
        const publication = this.#publications.get(event.message)
        if (publication !== undefined && event.reason < FAILURE) publication.acknowledgedAt = at
        return
      }
      case 'received':
        return this.#onReceived(event, at)
      case 'retained':
        return void this.#retained.set(event.topic, event.message)
      case 'owned':
        return this.#onOwned(event)
      case 'wrong':
      case 'stuck':
        return this.#violate(event.is, `${event.client}: ${event.what}`, [event.client])
      case 'refused':
      case 'abandoned':
      case 'fault':
      case 'mayForget':
      // What they say about the state store: store-checker.ts.
      case 'storeAsked':
      case 'storeAnswered':
      case 'storeRefused':
      case 'notified':
      case 'keptFrom':
      case 'keptOn':
      case 'keptTold':
    }
  }

  // ---- sessions

  #clientOf(client: string): ClientModel {
    let found = this.#clients.get(client)
    if (found === undefined) {
      found = { session: null, connections: 0, attempt: null, mayHaveMade: false, lastOrder: new Map() }
      this.#clients.set(client, found)
    }
    return found
  }

  #sessionOf(client: string): SessionModel | null {
    return this.#clientOf(client).session
  }

  #onConnect({ client, isClean, isPersistent }: HistoryEvent & { is: 'connect' }, at: Place): void {
    const model = this.#clientOf(client)
    model.connections++
    model.attempt = { isClean, isPersistent, at }
    if (isClean) model.session?.mayEnd(at)
    if (model.session !== null && !model.session.isPersistent) model.session.mayEnd(at)
  }

  #onConnack({ client, isPresent }: HistoryEvent & { is: 'connack' }, at: Place): void {
    const model = this.#clientOf(client)
    const { session, attempt } = model
    if (attempt === null) return
    if (isPresent && attempt.isClean) this.#violate('session-made-up', `${client} started clean and is told of a session`, [client])
    if (isPresent && session === null && !model.mayHaveMade)
      this.#violate('session-made-up', `${client} never had the session that it is told of`, [client])
    const mustExist = session !== null && session.isPersistent && session.endingAt === NEVER
    if (!isPresent && mustExist && !this.#forgotten.has(session.startedAt))
      this.#violate('session-lost', `the session of ${client}, begun at ${session.startedAt}, is gone`, [client])
    model.mayHaveMade = false
    if (isPresent && session !== null) return
    session?.end(attempt.at)
    model.session = new SessionModel(client, attempt.isPersistent, at)
    model.lastOrder = new Map()
    this.#sessions.push(model.session)
  }

  #onClosed({ client }: HistoryEvent & { is: 'closed' }, at: Place): void {
    const model = this.#clientOf(client)
    if (model.attempt?.isPersistent === true) model.mayHaveMade = true
    if (model.session !== null && !model.session.isPersistent) model.session.mayEnd(at)
  }

  // ---- messages

  #onPublish(event: HistoryEvent & { is: 'publish' }, at: Place): void {
    const known = this.#publications.get(event.message)
    if (known !== undefined) {
      known.isRepeated = true
      return
    }
    const order = (this.#orders.get(event.client) ?? 0) + 1
    this.#orders.set(event.client, order)
    this.#publications.set(event.message, {
      message: event.message,
      client: event.client,
      topic: event.topic,
      qos: event.qos,
      retain: event.retain,
      order,
      sentAt: at,
      connection: this.#clientOf(event.client).connections,
      acknowledgedAt: NEVER,
      isRepeated: false,
    })
  }

  #onReceived(event: HistoryEvent & { is: 'received' }, at: Place): void {
    const { client, message, retain } = event
    const session = this.#sessionOf(client)
    if (session === null) return this.#violate('unasked', `${client} has no session and gets ${message}`, [client, message])
    if (message.startsWith(WILL)) return
    const publication = this.#publications.get(message)
    if (publication === undefined || publication.topic !== event.topic)
      return this.#violate('unknown', `${client} gets ${message} on ${event.topic}, which nobody sent`, [client, message])
    if (event.isRepeat) return
    this.#checkAsked(event, session, publication, at)
    if (!retain && event.qos === 2) this.#countQos2(session, publication)
    if (!session.received.has(message)) {
      session.received.set(message, at)
      if (!retain) this.#checkOrder(event, session, publication)
    }
  }

  /** Whatever comes was subscribed to: by then, and not given back before the message was sent. */
  #checkAsked(
    { client, message, retain }: HistoryEvent & { is: 'received' },
    session: SessionModel,
    publication: Publication,
    at: Place,
  ): void {
    // A Retained Message may have been on its way when its Subscription ended.
    const from = retain ? session.startedAt : publication.sentAt
    const asked = session.subscriptions.filter(each => filterMatches(each.matched, publication.topic) && mayHoldWithin(each, from, at))
    if (asked.length === 0)
      this.#violate('unasked', `${client} has no Subscription for ${message} on ${publication.topic}`, [client, message])
    else if (!retain && publication.client === client && asked.every(({ noLocal }) => noLocal))
      this.#violate('no-local', `${client} gets its own ${message} on ${publication.topic}`, [client, message])
  }

  #countQos2(session: SessionModel, publication: Publication): void {
    const { message, qos } = publication
    const times = (session.timesQos2.get(message) ?? 0) + 1
    session.timesQos2.set(message, times)
    if (
      times > 1 &&
      qos === 2 &&
      !this.#isDoubtful(publication) &&
      !this.#forgotten.hasOnTheWay(publication.sentAt, session.received.get(message) ?? NEVER)
    )
      this.#violate('duplicate', `${session.client} gets ${message} for the ${times}th time`, [session.client, message])
  }

  #checkOrder({ client, qos }: HistoryEvent & { is: 'received' }, session: SessionModel, publication: Publication): void {
    // A group may give a message to another member when the first one goes.
    if (session.subscriptions.some(({ group, matched }) => group !== null && filterMatches(matched, publication.topic))) return
    const { lastOrder } = this.#clientOf(client)
    // With QoS 0 a client that was away misses a message, and may get it when its publisher repeats it.
    if (qos === 0 && publication.qos > 0) return
    // Nobody repeats QoS 0, so that only those of one connection travel behind each other.
    const way = publication.qos === 0 ? `${publication.connection}` : ''
    const stream = `${publication.client} ${publication.topic} ${publication.qos} ${qos} ${way}`
    const last = lastOrder.get(stream)
    if (last !== undefined && last.order > publication.order && this.#isSteady(session, publication) && !this.#isDoubtful(publication))
      this.#violate('order', `${client} gets ${publication.message} after ${last.message} (QoS ${qos}, ${publication.topic})`, [
        client,
        publication.message,
        last.message,
      ])
    if (last === undefined || last.order < publication.order)
      lastOrder.set(stream, { order: publication.order, message: publication.message })
  }

  /**
   * What the session has of matching Subscriptions is what it had when the message was sent. Otherwise a message that is sent again, by its
   * client or by a frontend, may come as if it were new, or with another QoS.
   */
  #isSteady({ subscriptions }: SessionModel, { topic, sentAt }: Publication): boolean {
    return subscriptions.every(
      each => each.endedAt < sentAt || (each.confirmedAt < sentAt && each.endingAt === NEVER) || !filterMatches(each.matched, topic),
    )
  }

  // ---- at the end

  #checkDelivered(): void {
    const end = this.#events.length
    for (const publication of this.#publications.values()) {
      if (publication.qos === 0 || publication.acknowledgedAt === NEVER || this.#isDoubtful(publication)) continue
      for (const session of this.#sessions) {
        if (session.endingAt !== NEVER || session.received.has(publication.message) || this.#forgotten.has(session.startedAt)) continue
        const owing = session.subscriptions.find(
          each =>
            each.group === null &&
            each.qos > 0 &&
            !(each.noLocal && each.client === publication.client) &&
            filterMatches(each.matched, publication.topic) &&
            !this.#forgotten.has(each.confirmedAt) &&
            holdsThroughout(each, publication.sentAt, end),
        )
        if (owing === undefined) continue
        const { message, topic, qos } = publication
        this.#violate('lost', `${message} (QoS ${qos}) on ${topic} never came to ${session.client}, which has ${owing.filter}`, [
          session.client,
          message,
        ])
      }
    }
  }

  #checkGroups(): void {
    const groups = new Map<string, Subscribed[]>()
    for (const { subscriptions } of this.#sessions) {
      for (const each of subscriptions) {
        if (each.group === null) continue
        const members = groups.get(each.filter)
        if (members === undefined) groups.set(each.filter, [each])
        else members.push(each)
      }
    }
    for (const publication of this.#publications.values()) {
      if (publication.qos === 0) continue
      for (const [filter, members] of groups) {
        if (filterMatches(members[0]!.matched, publication.topic)) this.#checkGroup(filter, members, publication)
      }
    }
  }

  /** Assumes that nothing else of the sessions that are in it matches the topic. */
  #checkGroup(filter: string, members: readonly Subscribed[], publication: Publication): void {
    const { message, qos, sentAt, acknowledgedAt } = publication
    const isForgotten = ({ received }: SessionModel): boolean => this.#forgotten.hasOnTheWay(sentAt, received.get(message) ?? NEVER)
    if (this.#isDoubtful(publication) || this.#sessions.some(isForgotten)) return
    if (members.some(({ confirmedAt, endingAt, endedAt }) => [confirmedAt, endingAt, endedAt].some(at => this.#forgotten.has(at)))) return
    const end = this.#events.length
    const times = this.#sessions.reduce((sum, { timesQos2 }) => sum + (timesQos2.get(message) ?? 0), 0)
    if (qos === 2 && times > 1) this.#violate('group-duplicate', `${filter} gets ${message} ${times} times`, [message])
    if (acknowledgedAt === NEVER || this.#sessions.some(({ received }) => received.has(message))) return
    const staying = members.filter(each => each.qos > 0 && holdsThroughout(each, sentAt, end))
    // A QoS 2 message that was given to a member which then ends is lost with it [MQTT-4.8.2-5].
    const mayHaveHad = members.filter(each => mayHoldWithin(each, sentAt, end))
    const isOwed = qos === 1 ? staying.length > 0 : staying.length > 0 && mayHaveHad.every(each => staying.includes(each))
    if (isOwed && mayHaveHad.every(each => each.qos > 0))
      this.#violate('group-lost', `no member of ${filter} gets ${message} (QoS ${qos})`, [message])
  }

  /** Of topics that one client alone writes to, always with the same QoS. */
  #checkRetained(): void {
    for (const [topic, actual] of this.#retained) {
      const sent = [...this.#publications.values()].filter(each => each.retain && each.topic === topic)
      if (sent.some(each => this.#isDoubtful(each))) continue
      const last = sent.findLastIndex(({ acknowledgedAt }) => acknowledgedAt !== NEVER)
      // What was sent on two connections may arrive twice, the second time late.
      const possible = sent.filter(({ isRepeated }, index) => index >= last || isRepeated).map(({ message }) => message)
      const isRight = actual === null ? last === -1 : possible.includes(actual)
      if (!isRight)
        this.#violate('retained', `${topic} holds ${actual}; possible: ${possible.join(', ')}`, [
          topic,
          ...(actual === null ? [] : [actual]),
        ])
    }
  }

  #onOwned({ process, shard, epoch }: HistoryEvent & { is: 'owned' }): void {
    const key = `${shard} ${epoch}`
    const owner = this.#owners.get(key) ?? process
    this.#owners.set(key, owner)
    if (owner !== process && !this.#forgotten.isPossible)
      this.#violate('two-owners', `shard ${shard}, epoch ${epoch}: ${owner} and ${process}`, [`shard=${shard}`])
  }

  /** What is stored of it may have been lost. */
  #isDoubtful({ sentAt, acknowledgedAt }: Publication): boolean {
    return this.#forgotten.isWithin(sentAt, acknowledgedAt)
  }

  #violate(rule: Rule, text: string, words: readonly string[]): void {
    this.#violations.push({ rule, text, words })
  }
}
