import type { Engine } from './engine.ts'
import type { Message } from '#shared/mqtt/message.ts'
import type { Session } from './session/session.ts'

/** All that an engine would have to remember, in one comparable value. */
export function stateDump(engine: Engine): unknown {
  return {
    sessions: engine.shards.flatMap(shard =>
      [...shard.sessions.values()].sort((a, b) => (a.clientId < b.clientId ? -1 : 1)).map(session => dumpSession(session)),
    ),
    retained: retainedOf(engine),
    subscriptions: [engine.index.subscriptionCount, engine.index.sharedSubscriptionCount, engine.index.nodeCount],
    counters: {
      queuedMessages: engine.counters.queuedMessages,
      sessions: engine.counters.sessionsTotal,
      sessionBytes: engine.counters.sessionBytes,
      wills: engine.counters.willMessages,
    },
  }
}

/** Topic → payload of every Retained Message of clients. */
export function retainedOf(engine: Engine): Record<string, unknown> {
  const found: [string, unknown][] = []
  const cursor = engine.retained.cursor('#')
  while (!cursor.done) {
    const message = cursor.next({ steps: 1_000 })
    if (message !== undefined) found.push([message.topic.name, dumpMessage(message)])
  }
  return Object.fromEntries(found.sort(([a], [b]) => (a < b ? -1 : 1)))
}

function dumpSession(session: Session): unknown {
  const deliveries = new Set(session.outbox?.ids.deliveries() ?? [])
  const queued = session.outbox?.queued
  for (let i = 0; i < (queued?.length ?? 0); i++) deliveries.add(queued!.at(i)!)
  return {
    clientId: session.clientId,
    number: session.number,
    version: session.protocolVersion,
    isPersistenceRequested: session.isPersistenceRequested,
    expirySeconds: session.expirySeconds,
    disconnectedAtMs: session.disconnectedAtMs,
    nextSequence: session.nextSequence,
    will:
      session.will === null
        ? null
        : [dumpMessage(session.will.message), session.will.delaySeconds, Buffer.from(session.will.guard ?? []).toString('hex')],
    subscriptions: [...(session.subscriptions?.values() ?? [])].sort((a, b) => (a.filter.text < b.filter.text ? -1 : 1)),
    receivedQos2: [...(session.receivedQos2 ?? [])].sort((a, b) => a - b),
    deliveries: [...deliveries].map(delivery => ({
      sequence: delivery.sequence,
      message: dumpMessage(delivery.message),
      qos: delivery.qos,
      retain: delivery.retain,
      identifiers: delivery.identifiers,
      shared: delivery.shared === null ? null : [delivery.shared.name, delivery.shared.filter],
      packetId: delivery.packetId,
      phase: session.outbox!.ids.phase(delivery.packetId),
      sent: delivery.sent,
    })),
    queued: [queued?.length ?? 0, session.outbox?.queuedBytes ?? 0],
  }
}

function dumpMessage(message: Message): unknown {
  return [
    message.topic.name,
    message.payload.toString(),
    message.properties.toString('hex'),
    message.qos,
    message.retain,
    message.expiresAtMs,
  ]
}

/** Everything that grows with use; all 0 once every session, message and Subscription is gone. */
export function leftovers(engine: Engine): Record<string, number> {
  const { counters } = engine
  return {
    sessionsTotal: counters.sessionsTotal,
    sessionsConnected: counters.sessionsConnected,
    queuedMessages: counters.queuedMessages,
    messageBytes: counters.messageBytes,
    sessionBytes: counters.sessionBytes,
    willMessages: counters.willMessages,
    willBytes: counters.willBytes,
    retainedMessages: counters.retainedMessages,
    retainedBytes: counters.retainedBytes,
    indexNodes: engine.index.nodeCount,
    retainedNodes: engine.retained.nodeCount,
    replays: engine.replaying.size,
    crowdedQueues: engine.crowdedQueues.size,
    retainedTimers: engine.retainedTimers.size,
    pendingBytes: engine.journal.pendingBytes,
    sessionsByNumber: engine.shards.reduce((sum, shard) => sum + shard.byNumber.size, 0),
  }
}
