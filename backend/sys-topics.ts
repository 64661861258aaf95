import { newMessage } from '#shared/mqtt/message.ts'
import { OWN_TOPICS } from '#shared/mqtt/topic.ts'
import type { Engine } from './engine.ts'
import { publishOwn } from './publishing/route.ts'

/** What a backend counts, by the `$SYS` topic that shows it (docs/mqtt.md): figures that add up over a cluster. */
export function engineFigures(engine: Engine): Map<string, number> {
  const { counters, journal, index, cluster } = engine
  const shared = cluster === null ? index.sharedSubscriptionCount : cluster.groups.index.sharedSubscriptionCount
  return new Map([
    ['clients/connected', counters.sessionsConnected],
    ['clients/disconnected', counters.sessionsTotal - counters.sessionsConnected],
    ['clients/total', counters.sessionsTotal],
    ['publish/messages/received', counters.publishesReceived],
    ['publish/messages/sent', counters.publishesSent],
    ['publish/messages/dropped', counters.queueDropped + counters.qos0DroppedIncoming],
    ['publish/bytes/received', counters.payloadBytesReceived],
    ['subscriptions/count', index.subscriptionCount],
    ['shared_subscriptions/count', shared],
    ['retained messages/count', counters.retainedMessages],
    ['store/messages/count', counters.queuedMessages],
    ['store/messages/bytes', counters.messageBytes],
    ['store/commits', journal.commits],
  ])
}

/**
 * The `$SYS` topics, under the names that operators know from other brokers. Retained in memory only, so that a new Subscription gets them
 * at once, and published to those that have one. In a cluster each backend does this for its own sessions.
 */
export function publishSysTopics(engine: Engine, version: string, startedMs: number, figures: ReadonlyMap<string, number>): void {
  const uptimeSeconds = Math.floor((engine.clock.wallMs() - startedMs) / 1_000)
  publish(engine, 'version', `millrace ${version}`)
  publish(engine, 'uptime', `${uptimeSeconds} seconds`)
  for (const [name, value] of figures) publish(engine, name, String(value))
}

function publish(engine: Engine, name: string, value: string): void {
  const topic = engine.topics.fromName(`${OWN_TOPICS}broker/${name}`)
  publishOwn(engine, newMessage(topic, Buffer.from(value), 0, true))
}
