import type { ParsedFilter } from '#shared/mqtt/topic.ts'
import type { Engine } from '../engine.ts'
import { bytesOfSubscription } from './session-bytes.ts'
import type { Session, SessionSubscription } from './session.ts'

/** Puts a Subscription into the session and the index, replacing one with the same filter [MQTT-3.8.4-3]; also what recovery does. */
export function remember(engine: Engine, session: Session, subscription: SessionSubscription): 'new' | 'replaced' {
  const { filter } = subscription
  session.subscriptions ??= new Map()
  const isNew = !session.subscriptions.has(filter.text)
  if (isNew) engine.counters.sessionBytes += bytesOfSubscription(filter)
  session.subscriptions.set(filter.text, { filter, ...optionsOf(subscription) })
  const { cluster } = engine
  if (filter.group === null) {
    const known = engine.index.subscribe(session, filter.filter, subscription)
    if (known === 'new') cluster?.announcements.add(session.shard, filter.filter)
    return known
  }
  if (cluster === null) return engine.index.subscribeShared(session, filter.group, filter.filter, subscription)
  // The group is another shard's affair (Memberships): it is told by who knows whether anything waits for it.
  if (isNew) countShared(engine, session, 1)
  return isNew ? 'new' : 'replaced'
}

function countShared(engine: Engine, session: Session, by: 1 | -1): void {
  session.groupCount += by
  const { sharers } = engine.shards[session.shard]!
  if (session.groupCount > 0) sharers.add(session)
  else sharers.delete(session)
}

/** Takes a Subscription out of the session and the index; false when there was none. Also what recovery does. */
export function forget(engine: Engine, session: Session, filter: ParsedFilter): boolean {
  if (session.subscriptions?.delete(filter.text) !== true) return false
  engine.counters.sessionBytes -= bytesOfSubscription(filter)
  const { cluster } = engine
  if (filter.group === null) {
    engine.index.unsubscribe(session, filter.filter)
    cluster?.announcements.remove(session.shard, filter.filter)
  } else if (cluster === null) engine.index.unsubscribeShared(session, filter.group, filter.filter)
  else {
    countShared(engine, session, -1)
    if (engine.shards[session.shard]!.isServing) cluster.memberships.change(session, filter, null, null)
  }
  return true
}

/** The options alone, whatever else `from` is. */
export function optionsOf(from: SessionSubscription): Omit<SessionSubscription, 'filter'> {
  return { qos: from.qos, noLocal: from.noLocal, retainAsPublished: from.retainAsPublished, identifier: from.identifier }
}

/** The session ends. */
export function forgetAll(engine: Engine, session: Session): void {
  for (const { filter } of session.subscriptions?.values() ?? []) forget(engine, session, filter)
  session.subscriptions = null
}
