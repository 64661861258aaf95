import type { Message } from '#shared/mqtt/message.ts'
import type { Engine } from '../engine.ts'
import type { Delivery } from './delivery.ts'
import { finish } from './finish.ts'
import type { Outbox } from './outbox.ts'
import type { Session } from './session.ts'

/** A full queue is looked through for expired messages this often, and no oftener: it costs a step for each message. */
const SWEEP_MS = 1_000

/** Adds to the queue and keeps it within its limits: with `DropOldest` here, with `None` `lacksRoom` was asked before. */
export function enqueue(engine: Engine, session: Session, outbox: Outbox, delivery: Delivery): void {
  // Nobody knows for how long: it must not pin a pool of small buffers that is many times its size.
  delivery.message.moveApart()
  outbox.enqueue(delivery)
  engine.counters.queuedMessages++
  engine.cluster?.noteStanding(session)
  const { queueMessagesMax, queueBytesMax, queueStrategy } = engine.settings
  if (queueStrategy === 'DropOldest') {
    while (outbox.queued.length > queueMessagesMax || (outbox.queuedBytes > queueBytesMax && outbox.queued.length > 1)) {
      engine.counters.queueDropped++
      finish(engine, session, takeQueued(engine, outbox)!)
    }
  }
  noteCrowded(engine, session, outbox)
}

/** The oldest without an identifier leaves the queue. The caller calls `noteCrowded` when it has taken all it wants. */
export function takeQueued(engine: Engine, outbox: Outbox): Delivery | null {
  const delivery = outbox.takeQueued()
  if (delivery !== null) engine.counters.queuedMessages--
  return delivery
}

/**
 * With `None`: whether `bytes` more would put the queue over its limits, so that the message must be refused. One message alone
 * always fits: a session whose limit is below the size of a message would otherwise stop its publishers for ever.
 */
export function lacksRoom(engine: Engine, session: Session, bytes: number): boolean {
  const { outbox } = session
  if (outbox === null || !isOver(engine, outbox, bytes)) return false
  const nowMs = engine.clock.wallMs()
  // Of a shard that is being let go nothing more is written down.
  if (nowMs < outbox.sweptMs + SWEEP_MS || !engine.shards[session.shard]!.isServing) return true
  outbox.sweptMs = nowMs
  dropExpired(engine, session, outbox, nowMs)
  return isOver(engine, outbox, bytes)
}

function isOver(engine: Engine, outbox: Outbox, bytes: number): boolean {
  const { queueMessagesMax, queueBytesMax, queueStrategy } = engine.settings
  if (queueStrategy !== 'None' || outbox.queued.length === 0) return false
  return outbox.queued.length >= queueMessagesMax || outbox.queuedBytes + bytes > queueBytesMax
}

/** Messages expire when their turn comes (§3.3.2.3.3); those of a session that nobody comes back for must not refuse others for ever. */
function dropExpired(engine: Engine, session: Session, outbox: Outbox, nowMs: number): void {
  for (const delivery of takeOut(engine, session, outbox, ({ message }) => message.expiresAtMs <= nowMs)) {
    engine.counters.expiredMessages++
    finish(engine, session, delivery)
  }
}

/** Those without an identifier that are to go leave the queue; the others keep their order. */
export function takeOut(engine: Engine, session: Session, outbox: Outbox, goes: (delivery: Delivery) => boolean): Delivery[] {
  const taken: Delivery[] = []
  for (let left = outbox.queued.length; left > 0; left--) {
    const delivery = takeQueued(engine, outbox)!
    if (goes(delivery)) {
      taken.push(delivery)
      continue
    }
    outbox.enqueue(delivery)
    engine.counters.queuedMessages++
  }
  noteCrowded(engine, session, outbox)
  return taken
}

/** Whether any queue may lack room for this message. Nearly always not, and then nobody needs to look at each. */
export function mayLackRoom(engine: Engine, message: Message): boolean {
  return engine.crowdedQueues.size > 0 || message.storedBytes > engine.settings.queueBytesMax / 2
}

/** A queue is crowded when it holds as many messages, or half as many bytes, as it may: a message of at most the other half fits into any other. */
export function noteCrowded(engine: Engine, session: Session, outbox: Outbox): void {
  const { queueMessagesMax, queueBytesMax, queueStrategy } = engine.settings
  if (queueStrategy !== 'None') return
  if (outbox.queued.length >= queueMessagesMax || outbox.queuedBytes > queueBytesMax / 2) engine.crowdedQueues.add(session)
  else if (engine.crowdedQueues.size > 0) engine.crowdedQueues.delete(session)
}
