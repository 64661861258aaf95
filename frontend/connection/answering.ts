import { ackFrameBytes, encodeAck, type AckType } from '#shared/mqtt/ack-codec.ts'
import type { OptionalText } from '#shared/mqtt/packet-library.ts'
import { PacketType } from '#shared/mqtt/packet-type.ts'
import { isFailure, type ReasonCode } from '#shared/mqtt/reason-code.ts'
import { encodeSuback, encodeUnsuback } from '#shared/mqtt/subscribe-codec.ts'
import type { Connection } from './connection.ts'
import { AnswerKind } from './pending-answers.ts'
import { firstRefusalText, refusalText } from './refusal-text.ts'

/** An acknowledgement without a Reason String. */
const ACK_BYTES_MAX = 6

/**
 * One answer, in its turn (PendingAnswers): what it ends for the connection, and the packet that says so.
 * @param reasons of SUBACK and UNSUBACK
 * @param text of a PUBACK or PUBREC that refuses for a reason of its own
 */
export function answer(
  connection: Connection,
  kind: AnswerKind,
  packetId: number,
  reason: ReasonCode,
  reasons: readonly ReasonCode[] | null,
  text: string | null,
): void {
  switch (kind) {
    case AnswerKind.Puback:
      connection.finishedPublish()
      return sendAck(connection, PacketType.PUBACK, packetId, reason, text)
    case AnswerKind.Pubrec:
      if (isFailure(reason)) connection.finishedPublish()
      return sendAck(connection, PacketType.PUBREC, packetId, reason, text)
    case AnswerKind.Pubcomp:
      if (!isFailure(reason)) connection.finishedPublish()
      return sendAck(connection, PacketType.PUBCOMP, packetId, reason)
    case AnswerKind.Suback:
      connection.answeredSubscribe()
      return sendReasons(connection, encodeSuback, packetId, reasons!)
    case AnswerKind.Unsuback:
      connection.answeredSubscribe()
      return sendReasons(connection, encodeUnsuback, packetId, reasons!)
    case AnswerKind.Restricted:
      return
  }
}

/** Sends PUBACK, PUBREC, PUBREL or PUBCOMP in its shortest form, a refusal with a Reason String where the client takes it. */
export function sendAck(connection: Connection, type: AckType, packetId: number, reason: ReasonCode, ownText: string | null = null): void {
  const { version, output } = connection
  let text: string | null = null
  if (isFailure(reason) && version === 5 && connection.wantsProblemInformation) {
    text = ownText ?? refusalText(reason)
    if (ackFrameBytes(version, reason, text) > connection.packetBytesMaxOut) text = null
  }
  const into = output.room(text === null ? ACK_BYTES_MAX : ackFrameBytes(version, reason, text))
  const start = output.at
  const end = encodeAck(into, start, type, packetId, version, reason, text)
  output.advance(end)
  connection.gathered(end - start)
}

function sendReasons(connection: Connection, encode: typeof encodeSuback, packetId: number, reasons: readonly ReasonCode[]): void {
  const { version, packetBytesMaxOut, wantsProblemInformation } = connection
  connection.send(encode(packetId, reasons, version, wantsProblemInformation ? requestText(reasons) : null, packetBytesMaxOut))
}

function requestText(reasons: readonly ReasonCode[]): OptionalText | null {
  const reasonString = firstRefusalText(reasons)
  return reasonString === null ? null : { reasonString }
}
