import type { Message } from '#shared/mqtt/message.ts'
import type { Engine } from '../engine.ts'
import type { Publication } from '../session/sending.ts'
import { writeRetained, writeRetainedGone } from '../shard/records.ts'
import { shardOf } from '../shard/shard.ts'

/** Topics of the broker itself: never journalled, never counted. */
const OWN_TOPICS = '$SYS/'

/** Whether keeping this message would go over retainedMessagesMax or retainedBytesMax. Replacing and removing never do on their own. */
export function wouldExceedRetained(engine: Engine, message: Message): boolean {
  if (message.payloadLength === 0 || message.topic.name.startsWith(OWN_TOPICS)) return false
  const { counters, settings } = engine
  if (
    counters.retainedMessages < settings.retainedMessagesMax &&
    counters.retainedBytes + message.storedBytes <= settings.retainedBytesMax
  ) {
    return false
  }
  const before = engine.retained.get(message.topic.name)
  if (before === undefined) return true
  return counters.retainedBytes - before.storedBytes + message.storedBytes > settings.retainedBytesMax
}

/** RETAIN (§3.3.1.3): the message replaces its topic's Retained Message, an empty payload removes it [MQTT-3.3.1-6]. */
export function keepRetained(engine: Engine, publication: Publication): void {
  const { message } = publication
  const { topic } = message
  const isOwn = topic.name.startsWith(OWN_TOPICS)
  if (message.payloadLength === 0) {
    if (removeRetained(engine, topic.name) && !isOwn && engine.journal.isDurable)
      writeRetainedGone(journalOf(engine, topic.name), topic.utf8)
    return
  }
  const kept = publication.kept(engine)
  putRetained(engine, kept)
  if (!isOwn && engine.journal.isDurable) writeRetained(journalOf(engine, topic.name), kept)
}

/** Puts a message that owns its bytes into the index; also what recovery does. */
export function putRetained(engine: Engine, message: Message): void {
  const { name } = message.topic
  removeRetained(engine, name)
  message.retainedSequence = ++engine.retainedSequence
  engine.retained.set(name, message)
  engine.hold(message)
  if (name.startsWith(OWN_TOPICS)) return
  engine.counters.retainedMessages++
  engine.counters.retainedBytes += message.storedBytes
  if (message.expiresAtMs !== Infinity) engine.at(message.expiresAtMs, () => expireRetained(engine, message))
}

/** True when there was one. */
export function removeRetained(engine: Engine, topicName: string): boolean {
  const before = engine.retained.delete(topicName)
  if (before === undefined) return false
  engine.letGo(before)
  if (topicName.startsWith(OWN_TOPICS)) return true
  engine.counters.retainedMessages--
  engine.counters.retainedBytes -= before.storedBytes
  return true
}

function expireRetained(engine: Engine, message: Message): void {
  const { topic } = message
  if (engine.retained.get(topic.name) !== message) return
  engine.counters.expiredMessages++
  removeRetained(engine, topic.name)
  if (engine.journal.isDurable) writeRetainedGone(journalOf(engine, topic.name), topic.utf8)
}

function journalOf(engine: Engine, topicName: string): ReturnType<Engine['journal']['writer']> {
  return engine.journal.writer(shardOf(topicName, engine.shards.length))
}
