import { storeShardOf } from '#shared/cluster/shard.ts'
import { newMessage } from '#shared/mqtt/message.ts'
import type { RemoteStoreCall } from '#shared/rpc/owner-port.ts'
import { valuesAnswer } from '#shared/state-store/answer.ts'
import { MGET_BYTES_MAX, type MgetCommand, parseExtendedCommand } from '#shared/state-store/command.ts'
import { ErrorText } from '#shared/state-store/errors.ts'

/** What one shard is asked for an MGET. */
export interface GatheredPart {
  readonly gathering: StoreGathering
  readonly shard: number
  readonly keys: readonly string[]
  /** Their places among all keys. */
  readonly places: readonly number[]
}

/**
 * Values of an MGET whose keys are in several shards: each owner is asked for its own, and the answer, when it is whole, goes to one of them,
 * who publishes it as it would its own. Each value is the newest at some moment in between; there is no moment for all.
 */
export class StoreGathering {
  /** Its message is kept. */
  readonly call: RemoteStoreCall
  /** Whoever publishes the answer. */
  readonly shard: number
  readonly parts: readonly GatheredPart[]
  /** Requests to shards that have not answered. */
  readonly open = new Set<number>()
  readonly #values: (Buffer | null)[]
  /** Of `bytes`: counted as unanswered. */
  counted = 0
  #bytes = 0

  constructor(call: RemoteStoreCall, shardCount: number) {
    this.call = call
    // Again: what its frontend has read lies in a buffer that is used for the next packet.
    const { keys } = parseExtendedCommand(call.message.payload) as MgetCommand
    this.#values = keys.map(() => null)
    this.parts = partsOf(this, keys, shardCount)
    this.shard = this.parts[0]!.shard
  }

  /** Of values that have come. */
  get bytes(): number {
    return this.#bytes
  }

  /** Values are copied. Too many of them, or null for that: what is to be answered is that. */
  take({ places }: GatheredPart, values: readonly (Uint8Array | null)[] | null): void {
    if (values === null) this.#bytes = Infinity
    for (const [index, value] of (values ?? []).entries()) {
      const place = places[index]
      if (place === undefined || value === null) continue
      this.#values[place] = Buffer.from(value)
      this.#bytes += value.length
    }
  }

  get isTooLong(): boolean {
    return this.#bytes > MGET_BYTES_MAX
  }

  /** What to ask for, with the same properties, when all values are there, or they are too long. */
  answer(): RemoteStoreCall {
    const { call } = this
    if (this.isTooLong) return { ...call, fault: ErrorText.QuotaExceeded }
    const { topic, properties, expirySeconds } = call.message
    const message = newMessage(topic, valuesAnswer(this.#values), 1, false, properties)
    message.expirySeconds = expirySeconds
    return { ...call, isAnswer: true, message }
  }
}

/** Keys in more than one shard. */
export function isScattered({ keys }: MgetCommand, shardCount: number): boolean {
  const first = storeShardOf(keys[0]!, shardCount)
  return keys.some(key => storeShardOf(key, shardCount) !== first)
}

/** In the order of their first keys. */
function partsOf(gathering: StoreGathering, keys: readonly string[], shardCount: number): readonly GatheredPart[] {
  const parts = new Map<number, { keys: string[]; places: number[] }>()
  for (const [place, key] of keys.entries()) {
    const shard = storeShardOf(key, shardCount)
    const part = parts.get(shard) ?? { keys: [], places: [] }
    part.keys.push(key)
    part.places.push(place)
    parts.set(shard, part)
  }
  return Array.from(parts, ([shard, part]) => ({ gathering, shard, ...part }))
}
