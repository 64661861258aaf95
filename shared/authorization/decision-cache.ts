import type { Topic } from '#shared/mqtt/topic.ts'

/** Decisions of all Permits of a process together. At the limit all of them are forgotten: each costs less than a microsecond to find again. */
export const DECISIONS_MAX = 65_536

/** Decisions on longer Topic Names are not kept, so that a full cache holds some 30 MB of topics at most. */
const CACHED_TOPIC_BYTES_MAX = 128

/** What has been decided for one Permit. */
export type Decided = Map<Topic, boolean>

/** Keeps decisions on publishes, by Permit and Topic (`cache` of a BrokerAuthorization). A changed policy makes another Permit, so none grows old. */
export class DecisionCache {
  #size = 0
  /** Also of Permits that nobody has any more, until the limit is reached. */
  readonly #all = new Set<Decided>()

  /** Decisions held now. */
  get size(): number {
    return this.#size
  }

  remember(decided: Decided, topic: Topic, isAllowed: boolean): void {
    if (topic.utf8.length > CACHED_TOPIC_BYTES_MAX) return
    if (this.#size >= DECISIONS_MAX) this.clear()
    if (decided.size === 0) this.#all.add(decided)
    decided.set(topic, isAllowed)
    this.#size++
  }

  clear(): void {
    for (const decided of this.#all) decided.clear()
    this.#all.clear()
    this.#size = 0
  }
}
