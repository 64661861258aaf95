import type { ParsedFilter } from '#shared/mqtt/topic.ts'

/** Heap of a session with its places in the tables and an outbox, about, as measured on Node 24. */
const SESSION_OVERHEAD_BYTES = 500

/** Heap of a Subscription in its session and in the index, about, as measured on Node 24: 290 to 550. */
const SUBSCRIPTION_OVERHEAD_BYTES = 400

/** What a session without Subscriptions and messages takes in memory, about. Its Will counts as a message. */
export function bytesOfSession(clientId: string): number {
  return SESSION_OVERHEAD_BYTES + 2 * clientId.length
}

/** What a Subscription takes in memory, about: the session has the filter's text, the index its levels. */
export function bytesOfSubscription(filter: ParsedFilter): number {
  return SUBSCRIPTION_OVERHEAD_BYTES + 2 * filter.text.length
}
