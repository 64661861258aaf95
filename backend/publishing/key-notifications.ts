import { shardOf } from '#shared/cluster/shard.ts'
import type { Message } from '#shared/mqtt/message.ts'
import type { HandOverTarget } from '#shared/rpc/owner-port.ts'
import { notificationProperties } from '#shared/state-store/properties.ts'
import { notifyTopic } from '#shared/state-store/topics.ts'
import type { Engine } from '../engine.ts'
import type { Shard } from '../shard/shard.ts'
import type { StoreNotification, WatcherId } from '../statestore/store-request.ts'
import { endPublication } from './collecting.ts'
import { NotificationsDue } from './notifications-due.ts'
import { offer } from './offer.ts'
import { ownMessage } from './own-message.ts'
import { expiresAtMs, limitExpiry } from './publication.ts'

type ToWatcher = HandOverTarget & { readonly is: 'session' }

/** As soon as the change of that shard's store that it is of, which is recorded in this turn, is stored. */
export function notify(engine: Engine, shard: Shard, notification: StoreNotification): void {
  const { cluster } = engine
  // In the order of the changes, among what requests led to.
  if (cluster === null) return engine.storeAnswers.notify(notification)
  for (const watcher of notification.watchers) {
    const message = messageTo(engine, notification, watcher)
    if (message !== null) cluster.handOvers.add(shard, targetOf(engine, watcher), message)
  }
}

/**
 * Their change is stored; standalone. Many watchers are told within several turns.
 * @param whenTold all were told
 */
export function publishNotifications(engine: Engine, notifications: readonly StoreNotification[], whenTold: () => void): void {
  if (notifications.length === 0) return whenTold()
  const due = (engine.notificationsDue ??= new NotificationsDue((notification, watcher) => publishToWatcher(engine, notification, watcher)))
  let left = notifications.length
  for (const notification of notifications) due.add(notification, () => --left === 0 && whenTold())
  // At its end there are as many again.
  engine.turn.request()
}

/** At the end of a turn. */
export function goOnNotifying(engine: Engine): void {
  const due = engine.notificationsDue
  if (due === null) return
  due.renew()
  if (due.isBehind) engine.turn.request()
}

/** Null: the key has no topic for this client. */
function messageTo(engine: Engine, { key, payload, clock, previous }: StoreNotification, { clientId }: WatcherId): Message | null {
  const topic = notifyTopic(clientId, Buffer.from(key, 'latin1'))
  if (topic === null) return null
  const message = ownMessage(engine.topics.fromName(topic), payload, notificationProperties(clock, previous))
  limitExpiry(engine, message)
  message.expiresAtMs = expiresAtMs(engine, message)
  return message
}

function targetOf(engine: Engine, { clientId, frontend, connection }: WatcherId): ToWatcher {
  return { is: 'session', shard: shardOf(clientId, engine.shards.length), clientId, frontend, connection }
}

function publishToWatcher(engine: Engine, notification: StoreNotification, watcher: WatcherId): void {
  const message = messageTo(engine, notification, watcher)
  if (message === null) return
  engine.publication.beginKept(message)
  offerToWatcher(engine, targetOf(engine, watcher))
  endPublication(engine)
}

/** The publication that is under way, to the client that asked for it, whatever its Subscriptions are; to nobody when it has another connection by now. */
export function offerToWatcher(engine: Engine, { shard, clientId, frontend, connection }: ToWatcher): void {
  const session = engine.shards[shard]!.sessions.get(clientId)
  const isIts = session !== undefined && session.isConnected && session.frontend === frontend && session.connection === connection
  if (isIts) offer(engine, session, 1, false, null, null)
  else engine.counters.notificationsDropped++
}
