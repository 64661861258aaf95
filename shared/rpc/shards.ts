const INITIAL = 32

/** Which shards a message is for. Growing and reused, so that a publish allocates nothing. */
export class Shards {
  count = 0
  numbers: Uint16Array = new Uint16Array(INITIAL)

  add(shard: number): void {
    if (this.count === this.numbers.length) {
      const numbers = new Uint16Array(this.count * 2)
      numbers.set(this.numbers)
      this.numbers = numbers
    }
    this.numbers[this.count++] = shard
  }

  clear(): void {
    this.count = 0
  }
}
