import { ByteWriter } from '#shared/base/byte-writer.ts'
import { type Message, newMessage } from '#shared/mqtt/message.ts'
import { writeFieldProperty, writeUserProperty } from '#shared/mqtt/property-writer.ts'
import { Property } from '#shared/mqtt/property.ts'
import type { UserProperty } from '#shared/mqtt/strict-properties.ts'
import type { Topic } from '#shared/mqtt/topic.ts'

/** One that the broker itself sends, QoS 1, with these User Properties and Correlation Data. */
export function ownMessage(topic: Topic, payload: Buffer, properties: readonly UserProperty[], correlation?: Buffer): Message {
  const writer = new ByteWriter()
  if (correlation !== undefined) writeFieldProperty(writer, Property.CorrelationData, correlation)
  for (const [name, value] of properties) writeUserProperty(writer, name, value)
  return newMessage(topic, payload, 1, false, writer.written()).keep()
}
