import { notifiedKey } from '../state-store/topics.ts'
import type { Permit } from './permit.ts'

/**
 * Whether a message on this topic may (still) go to the client. Of a notification of the state store the key decides, as it did for
 * KEYNOTIFY: it came for no Subscription.
 */
export function mayHear(permit: Permit, topicName: string): boolean {
  const key = notifiedKey(topicName)
  return key === null ? permit.maySubscribe(topicName) : permit.mayAccessKey(key, 'read')
}
