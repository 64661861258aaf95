import { filterCovers, filterMatches } from '#shared/mqtt/topic.ts'

/** Up to so many filters with wildcards it costs least to look at each: filterMatches needs some 20 ns. */
const EACH_UP_TO = 4

/** A Topic Filter, tokens replaced, and which rule it is of. */
export interface TopicRule {
  readonly filter: string
  readonly isDenied: boolean
  /** Place of the rule in the table of the Permit. */
  readonly rule: number
}

/** Filters that have their wildcards in the same places. */
interface Shape {
  /** Levels, without a `#`. */
  readonly depth: number
  readonly isMultiLevel: boolean
  readonly plusAt: readonly number[]
  /** Keys: sum of the hashes of the levels that are not `+`. */
  readonly rules: Map<number, TopicRule[]>
}

/**
 * Topic Filters of one verdict, found by a Topic Name or by a filter that they cover. Built at the first question.
 *
 * Rules are many, but few differ in where their wildcards are. One pass over a name makes sums of hashes of its levels; then each shape
 * costs one look into a table, and only what is found there is compared. Nothing is allocated. Measured: permit.bench.ts.
 */
export class TopicRules {
  readonly #rules: readonly TopicRule[]
  #literals: Map<string, TopicRule> | null = null
  /** When they are few; otherwise `#shapes`. */
  #wildcards: readonly TopicRule[] = []
  #shapes: readonly Shape[] = []

  /** @param rules in order of their places */
  constructor(rules: readonly TopicRule[]) {
    this.#rules = rules
  }

  /** Whether some filter matches. */
  matches(topicName: string): boolean {
    if (this.#rules.length === 0) return false
    return this.#open().has(topicName) || this.#search(topicName, filterMatches, true) !== null
  }

  /** The first rule whose filter matches. */
  matching(topicName: string): TopicRule | null {
    return this.#first(topicName, filterMatches)
  }

  /** Whether some filter alone matches everything that `filter` can match. */
  covers(filter: string): boolean {
    if (this.#rules.length === 0) return false
    return this.#open().has(filter) || this.#search(filter, filterCovers, true) !== null
  }

  /** The first rule whose filter alone matches everything that `filter` can match. */
  covering(filter: string): TopicRule | null {
    return this.#first(filter, filterCovers)
  }

  #first(text: string, fits: (filter: string, text: string) => boolean): TopicRule | null {
    if (this.#rules.length === 0) return null
    const literal = this.#open().get(text) ?? null
    const found = this.#search(text, fits, false)
    if (found === null || literal === null) return found ?? literal
    return found.rule < literal.rule ? found : literal
  }

  /**
   * Among the filters with wildcards. Read as a Topic Name, a filter is matched by every filter that covers it, and by some that do not,
   * so both questions have the same candidates.
   */
  #search(text: string, fits: (filter: string, text: string) => boolean, isAnyEnough: boolean): TopicRule | null {
    for (const rule of this.#wildcards) if (fits(rule.filter, text)) return rule
    if (this.#shapes.length === 0) return null
    const depth = hashLevels(text)
    let first: TopicRule | null = null
    for (const shape of this.#shapes) {
      if (depth < shape.depth || (depth > shape.depth && !shape.isMultiLevel)) continue
      const rules = shape.rules.get(keyOf(shape))
      if (rules === undefined) continue
      for (const rule of rules) {
        if ((first !== null && first.rule <= rule.rule) || !fits(rule.filter, text)) continue
        if (isAnyEnough) return rule
        first = rule
      }
    }
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
    if (wildcards.length <= EACH_UP_TO) this.#wildcards = wildcards
    else this.#shapes = shapesOf(wildcards)
    this.#literals = literals
    return literals
  }
}

function shapesOf(rules: readonly TopicRule[]): readonly Shape[] {
  const shapes = new Map<string, Shape>()
  for (const rule of rules) {
    const levels = rule.filter.split('/')
    const isMultiLevel = levels.at(-1) === '#'
    if (isMultiLevel) levels.pop()
    const plusAt = levels.flatMap((level, at) => (level === '+' ? [at] : []))
    const key = `${levels.length}${isMultiLevel ? '#' : '/'}${plusAt.join('+')}`
    let shape = shapes.get(key)
    if (shape === undefined) shapes.set(key, (shape = { depth: levels.length, isMultiLevel, plusAt, rules: new Map() }))
    hashLevels(rule.filter)
    const hash = keyOf(shape)
    const known = shape.rules.get(hash)
    if (known === undefined) shape.rules.set(hash, [rule])
    else known.push(rule)
  }
  return [...shapes.values()]
}

/** Of the name that `hashLevels` saw last: hash of each level at its place, and sum of those before it. Kept to spare their allocation. */
const hashes: number[] = []
const sums: number[] = [0]

const SLASH = 0x2f

/** Answers how many levels `text` has. Who makes names collide finds rules that do not fit, no more. */
function hashLevels(text: string): number {
  const { length } = text
  let depth = 0
  let hash = 1
  let sum = 0
  for (let at = 0; at <= length; at++) {
    const code = at === length ? SLASH : text.charCodeAt(at)
    if (code !== SLASH) {
      hash = (Math.imul(hash, 31) + code) | 0
      continue
    }
    // The place counts: `a/b` is not `b/a`.
    hash = Math.imul(hash ^ (hash >>> 15), 0x85eb_ca6b + depth * 2)
    hashes[depth] = hash
    sum = (sum + hash) | 0
    sums[++depth] = sum
    hash = 1
  }
  return depth
}

function keyOf({ depth, plusAt }: Shape): number {
  let key = sums[depth]!
  for (const at of plusAt) key = (key - hashes[at]!) | 0
  return key
}
