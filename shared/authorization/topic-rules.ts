import { filterCovers, filterMatches } from '#shared/mqtt/topic.ts'

/** Up to so many filters it costs least to look at each: filterMatches needs some 20 ns. */
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

/** What many filters are found by. */
interface Index {
  readonly literals: ReadonlyMap<string, TopicRule>
  readonly shapes: readonly Shape[]
}

/**
 * Topic Filters of one verdict, found by a Topic Name or by a filter that they cover.
 *
 * Rules are many, but few differ in where their wildcards are. One pass over a name makes sums of hashes of its levels; then each shape
 * costs one look into a table, and only what is found there is compared. Nothing is allocated. Measured: permit.bench.ts. The index is made
 * at the first question, and for more than a few filters alone: most clients have few, and there may be a million clients.
 */
export class TopicRules {
  /** In order of their places. */
  readonly #rules: readonly TopicRule[]
  #index: Index | null = null

  /** @param rules in order of their places */
  constructor(rules: readonly TopicRule[]) {
    this.#rules = rules
  }

  /** Whether some filter matches. */
  matches(topicName: string): boolean {
    return this.#find(topicName, filterMatches, true) !== null
  }

  /** The first rule whose filter matches. */
  matching(topicName: string): TopicRule | null {
    return this.#find(topicName, filterMatches, false)
  }

  /** Whether some filter alone matches everything that `filter` can match. */
  covers(filter: string): boolean {
    return this.#find(filter, filterCovers, true) !== null
  }

  /** The first rule whose filter alone matches everything that `filter` can match. */
  covering(filter: string): TopicRule | null {
    return this.#find(filter, filterCovers, false)
  }

  #find(text: string, fits: (filter: string, text: string) => boolean, isAnyEnough: boolean): TopicRule | null {
    if (this.#rules.length <= EACH_UP_TO) {
      for (const rule of this.#rules) if (fits(rule.filter, text)) return rule
      return null
    }
    const { literals, shapes } = (this.#index ??= indexOf(this.#rules))
    const literal = literals.get(text) ?? null
    return literal !== null && isAnyEnough ? literal : search(shapes, text, fits, literal, isAnyEnough)
  }
}

/**
 * The first rule whose filter has wildcards and fits, or `first` when that comes before. Read as a Topic Name, a filter is matched by every
 * filter that covers it, and by some that do not, so both questions have the same candidates.
 */
function search(
  shapes: readonly Shape[],
  text: string,
  fits: (filter: string, text: string) => boolean,
  first: TopicRule | null,
  isAnyEnough: boolean,
): TopicRule | null {
  if (shapes.length === 0) return first
  const depth = hashLevels(text)
  for (const shape of shapes) {
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

function indexOf(rules: readonly TopicRule[]): Index {
  const literals = new Map<string, TopicRule>()
  const wildcards: TopicRule[] = []
  for (const rule of rules) {
    if (/[+#]/.test(rule.filter)) wildcards.push(rule)
    else if (!literals.has(rule.filter)) literals.set(rule.filter, rule)
  }
  return { literals, shapes: shapesOf(wildcards) }
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
