/**
 * What waits, by whom it comes from: sources take turns, and within one it is first come, first served. A source that sends much waits for
 * itself, not the others for it: who guesses passwords from one place must not keep everybody else out.
 */
export class FairQueue<T extends object> {
  /** In the order of their turns; none is empty. */
  readonly #bySource = new Map<string, Set<T>>()
  #length = 0

  get length(): number {
    return this.#length
  }

  push(source: string, item: T): void {
    const items = this.#bySource.get(source)
    if (items === undefined) this.#bySource.set(source, new Set([item]))
    else items.add(item)
    this.#length++
  }

  /** Takes whoever waits longest of the source whose turn it is; `undefined` when nobody waits. */
  shift(): T | undefined {
    for (const [source, items] of this.#bySource) {
      for (const item of items) {
        this.delete(source, item)
        if (items.size === 0) return item
        this.#bySource.delete(source)
        this.#bySource.set(source, items)
        return item
      }
    }
    return undefined
  }

  delete(source: string, item: T): void {
    const items = this.#bySource.get(source)
    if (items?.delete(item) !== true) return
    this.#length--
    if (items.size === 0) this.#bySource.delete(source)
  }

  /**
   * Takes out what makes room for something of `source` when there is none: the newest of the source that has most. `undefined` when that
   * would be no fairer, and the newcomer is the one too many.
   */
  makeRoomFor(source: string): T | undefined {
    let most = source
    let count = (this.#bySource.get(source)?.size ?? 0) + 1
    for (const [other, { size }] of this.#bySource) {
      if (size <= count) continue
      most = other
      count = size
    }
    const items = this.#bySource.get(most)
    if (most === source || items === undefined) return undefined
    const newest = [...items].at(-1)!
    this.delete(most, newest)
    return newest
  }
}
