/** Who watches all keys that begin so. A key is looked up by its own prefixes of those lengths that somebody watches, however many prefixes there are. */
export class WatchedPrefixes<Watcher> {
  /** By length, then by prefix. */
  readonly #lengths = new Map<number, Map<string, Set<Watcher>>>()

  add(prefix: string, watcher: Watcher): void {
    let prefixes = this.#lengths.get(prefix.length)
    if (prefixes === undefined) this.#lengths.set(prefix.length, (prefixes = new Map()))
    const watchers = prefixes.get(prefix)
    if (watchers === undefined) prefixes.set(prefix, new Set([watcher]))
    else watchers.add(watcher)
  }

  /** One that was added. */
  remove(prefix: string, watcher: Watcher): void {
    const prefixes = this.#lengths.get(prefix.length)!
    const watchers = prefixes.get(prefix)!
    watchers.delete(watcher)
    if (watchers.size === 0) prefixes.delete(prefix)
    if (prefixes.size === 0) this.#lengths.delete(prefix.length)
  }

  /** Each once: these, and who watches a prefix of the key. The same set, when there is nobody. */
  joined(key: string, others: ReadonlySet<Watcher> | undefined): ReadonlySet<Watcher> | undefined {
    let all: Set<Watcher> | null = null
    for (const [length, prefixes] of this.#lengths) {
      const watchers = length > key.length ? undefined : prefixes.get(key.slice(0, length))
      if (watchers === undefined) continue
      all ??= new Set(others)
      for (const watcher of watchers) all.add(watcher)
    }
    return all ?? others
  }
}
