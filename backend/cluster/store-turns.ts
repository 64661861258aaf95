import { Ring } from '#shared/base/ring.ts'
import type { Turn } from '#shared/base/turn.ts'

/**
 * Hand-overs under way: notifications, mostly, and the answers of others stand behind them. While there are as many, those shards wait that have made
 * them. A hundred changes of a key that 10,000 connections watch, which one client may have under way, would keep everybody waiting for
 * longer than others wait for a sign of life.
 */
const UNDER_WAY_MAX = 2_000
/** A shard that has fewer does not wait: it is not the one. */
const OWN_MAX = 100

/** Of hand-overs that are not taken. */
export interface UnderWay {
  of(shard: number): number
  all(): number
}

/**
 * Requests to the state store that wait until what was done before has reached those who are to be told: of all callers, in the order in which they
 * came, as one key may be asked for by several. Where a shard that is to be told has no owner, they wait for it. How many wait is bounded by callers, who keep what is not answered (pendingBytesMax).
 */
export class StoreTurns {
  readonly #turn: Turn
  readonly #underWay: UnderWay
  /** By shard, none of them empty. */
  readonly #waiting = new Map<number, Ring<() => void>>()
  #isRunning = false

  constructor(turn: Turn, underWay: UnderWay) {
    this.#turn = turn
    this.#underWay = underWay
  }

  /** A request to the shard that comes now has to `wait`. */
  mustWait(shard: number): boolean {
    return !this.#isRunning && (this.#waiting.has(shard) || this.isBusy(shard))
  }

  wait(shard: number, again: () => void): void {
    let own = this.#waiting.get(shard)
    if (own === undefined) this.#waiting.set(shard, (own = new Ring()))
    own.push(again)
  }

  /** Some hand-overs were taken. */
  onTaken(): void {
    if (this.#waiting.size > 0) this.#turn.request()
  }

  /** What may go on, one request of each shard in turn. Also a few times a second, as a shard may have moved away. */
  goOn(): void {
    if (this.#waiting.size === 0) return
    this.#isRunning = true
    // What is put back stands behind the others, and its turn comes again.
    try {
      for (const [shard, own] of this.#waiting) {
        if (this.isBusy(shard)) continue
        const again = own.shift()!
        this.#waiting.delete(shard)
        if (own.length > 0) this.#waiting.set(shard, own)
        again()
      }
    } finally {
      this.#isRunning = false
    }
  }

  /** It has made very many that are under way. */
  isBusy(shard: number): boolean {
    return this.#underWay.of(shard) >= OWN_MAX && this.#underWay.all() >= UNDER_WAY_MAX
  }
}
