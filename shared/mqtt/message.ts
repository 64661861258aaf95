import { binaryDataEnd } from './utf8.ts'
import { Property } from './property.ts'
import { CACHED_TOPIC_BYTES_MAX, NO_TOPIC, type Topic } from './topic.ts'

/** Nothing, as bytes. */
export const EMPTY = Buffer.alloc(0)

/** Heap of a Message object and of the Buffer that `keep` makes, as measured on Node 24 (64 bit). */
const KEPT_MESSAGE_OVERHEAD_BYTES = 240

/**
 * An Application Message as frontends and the engine pass it on. Payload and properties are ranges of buffers, not
 * views: a view costs about as much as all else that happens to a message. After decoding the ranges lie in the network
 * chunk; whoever keeps the message past the event-loop turn calls `keep`.
 *
 * One hidden class: all fields are set here, in this order. Connections decode into one Message again and again.
 */
export class Message {
  topic: Topic = NO_TOPIC
  qos: number = 0
  retain: boolean = false
  dup: boolean = false
  /** 0 for QoS 0 */
  packetId: number = 0
  /** Message Expiry Interval as received, in seconds; -1 none */
  expirySeconds: number = -1
  /** wall time in milliseconds at which it expires, Infinity none: set by the engine when the message is kept */
  expiresAtMs: number = Infinity
  /**
   * `propertyBytes[propertiesStart, propertiesEnd)`: the MQTT 5 properties that travel on, encoded and in the order in
   * which they came, without Property Length and without Topic Alias, Message Expiry Interval and Subscription Identifiers.
   */
  propertyBytes: Buffer = EMPTY
  propertiesStart: number = 0
  propertiesEnd: number = 0
  payloadBytes: Buffer = EMPTY
  payloadStart: number = 0
  payloadEnd: number = 0
  /** set by `keep`, `keepApart` and `moveApart`: nobody else writes to its bytes, so what sends them later need not copy them */
  ownsBytes: boolean = false
  /** the engine's count of places that keep this message, so that its bytes are counted once */
  references: number = 0
  /** the engine's number of this retained message, growing; 0 while it is not retained */
  retainedSequence: number = 0

  get payloadLength(): number {
    return this.payloadEnd - this.payloadStart
  }

  get propertiesLength(): number {
    return this.propertiesEnd - this.propertiesStart
  }

  /** A view of the payload: allocates, so not for the data path. */
  get payload(): Buffer {
    return this.payloadBytes.subarray(this.payloadStart, this.payloadEnd)
  }

  /** A view of the properties that travel on: allocates, so not for the data path. */
  get properties(): Buffer {
    return this.propertyBytes.subarray(this.propertiesStart, this.propertiesEnd)
  }

  /** What a kept copy takes in memory, in bytes, its Topic not counted when that is shared and bounded elsewhere. */
  get storedBytes(): number {
    return KEPT_MESSAGE_OVERHEAD_BYTES + this.propertiesLength + this.payloadLength + ownTopicBytes(this.topic)
  }

  /**
   * A copy that owns its bytes: properties, then payload, in one Buffer of exactly that size; the Topic is shared.
   * A small Buffer comes out of Node's pool of 8 KiB slabs and pins its slab, so what stays for long (retained
   * messages, queues) takes `keepApart` or later `moveApart`.
   */
  keep(): Message {
    return this.#copyInto(Buffer.allocUnsafe(this.propertiesLength + this.payloadLength))
  }

  /** As `keep`, in memory of its own: 200 instead of 65 ns (256 B, Node 24), but pins nothing else. */
  keepApart(): Message {
    return this.#copyInto(Buffer.allocUnsafeSlow(this.propertiesLength + this.payloadLength))
  }

  /** Of a kept message: moves its bytes to memory of their own, unless they are there already. Copies nothing then, and 200 ns else. */
  moveApart(): void {
    const length = this.propertiesLength + this.payloadLength
    const { payloadBytes, propertyBytes } = this
    if (payloadBytes === propertyBytes && payloadBytes.length === length && payloadBytes.buffer.byteLength === length) return
    this.#setBytes(this, Buffer.allocUnsafeSlow(length))
  }

