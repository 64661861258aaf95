import { isFailure, ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ParsedFilter } from '#shared/mqtt/topic.ts'
import type { SubscriptionRequest } from '#shared/rpc/backend-port.ts'
import type { ClusterNode } from '../cluster/cluster-node.ts'
import type { Engine } from '../engine.ts'
import { cancelReplay, startReplay } from '../queue/retained-replay.ts'
import type { Session, SessionSubscription } from '../session/session.ts'
import { forget, optionsOf, remember } from '../session/subscriptions.ts'
import { writeSubscribed, writeUnsubscribed } from '../shard/records.ts'
import { answer, asked } from './answering.ts'

const GRANTED = [ReasonCode.Success, ReasonCode.GrantedQoS1, ReasonCode.GrantedQoS2] as const

/** §3.8. See BackendPort.subscribe: the answer leaves once the Subscriptions are stored, Retained Messages follow it. */
export function onSubscribe(
  engine: Engine,
  session: Session,
  ticket: number,
  packetId: number,
  requests: readonly SubscriptionRequest[],
): void {
  if (isHeldByQos2(session, packetId)) return refuseAll(engine, session, ticket, requests.length)
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
  const start = (): void => {
    for (const subscription of replays) startReplay(engine, session, subscription, retainedSequence)
  }
  const by = asked(session, ticket)
  if (engine.cluster === null) answer(engine, by, reasons, start)
  else whenKnown(engine.cluster, session, requests, reasons, () => answer(engine, by, reasons, start))
}

/** §3.10. See BackendPort.unsubscribe. */
export function onUnsubscribe(
  engine: Engine,
  session: Session,
  ticket: number,
  packetId: number,
  filters: readonly ParsedFilter[],
  isRetry: boolean,
): void {
  if (isHeldByQos2(session, packetId)) return refuseAll(engine, session, ticket, filters.length)
  const reasons: ReasonCode[] = []
  for (const filter of filters) {
    const existed = forget(engine, session, filter)
    reasons.push(existed || isRetry ? ReasonCode.Success : ReasonCode.NoSubscriptionExisted)
    if (!existed) continue
    cancelReplay(session, filter.text)
    if (session.isJournalled) {
      writeUnsubscribed(engine.journal.writer(session.shard), session.number, filter.text)
    }
  }
  answer(engine, asked(session, ticket), reasons, () => {})
}

/** Runs `run` once every frontend routes messages for these Subscriptions here, and the groups of shared ones know their member. */
function whenKnown(
  cluster: ClusterNode,
  session: Session,
  requests: readonly SubscriptionRequest[],
  reasons: readonly ReasonCode[],
  run: () => void,
): void {
  let missing = 1
  const known = (): void => {
    if (--missing === 0) run()
  }
  requests.forEach((request, i) => {
    if (request.filter.group === null || isFailure(reasons[i]!)) return
    missing++
    cluster.memberships.change(session, request.filter, optionsOf(request), known)
  })
  cluster.announcements.whenApplied(known)
}

/** The Packet Identifier of the request means a QoS 2 message still (§2.2.1): nothing is done. */
function isHeldByQos2(session: Session, packetId: number): boolean {
  return session.receivedQos2?.has(packetId) === true
}

function refuseAll(engine: Engine, session: Session, ticket: number, filters: number): void {
  const reasons = Array.from({ length: filters }, () => ReasonCode.PacketIdentifierInUse)
  answer(engine, asked(session, ticket), reasons, () => {})
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
