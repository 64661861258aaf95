import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { AttachReply, AttachRequest, ConnectionEnd } from '#shared/rpc/backend-port.ts'
import type { Engine } from '../engine.ts'
import { endSession, scheduleExpiry } from '../session/ending.ts'
import { pump } from '../session/sending.ts'
import { Session } from '../session/session.ts'
import { cancelWill, connectionWillDue, setWill } from '../session/will.ts'
import { writeDetached, writeSession } from '../shard/records.ts'
import type { Shard } from '../shard/shard.ts'

/** CONNECT accepted by the frontend (§3.1.4). See BackendPort.attach. */
export async function onAttach(engine: Engine, request: AttachRequest): Promise<AttachReply> {
  const shard = engine.shardFor(request.clientId)
  const before = shard.sessions.get(request.clientId)
  if (before === undefined && engine.counters.sessionsTotal >= engine.settings.sessionsMax) {
    return { is: 'refused', reason: ReasonCode.QuotaExceeded, detail: 'no more sessions (sessionsMax)' }
  }
  if (before === undefined && engine.isFull) {
    return { is: 'refused', reason: ReasonCode.QuotaExceeded, detail: 'no memory for another session (memoryWatermarkPercent)' }
  }
  if (before !== undefined && before.link !== null) takeOver(engine, before)
  const found = shard.sessions.get(request.clientId)
  if (found !== undefined && request.cleanStart) endSession(engine, found)
  const kept = request.cleanStart ? undefined : found
  const session = kept ?? newSession(engine, shard, request.clientId)
  bind(engine, session, request)
  // A later CONNECT may take the session over before this one is stored: then `session.connection` is another one's.
  const isStored = await engine.journal.stored()
  if (!isStored) return { is: 'refused', reason: ReasonCode.ServerUnavailable, detail: 'the store failed' }
  const reply: AttachReply = { is: 'attached', session: session.handle, sessionPresent: kept !== undefined }
  return session.connection === request.connection && session.link !== null
    ? reply
    : { is: 'refused', reason: ReasonCode.SessionTakenOver, detail: 'another connection uses the Client Identifier' }
}

/** The connection is known to the frontend as open: what waits for the session may flow. */
export function onOpened(engine: Engine, session: Session): void {
  session.isWritable = true
  pump(engine, session)
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
  const { link, connection } = session
  unbind(engine, session)
  link!.port.disconnect(connection, ReasonCode.SessionTakenOver, 'another connection uses the Client Identifier')
}

function unbind(engine: Engine, session: Session): void {
  session.link = null
  session.isWritable = false
  session.disconnectedAtMs = engine.clock.wallMs()
  engine.counters.sessionsConnected--
  connectionWillDue(engine, session)
  if (!session.isPersistent) return endSession(engine, session)
  session.outbox?.moveApart()
  if (session.isRecorded)
    writeDetached(engine.journal.writer(session.shard), session.number, session.expirySeconds, session.disconnectedAtMs)
  scheduleExpiry(engine, session)
}

function newSession(engine: Engine, shard: Shard, clientId: string): Session {
  const session = new Session(clientId, shard.number, shard.nextSession++)
  engine.admit(session)
  return session
}

function bind(engine: Engine, session: Session, request: AttachRequest): void {
  engine.renewHandle(session)
  session.protocolVersion = request.protocolVersion
  session.link = engine.link(request.frontend)
  session.connection = request.connection
  session.isWritable = false
  session.receiveMaximum = Math.min(request.receiveMaximum, engine.settings.inflightMax)
  session.disconnectedAtMs = 0
  session.expirySeconds = request.sessionExpirySeconds
  session.timer = engine.cancel(session.timer)
  session.outbox?.restart()
  setWill(engine, session, request.will)
  engine.counters.sessionsConnected++
  session.isRecorded = engine.journal.isDurable && (session.isRecorded || session.isPersistent || session.will !== null)
  if (session.isRecorded) writeSession(engine.journal.writer(session.shard), session)
}
