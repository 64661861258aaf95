import type { WillRequest } from '#shared/rpc/backend-port.ts'
import type { Engine } from '../engine.ts'
import { publishOwn } from '../publishing/route.ts'
import { Record, writeOfSession } from '../shard/records.ts'
import { expiresAtMs, limitExpiry } from '../publishing/publication.ts'
import type { Session } from './session.ts'

/** The Will of a new connection replaces what the session had; one that waited for its delay is not sent [MQTT-3.1.3-9]. */
export function setWill(engine: Engine, session: Session, will: WillRequest | null): void {
  session.willTimer = engine.cancel(session.willTimer)
  drop(engine, session)
  if (will === null) return
  session.will = will
  will.message.moveApart()
  engine.hold(will.message)
  engine.counters.willMessages++
  engine.counters.willBytes += will.message.storedBytes
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

/** Sends the Will and removes it [MQTT-3.1.2-8]: its delay has passed or the session ends. */
export function publishWill(engine: Engine, session: Session): void {
  const { will } = session
  if (will === null) return
  session.willTimer = engine.cancel(session.willTimer)
  const message = will.message.keep()
  limitExpiry(engine, message)
  message.expiresAtMs = expiresAtMs(engine, message)
  if (engine.cluster === null) publishOwn(engine, message)
  else engine.cluster.handOvers.add(engine.shards[session.shard]!, { is: 'shards', shards: [], origin: '' }, message)
  drop(engine, session)
  if (session.isRecorded) writeOfSession(engine.journal.writer(session.shard), Record.WillGone, session.number)
}

function drop(engine: Engine, session: Session): void {
  if (session.will === null) return
  engine.letGo(session.will.message)
  engine.counters.willMessages--
  engine.counters.willBytes -= session.will.message.storedBytes
  session.will = null
}
