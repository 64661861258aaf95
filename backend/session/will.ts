import { thrownField } from '#shared/base/thrown.ts'
import type { Engine } from '../engine.ts'
import { publishOwn } from '../publishing/route.ts'
import { Record, writeOfSession, writeWillGuard } from '../shard/records.ts'
import { expiresAtMs, limitExpiry } from '../publishing/publication.ts'
import type { Session, Will } from './session.ts'

/** The Will of a new connection replaces what the session had; one that waited for its delay is not sent [MQTT-3.1.3-9]. */
export function setWill(engine: Engine, session: Session, will: Will | null): void {
  session.willTimer = engine.cancel(session.willTimer)
  drop(engine, session)
  if (will === null) return
  session.will = will
  will.message.moveApart()
  engine.hold(will.message)
  engine.counters.willMessages++
  engine.counters.willBytes += will.message.storedBytes
  engine.counters.sessionBytes += will.guard?.length ?? 0
}

/** What the session's client may do has changed: its Will is judged by `guard` from now on. */
export function guardWill(engine: Engine, session: Session, guard: Uint8Array): void {
  if (!putWillGuard(engine, session, guard)) return
  if (session.isRecorded) writeWillGuard(engine.journal.writer(session.shard), session.number, guard)
}

/** In memory alone: also what recovery does. False when there is no Will. */
export function putWillGuard(engine: Engine, session: Session, guard: Uint8Array): boolean {
  const { will } = session
  if (will === null) return false
  engine.counters.sessionBytes += guard.length - (will.guard?.length ?? 0)
  session.will = { ...will, guard }
  return true
}

/** Removed without being sent: a normal DISCONNECT [MQTT-3.1.2-10]. */
export function cancelWill(engine: Engine, session: Session): void {
  if (session.will === null) return
  session.willTimer = engine.cancel(session.willTimer)
  drop(engine, session)
  if (session.isRecorded) writeOfSession(engine.journal.writer(session.shard), Record.WillGone, session.number)
}

/** The connection ended: the Will goes out after its delay, or at once when there is none (§3.1.3.2.2). */
export function connectionWillDue(engine: Engine, session: Session): void {
  if (session.will === null) return
  const { delaySeconds } = session.will
  if (delaySeconds === 0) return publishWill(engine, session)
  session.willTimer = engine.at(session.disconnectedAtMs + delaySeconds * 1_000, () => publishWill(engine, session))
}

/** Sends the Will, if its client may still publish it, and removes it [MQTT-3.1.2-8]: its delay has passed or the session ends. */
export function publishWill(engine: Engine, session: Session): void {
  const { will } = session
  if (will === null) return
  session.willTimer = engine.cancel(session.willTimer)
  if (mayPublish(engine, will)) send(engine, session, will)
  else {
    engine.counters.willsRefused++
    engine.log.warn('will_refused', { client: session.clientId, topic: will.message.topic.name })
  }
  drop(engine, session)
  if (session.isRecorded) writeOfSession(engine.journal.writer(session.shard), Record.WillGone, session.number)
}

function send(engine: Engine, session: Session, will: Will): void {
  const message = will.message.keep()
  limitExpiry(engine, message)
  message.expiresAtMs = expiresAtMs(engine, message)
  if (engine.cluster === null) publishOwn(engine, message)
  else engine.cluster.handOvers.add(engine.shards[session.shard]!, { is: 'shards', shards: [], origin: '' }, message)
}

/** By the policies of this moment: the client may have lost the right since CONNECT. Without anybody who could say so, no. */
function mayPublish(engine: Engine, { guard, message }: Will): boolean {
  if (guard === null) return true
  if (engine.willJudge === null) return false
  try {
    return engine.willJudge(guard, message.topic.name)
  } catch (error) {
    engine.log.error('will_not_judged', { error: thrownField(error) })
    return false
  }
}

function drop(engine: Engine, session: Session): void {
  if (session.will === null) return
  engine.letGo(session.will.message)
  engine.counters.willMessages--
  engine.counters.willBytes -= session.will.message.storedBytes
  engine.counters.sessionBytes -= session.will.guard?.length ?? 0
  session.will = null
}
