import type { PackedOptions } from './recipient.ts'
import type { SharedGroup, SharedSubscriber } from './shared-group.ts'

/**
 * Who subscribed to one Topic Filter. Most filters of most installations have one subscriber, so the first one stands in the
 * object itself and only a second one costs a Map.
 */
export class Targets<S extends SharedSubscriber> {
  #subscriber: S | null = null
  #packed: PackedOptions = 0
  #all: Map<S, PackedOptions> | null = null
  #groups: Set<SharedGroup<S>> | null = null

  get groups(): ReadonlySet<SharedGroup<S>> | null {
    return this.#groups
  }

  get isEmpty(): boolean {
    return this.subscriberCount === 0 && this.#groups === null
  }

  get subscriberCount(): number {
    if (this.#all !== null) return this.#all.size
    return this.#subscriber === null ? 0 : 1
  }

  set(subscriber: S, packed: PackedOptions): 'new' | 'changed' | 'unchanged' {
    if (this.#all !== null) {
      const before = this.#all.get(subscriber)
      if (before === packed) return 'unchanged'
      this.#all.set(subscriber, packed)
      return before === undefined ? 'new' : 'changed'
    }
    if (this.#subscriber !== null && this.#subscriber !== subscriber) {
      this.#all = new Map([
        [this.#subscriber, this.#packed],
        [subscriber, packed],
      ])
      this.#subscriber = null
      return 'new'
    }
    const outcome = this.#subscriber === null ? 'new' : this.#packed === packed ? 'unchanged' : 'changed'
    this.#subscriber = subscriber
    this.#packed = packed
    return outcome
  }

  delete(subscriber: S): boolean {
    if (this.#all === null) {
      if (this.#subscriber !== subscriber) return false
      this.#subscriber = null
      return true
    }
    if (!this.#all.delete(subscriber)) return false
    if (this.#all.size === 1) {
      for (const [last, packed] of this.#all) {
        this.#subscriber = last
        this.#packed = packed
      }
      this.#all = null
    }
    return true
  }

  addGroup(group: SharedGroup<S>): void {
    this.#groups ??= new Set()
    this.#groups.add(group)
  }

  deleteGroup(group: SharedGroup<S>): void {
    this.#groups?.delete(group)
    if (this.#groups?.size === 0) this.#groups = null
  }

  forEach(visit: (subscriber: S, packed: PackedOptions) => void): void {
    if (this.#all !== null) for (const [subscriber, packed] of this.#all) visit(subscriber, packed)
    else if (this.#subscriber !== null) visit(this.#subscriber, this.#packed)
  }
}
