import { groupShardOf } from '#shared/cluster/shard.ts'
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
    if (known === 'new') announce(engine, session, filter, 'add')
    return known
  }
  if (cluster === null) return engine.index.subscribeShared(session, filter.group, filter.filter, subscription)
  // The group is another shard's affair (Memberships): it is told by who knows whether anything waits for it.
  if (isNew) addSharer(engine, session, filter)
  return isNew ? 'new' : 'replaced'
}

function announce(engine: Engine, session: Session, { filter }: ParsedFilter, change: 'add' | 'remove'): void {
  if (engine.cluster === null) return
  engine.cluster.announcements[change](session.shard, filter)
  // They leave at its end, also when nothing is to be stored.
  engine.turn.request()
}

function addSharer(engine: Engine, session: Session, filter: ParsedFilter): void {
  session.groupCount++
  const { sharers } = engine.shards[session.shard]!
  const groupShard = groupShardOf(filter.group!, filter.filter, engine.shards.length)
  let sessions = sharers.get(groupShard)
  if (sessions === undefined) sharers.set(groupShard, (sessions = new Map()))
  const texts = sessions.get(session)
  if (texts === undefined) sessions.set(session, new Set([filter.text]))
  else texts.add(filter.text)
}

function deleteSharer(engine: Engine, session: Session, filter: ParsedFilter): void {
  session.groupCount--
  const { sharers } = engine.shards[session.shard]!
  const groupShard = groupShardOf(filter.group!, filter.filter, engine.shards.length)
  const sessions = sharers.get(groupShard)
  const texts = sessions?.get(session)
  texts?.delete(filter.text)
  if (texts?.size === 0) sessions!.delete(session)
  if (sessions?.size === 0) sharers.delete(groupShard)
}

/** Takes a Subscription out of the session and the index; false when there was none. Also what recovery does. */
export function forget(engine: Engine, session: Session, filter: ParsedFilter): boolean {
  if (session.subscriptions?.delete(filter.text) !== true) return false
  engine.counters.sessionBytes -= bytesOfSubscription(filter)
  const { cluster } = engine
  if (filter.group === null) {
    engine.index.unsubscribe(session, filter.filter)
    announce(engine, session, filter, 'remove')
  } else if (cluster === null) engine.index.unsubscribeShared(session, filter.group, filter.filter)
  else {
    deleteSharer(engine, session, filter)
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
