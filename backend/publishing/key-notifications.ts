import { shardOf } from '#shared/cluster/shard.ts'
import type { Message } from '#shared/mqtt/message.ts'
import type { HandOverTarget } from '#shared/rpc/owner-port.ts'
import { notificationProperties } from '#shared/state-store/properties.ts'
import { notifyTopic } from '#shared/state-store/topics.ts'
import type { Engine } from '../engine.ts'
import type { Shard } from '../shard/shard.ts'
import type { StoreNotification } from '../statestore/store-request.ts'
import { endPublication } from './collecting.ts'
import { offer } from './offer.ts'
import { ownMessage } from './own-message.ts'
import { expiresAtMs, limitExpiry } from './publication.ts'

type ToWatcher = HandOverTarget & { readonly is: 'session' }

/** As soon as the change of that shard's store that it is of, which is recorded in this turn, is stored. */
export function notify(engine: Engine, shard: Shard, notification: StoreNotification): void {
  forWatchers(engine, notification, (target, message) => {
    if (engine.cluster === null) engine.journal.whenStored(() => publishToWatcher(engine, target, message))
    else engine.cluster.handOvers.add(shard, target, message)
  })
}

/** Its change is stored; standalone. */
export function publishNotification(engine: Engine, notification: StoreNotification): void {
  forWatchers(engine, notification, (target, message) => publishToWatcher(engine, target, message))
}

function forWatchers(
  engine: Engine,
  { key, payload, clock, watchers }: StoreNotification,
  take: (target: ToWatcher, message: Message) => void,
): void {
  const bytes = Buffer.from(key, 'latin1')
  for (const { clientId, frontend, connection } of watchers) {
    const topic = notifyTopic(clientId, bytes)
    if (topic === null) continue
    const message = ownMessage(engine.topics.fromName(topic), payload, notificationProperties(clock))
    limitExpiry(engine, message)
    message.expiresAtMs = expiresAtMs(engine, message)
    take({ is: 'session', shard: shardOf(clientId, engine.shards.length), clientId, frontend, connection }, message)
  }
}

function publishToWatcher(engine: Engine, target: ToWatcher, message: Message): void {
  engine.publication.beginKept(message)
  offerToWatcher(engine, target)
  endPublication(engine)
}

/** The publication that is under way, to the client that asked for it, whatever its Subscriptions are; to nobody when it has another connection by now. */
export function offerToWatcher(engine: Engine, { shard, clientId, frontend, connection }: ToWatcher): void {
  const session = engine.shards[shard]!.sessions.get(clientId)
  const isIts = session !== undefined && session.isConnected && session.frontend === frontend && session.connection === connection
  if (isIts) offer(engine, session, 1, false, null, null)
  else engine.counters.notificationsDropped++
}
