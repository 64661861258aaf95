import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { Permit } from '#shared/authorization/permit.ts'
import type { AttachReply, AttachRequest, ConnectionEnd, ConnectionId } from '#shared/rpc/backend-port.ts'
import type { Engine } from '../engine.ts'
import { endSession, scheduleExpiry } from '../session/ending.ts'
import type { FrontendLink } from '../session/frontend-link.ts'
import { permitOf } from '../session/rights.ts'
import { pump } from '../session/sending.ts'
import { Session } from '../session/session.ts'
import { cancelWill, connectionWillDue, setWill } from '../session/will.ts'
import { withdraw } from '../session/withdrawing.ts'
import { writeDetached, writeSession } from '../shard/records.ts'
import type { Shard } from '../shard/shard.ts'
import { forgetWatcher } from '../shard/store-upkeep.ts'

/** Connections that a session remembers after they were taken over. Of a client that is faster, old publishes pass for another's (No Local). */
const FORMERS_MAX = 8

/** Nothing is to be withdrawn. */
const EVERYTHING = 'everything'
type Rights = Permit | typeof EVERYTHING

/** CONNECT accepted by the frontend at the other end of `link` (§3.1.4). See BackendPort.attach; `isRetry`: see OwnerPort. */
export async function onAttach(engine: Engine, request: AttachRequest, link: FrontendLink, isRetry: boolean): Promise<AttachReply> {
  const shard = engine.shardFor(request.clientId)
  const before = shard.sessions.get(request.clientId)
  // A new session has nothing that could be withdrawn: its frontend judges what it will ask for.
  const permit = before === undefined || request.rights === null ? EVERYTHING : permitOf(request.rights)
  if (permit === null) return { is: 'refused', reason: ReasonCode.ImplementationSpecificError, detail: 'its rights cannot be read' }
  if (before !== undefined && isRetry && isLatest(before, link, request.connection)) return repeat(engine, before, request, permit, link)
  if (before === undefined && engine.counters.sessionsTotal >= engine.settings.sessionsMax) {
    return { is: 'refused', reason: ReasonCode.QuotaExceeded, detail: 'no more sessions (sessionsMax)' }
  }
  if (before === undefined && engine.isFull) {
    return { is: 'refused', reason: ReasonCode.QuotaExceeded, detail: 'no memory for another session (memoryWatermarkPercent)' }
  }
  if (before?.isConnected === true) takeOver(engine, before)
  const found = shard.sessions.get(request.clientId)
  if (found !== undefined && request.cleanStart) endSession(engine, found)
  const kept = request.cleanStart ? undefined : found
  const session = kept ?? newSession(engine, shard, request.clientId)
  session.formers = before?.formers ?? null
  bind(engine, session, request, permit, link, kept === undefined)
  return stored(engine, session, request, link)
}

/**
 * This very connection has attached already, at this backend or at the owner before it, and nobody could tell its frontend. It may have
 * been given up meanwhile: its client knows nothing of that, and is told what it would have been told.
 */
function repeat(engine: Engine, session: Session, request: AttachRequest, permit: Rights, link: FrontendLink): Promise<AttachReply> {
  bind(engine, session, request, permit, link, session.isNew)
  return stored(engine, session, request, link)
}

async function stored(engine: Engine, session: Session, request: AttachRequest, link: FrontendLink): Promise<AttachReply> {
  // A later CONNECT may take the session over before this one is stored: then `session.connection` is another one's.
  const isStored = await engine.journal.stored()
  if (!isStored) return { is: 'refused', reason: ReasonCode.ServerUnavailable, detail: 'the store failed' }
  const reply: AttachReply = { is: 'attached', session: session.handle, sessionPresent: !session.isNew }
  // Another frontend may call a connection of its own by the same number.
  return session.connection === request.connection && session.link === link
    ? reply
    : { is: 'refused', reason: ReasonCode.SessionTakenOver, detail: 'another connection uses the Client Identifier' }
}

/** The connection is known to the frontend as open: what waits for the session may flow. */
export function onOpened(engine: Engine, session: Session): void {
  session.isWritable = true
  pump(engine, session)
  engine.cluster?.noteStanding(session)
  engine.resumeReplays(session)
}

