/** Something that happens at a simulated time. */
export interface Scheduled {
  readonly dueMs: number
  /** Of two with the same time the one that was scheduled first runs first. */
  readonly order: number
  run: (() => void) | null
}

/** A binary heap by due time, then by order of scheduling. */
export class EventQueue {
  readonly #heap: Scheduled[] = []
  #order = 0

  get size(): number {
    return this.#heap.length
  }

  /** Due time of what comes next; Infinity when nothing does. */
  get nextMs(): number {
    return this.#heap[0]?.dueMs ?? Infinity
  }

  add(dueMs: number, run: () => void): Scheduled {
    const added: Scheduled = { dueMs, order: this.#order++, run }
    const heap = this.#heap
    let at = heap.length
    heap.push(added)
    while (at > 0) {
      const above = (at - 1) >> 1
      if (!isBefore(added, heap[above]!)) break
      heap[at] = heap[above]!
      at = above
    }
    heap[at] = added
    return added
  }

  take(): Scheduled | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    let at = 0
    for (;;) {
      let below = 2 * at + 1
      if (below >= heap.length) break
      if (below + 1 < heap.length && isBefore(heap[below + 1]!, heap[below]!)) below++
      if (!isBefore(heap[below]!, last)) break
      heap[at] = heap[below]!
      at = below
    }
    heap[at] = last
    return first
  }
}

function isBefore(a: Scheduled, b: Scheduled): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order)
}
