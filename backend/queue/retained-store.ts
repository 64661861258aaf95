import type { Message } from '#shared/mqtt/message.ts'
import { isOwnTopic, type Topic } from '#shared/mqtt/topic.ts'
import type { Engine } from '../engine.ts'
import type { Publication } from '../publishing/publication.ts'
import { writeRetained, writeRetainedGone } from '../shard/records.ts'

/** Heap of one level in the index, about: its node, its name and its place in the level above. */
const LEVEL_BYTES = 120

/** A Retained Message that expires while its shard is being taken over is looked at again after this. */
const RETRY_EXPIRY_MS = 1_000

/** What retainedBytesMax counts: the message, its Topic with the name twice, and its levels as if it shared none with other topics. */
function retainedBytesOf(message: Message): number {
  const { name, utf8 } = message.topic
  let levels = 1
  for (let slash = name.indexOf('/'); slash !== -1; slash = name.indexOf('/', slash + 1)) levels++
  return message.storedBytes + 2 * utf8.length + LEVEL_BYTES * levels
}

/** Whether keeping this message would go over retainedMessagesMax or retainedBytesMax. Replacing and removing never do on their own. */
export function wouldExceedRetained(engine: Engine, message: Message): boolean {
  if (message.payloadLength === 0 || isOwnTopic(message.topic.name)) return false
  const { counters, settings } = engine
  const bytes = retainedBytesOf(message)
  if (counters.retainedMessages < settings.retainedMessagesMax && counters.retainedBytes + bytes <= settings.retainedBytesMax) return false
  const before = engine.retained.get(message.topic.name)
  if (before === undefined) return true
  return counters.retainedBytes - retainedBytesOf(before) + bytes > settings.retainedBytesMax
}

/** RETAIN (§3.3.1.3): the message replaces its topic's Retained Message, an empty payload removes it [MQTT-3.3.1-6]. */
export function keepRetained(engine: Engine, publication: Publication): void {
  const { message } = publication
  const { topic } = message
  const isOwn = isOwnTopic(topic.name)
  if (message.payloadLength === 0) {
    forgetRetained(engine, topic)
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
  message.moveApart()
  message.retainedSequence = ++engine.retainedSequence
  engine.retained.set(name, message)
  engine.hold(message)
  if (isOwnTopic(name)) return
  engine.shardFor(name).retained.add(message)
  engine.counters.retainedMessages++
  engine.counters.retainedBytes += retainedBytesOf(message)
  if (message.expiresAtMs === Infinity) return
  const timer = engine.at(message.expiresAtMs, () => expireRetained(engine, message))
  engine.retainedTimers.set(message, timer)
}

/** True when there was one. */
export function removeRetained(engine: Engine, topicName: string): boolean {
  const before = engine.retained.delete(topicName)
  if (before === undefined) return false
  engine.letGo(before)
  if (before.expiresAtMs !== Infinity) forgetTimer(engine, before)
  if (isOwnTopic(topicName)) return true
  engine.shardFor(topicName).retained.delete(before)
  engine.counters.retainedMessages--
  engine.counters.retainedBytes -= retainedBytesOf(before)
  return true
}

/** Removed, and not to be found in the store any more. */
export function forgetRetained(engine: Engine, topic: Topic): void {
  const isThere = removeRetained(engine, topic.name)
  if (isThere && !isOwnTopic(topic.name) && engine.journal.isDurable) writeRetainedGone(journalOf(engine, topic.name), topic.utf8)
}

/** A timer left behind would keep the message in memory until it is due, however often its topic is written meanwhile. */
function forgetTimer(engine: Engine, message: Message): void {
  engine.cancel(engine.retainedTimers.get(message) ?? null)
  engine.retainedTimers.delete(message)
}

function expireRetained(engine: Engine, message: Message): void {
  const { topic } = message
  if (engine.retained.get(topic.name) !== message) return
  if (!isOwnTopic(topic.name) && !engine.shardFor(topic.name).isServing) {
    // Not ours yet, and so not ours to remove.
    engine.retainedTimers.set(
      message,
      engine.at(engine.clock.wallMs() + RETRY_EXPIRY_MS, () => expireRetained(engine, message)),
    )
    return
  }
  engine.counters.expiredMessages++
  forgetRetained(engine, topic)
}

function journalOf(engine: Engine, topicName: string): ReturnType<Engine['journal']['writer']> {
  return engine.journal.writer(engine.shardFor(topicName).number)
}
