const ID = 'FA9AE35F-2F64-47CD-9BFF-08E2B32A0FE8'

export const REQUEST_TOPIC = `statestore/v1/${ID}/command/invoke`

/** Where answers come. What has no place in a topic is written as its bytes in hexadecimal. */
export function responseTopicOf(clientId: string): string {
  const level = /[#+/\0]/.test(clientId) || clientId.startsWith('$') ? hexOf(Buffer.from(clientId)) : clientId
  return `clients/${level}/services/statestore/_any_/command/invoke/response`
}

/** What begins the topic of every notification to this client; the key follows in hexadecimal. */
export function notificationPrefixOf(clientId: string): string {
  return `clients/statestore/v1/${ID}/${hexOf(Buffer.from(clientId))}/command/notify/`
}

/** Upper case, as topics have it. */
export function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex').toUpperCase()
}
