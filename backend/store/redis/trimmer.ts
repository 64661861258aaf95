import type { Keys } from './keys.ts'
import type { OnSide } from './reading.ts'

/** Entries that one command removes: a step that Redis hardly notices. Not below the 100 that a node of a stream holds. */
const STEP_ENTRIES = 256

/** Removes entries that snapshots cover, a step after the other, one shard at a time. */
export class Trimmer {
  readonly #keys: Keys
  readonly #onSide: OnSide
  /** The first id to be kept, by shard. */
  readonly #due = new Map<number, string>()
  #running: Promise<void> | null = null
  #isClosed = false

  constructor(keys: Keys, onSide: OnSide) {
    this.#keys = keys
    this.#onSide = onSide
  }

  covered(shard: number, epoch: number, position: number): void {
    this.#due.set(shard, `${epoch}-${position + 1}`)
    this.#running ??= this.#run().finally(() => {
      this.#running = null
    })
  }

  /** Stops after the step under way; what is left is trimmed after the next snapshot. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.#running
  }

  async #run(): Promise<void> {
    for (const [shard, from] of this.#due) {
      this.#due.delete(shard)
      // Up to `from`, approximately: Redis removes whole nodes of the stream, which costs least, and leaves less than one.
      const step = (): Promise<unknown> =>
        this.#onSide(shard, side => side.call('xtrim', this.#keys.log(shard), 'MINID', '~', from, 'LIMIT', STEP_ENTRIES))
      try {
        while (!this.#isClosed && Number(await step()) > 0);
      } catch {
        // Closed: see `close`.
        return
      }
    }
  }
}
