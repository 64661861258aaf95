import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** Checks between two collections, whether the first helped or not: a full one stops the process for some tenths of a second. */
const CHECKS_WITHOUT_COLLECTION = 5
/** Garbage may take this share of the limit on top of it meanwhile; over that it is collected at once. */
const OVERSHOOT_SHARE = 1 / 8

/** Memory as the watch needs it. */
export interface WatchedMemory {
  /** Bytes in use, garbage that was not collected yet included. */
  inUseBytes(): number
  /** Frees what garbage there is; buffers may follow a moment later. */
  collect(): void
}

/**
 * Whether the process uses more memory than it should. Garbage is no reason to say so: V8 keeps it for as long as nothing is
 * allocated, so a broker that refuses everything because of it would do so for ever.
 */
export class MemoryWatch {
  readonly #limitBytes: number
  readonly #memory: WatchedMemory
  readonly #urgentBytes: number
  #checksToWait = 0
  #isOver = false

  constructor(limitBytes: number, memory: WatchedMemory) {
    this.#limitBytes = limitBytes
    this.#urgentBytes = limitBytes * (1 + OVERSHOOT_SHARE)
    this.#memory = memory
  }

  /** Called about once a second. */
  check(): boolean {
    const inUseBytes = this.#memory.inUseBytes()
    const isDue = this.#checksToWait === 0
    if (!isDue) this.#checksToWait--
    if (inUseBytes <= this.#limitBytes) {
      this.#isOver = false
    } else if (isDue || (!this.#isOver && inUseBytes > this.#urgentBytes)) {
      this.#memory.collect()
      this.#isOver = this.#memory.inUseBytes() > this.#limitBytes
      this.#checksToWait = CHECKS_WITHOUT_COLLECTION
    }
    return this.#isOver
  }
}

/**
 * This process: what V8 uses, and what was resident besides when this was called. Resident memory itself says too much: freed memory
 * stays with the allocator, which uses it again, and the pages of a mapped store belong to the system.
 */
export function processMemory(): WatchedMemory {
  const { rss, heapTotal, external } = process.memoryUsage()
  const besidesBytes = Math.max(0, rss - heapTotal - external)
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  return {
    inUseBytes: () => {
      const usage = process.memoryUsage()
      return besidesBytes + usage.heapUsed + usage.external
    },
    collect,
  }
}
