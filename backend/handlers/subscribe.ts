import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ParsedFilter, SubscriptionRequest } from '#shared/rpc/backend-port.ts'
import type { Engine } from '../engine.ts'
import { cancelReplay, startReplay } from '../queue/retained-replay.ts'
import { bytesOfSubscription } from '../session/session-bytes.ts'
import type { Session, SessionSubscription } from '../session/session.ts'
import { writeSubscribed, writeUnsubscribed } from '../shard/records.ts'

const GRANTED = [ReasonCode.Success, ReasonCode.GrantedQoS1, ReasonCode.GrantedQoS2] as const

/** §3.8. See BackendPort.subscribe: the answer leaves once the Subscriptions are stored, Retained Messages follow it. */
export function onSubscribe(engine: Engine, session: Session, ticket: number, requests: readonly SubscriptionRequest[]): void {
  const reasons: ReasonCode[] = []
  const replays: SessionSubscription[] = []
  for (const request of requests) {
    const refused = request.refused ?? limitReached(engine, session, request.filter)
    reasons.push(refused ?? GRANTED[request.qos])
    if (refused !== null) continue
    const known = add(engine, session, request)
    const wantsRetained = request.retainHandling === 0 || (request.retainHandling === 1 && known === 'new')
    // [MQTT-3.8.4-4]: a repeated SUBSCRIBE sends them again; never for a Shared Subscription (§4.8.2).
    if (wantsRetained && request.filter.group === null) replays.push(request)
  }
  const { retainedSequence } = engine
  answer(engine, session, ticket, reasons, () => {
    for (const subscription of replays) startReplay(engine, session, subscription, retainedSequence)
  })
}

/** §3.10. See BackendPort.unsubscribe. */
export function onUnsubscribe(engine: Engine, session: Session, ticket: number, filters: readonly ParsedFilter[]): void {
  const reasons: ReasonCode[] = []
  for (const filter of filters) {
    const existed = forget(engine, session, filter)
    reasons.push(existed ? ReasonCode.Success : ReasonCode.NoSubscriptionExisted)
    if (!existed) continue
    cancelReplay(session, filter.text)
    if (session.isJournalled) {
      writeUnsubscribed(engine.journal.writer(session.shard), session.number, filter.text)
    }
  }
  answer(engine, session, ticket, reasons, () => {})
}

/** The Packet Identifier of the request means a QoS 2 message still (§2.2.1): nothing is done. */
export function refuseAll(engine: Engine, session: Session, ticket: number, filters: number): void {
  const reasons = Array.from({ length: filters }, () => ReasonCode.PacketIdentifierInUse)
  answer(engine, session, ticket, reasons, () => {})
}

function limitReached(engine: Engine, session: Session, filter: ParsedFilter): ReasonCode | null {
  const { subscriptions } = session
  if (subscriptions?.has(filter.text) === true) return null
  const isFull = engine.isFull || (subscriptions?.size ?? 0) >= engine.settings.subscriptionsPerSessionMax
  return isFull ? ReasonCode.QuotaExceeded : null
}

function add(engine: Engine, session: Session, request: SubscriptionRequest): 'new' | 'replaced' {
  const known = remember(engine, session, request)
  if (session.isJournalled) {
    writeSubscribed(engine.journal.writer(session.shard), { session: session.number, text: request.filter.text, ...optionsOf(request) })
  }
  return known
}

/** Puts a Subscription into the session and the index, replacing one with the same filter [MQTT-3.8.4-3]; also what recovery does. */
export function remember(engine: Engine, session: Session, subscription: SessionSubscription): 'new' | 'replaced' {
  const { filter } = subscription
  session.subscriptions ??= new Map()
  if (!session.subscriptions.has(filter.text)) engine.counters.sessionBytes += bytesOfSubscription(filter)
  session.subscriptions.set(filter.text, { filter, ...optionsOf(subscription) })
  if (filter.group === null) return engine.index.subscribe(session, filter.filter, subscription)
  return engine.index.subscribeShared(session, filter.group, filter.filter, subscription)
}

/** Takes a Subscription out of the session and the index; false when there was none. Also what recovery does. */
export function forget(engine: Engine, session: Session, filter: ParsedFilter): boolean {
  if (session.subscriptions?.delete(filter.text) !== true) return false
  engine.counters.sessionBytes -= bytesOfSubscription(filter)
  if (filter.group === null) engine.index.unsubscribe(session, filter.filter)
  else engine.index.unsubscribeShared(session, filter.group, filter.filter)
  return true
}

function optionsOf(from: SessionSubscription): Omit<SessionSubscription, 'filter'> {
  return { qos: from.qos, noLocal: from.noLocal, retainAsPublished: from.retainAsPublished, identifier: from.identifier }
}

function answer(engine: Engine, session: Session, ticket: number, reasons: readonly ReasonCode[], then: () => void): void {
  const { connection } = session
  const { port } = session.link!
  engine.journal.whenStored(() => {
    if (session.connection !== connection || session.link === null) return
    port.subscribed(connection, ticket, reasons)
    then()
  })
}
