import type { UserProperty } from './strict-properties.ts'

/** The User Property by which a client asks that something outlives a stop: on CONNECT its queue, on PUBLISH a Retained Message (docs/resources.md). */
export const PERSISTENCE_NAME = 'aio-persistence'
/** Any other value counts as none. */
export const PERSISTENCE_VALUE = 'true'

/** Of CONNECT: the queue of the session is to outlive a stop. */
export function asksForPersistence(userProperties: readonly UserProperty[]): boolean {
  return userProperties.some(([name, value]) => name === PERSISTENCE_NAME && value === PERSISTENCE_VALUE)
}
