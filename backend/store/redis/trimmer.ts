import { type Keys, type LogId, logIdText } from './keys.ts'
import type { OnSide } from './reading.ts'
import { TRIM } from './scripts.ts'

/** Entries that one command removes: a step that Redis hardly notices. Not below the 100 that a node of a stream holds. */
const STEP_ENTRIES = 256

/** Removes entries that snapshots cover, a step after the other, one shard at a time. */
export class Trimmer {
  readonly #keys: Keys
  readonly #onSide: OnSide
  /** What the last snapshot covers, by shard. */
  readonly #due = new Map<number, LogId>()
  #running: Promise<void> | null = null
  #isClosed = false

  constructor(keys: Keys, onSide: OnSide) {
    this.#keys = keys
    this.#onSide = onSide
  }

  covered(shard: number, epoch: number, position: number): void {
    this.#due.set(shard, { epoch, position })
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
    for (const [shard, covered] of this.#due) {
      this.#due.delete(shard)
      const kept = { ...covered, position: covered.position + 1 }
      const command = [
        'eval',
        TRIM,
        2,
        this.#keys.log(shard),
        this.#keys.meta(shard),
        logIdText(covered),
        logIdText(kept),
        STEP_ENTRIES,
      ] as const
      const step = (): Promise<unknown> => this.#onSide(shard, side => side.call(...command))
      try {
        while (!this.#isClosed && Number(await step()) > 0);
      } catch {
        // Closed: see `close`.
        return
      }
    }
  }
}
