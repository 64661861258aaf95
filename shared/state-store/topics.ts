/** Topics of the state store (spec state-store.md 1). */
const STORE = 'statestore/v1/FA9AE35F-2F64-47CD-9BFF-08E2B32A0FE8'

/** Where requests are published. No subscriber ever sees them. */
export const REQUEST_TOPIC = `${STORE}/command/invoke`

/** Notifications are below it, and nobody but the store publishes there. */
const OWN_TOPICS = `clients/${STORE}`
const NOTIFY = '/command/notify/'

/** §1.5.4 */
const TOPIC_BYTES_MAX = 65_535
/** What a notification topic has beside the Client Identifier and the key, each byte of which takes two characters. */
const NOTIFY_TOPIC_BYTES = OWN_TOPICS.length + 1 + NOTIFY.length

/**
 * Where a client that watches `key` gets its notifications: both names in base16, upper case, as clients compare them.
 * @returns null when that is longer than a Topic Name may be: such a key cannot be watched
 */
export function notifyTopic(clientId: string, key: Uint8Array): string | null {
  if (!isWatchable(clientId, key.length)) return null
  return `${OWN_TOPICS}/${base16(Buffer.from(clientId, 'utf8'))}${NOTIFY}${base16(Buffer.from(key.buffer, key.byteOffset, key.byteLength))}`
}

/** The key that a notification on this topic is about; null: the topic is none of notifications. */
export function notifiedKey(topic: string): Buffer | null {
  if (!isReserved(topic)) return null
  const at = topic.indexOf(NOTIFY, OWN_TOPICS.length)
  return at < 0 ? null : Buffer.from(topic.slice(at + NOTIFY.length), 'hex')
}

/** Whether a key of so many bytes has a notification topic for this client. */
export function isWatchable(clientId: string, keyBytes: number): boolean {
  return NOTIFY_TOPIC_BYTES + 2 * (Buffer.byteLength(clientId, 'utf8') + keyBytes) <= TOPIC_BYTES_MAX
}

/**
 * Response Topics for which the client is disconnected: the request topic, all that begin like the store's own topics, whether or not
 * a level ends there, and those of the server itself.
 */
export function isForbiddenResponseTopic(topic: string): boolean {
  return topic === REQUEST_TOPIC || topic.startsWith(OWN_TOPICS) || topic.startsWith('$')
}

/** Clients may not publish there, or they could forge notifications. */
export function isReserved(topic: string): boolean {
  return topic.startsWith(OWN_TOPICS) && (topic.length === OWN_TOPICS.length || topic[OWN_TOPICS.length] === '/')
}

function base16(bytes: Buffer): string {
  return bytes.toString('hex').toUpperCase()
}
