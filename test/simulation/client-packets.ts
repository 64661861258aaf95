import { Ack, ackFrameBytes, decodeAck, encodeAck, type AckType } from '#shared/mqtt/ack-codec.ts'
import { decodeServerPacket, type ServerPacket } from '#shared/mqtt/client-codec.ts'
import { frameEnd, INCOMPLETE } from '#shared/mqtt/framing.ts'
import { Message, newMessage } from '#shared/mqtt/message.ts'
import { PacketType } from '#shared/mqtt/packet-type.ts'
import type { ProtocolVersion } from '#shared/mqtt/protocol-version.ts'
import { PublishDecoder } from '#shared/mqtt/publish-decoder.ts'
import { encodePublish, publishFrameBytes, PublishShape } from '#shared/mqtt/publish-encoder.ts'
import type { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { TopicCache } from '#shared/mqtt/topic.ts'
import type { Qos } from './history.ts'

/** Of all clients: names and their bytes, the same in every run. */
const topics = new TopicCache({ topicsMax: 1_000, levelsMax: 128 })
const shape = new PublishShape()
const message = new Message()
const ack = new Ack()

export interface OutgoingPublish {
  readonly topic: string
  readonly payload: string | Buffer
  readonly qos: Qos
  readonly retain: boolean
  readonly dup: boolean
  readonly packetId: number
  /** Encoded, without their length. */
  readonly properties?: Buffer
}

export function encodeClientPublish(version: ProtocolVersion, publish: OutgoingPublish): Buffer {
  const payload = typeof publish.payload === 'string' ? Buffer.from(publish.payload) : publish.payload
  const outgoing = newMessage(topics.fromName(publish.topic), payload, publish.qos, publish.retain, publish.properties)
  shape.version = version
  shape.qos = publish.qos
  shape.retain = publish.retain
  shape.dup = publish.dup
  shape.subscriptionIds = null
  shape.expirySeconds = -1
  shape.topicAlias = 0
  shape.topicMode = 'full'
  const bytes = Buffer.alloc(publishFrameBytes(outgoing, shape))
  encodePublish(bytes, 0, outgoing, shape, publish.packetId)
  return bytes
}

export function encodeClientAck(version: ProtocolVersion, type: AckType, packetId: number, reason: ReasonCode): Buffer {
  const bytes = Buffer.alloc(ackFrameBytes(version, reason, null))
  encodeAck(bytes, 0, type, packetId, version, reason, null)
  return bytes
}

/** What comes from the server, as its receiver wants it. `message` and `ack` are valid only during the call. */
export interface PacketTaker {
  onPublish(message: Message): void
  onAck(type: AckType, ack: Ack): void
  onPacket(packet: ServerPacket): void
  /** It is no longer interested, the connection being closed. */
  readonly isDone: boolean
}

/** Cuts the bytes of one connection into packets. */
export class PacketReader {
  readonly #version: ProtocolVersion
  readonly #decoder: PublishDecoder
  #held: Buffer = Buffer.alloc(0)

  constructor(version: ProtocolVersion) {
    this.#version = version
    this.#decoder = new PublishDecoder(topics, version, { topicAliasMaximum: 0 })
  }

  /** @throws {ProtocolError} what the server sent cannot be read */
  read(chunk: Buffer, taker: PacketTaker): void {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk])
    let at = 0
    while (!taker.isDone) {
      const end = frameEnd(bytes, at, bytes.length, Infinity)
      if (end === INCOMPLETE) break
      this.#take(bytes, at, end, taker)
      at = end
    }
    this.#held = bytes.subarray(at)
  }

  #take(bytes: Buffer, start: number, end: number, taker: PacketTaker): void {
    const type = bytes[start]! >> 4
    switch (type) {
      case PacketType.PUBLISH:
        this.#decoder.decode(bytes, start, end, message)
        return taker.onPublish(message)
      case PacketType.PUBACK:
      case PacketType.PUBREC:
      case PacketType.PUBREL:
      case PacketType.PUBCOMP:
        decodeAck(bytes, start, end, this.#version, ack)
        return taker.onAck(type, ack)
      default:
        return taker.onPacket(decodeServerPacket(bytes, start, end, this.#version))
    }
  }
}
