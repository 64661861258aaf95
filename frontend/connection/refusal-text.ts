import { isFailure, ReasonCode } from '#shared/mqtt/reason-code.ts'

const TEXTS: ReadonlyMap<ReasonCode, string> = new Map<ReasonCode, string>([
  [ReasonCode.NotAuthorized, 'not authorized for this topic'],
  [ReasonCode.TopicFilterInvalid, 'not a valid Topic Filter, or too many levels'],
  [ReasonCode.TopicNameInvalid, 'too many topic levels'],
  [ReasonCode.PacketIdentifierInUse, 'a QoS 2 exchange holds this Packet Identifier'],
  [ReasonCode.PacketIdentifierNotFound, 'no exchange has this Packet Identifier'],
  [ReasonCode.QuotaExceeded, 'a limit is reached: queue of a subscriber, Retained Messages, subscriptions or memory'],
])

/** The Reason String of an acknowledgement that refuses (§3.4.2.2.2): the same for everybody, as it must not tell what a policy says. Null on success. */
export function refusalText(reason: ReasonCode): string | null {
  return isFailure(reason) ? (TEXTS.get(reason) ?? null) : null
}

/** Of a SUBACK or UNSUBACK: the first refusal, and which filter it is about. */
export function firstRefusalText(reasons: readonly ReasonCode[]): string | null {
  const index = reasons.findIndex(reason => refusalText(reason) !== null)
  return index === -1 ? null : `filter ${index + 1}: ${refusalText(reasons[index]!)}`
}
