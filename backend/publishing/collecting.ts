import type { Engine } from '../engine.ts'
import type { Delivery } from '../session/delivery.ts'
import { sendAfterCommit } from '../session/sending.ts'
import type { Session } from '../session/session.ts'
import { beginEnqueued, endReceivers, writeReceiver } from '../shard/records.ts'
import type { Shard } from '../shard/shard.ts'
import { receiverOf } from '../shard/receiver-of.ts'

/** The connected session gets the publication that is under way now: one of many recipients of one frame. */
export function addRecipient(
  engine: Engine,
  session: Session,
  flags: number,
  packetId: number,
  identifiers: readonly number[] | null,
  sequence: number,
): void {
  const link = session.link!
  if (link.recipients.count === 0) engine.touchedLinks.push(link)
  link.recipients.add(session.connection, flags, packetId, identifiers, sequence)
}

/** The journal must hold this delivery: `endPublication` writes one record for each shard. */
export function addReceiver(engine: Engine, session: Session, delivery: Delivery): void {
  const shard = engine.shards[session.shard]!
  if (shard.receivers.length === 0) engine.openShards.push(shard)
  shard.receivers.push(delivery)
  shard.receivingSessions.push(session)
}

/** Every `offer` of one publish was made: journals it and hands the message to the frontends. */
export function endPublication(engine: Engine): void {
  // Taken out one by one: V8 throws the elements away when `length` is set, and the next publish would allocate them again.
  for (let shard = engine.openShards.pop(); shard !== undefined; shard = engine.openShards.pop()) writeEnqueued(engine, shard)
  for (let link = engine.touchedLinks.pop(); link !== undefined; link = engine.touchedLinks.pop()) {
    engine.counters.publishesSent += link.recipients.count
    engine.counters.payloadBytesSent += link.recipients.count * engine.publication.message.payloadLength
    link.port.deliver(engine.publication.message, link.recipients)
    link.recipients.clear()
  }
}

function writeEnqueued(engine: Engine, shard: Shard): void {
  // All were withdrawn.
  if (shard.receivers.length === 0) return
  const writer = engine.journal.writer(shard.number)
  beginEnqueued(writer, engine.publication.kept(engine))
  for (let i = 0; i < shard.receivers.length; i++) writeReceiver(writer, receiverOf(shard.receivingSessions[i]!, shard.receivers[i]!))
  endReceivers(writer)
  for (let delivery = shard.receivers.pop(); delivery !== undefined; delivery = shard.receivers.pop()) {
    const session = shard.receivingSessions.pop()!
    if (delivery.qos === 2 && delivery.packetId !== 0) sendAfterCommit(engine, session, delivery)
  }
}
