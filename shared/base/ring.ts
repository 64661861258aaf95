const CAPACITY_MIN = 8

/**
 * First in, first out, in one array whose length is a power of two: no object per entry, no moving on `shift`.
 * It doubles when full and halves when three quarters are free, so a backlog that has gone gives its memory back;
 * each entry is copied a constant number of times on average. It has no limit of its own: the owner checks `length`.
 */
export class Ring<T> {
  #slots: (T | undefined)[] = []
  #head = 0
  #length = 0

  get length(): number {
    return this.#length
  }

  push(value: T): void {
    if (this.#length === this.#slots.length) this.#resize(Math.max(CAPACITY_MIN, this.#length * 2))
    this.#slots[(this.#head + this.#length) & (this.#slots.length - 1)] = value
    this.#length++
  }

  /** Takes the oldest entry; `undefined` when there is none. */
  shift(): T | undefined {
    if (this.#length === 0) return undefined
    const value = this.#slots[this.#head]
    this.#slots[this.#head] = undefined
    this.#head = (this.#head + 1) & (this.#slots.length - 1)
    this.#length--
    if (this.#length * 4 <= this.#slots.length && this.#slots.length > CAPACITY_MIN) this.#resize(this.#slots.length / 2)
    return value
  }

  /** The oldest entry, left in place. */
  peek(): T | undefined {
    return this.#length === 0 ? undefined : this.#slots[this.#head]
  }

  /** The entry at `index`, 0 being the oldest; `undefined` outside of 0 to `length` - 1. */
  at(index: number): T | undefined {
    if (index < 0 || index >= this.#length) return undefined
    return this.#slots[(this.#head + index) & (this.#slots.length - 1)]
  }

  /** Forgets all entries and gives the memory back. */
  clear(): void {
    this.#slots = []
    this.#head = 0
    this.#length = 0
  }

  #resize(capacity: number): void {
    const slots: (T | undefined)[] = []
    slots.length = capacity
    for (let index = 0; index < this.#length; index++) slots[index] = this.#slots[(this.#head + index) & (this.#slots.length - 1)]
    this.#slots = slots
    this.#head = 0
  }
}
