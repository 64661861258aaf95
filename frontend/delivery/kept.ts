import type { Message } from '#shared/mqtt/message.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { mayHear } from '#shared/authorization/may-hear.ts'
import { RECIPIENT_QOS, Recipients } from '#shared/rpc/recipients.ts'
import { disconnect } from '../connection/closing.ts'
import type { Connection } from '../connection/connection.ts'

/** A message of QoS 1 or 2 for a connection that is held; its Packet Identifier is in use at the backend. */
export interface Kept {
  readonly message: Message
  readonly flags: number
  readonly packetId: number
  readonly identifiers: readonly number[] | null
}

/**
 * What may wait for one connection that is held: what was on its way when the backend was told to send no more. One with more is
 * disconnected; its session has them still.
 */
const KEPT_BYTES_MAX = 1024 * 1024

/** Of a message under delivery, recipient `index`. QoS 0 is dropped, as to a socket that takes nothing. */
export function keep(connection: Connection, message: Message, recipients: Recipients, index: number): void {
  const packetId = recipients.packetIds[index]!
  if (packetId === 0) {
    connection.frontend.counters.qos0DroppedOutgoing++
    return
  }
  const kept = (connection.kept ??= [])
  const bytes = kept.reduce((sum, { message: { payloadLength } }) => sum + payloadLength, message.payloadLength)
  if (bytes > KEPT_BYTES_MAX) return disconnect(connection, ReasonCode.ServerBusy, null)
  const identifiers = recipients.identifiers[index] ?? null
  kept.push({ message: message.keep(), flags: recipients.flags[index]!, packetId, identifiers: identifiers && [...identifiers] })
}

/** It is not held any more: it gets what it may still receive, and what it may not counts as refused by it. */
export function deliverKept(connection: Connection): void {
  const { frontend, kept, permit } = connection
  connection.kept = null
  if (kept === null) return
  const recipients = new Recipients()
  for (const { message, flags, packetId, identifiers } of kept) {
    if (permit !== null && !mayHear(permit, message.topic.name)) {
      frontend.discard(connection, packetId, flags & RECIPIENT_QOS)
      continue
    }
    recipients.clear()
    recipients.add(connection.id, flags, packetId, identifiers)
    frontend.deliver(message, recipients)
  }
}
