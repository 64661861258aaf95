import { storeShardOf } from '#shared/cluster/shard.ts'
import type { RemoteStoreCall } from '#shared/rpc/owner-port.ts'
import { valuesAnswer } from '#shared/state-store/answer.ts'
import { MGET_BYTES_MAX, type MgetCommand, parseExtendedCommand } from '#shared/state-store/command.ts'
import { ErrorText } from '#shared/state-store/errors.ts'
import { type AfterParts, joinedAnswer, type StoreGathering, type StorePart } from './store-gathering.ts'

/** What one shard is asked for an MGET. */
interface ValuePart extends StorePart {
  readonly keys: readonly string[]
  /** Their places among all keys. */
  readonly places: readonly number[]
}

/**
 * Values of an MGET whose keys are in several shards: each owner is asked for its own, and the answer, when it is whole, goes to one of them,
 * who publishes it as it would its own. Each value is the newest at some moment in between; there is no moment for all.
 */
export class ValueGathering implements StoreGathering {
  readonly call: RemoteStoreCall
  readonly shard: number
  readonly parts: readonly ValuePart[]
  readonly open = new Set<number>()
  readonly #values: (Buffer | null)[]
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

  get bytes(): number {
    return this.#bytes
  }

  /** Too many of them, or null for that: what is to be answered is that. */
  take({ places }: ValuePart, values: readonly (Uint8Array | null)[] | null): void {
    if (values === null) this.#bytes = Infinity
    for (const [index, value] of (values ?? []).entries()) {
      const place = places[index]
      if (place === undefined || value === null) continue
      this.#values[place] = Buffer.from(value)
      this.#bytes += value.length
    }
  }

  get isOver(): boolean {
    return this.#bytes > MGET_BYTES_MAX
  }

  refuse(): boolean {
    return false
  }

  next(): AfterParts {
    const { call } = this
    if (this.isOver) return { is: 'answer', call: { ...call, fault: ErrorText.QuotaExceeded } }
    return { is: 'answer', call: joinedAnswer(call, valuesAnswer(this.#values)) }
  }
}

/** Keys in more than one shard. */
export function isScattered({ keys }: MgetCommand, shardCount: number): boolean {
  const first = storeShardOf(keys[0]!, shardCount)
  return keys.some(key => storeShardOf(key, shardCount) !== first)
}

/** In the order of their first keys. */
function partsOf(gathering: ValueGathering, keys: readonly string[], shardCount: number): readonly ValuePart[] {
  const parts = new Map<number, { keys: string[]; places: number[] }>()
  for (const [place, key] of keys.entries()) {
    const shard = storeShardOf(key, shardCount)
    const part = parts.get(shard) ?? { keys: [], places: [] }
    part.keys.push(key)
    part.places.push(place)
    parts.set(shard, part)
  }
  return Array.from(parts, ([shard, part]) => ({ gathering, shard, bytes: 0, ...part }))
}
