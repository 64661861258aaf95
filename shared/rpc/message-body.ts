import { type ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import type { ByteWriter } from '#shared/base/byte-writer.ts'
import type { Message } from '#shared/mqtt/message.ts'
import type { TopicCache } from '#shared/mqtt/topic.ts'

/**
 * The layout of an Application Message in a frame: flags, then topic, Packet Identifier, Message Expiry Interval and properties, the last
 * three only when there are any, then the payload. What a process notes about a message for itself (expiresAtMs, retainedSequence) stays there.
 */
const QOS = 0b0000_0011
const RETAIN = 0b0000_0100
const DUP = 0b0000_1000
const HAS_PACKET_ID = 0b0001_0000
const HAS_EXPIRY = 0b0010_0000
const HAS_PROPERTIES = 0b0100_0000
const FLAGS_LIMIT = 0b1000_0000

/** Flags, a topic of one character, and lengths. */
export const MESSAGE_BYTES_MIN = 4

export function writeMessage(writer: ByteWriter, message: Message): void {
  const { packetId, expirySeconds, propertiesStart, propertiesEnd } = message
  let flags = message.qos
  if (message.retain) flags |= RETAIN
  if (message.dup) flags |= DUP
  if (packetId !== 0) flags |= HAS_PACKET_ID
  if (expirySeconds !== -1) flags |= HAS_EXPIRY
  if (propertiesStart !== propertiesEnd) flags |= HAS_PROPERTIES
  writer.u8(flags)
  writer.bytes(message.topic.utf8)
  if (packetId !== 0) writer.u16(packetId)
  if (expirySeconds !== -1) writer.u32(expirySeconds)
  if (propertiesStart !== propertiesEnd) writer.bytes(message.propertyBytes, propertiesStart, propertiesEnd)
  writer.bytes(message.payloadBytes, message.payloadStart, message.payloadEnd)
}

/**
 * Into `into`, all fields of which are set. Payload and properties stay where they are: `into` is good as long as the reader's buffer is.
 * The properties are not looked into: the frontend that took them from a client has.
 * @throws {ByteReaderError} QoS 3, Packet Identifier 0, truncated. {ProtocolError} the Topic Name is none, as `TopicCache.get`.
 */
export function readMessage(reader: ByteReader, topics: TopicCache, into: Message): void {
  const flags = reader.u8()
  const qos = flags & QOS
  if (qos === 3 || flags >= FLAGS_LIMIT) throw new ByteReaderError(`message flags ${flags}`)
  const { buffer } = reader
  const topicStart = reader.skip(reader.varint())
  const topic = topics.get(buffer, topicStart, reader.at)
  // `into` is old and `buffer` young, so that each store costs a write barrier; within a chunk there is nothing to store.
  if (into.topic !== topic) into.topic = topic
  if (into.propertyBytes !== buffer) into.propertyBytes = buffer
  if (into.payloadBytes !== buffer) into.payloadBytes = buffer
  into.qos = qos
  into.retain = (flags & RETAIN) !== 0
  into.dup = (flags & DUP) !== 0
  into.packetId = (flags & HAS_PACKET_ID) === 0 ? 0 : reader.u16()
  if (into.packetId === 0 && (flags & HAS_PACKET_ID) !== 0) throw new ByteReaderError('Packet Identifier 0')
  into.expirySeconds = (flags & HAS_EXPIRY) === 0 ? -1 : reader.u32()
  into.expiresAtMs = Infinity
  into.propertiesStart = (flags & HAS_PROPERTIES) === 0 ? 0 : reader.skip(reader.varint())
  into.propertiesEnd = (flags & HAS_PROPERTIES) === 0 ? 0 : reader.at
  into.payloadStart = reader.skip(reader.varint())
  into.payloadEnd = reader.at
  into.ownsBytes = false
  into.references = 0
  into.retainedSequence = 0
}
