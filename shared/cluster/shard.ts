import { hash32 } from '#shared/base/hash.ts'

/** The shard of a Client Identifier (its session) or Topic Name (its Retained Message). Stable for ever: stored data depends on it. */
export function shardOf(key: string, shards: number): number {
  return hash32(key) % shards
}

/** The shard that owns the Shared Subscription of this ShareName and Topic Filter: the choice of its members. */
export function groupShardOf(groupName: string, groupFilter: string, shards: number): number {
  // A ShareName holds no U+0000 [MQTT-1.5.4-2], so no two pairs give the same text.
  return shardOf(`${groupName}\0${groupFilter}`, shards)
}

/**
 * The shard of a key of the state store, or of a Client Identifier where there is none. Stable for ever: stored data depends on it.
 * @param shardKey a character for each byte
 */
export function storeShardOf(shardKey: string, shards: number): number {
  return shardOf(shardKey, shards)
}
