import { newMessage } from '#shared/mqtt/message.ts'
import { OWN_TOPICS } from '#shared/mqtt/topic.ts'
import type { Engine } from './engine.ts'
import { publishOwn } from './publishing/route.ts'

/** What others count, shown under `$SYS` beside the engine's own figures. */
export interface SysFigures {
  readonly version: string
  readonly connectionsTotal: number
  readonly bytesReceived: number
  readonly bytesSent: number
}

/**
 * The `$SYS` topics (docs/mqtt.md), under the names that operators know from other brokers. Retained in memory only, so that a
 * new Subscription gets them at once, and published to those that have one.
 */
export function publishSysTopics(engine: Engine, figures: SysFigures, startedMs: number): void {
  const { counters, journal } = engine
  const uptimeSeconds = Math.floor((engine.clock.wallMs() - startedMs) / 1_000)
  const values: readonly (readonly [string, string | number])[] = [
    ['version', `millrace ${figures.version}`],
    ['uptime', `${uptimeSeconds} seconds`],
    ['clients/connected', counters.sessionsConnected],
    ['clients/disconnected', counters.sessionsTotal - counters.sessionsConnected],
    ['clients/total', counters.sessionsTotal],
    ['connections/total', figures.connectionsTotal],
    ['publish/messages/received', counters.publishesReceived],
    ['publish/messages/sent', counters.publishesSent],
    ['publish/messages/dropped', counters.queueDropped + counters.qos0DroppedIncoming],
    ['publish/bytes/received', counters.payloadBytesReceived],
    ['bytes/received', figures.bytesReceived],
    ['bytes/sent', figures.bytesSent],
    ['subscriptions/count', engine.index.subscriptionCount],
    ['shared_subscriptions/count', engine.index.sharedSubscriptionCount],
    ['retained messages/count', counters.retainedMessages],
    ['store/messages/count', counters.queuedMessages],
    ['store/messages/bytes', counters.messageBytes],
    ['store/commits', journal.commits],
  ]
  for (const [name, value] of values) {
    const topic = engine.topics.fromName(`${OWN_TOPICS}broker/${name}`)
    publishOwn(engine, newMessage(topic, Buffer.from(String(value)), 0, true))
  }
}
