/**
 * Where a shard stands as seen from this backend.
 *   away: nothing is known, or it is not ours. looking: asking the store who owns it. unowned: nobody living does; waits for its turn to be
 *   claimed. elsewhere: a living backend does; waits for its turn to be moved. moving: prepared and asked for. claiming: in the store.
 *   taking: ours; the host reads it. serving. stopping: being let go. ending: dropped while something was under way that has not ended yet.
 */
export type Phase = 'away' | 'looking' | 'unowned' | 'elsewhere' | 'moving' | 'claiming' | 'taking' | 'serving' | 'stopping' | 'ending'

/** What an owner that no longer counts was, when the shard was found unowned. */
export type Former = 'nobody' | 'dead' | 'living'

const RETRY_MS = 1_000
const BACKOFF_MS_MAX = 30_000

/** One attempt at something for a shard. It asks `isCancelled` after every wait. */
export class Attempt {
  isCancelled = false
  #wake: () => void = () => undefined

  /** Ends what it waits for early, because things have changed. */
  wake(): void {
    this.#wake()
  }

  /** Resolves when woken. */
  woken(): Promise<void> {
    return new Promise(resolve => {
      this.#wake = resolve
    })
  }

  cancel(): void {
    this.isCancelled = true
    this.#wake()
  }
}

export class ShardSlot {
  readonly shard: number
  phase: Phase = 'away'
  /** Of our ownership, from taking to stopping. */
  epoch = 0
  /** Last seen in the store: what `claim` is told. */
  seenEpoch = 0
  former: Former = 'nobody'
  /** While elsewhere or moving: the owner. */
  ownerId = ''
  ownerInstance = ''
  attempt: Attempt | null = null
  /** What is under way began as a move. */
  isMove = false
  /** While stopping: whether it was let go in the end. */
  releasing: Promise<boolean> | null = null
  /** The host was told to prepare, and neither to take nor to abandon. */
  isPrepared = false
  /** Monotonic milliseconds before which nothing is tried. */
  retryAtMs = 0
  failures = 0
  problem: string | null = null

  constructor(shard: number) {
    this.shard = shard
  }

  /** Ours in the store, or about to be. */
  get isHeld(): boolean {
    return this.phase === 'claiming' || this.phase === 'taking' || this.phase === 'serving' || this.phase === 'stopping'
  }

  /** Not now: again in a second. */
  rest(nowMs: number): void {
    this.retryAtMs = nowMs + RETRY_MS
  }

  /** Tries again later and later. True when this is another problem than before. */
  fail(problem: string, nowMs: number): boolean {
    const isNew = problem !== this.problem
    this.problem = problem
    this.retryAtMs = nowMs + Math.min(RETRY_MS * 2 ** this.failures++, BACKOFF_MS_MAX)
    return isNew
  }

  succeed(): void {
    this.problem = null
    this.failures = 0
    this.retryAtMs = 0
  }
}
