import { mayHear } from '#shared/authorization/may-hear.ts'
import type { Message } from '#shared/mqtt/message.ts'
import { encodePublish, encodePublishHead, packetIdOffset, publishFrameBytes, PublishShape } from '#shared/mqtt/publish-encoder.ts'
import { notifiedKey } from '#shared/state-store/topics.ts'
import { RECIPIENT_DUP, RECIPIENT_QOS, RECIPIENT_RETAIN, type Recipients } from '#shared/rpc/recipients.ts'
import type { Connection } from '../connection/connection.ts'
import { Output } from '../connection/output.ts'
import type { Frontend } from '../frontend.ts'
import { keep } from './kept.ts'

/** Frames up to this size are copied into each receiver's buffer; of larger ones the payload is shared by all receivers. */
const COPIED_FRAME_MAX = 16 * 1024

/** Shapes that receivers of one message share: by flags (4 bits) and whether the receiver speaks MQTT 5. */
const SHAPES = 32
const SHAPE_IS_V5 = 16

/** Frames of the message being delivered, each encoded once and copied for every further receiver. */
export class SharedFrames {
  readonly #bytes = Buffer.allocUnsafeSlow(SHAPES * COPIED_FRAME_MAX)
  readonly #lengths = new Int32Array(SHAPES)
  readonly #packetIdAt = new Int32Array(SHAPES)
  readonly #used: number[] = []

