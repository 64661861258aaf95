import type { Sample } from '#shared/telemetry/metrics.ts'
import type { UserProperty } from '#shared/mqtt/strict-properties.ts'

/** Categories that are counted apart; the clients of any further one are counted together. Each is a series of every metric that has them. */
const CATEGORIES_MAX = 20
/** Characters. A metric's label holds no more: of two longer names it would show the same beginning, and nobody can read two series of one name. */
const NAME_LENGTH_MAX = 128

/** The User Property of CONNECT by which a client says what it belongs to. */
const PROPERTY = 'metriccategory'
const UNCATEGORIZED = 'uncategorized'
const OTHER = 'other'

/** What is counted of the clients of one category: plain numbers that the data path adds to. */
export class CategoryCounts {
  authenticationSuccesses = 0
  authenticationDenied = 0
  /** It could not be decided: authentication was out of reach or failed itself. */
  authenticationFailures = 0
  /** Publishes, Topic Filters and Wills that rules allowed. A port without authorization decides nothing. */
  authorizationAllowed = 0
  authorizationDenied = 0
  /** The check itself failed, which denies. */
  authorizationFailures = 0
}

export type CountedByCategory = keyof CategoryCounts

/** Counts by category. Names come from clients: their number is limited. */
export class Categories {
  readonly uncategorized = new CategoryCounts()
  readonly #byName = new Map<string, CategoryCounts>([[UNCATEGORIZED, this.uncategorized]])

  /** The counts for a client with these User Properties in its CONNECT. */
  of(userProperties: readonly UserProperty[]): CategoryCounts {
    const name = userProperties.find(([property]) => property === PROPERTY)?.[1] ?? UNCATEGORIZED
    const known = this.#byName.get(name)
    if (known !== undefined) return known
    if (name.length > NAME_LENGTH_MAX) return this.#other
    // Neither what has no category nor `other` takes a place.
    const places = CATEGORIES_MAX + 1 + (this.#byName.has(OTHER) ? 1 : 0)
    return this.#byName.size < places ? this.#add(name) : this.#other
  }

  total(counted: CountedByCategory): number {
    let sum = 0
    for (const counts of this.#byName.values()) sum += counts[counted]
    return sum
  }

  *samples(counted: CountedByCategory): Iterable<Sample> {
    for (const [name, counts] of this.#byName) yield { labels: [['category', name]], value: counts[counted] }
  }

  get #other(): CategoryCounts {
    return this.#byName.get(OTHER) ?? this.#add(OTHER)
  }

  #add(name: string): CategoryCounts {
    const counts = new CategoryCounts()
    this.#byName.set(name, counts)
    return counts
  }
}
