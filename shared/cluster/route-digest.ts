import { hash32 } from '#shared/base/hash.ts'

/** So many bits of the second hash fit beside the first in a whole number up to 2^53. */
const SECOND_BITS = 20

/**
 * What tells whether two lists of Topic Filters of one shard are the same, without comparing them: their number and the XOR of their hashes.
 * Kept up to date as filters come and go; every filter is in the list once.
 */
export class RouteDigest {
  count = 0
  #first = 0
  #second = 0

  add(filter: string): void {
    this.count++
    this.#flip(filter)
  }

  remove(filter: string): void {
    this.count--
    this.#flip(filter)
  }

  clear(): void {
    this.count = 0
    this.#first = 0
    this.#second = 0
  }

  /** 0 to 2^52. */
  get value(): number {
    return (this.#first >>> 0) * 2 ** SECOND_BITS + (this.#second & (2 ** SECOND_BITS - 1))
  }

  #flip(filter: string): void {
    this.#first ^= hash32(filter)
    this.#second ^= hash32(filter, 1)
  }
}