/** The Network Connection is gone. See BackendPort.detach. */
export function onDetach(engine: Engine, session: Session, end: ConnectionEnd): void {
  if (end.sessionExpirySeconds !== null && session.isPersistent) session.expirySeconds = end.sessionExpirySeconds
  if (end.discardWill) cancelWill(engine, session)
  unbind(engine, session)
}

/** [MQTT-3.1.4-3]: one connection for each Client Identifier, the newest. */
function takeOver(engine: Engine, session: Session): void {
  engine.counters.takeovers++
  const { link, connection, frontend } = session
  if (session.isInCluster) session.formers = [{ frontend, connection }, ...(session.formers ?? [])].slice(0, FORMERS_MAX)
  unbind(engine, session)
  link?.port.disconnect(connection, ReasonCode.SessionTakenOver, 'another connection uses the Client Identifier')
}

function unbind(engine: Engine, session: Session): void {
  loseLink(session)
  // In a cluster its frontend says so to the shards that it watched (OwnerPort.unwatch).
  if (engine.cluster === null) forgetWatcher(engine, session.frontend, session.connection)
  session.disconnectedAtMs = engine.clock.wallMs()
  engine.counters.sessionsConnected--
  engine.cluster?.noteStanding(session)
  connectionWillDue(engine, session)
  if (!session.isPersistent) return endSession(engine, session)
  session.outbox?.moveApart()
  if (session.isRecorded)
    writeDetached(engine.journal.writer(session.shard), session.number, session.expirySeconds, session.disconnectedAtMs)
  scheduleExpiry(engine, session)
}

function newSession(engine: Engine, shard: Shard, clientId: string): Session {
  const session = new Session(clientId, shard.number, shard.nextSession++, engine.cluster !== null)
  session.disconnectedAtMs = engine.clock.wallMs()
  engine.admit(session)
  return session
}

function bind(engine: Engine, session: Session, request: AttachRequest, permit: Rights, link: FrontendLink, isNew: boolean): void {
  if (!session.isConnected) engine.counters.sessionsConnected++
  session.protocolVersion = request.protocolVersion
  session.connection = request.connection
  session.isNew = isNew
  bindLink(engine, session, link)
  session.receiveMaximum = Math.min(request.receiveMaximum, engine.settings.inflightMax)
  session.disconnectedAtMs = 0
  session.expirySeconds = request.sessionExpirySeconds
  session.timer = engine.cancel(session.timer)
  session.isPersistenceRequested ||= request.isPersistenceRequested ?? false
  session.outbox?.restart()
  setWill(engine, session, request.will === null ? null : { ...request.will, guard: request.rights?.willGuard ?? null })
  session.isRecorded = engine.journal.isDurable && (session.isRecorded || session.keepsMessages || session.will !== null)
  if (session.isRecorded) writeSession(engine.journal.writer(session.shard), session)
  if (permit !== EVERYTHING) withdraw(engine, session, permit)
}

/** The session's connection is on this link from now on; messages flow once it is said to be writable. */
export function bindLink(engine: Engine, session: Session, link: FrontendLink): void {
  loseLink(session)
  engine.renewHandle(session)
  session.link = link
  session.frontend = link.frontend
  if (session.isInCluster) link.sessions.add(session)
}

/** Nothing can be sent to its connection, whether it has one still or not. */
export function loseLink(session: Session): void {
  session.link?.sessions.delete(session)
  session.link = null
  session.isWritable = false
}

/** Nothing of this connection comes any more. */
export function forgetFormer(session: Session, frontend: string, connection: ConnectionId): void {
  const left = session.formers?.filter(each => each.frontend !== frontend || each.connection !== connection)
  session.formers = left === undefined || left.length === 0 ? null : left
}

/** Whether the present connection is this one of that frontend's. */
export function isOf(session: Session, link: FrontendLink, connection: ConnectionId): boolean {
  return session.isConnected && isLatest(session, link, connection)
}

/** Whether the present connection, or the last one when there is none, is this one of that frontend's. */
function isLatest(session: Session, link: FrontendLink, connection: ConnectionId): boolean {
  return session.frontend === link.frontend && session.connection === connection
}
