import { WildcardTrie } from '#shared/mqtt/wildcard-trie.ts'

/** Topic Filters to be asked about many topics, in a time that hardly grows with their number (WildcardTrie). */
export class FilterSet {
  readonly #exact = new Set<string>()
  readonly #wildcard = new WildcardTrie<true>()

  /** @param filter without `$share/{ShareName}/` */
  add(filter: string): void {
    if (filter.includes('+') || filter.includes('#')) this.#wildcard.set(filter, true)
    else this.#exact.add(filter)
  }

  matches(topicName: string): boolean {
    if (this.#exact.has(topicName)) return true
    const found: true[] = []
    this.#wildcard.collect(topicName, found)
    return found.length > 0
  }
}
