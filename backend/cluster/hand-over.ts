import type { Message } from '#shared/mqtt/message.ts'
import type { HandOverTarget } from '#shared/rpc/owner-port.ts'

/**
 * A message that a shard of ours has stored and that other shards, or other parts of the same, are still to take.
 *
 *   made → stored → begun: for every shard, taken there or certain to have nobody for it → forgotten
 */
export class HandOver {
  readonly sequence: number
  readonly target: HandOverTarget
  readonly message: Message
  /** Until then nobody may have it: a later owner of its shard would not know it, and give its number to another. */
  isStored: boolean
  /** Shards that may have somebody for it and have not answered. Null until it begins. */
  pending: Set<number> | null = null
  #waiting: (() => void)[] | null = null

  constructor(sequence: number, target: HandOverTarget, message: Message, isStored = true) {
    this.sequence = sequence
    this.target = target
    this.message = message
    this.isStored = isStored
  }

  /** Runs `run` when every shard has taken it: never, should its own shard be lost before. */
  whenTaken(run: () => void): void {
    this.#waiting ??= []
    this.#waiting.push(run)
  }

  /** Every shard has taken it. */
  taken(): void {
    const waiting = this.#waiting
    this.#waiting = null
    if (waiting !== null) for (const run of waiting) run()
  }
}