  clear(): void {
    for (let shape = this.#used.pop(); shape !== undefined; shape = this.#used.pop()) this.#lengths[shape] = 0
  }

  has(shape: number): boolean {
    return this.#lengths[shape] !== 0
  }

  /** Remembers the frame `from[start, end)`. */
  put(shape: number, from: Buffer, start: number, end: number, qos: number): void {
    from.copy(this.#bytes, shape * COPIED_FRAME_MAX, start, end)
    this.#lengths[shape] = end - start
    this.#packetIdAt[shape] = qos === 0 ? -1 : packetIdOffset(from, start) - start
    this.#used.push(shape)
  }

  length(shape: number): number {
    return this.#lengths[shape]!
  }

  /** Copies the frame to `into` at `at` with this Packet Identifier; answers the offset behind it. */
  copy(shape: number, into: Buffer, at: number, packetId: number): number {
    const length = this.#lengths[shape]!
    const from = shape * COPIED_FRAME_MAX
    if (length <= COPY_LOOP_BYTES) for (let i = 0; i < length; i++) into[at + i] = this.#bytes[from + i]!
    else this.#bytes.copy(into, at, from, from + length)
    const packetIdAt = this.#packetIdAt[shape]!
    if (packetIdAt >= 0) {
      into[at + packetIdAt] = packetId >>> 8
      into[at + packetIdAt + 1] = packetId
    }
    return at + length
  }
}

/** Below this a loop is faster than a call of `copy` (measured with the codec). */
const COPY_LOOP_BYTES = 32

/** One message to many connections of this frontend (§3.3.4). */
export function deliver(frontend: Frontend, message: Message, recipients: Recipients): void {
  const { count } = recipients
  const shared = count > 1 ? frontend.sharedFrames : null
  let payload: Buffer | null = null
  for (let i = 0; i < count; i++) {
    const connection = frontend.connections.get(recipients.connections[i]!)
    if (connection === null || connection.phase !== 'open') {
      if (connection?.phase === 'held') keep(connection, message, recipients, i)
      continue
    }
    const flags = recipients.flags[i]!
    const packetId = recipients.packetIds[i]!
    const identifiers = recipients.identifiers[i]!
    if (connection.mayWatch && isWithheld(connection, message, flags, packetId)) continue
    chooseAlias(connection, message)
    if (shared !== null && identifiers === null && reusedShape.topicAlias === 0) {
      const shape = flags | (connection.version === 5 ? SHAPE_IS_V5 : 0)
      if (shared.has(shape)) {
        sendCopy(connection, shared, shape, flags, packetId)
        continue
      }
    }
    payload = sendEncoded(connection, message, flags, packetId, identifiers, shared, payload)
  }
  shared?.clear()
}

/** A notification about a key that the client may not read any more: it registered when it might. It counts as refused by the client. */
function isWithheld(connection: Connection, { topic }: Message, flags: number, packetId: number): boolean {
  const { permit, frontend, category } = connection
  if (permit === null || notifiedKey(topic.name) === null || mayHear(permit, topic.name)) return false
  category.authorizationDenied++
  frontend.discard(connection, packetId, flags & RECIPIENT_QOS)
  return true
}

/** A receiver with the same shape as one before it. */
function sendCopy(connection: Connection, shared: SharedFrames, shape: number, flags: number, packetId: number): void {
  const length = shared.length(shape)
  if (isHeldBack(connection, length, flags, packetId)) return
  const into = connection.output.room(length)
  connection.output.advance(shared.copy(shape, into, connection.output.at, packetId))
  connection.gathered(length)
}

/** Encodes for this receiver, with the alias chosen, and for those of its shape behind it. Answers the payload's copy once a large message needed one. */
function sendEncoded(
  connection: Connection,
  message: Message,
  flags: number,
  packetId: number,
  identifiers: readonly number[] | null,
  shared: SharedFrames | null,
  payload: Buffer | null,
): Buffer | null {
  const shape = shapeFor(connection, message, flags, identifiers)
  let length = publishFrameBytes(message, shape)
  if (length > connection.packetBytesMaxOut && shape.topicMode === 'full' && shape.topicAlias !== 0) {
    // To set an alias takes bytes; the message may fit without it.
    shape.topicAlias = 0
    length = publishFrameBytes(message, shape)
  }
  if (isHeldBack(connection, length, flags, packetId)) return payload
  rememberAlias(connection, message, shape)
  if (length > COPIED_FRAME_MAX) {
    const kept = sendLarge(connection, message, shape, packetId, length, payload)
    connection.gathered(length)
    return kept
  }
  const { output } = connection
  const into = output.room(length)
  const start = output.at
  const end = encodePublish(into, start, message, shape, packetId)
  output.advance(end)
  if (shared !== null && identifiers === null && shape.topicAlias === 0) {
    shared.put(flags | (connection.version === 5 ? SHAPE_IS_V5 : 0), into, start, end, shape.qos)
  }
  connection.gathered(length)
  return payload
}

/**
 * The header by itself and the payload from memory that all receivers share: it is copied once, however many they are, and not at all when
 * the message owns it.
 */
function sendLarge(
  connection: Connection,
  message: Message,
  shape: PublishShape,
  packetId: number,
  length: number,
  payload: Buffer | null,
): Buffer {
  const { output } = connection
  const kept = payload ?? (message.ownsBytes ? message.payload : Buffer.from(message.payload))
  const headLength = length - kept.length
  if (headLength > Output.FRAME_MAX) {
    const frame = Buffer.allocUnsafeSlow(length)
    encodePublish(frame, 0, message, shape, packetId)
    output.writeThrough(frame)
    return kept
  }
  const into = output.room(headLength)
  output.advance(encodePublishHead(into, output.at, message, shape, packetId))
  output.writeThrough(kept)
  return kept
}

/** Its alias is that of the connection which `chooseAlias` was last asked about. */
const reusedShape = new PublishShape()

function shapeFor(connection: Connection, message: Message, flags: number, identifiers: readonly number[] | null): PublishShape {
  const shape = reusedShape
  shape.version = connection.version
  shape.qos = flags & RECIPIENT_QOS
  shape.retain = (flags & RECIPIENT_RETAIN) !== 0
  shape.dup = (flags & RECIPIENT_DUP) !== 0
  shape.subscriptionIds = identifiers
  shape.expirySeconds = message.expirySeconds
  return shape
}

/** A Topic Alias from the first message on, for as many topics as the client takes [MQTT-3.1.2-26]; other topics stay plain. */
function chooseAlias(connection: Connection, message: Message): void {
  const shape = reusedShape
  shape.topicAlias = 0
  shape.topicMode = 'full'
  const { aliases, topicAliasesMax } = connection
  if (topicAliasesMax === 0) return
  const known = aliases?.get(message.topic.name)
  if (known !== undefined) {
    shape.topicAlias = known
    shape.topicMode = 'aliasOnly'
  } else if ((aliases?.size ?? 0) < topicAliasesMax) shape.topicAlias = (aliases?.size ?? 0) + 1
}

/** Only once the packet that sets it is certain to go out. */
function rememberAlias(connection: Connection, message: Message, shape: PublishShape): void {
  if (shape.topicAlias === 0 || shape.topicMode === 'aliasOnly') return
  connection.aliases ??= new Map()
  connection.aliases.set(message.topic.name, shape.topicAlias)
}

/** Whether the message must not go to this client now: too large for it, or QoS 0 to a socket that is full. */
function isHeldBack(connection: Connection, length: number, flags: number, packetId: number): boolean {
  const { frontend } = connection
  if (length > connection.packetBytesMaxOut) {
    // [MQTT-3.1.2-25]: as if it had been sent and acknowledged.
    frontend.counters.tooLargeDropped++
    if (packetId !== 0) frontend.discard(connection, packetId, flags & RECIPIENT_QOS)
    return true
  }
  if (packetId !== 0 || !connection.isBehind) return false
  if (connection.output.waitingBytes + length <= frontend.settings.writeBufferBytesMax) return false
  frontend.counters.qos0DroppedOutgoing++
  return true
}