  #copyInto(bytes: Buffer): Message {
    const copy = new Message()
    copy.topic = this.topic
    copy.qos = this.qos
    copy.retain = this.retain
    copy.dup = this.dup
    copy.packetId = this.packetId
    copy.expirySeconds = this.expirySeconds
    copy.expiresAtMs = this.expiresAtMs
    copy.#setBytes(this, bytes)
    return copy
  }

  #setBytes(from: Message, bytes: Buffer): void {
    const propertiesEnd = from.propertiesLength
    if (propertiesEnd > 0) from.propertyBytes.copy(bytes, 0, from.propertiesStart, from.propertiesEnd)
    from.payloadBytes.copy(bytes, propertiesEnd, from.payloadStart, from.payloadEnd)
    this.propertyBytes = bytes
    this.propertiesStart = 0
    this.propertiesEnd = propertiesEnd
    this.payloadBytes = bytes
    this.payloadStart = propertiesEnd
    this.payloadEnd = bytes.length
    this.ownsBytes = true
  }
}

/** Of a Topic that no TopicCache shares: its name as bytes, and as a string of up to two bytes a character. */
function ownTopicBytes(topic: Topic): number {
  return topic.utf8.length > CACHED_TOPIC_BYTES_MAX ? 3 * topic.utf8.length : 0
}

/** A Message made by the broker itself, or from the store: owns nothing, shares `payload` and `properties` as given. */
export function newMessage(topic: Topic, payload: Buffer, qos = 0, retain = false, properties: Buffer = EMPTY): Message {
  const message = new Message()
  message.topic = topic
  message.qos = qos
  message.retain = retain
  message.propertyBytes = properties
  message.propertiesEnd = properties.length
  message.payloadBytes = payload
  message.payloadEnd = payload.length
  return message
}

/** The value of the first User Property called `name`, or undefined. Scans the encoded properties; makes a string only on success. */
export function userProperty(message: Message, name: string): string | undefined {
  const at = valueAt(message, Property.UserProperty, name)
  if (at === -1) return undefined
  const end = binaryDataEnd(message.propertyBytes, at, message.propertiesEnd)
  return message.propertyBytes.toString('utf8', at + 2, end)
}

/** Whether the message carries a User Property called `name`. Makes no string. */
export function hasUserProperty(message: Message, name: string): boolean {
  return valueAt(message, Property.UserProperty, name) !== -1
}

/** A view of the Response Topic, Correlation Data or Content Type; undefined when the message has none. */
export function propertyValue(message: Message, wanted: Property): Buffer | undefined {
  const at = valueAt(message, wanted, '')
  if (at === -1) return undefined
  return message.propertyBytes.subarray(at + 2, binaryDataEnd(message.propertyBytes, at, message.propertiesEnd))
}

/**
 * Offset of the length bytes of the value of the first `wanted`, or -1. The properties were validated when they came in.
 * @param name of a User Property
 */
function valueAt(message: Message, wanted: Property, name: string): number {
  const bytes = message.propertyBytes
  const end = message.propertiesEnd
  let at = message.propertiesStart
  while (at < end) {
    const property = bytes[at++]!
    if (property === Property.PayloadFormatIndicator) {
      at++
      continue
    }
    const fieldEnd = binaryDataEnd(bytes, at, end)
    if (property !== Property.UserProperty) {
      if (property === wanted) return at
      at = fieldEnd
    } else {
      if (wanted === Property.UserProperty && isName(bytes, at + 2, fieldEnd, name)) return fieldEnd
      at = binaryDataEnd(bytes, fieldEnd, end)
    }
  }
  return -1
}

function isName(bytes: Buffer, start: number, end: number, name: string): boolean {
  if (end - start < name.length) return false
  for (let i = 0; i < name.length; i++) {
    const code = name.charCodeAt(i)
    if (code > 0x7f) return bytes.toString('utf8', start, end) === name
    if (bytes[start + i] !== code) return false
  }
  return end - start === name.length
}
