import { groupShardOf } from '#shared/cluster/shard.ts'
import type { Engine } from '../engine.ts'
import { offerToGroup } from '../publishing/route.ts'
import { cancelReplays } from '../queue/retained-replay.ts'
import { Record, writeOfSession } from '../shard/records.ts'
import type { Delivery } from './delivery.ts'
import { endPublication } from '../publishing/collecting.ts'
import { setRemainingExpiry } from '../publishing/publication.ts'
import { AWAITING_PUBACK } from './packet-identifiers.ts'
import { takeQueued } from './queue-limits.ts'
import { NEVER_EXPIRES, type Session } from './session.ts'
import { forgetAll } from './subscriptions.ts'
import { publishWill } from './will.ts'

/** The session has no connection: it ends when its Session Expiry Interval has passed (§3.1.2.11.2). */
export function scheduleExpiry(engine: Engine, session: Session): void {
  if (session.expirySeconds === NEVER_EXPIRES) return
  const dueMs = session.disconnectedAtMs + session.expirySeconds * 1_000
  session.timer = engine.at(dueMs, () => endSession(engine, session))
}

/** Session State is discarded: Clean Start, expiry, or the end of a connection whose session does not outlive it (§4.1). */
export function endSession(engine: Engine, session: Session): void {
  if (session.hasEnded) return
  publishWill(engine, session)
  session.hasEnded = true
  session.timer = engine.cancel(session.timer)
  cancelReplays(engine, session)
  forgetAll(engine, session)
  engine.crowdedQueues.delete(session)
  if (session.isRecorded) writeOfSession(engine.journal.writer(session.shard), Record.SessionEnded, session.number)
  engine.forget(session)
  handOn(engine, session)
}

/**
 * Messages of Shared Subscriptions that this member did not acknowledge go to another one (docs/mqtt.md), except a
 * QoS 2 message that was sent: it may have arrived [MQTT-4.8.2-5]. All others go with the session [MQTT-3.1.2-5].
 */
function handOn(engine: Engine, session: Session): void {
  const { outbox } = session
  session.outbox = null
  if (outbox === null) return
  const deliveries: Delivery[] = outbox.ids.deliveries()
  for (let queued = takeQueued(engine, outbox); queued !== null; queued = takeQueued(engine, outbox)) deliveries.push(queued)
  for (const delivery of deliveries) {
    const mayGo = !delivery.sent || (delivery.qos === 1 && outbox.ids.phase(delivery.packetId) === AWAITING_PUBACK)
    if (delivery.shared !== null && mayGo) giveToAnother(engine, session, delivery)
    engine.letGo(delivery.message)
  }
}

/** False when the group has no member any more: nobody gets it. */
export function giveToAnother(engine: Engine, session: Session, delivery: Delivery): boolean {
  const { message } = delivery
  const { name, filter } = delivery.shared!
  const { cluster } = engine
  if (cluster !== null) {
    const shard = groupShardOf(name, filter, engine.shards.length)
    const group = { is: 'member', shard, clientId: '', groupName: name, groupFilter: filter } as const
    cluster.handOvers.add(engine.shards[session.shard]!, group, message)
    return true
  }
  const group = engine.index.sharedGroup(name, filter)
  if (group === undefined) return false
  const nowMs = engine.clock.wallMs()
  if (message.expiresAtMs <= nowMs) {
    engine.counters.expiredMessages++
    return true
  }
  setRemainingExpiry(message, nowMs)
  engine.publication.beginKept(message)
  // Nobody is left to refuse it to.
  if (!offerToGroup(engine, group)) engine.counters.queueDropped++
  endPublication(engine)
  return true
}
