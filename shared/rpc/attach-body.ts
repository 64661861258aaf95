import { type ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import type { ByteWriter } from '#shared/base/byte-writer.ts'
import { Message } from '#shared/mqtt/message.ts'
import type { TopicCache } from '#shared/mqtt/topic.ts'
import type { AttachReply, ConnectionEnd, SessionRights, WillRequest } from './backend-port.ts'
import {
  readBelow,
  readClientId,
  readFlag,
  readId,
  readNonZeroU16,
  readReason,
  readSeconds,
  readText,
  writeFlag,
  writeId,
} from './body-fields.ts'
import { readMessage, writeMessage } from './message-body.ts'
import type { RemoteAttach } from './owner-port.ts'

const CLEAN_START = 1
const HAS_WILL = 2
/** Since protocol version 2. */
const HAS_RIGHTS = 4
const ATTACH_FLAGS_LIMIT = 8

const DISCARD_WILL = 1
const HAS_EXPIRY = 2
const END_FLAGS_LIMIT = 4

const ATTACHED = 0
const REFUSED = 1

/** What `attach` says of the client. */
export function writeAttach(writer: ByteWriter, attach: RemoteAttach): void {
  const { will, rights } = attach
  writeId(writer, attach.connection)
  writer.text(attach.clientId)
  writer.u8(attach.protocolVersion)
  writer.u8((attach.cleanStart ? CLEAN_START : 0) | (will === null ? 0 : HAS_WILL) | (rights === null ? 0 : HAS_RIGHTS))
  writer.varint(attach.sessionExpirySeconds)
  writer.u16(attach.receiveMaximum)
  if (will !== null) {
    writer.varint(will.delaySeconds)
    writeMessage(writer, will.message)
  }
  if (rights !== null) writeRights(writer, rights)
}

/** What is in them is no affair of the link: whoever acts on them reads them. */
export function writeRights(writer: ByteWriter, { permit, willGuard }: SessionRights): void {
  writer.bytes(permit)
  writer.bytes(willGuard)
}

/** In memory of their own: the guard is kept for as long as the Will. */
export function readRights(reader: ByteReader): SessionRights {
  return { permit: Buffer.from(reader.bytes()), willGuard: Buffer.from(reader.bytes()) }
}

/** The Will owns its bytes, in memory of its own: it may be kept for as long as the session. */
export function readAttach(reader: ByteReader, topics: TopicCache): RemoteAttach {
  const connection = readId(reader)
  const clientId = readClientId(reader)
  const protocolVersion = readVersion(reader)
  const flags = readBelow(reader, ATTACH_FLAGS_LIMIT, 'flags of attach')
  return {
    connection,
    clientId,
    protocolVersion,
    cleanStart: (flags & CLEAN_START) !== 0,
    sessionExpirySeconds: readSeconds(reader),
    receiveMaximum: readNonZeroU16(reader),
    will: (flags & HAS_WILL) === 0 ? null : readWill(reader, topics),
    rights: (flags & HAS_RIGHTS) === 0 ? null : readRights(reader),
  }
}

function readWill(reader: ByteReader, topics: TopicCache): WillRequest {
  const delaySeconds = readSeconds(reader)
  const message = new Message()
  readMessage(reader, topics, message)
  return { message: message.keepApart(), delaySeconds }
}

/** MQTT 3.1, 3.1.1 or 5. */
export function readVersion(reader: ByteReader): 3 | 4 | 5 {
  const version = reader.u8()
  if (version === 3 || version === 4 || version === 5) return version
  throw new ByteReaderError(`protocol version ${version}`)
}

export function writeConnectionEnd(writer: ByteWriter, end: ConnectionEnd): void {
  writer.u8((end.discardWill ? DISCARD_WILL : 0) | (end.sessionExpirySeconds === null ? 0 : HAS_EXPIRY))
  if (end.sessionExpirySeconds !== null) writer.varint(end.sessionExpirySeconds)
}

export function readConnectionEnd(reader: ByteReader): ConnectionEnd {
  const flags = readBelow(reader, END_FLAGS_LIMIT, 'flags of detach')
  return { discardWill: (flags & DISCARD_WILL) !== 0, sessionExpirySeconds: (flags & HAS_EXPIRY) === 0 ? null : readSeconds(reader) }
}

export function writeAttachReply(writer: ByteWriter, reply: AttachReply): void {
  if (reply.is === 'attached') {
    writer.u8(ATTACHED)
    writeId(writer, reply.session)
    writeFlag(writer, reply.sessionPresent)
  } else {
    writer.u8(REFUSED)
    writer.u8(reply.reason)
    writer.text(reply.detail)
  }
}

export function readAttachReply(reader: ByteReader): AttachReply {
  if (readBelow(reader, 2, 'an answer to attach') === ATTACHED) {
    return { is: 'attached', session: readId(reader), sessionPresent: readFlag(reader) }
  }
  return { is: 'refused', reason: readReason(reader), detail: readText(reader) }
}
