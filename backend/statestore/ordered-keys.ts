/** A block of more is cut in two; two neighbours that have half as many together become one. */
const BLOCK_MAX = 256

/**
 * Keys in the order of their bytes, each a character for each byte. Sorted blocks in a sorted list: a key comes and goes with some twenty comparisons
 * and the move of one block, and costs 8 to 24 bytes besides its text, which the entry has anyway (key-store.bench.ts).
 */
export class OrderedKeys {
  /** None is empty. */
  readonly #blocks: string[][] = []

  /** One that is not there. */
  add(key: string): void {
    const blocks = this.#blocks
    if (blocks.length === 0) return void blocks.push([key])
    const at = Math.max(this.#blockAt(key), 0)
    const block = blocks[at]!
    block.splice(placeIn(block, key), 0, key)
    if (block.length <= BLOCK_MAX) return
    // Keys that come in order would leave every block half full if it were cut in its middle.
    const isAscending = at === blocks.length - 1 && block.at(-1) === key
    const cut = isAscending ? BLOCK_MAX : BLOCK_MAX / 2
    blocks.splice(at, 1, block.slice(0, cut), block.slice(cut))
  }

  /** One that is there. */
  delete(key: string): void {
    const blocks = this.#blocks
    const at = this.#blockAt(key)
    const block = blocks[at]!
    block.splice(placeIn(block, key), 1)
    const [before, next] = [blocks[at - 1], blocks[at + 1]]
    if (block.length === 0) blocks.splice(at, 1)
    else if (next !== undefined && block.length + next.length <= BLOCK_MAX / 2) blocks.splice(at, 2, [...block, ...next])
    else if (before !== undefined && block.length + before.length <= BLOCK_MAX / 2) blocks.splice(at - 1, 2, [...before, ...block])
  }

  /** From the first on that is not before `key`. Valid until a key comes or goes. */
  *from(key: string): Iterable<string> {
    const blocks = this.#blocks
    const first = Math.max(this.#blockAt(key), 0)
    for (let at = first; at < blocks.length; at++) {
      const block = blocks[at]!
      for (let index = at === first ? placeIn(block, key) : 0; index < block.length; index++) yield block[index]!
    }
  }

  /** The last block that does not begin behind `key`; -1: there is none. */
  #blockAt(key: string): number {
    const blocks = this.#blocks
    let low = 0
    let high = blocks.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (blocks[middle]![0]! <= key) low = middle + 1
      else high = middle
    }
    return low - 1
  }
}

/** Of the first that is not before `key`. */
function placeIn(block: readonly string[], key: string): number {
  let low = 0
  let high = block.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (block[middle]! < key) low = middle + 1
    else high = middle
  }
  return low
}
