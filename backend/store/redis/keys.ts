import { assert } from '#shared/base/assert.ts'

/** Raised when a reader of the former format would misread what is stored. */
export const FORMAT = 1

/** Name of the one field that entries have in the log; a commit with several entries for a shard has it several times. */
export const ENTRY_FIELD = 'e'
/** First field of an entry that does not follow the position before it: see Chain. */
export const LINK_FIELD = 'l'

/** Keys of one cluster. Those of a shard share a hash tag, so that a script may use all of them in Redis Cluster. */
export class Keys {
  readonly config: string
  readonly #prefix: string

  constructor(clusterName: string) {
    // Escaped: a brace in the name would be taken for the hash tag.
    this.#prefix = `millrace:${encodeURIComponent(clusterName)}`
    this.config = `${this.#prefix}:config`
  }

  /** Stream of the entries: ids are `epoch-position`, position 0 is the claim of that epoch. */
  log(shard: number): string {
    return `${this.#shard(shard)}:log`
  }

  /** Hash: epoch, id, instance, released of the owner; snap, chunks, covered of the valid snapshot; writing of the one that is written. */
  meta(shard: number): string {
    return `${this.#shard(shard)}:meta`
  }

  /** Lists of chunks are called this and the identifier of the snapshot. */
  snapshotPrefix(shard: number): string {
    return `${this.#shard(shard)}:snap:`
  }

  #shard(shard: number): string {
    return `${this.#prefix}:{m:${shard}}`
  }
}

/** Identifier of an entry in a stream. */
export interface LogId {
  readonly epoch: number
  readonly position: number
}

export const LOG_START: LogId = { epoch: 0, position: 0 }

export function logIdText(id: LogId): string {
  return `${id.epoch}-${id.position}`
}

export function parseLogId(text: string): LogId {
  const match = /^(\d+)-(\d+)$/.exec(text)
  assert(match, 'an id of a stream')
  return { epoch: Number(match[1]), position: Number(match[2]) }
}

export function isAfter(one: LogId, other: LogId): boolean {
  return one.epoch > other.epoch || (one.epoch === other.epoch && one.position > other.position)
}
