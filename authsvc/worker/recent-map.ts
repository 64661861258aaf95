/** A map that forgets the entry not asked for longest when it would hold more than `entriesMax`: what is forgotten is worked out again. */
export class RecentMap<K, V> {
  readonly #entries = new Map<K, V>()
  readonly #entriesMax: number

  constructor(entriesMax: number) {
    this.#entriesMax = entriesMax
  }

  get size(): number {
    return this.#entries.size
  }

  get(key: K): V | undefined {
    const value = this.#entries.get(key)
    if (value === undefined) return undefined
    this.#entries.delete(key)
    this.#entries.set(key, value)
    return value
  }

  set(key: K, value: V): void {
    this.#entries.delete(key)
    if (this.#entries.size >= this.#entriesMax) this.#entries.delete(this.#entries.keys().next().value!)
    this.#entries.set(key, value)
  }
}
