import { isAfter, type LogId } from './keys.ts'

/**
 * Which entries of a log count. Commits are pipelined: when Redis refuses one (out of memory) and then takes those sent behind it, the log
 * holds entries without what came before them. None of those was answered as stored. Positions of an epoch follow each other without a gap,
 * so a reader sees where one is missing, and passes over what stands behind the gap. The owner sends all of it again under new positions; the
 * first of these carries the position that it follows (`link`), and with it the chain goes on.
 *
 * A snapshot that covers an entry stands for all before it, also for what was sent again under a higher position: replaying that changes
 * nothing in the end, since entries are absolute and come in their order.
 */
export class Chain {
  #last: LogId

  /** @param covered everything up to it is known: from a snapshot, or the start of the log */
  constructor(covered: LogId) {
    this.#last = covered
  }

  /** Whether the entry counts. To be asked once for each, in the order of the log. */
  admits(id: LogId, link: number | null): boolean {
    const last = this.#last
    const isNext = id.epoch === last.epoch && id.position === last.position + 1
    const isLinked = link !== null && id.epoch === last.epoch && link <= last.position
    // A claim begins its epoch.
    const isClaim = id.position === 0 && isAfter(id, last)
    if (!isNext && !isLinked && !isClaim) return false
    this.#last = id
    return !isClaim
  }
}
