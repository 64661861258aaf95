import type { ByteReader } from '#shared/base/byte-reader.ts'
import type { ByteWriter } from '#shared/base/byte-writer.ts'
import { readVersion } from './attach-body.ts'
import { readBelow, readClientId, readCount, readFlag, readId, readNonZeroU16, writeFlag, writeId } from './body-fields.ts'
import type { BoundSession } from './caller-port.ts'
import type { OutstandingDelivery, ResumedSession } from './owner-port.ts'

const PHASES = ['sent', 'received', 'released'] as const

const ID_BYTES_MIN = 5
/** Connection, a Client Identifier of one character, version, Receive Maximum, isWritable, lastSequence and count. */
const SESSION_BYTES_MIN = ID_BYTES_MIN + 2 + 1 + 2 + 1 + 1 + 1
/** Packet Identifier, sequence, phase. */
const OUTSTANDING_BYTES_MIN = 4

export function writeResumedSessions(writer: ByteWriter, sessions: readonly ResumedSession[]): void {
  writer.varint(sessions.length)
  for (const session of sessions) {
    writeId(writer, session.connection)
    writer.text(session.clientId)
    writer.u8(session.protocolVersion)
    writer.u16(session.receiveMaximum)
    writeFlag(writer, session.isWritable)
    writer.varint(session.lastSequence)
    writer.varint(session.outstanding.length)
    for (const delivery of session.outstanding) {
      writer.u16(delivery.packetId)
      writer.varint(delivery.sequence)
      writer.u8(PHASES.indexOf(delivery.phase))
    }
  }
}

export function readResumedSessions(reader: ByteReader): ResumedSession[] {
  const sessions: ResumedSession[] = []
  for (let left = readCount(reader, SESSION_BYTES_MIN); left > 0; left--) {
    sessions.push({
      connection: readId(reader),
      clientId: readClientId(reader),
      protocolVersion: readVersion(reader),
      receiveMaximum: readNonZeroU16(reader),
      isWritable: readFlag(reader),
      lastSequence: reader.varint(),
      outstanding: readOutstanding(reader),
    })
  }
  return sessions
}

function readOutstanding(reader: ByteReader): OutstandingDelivery[] {
  const outstanding: OutstandingDelivery[] = []
  for (let left = readCount(reader, OUTSTANDING_BYTES_MIN); left > 0; left--) {
    outstanding.push({
      packetId: readNonZeroU16(reader),
      sequence: reader.varint(),
      phase: PHASES[readBelow(reader, PHASES.length, 'a phase of a delivery')]!,
    })
  }
  return outstanding
}

export function writeBoundSessions(writer: ByteWriter, sessions: readonly BoundSession[]): void {
  writer.varint(sessions.length)
  for (const { connection, session } of sessions) {
    writeId(writer, connection)
    writeId(writer, session)
  }
}

export function readBoundSessions(reader: ByteReader): BoundSession[] {
  const sessions: BoundSession[] = []
  for (let left = readCount(reader, 2 * ID_BYTES_MIN); left > 0; left--)
    sessions.push({ connection: readId(reader), session: readId(reader) })
  return sessions
}
