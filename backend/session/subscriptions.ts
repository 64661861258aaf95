import type { ParsedFilter } from '#shared/mqtt/topic.ts'
import type { Engine } from '../engine.ts'
import { bytesOfSubscription } from './session-bytes.ts'
import type { Session, SessionSubscription } from './session.ts'

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

/** The options alone, whatever else `from` is. */
export function optionsOf(from: SessionSubscription): Omit<SessionSubscription, 'filter'> {
  return { qos: from.qos, noLocal: from.noLocal, retainAsPublished: from.retainAsPublished, identifier: from.identifier }
}

/** The session ends. */
export function forgetAll(engine: Engine, session: Session): void {
  for (const { filter } of session.subscriptions?.values() ?? []) forget(engine, session, filter)
  session.subscriptions = null
}
