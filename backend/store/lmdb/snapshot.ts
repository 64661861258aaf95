import { assert } from '#shared/base/assert.ts'
import type { SnapshotWriter } from '../shard-store.ts'
import type { Committer } from './committer.ts'
import * as layout from './layout.ts'
import type { ShardState } from './load.ts'
import type { Trimmer } from './trimmer.ts'

export interface SnapshotParts {
  readonly shard: number
  readonly state: ShardState
  /** Sequence of the last record that may hold entries which the snapshot covers. */
  readonly covered: number
  readonly committer: Committer
  readonly trimmer: Trimmer
  /** @throws {StoreError} closed, full, failed: when `valueBytes` more may not be stored. */
  readonly admit: (valueBytes: number) => void
}

/**
 * Writes chunks under a generation that no pointer names yet. The pointer is written after them and in order, so it
 * can only be found with all of them; whatever no pointer names is removed when the store is opened.
 */
export class LmdbSnapshotWriter implements SnapshotWriter {
  readonly #parts: SnapshotParts
  readonly #generation: number
  readonly #coveredBytes: number
  #chunks = 0
  #pagesBytes = 0
  #ended = false

  constructor(parts: SnapshotParts) {
    this.#parts = parts
    this.#generation = ++parts.state.lastGeneration
    this.#coveredBytes = parts.state.loggedBytes
  }

  async write(chunk: Uint8Array): Promise<void> {
    assert(!this.#ended, 'a chunk of a snapshot that has ended')
    const { shard, committer, trimmer, admit } = this.#parts
    const key = layout.chunkKey(shard, this.#generation, this.#chunks)
    const value = layout.encodeValue(key, chunk)
    admit(value.length)
    this.#chunks++
    this.#pagesBytes += trimmer.addChunk(value.length)
    await committer.put(key, value, 'anywhere')
  }

  async finish(): Promise<void> {
    const { shard, state, covered, committer, trimmer, admit } = this.#parts
    this.#end()
    const former = { generation: state.pointer.generation, chunks: state.pointer.chunks, bytes: state.snapshotBytes }
    const pointer = { generation: this.#generation, chunks: this.#chunks, covered }
    const key = layout.pointerKey(shard)
    try {
      admit(0)
      await committer.put(key, layout.encodePointer(key, pointer), 'anywhere')
    } finally {
      state.snapshotUnderWay = false
    }
    const before = state.coveredBytes
    state.pointer = pointer
    state.snapshotBytes = this.#pagesBytes
    state.coveredBytes = this.#coveredBytes
    trimmer.superseded(shard, former, state.coveredBytes - before)
  }

  async abandon(): Promise<void> {
    const { shard, state, trimmer } = this.#parts
    this.#end()
    state.snapshotUnderWay = false
    trimmer.superseded(shard, { generation: this.#generation, chunks: this.#chunks, bytes: this.#pagesBytes }, 0)
  }

  #end(): void {
    assert(!this.#ended, 'a snapshot ends once')
    this.#ended = true
  }
}
