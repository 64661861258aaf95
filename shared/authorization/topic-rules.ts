import { filterCovers, filterMatches } from '#shared/mqtt/topic.ts'
import { WildcardTrie } from '#shared/mqtt/wildcard-trie.ts'

/** From so many filters with wildcards on, an index costs less than looking at each: filterMatches needs some 20 ns. */
const INDEXED_FROM = 8

/** A Topic Filter, tokens replaced, and which rule it is of. */
export interface TopicRule {
  readonly filter: string
  readonly isDenied: boolean
  /** Place of the rule in the table of the Permit. */
  readonly rule: number
}

/** Topic Filters of one verdict, found by a Topic Name or by a filter that they cover. Built at the first question. */
export class TopicRules {
  readonly #rules: readonly TopicRule[]
  #literals: Map<string, TopicRule> | null = null
  #wildcards: readonly TopicRule[] = []
  #trie: WildcardTrie<TopicRule> | null = null
  readonly #found: TopicRule[] = []

  constructor(rules: readonly TopicRule[]) {
    this.#rules = rules
  }

  /** The first rule whose filter matches. */
  matching(topicName: string): TopicRule | null {
    if (this.#rules.length === 0) return null
    const literal = this.#open().get(topicName) ?? null
    if (this.#trie === null) {
      for (const rule of this.#wildcards) if (filterMatches(rule.filter, topicName)) return firstOf(rule, literal)
      return literal
    }
    const found = this.#found
    this.#trie.collect(topicName, found)
    let first = literal
    for (const rule of found) first = firstOf(rule, first)
    found.length = 0
    return first
  }

  /** The first rule whose filter alone matches everything that `filter` can match. */
  covering(filter: string): TopicRule | null {
    if (this.#rules.length === 0) return null
    const literal = this.#open().get(filter) ?? null
    if (this.#trie === null) {
      for (const rule of this.#wildcards) if (filterCovers(rule.filter, filter)) return firstOf(rule, literal)
      return literal
    }
    // Read as a Topic Name, a filter is matched by every filter that covers it, and by some that do not (`a/+` by `a/#`).
    const found = this.#found
    this.#trie.collect(filter, found)
    let first = literal
    for (const rule of found) if (filterCovers(rule.filter, filter)) first = firstOf(rule, first)
    found.length = 0
    return first
  }

  #open(): Map<string, TopicRule> {
    if (this.#literals !== null) return this.#literals
    const literals = new Map<string, TopicRule>()
    const wildcards: TopicRule[] = []
    for (const rule of this.#rules) {
      if (/[+#]/.test(rule.filter)) wildcards.push(rule)
      else if (!literals.has(rule.filter)) literals.set(rule.filter, rule)
    }
    this.#wildcards = wildcards
    if (wildcards.length >= INDEXED_FROM) {
      this.#trie = new WildcardTrie()
      for (const rule of wildcards) this.#trie.getOrInsert(rule.filter, () => rule)
    }
    this.#literals = literals
    return literals
  }
}

function firstOf(one: TopicRule, other: TopicRule | null): TopicRule {
  return other === null || one.rule <= other.rule ? one : other
}
