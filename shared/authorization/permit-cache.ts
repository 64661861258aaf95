import { createHash } from 'node:crypto'
import { ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import { DecisionCache } from './decision-cache.ts'
import { type Permit, readPermit } from './permit.ts'

/** Permits kept for the next client with the same rights. Those in use live on with their connections. */
const PERMITS_MAX = 8_192

/** Bytes of all Permits that are kept; as objects they take some three times as much. A client may have a long Client Identifier in many patterns. */
export const PERMIT_BYTES_MAX = 32 * 1024 * 1024

/**
 * From bytes to Permits, and the same Permit for the same bytes. One per process; its Permits share one DecisionCache. Permits live in two
 * generations, and when the young one is half of a limit it becomes the old one; whatever was not used since then goes.
 */
export class PermitCache {
  readonly #decisions = new DecisionCache()
  readonly #generationMax: number
  /** Keys are hashes: bytes hold what clients chose, and nobody finds two of them with one SHA-256. */
  #young = new Map<string, Permit>()
  #old = new Map<string, Permit>()
  #youngBytes = 0

  constructor(permitsMax: number = PERMITS_MAX) {
    this.#generationMax = Math.max(1, permitsMax >>> 1)
  }

  /** Permits held now. */
  get size(): number {
    return this.#young.size + this.#old.size
  }

  /**
   * The Permit that `bytes` are, the whole of them.
   * @throws {ByteReaderError} they are none
   */
  get(bytes: Uint8Array): Permit {
    const key = createHash('sha256').update(bytes).digest('base64')
    let permit = this.#young.get(key)
    if (permit !== undefined) return permit
    permit = this.#old.get(key) ?? this.#read(bytes)
    this.#old.delete(key)
    if (this.#young.size >= this.#generationMax || this.#youngBytes + bytes.length > PERMIT_BYTES_MAX / 2) {
      this.#old = this.#young
      this.#young = new Map()
      this.#youngBytes = 0
    }
    this.#young.set(key, permit)
    this.#youngBytes += bytes.length
    return permit
  }

  #read(bytes: Uint8Array): Permit {
    const reader = new ByteReader(bytes)
    const permit = readPermit(reader, this.#decisions)
    if (!reader.done) throw new ByteReaderError(`${reader.remaining} bytes behind a permit`)
    return permit
  }
}
