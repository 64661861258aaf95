import { StateStoreError } from './errors.ts'
import type { HybridTime } from './hybrid-clock.ts'
import { Lease, type LeaseOptions, TTL_MS } from './lease.ts'
import type { Bytes, RequestOptions, StateStore } from './state-store.ts'

export interface LockOptions extends LeaseOptions {
  /** Time between renewals. Default: a third of ttlMs, so that two may fail. */
  readonly renewMs?: number
}

/** A timer cannot wait for longer. */
const TIMER_MAX_MS = 2_147_483_647
/** A renewal that is not answered in this time, or in the time between renewals if that is longer, is tried again. */
const RENEWAL_TIMEOUT_MS = 1_000

/** The lock is not held any more: it ran out before it could be renewed, or was taken by somebody else. */
export class LockLostError extends StateStoreError {
  override readonly name = 'LockLostError'
}

/** A lock that one holder at a time has; it renews itself while it is held. */
export class LeasedLock {
  readonly #store: StateStore
  readonly #key: Bytes
  readonly #options: LockOptions

  constructor(store: StateStore, key: Bytes, options: LockOptions = {}) {
    this.#store = store
    this.#key = key
    this.#options = options
  }

  /** Null when somebody else has it. */
  async tryAcquire(options: RequestOptions = {}): Promise<HeldLock | null> {
    const lease = new Lease(this.#store, this.#key, this.#options)
    return (await lease.acquire(options)) === null ? null : new HeldLock(lease, this.#options.renewMs)
  }

  /**
   * Waits until the lock is free and taken. Who gets it of several that wait is not said.
   * @throws the reason of the signal; {StateStoreError} as StateStore.set and watch
   */
  async acquire({ signal }: { readonly signal?: AbortSignal } = {}): Promise<HeldLock> {
    const request: RequestOptions = signal === undefined ? {} : { signal }
    const first = await this.tryAcquire(request)
    if (first !== null) return first
    const watch = await this.#store.watch(this.#key)
    try {
      for (;;) {
        // Only now: between the first try and the registration it may have become free without anybody saying so.
        const held = await this.tryAcquire(request)
        if (held !== null) return held
        // A deletion that nobody tells of costs one lifetime, not the lock.
        const late = AbortSignal.timeout(Math.min(this.#options.ttlMs ?? TTL_MS, TIMER_MAX_MS))
        const isUp = signal === undefined ? late : AbortSignal.any([signal, late])
        let event = await watch.next(isUp)
        while (event?.is === 'set') event = await watch.next(isUp)
        signal?.throwIfAborted()
      }
    } finally {
      watch.close()
    }
  }

  /** Does `work` under the lock and gives it back. `work` should send `held.token` with what it changes, and stop when `held.signal` says so. */
  async use<T>(work: (held: HeldLock) => Promise<T>, options: { readonly signal?: AbortSignal } = {}): Promise<T> {
    const held = await this.acquire(options)
    try {
      return await work(held)
    } finally {
      await held.release()
    }
  }
}

/** A lock that was taken. */
export class HeldLock implements AsyncDisposable {
  readonly #lease: Lease
  readonly #renewMs: number
  readonly #lost = new AbortController()
  #renewal: NodeJS.Timeout | null = null
  #end: NodeJS.Timeout | null = null
  #underWay: Promise<void> = Promise.resolve()
  #isReleased = false

  constructor(lease: Lease, renewMs = Math.max(1, Math.floor(lease.ttlMs / 3))) {
    this.#lease = lease
    this.#renewMs = Math.min(renewMs, TIMER_MAX_MS)
    this.#schedule()
  }

  /** Aborts, with LockLostError, when the lock is not held any more without having been released. */
  get signal(): AbortSignal {
    return this.#lost.signal
  }

  get holder(): Bytes {
    return this.#lease.holder
  }

  /** The fencing token: the version of the last renewal. @throws {LockLostError} it is not held */
  get token(): HybridTime {
    const { token } = this.#lease
    if (token === null) throw new LockLostError('the lock is not held')
    return token
  }

  /** Gives it back. Safe to repeat; when the store cannot be reached the lock ends by itself. */
  async release(): Promise<void> {
    if (this.#isReleased) return
    this.#isReleased = true
    this.#stop()
    // A renewal that came after the release would take the lock again.
    await this.#underWay
    if (this.#lost.signal.aborted) return
    try {
      await this.#lease.release({ timeoutMs: Math.max(1, Math.ceil(this.#lease.leftMs)) })
    } catch (error) {
      if (!(error instanceof StateStoreError)) throw error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release()
  }

  #schedule(): void {
    if (this.#isReleased || this.#lost.signal.aborted) return
    this.#stop()
    this.#renewal = setTimeout(() => {
      this.#underWay = this.#renew()
    }, this.#renewMs)
    this.#end = setTimeout(() => this.#onEnd(), Math.min(this.#lease.leftMs, TIMER_MAX_MS))
  }

  #onEnd(): void {
    if (this.#lease.leftMs > 0) this.#schedule()
    else this.#lose()
  }

  #stop(): void {
    clearTimeout(this.#renewal ?? undefined)
    clearTimeout(this.#end ?? undefined)
  }

  async #renew(): Promise<void> {
    try {
      const timeoutMs = Math.min(Math.max(this.#renewMs, RENEWAL_TIMEOUT_MS), Math.ceil(this.#lease.leftMs))
      const token = await this.#lease.acquire({ timeoutMs: Math.max(1, timeoutMs) })
      if (token === null) this.#lose()
    } catch {
      // Whatever it was: the lock is held until its time is over, and until then there are more tries.
    }
    this.#schedule()
  }

  #lose(): void {
    this.#stop()
    if (!this.#isReleased) this.#lost.abort(new LockLostError('the lock ran out, or somebody else has taken it'))
  }
}
