import { randomBytes } from 'node:crypto'
import { StateStoreError } from './errors.ts'
import type { HybridTime } from './hybrid-clock.ts'
import type { Bytes, RequestOptions, StateStore } from './state-store.ts'

export interface LeaseOptions {
  /** How long the key is held without renewal. Default 10 000. */
  readonly ttlMs?: number
  /**
   * What stands in the key. It must be this holder's alone: whoever says the same name shares the lease. Default: Client Identifier and
   * eight random bytes.
   */
  readonly holder?: Bytes
}

/** Default of `ttlMs`. */
export const TTL_MS = 10_000

/** One key that one holder at a time has, for a limited time. Waits for nothing and starts no timer; LeasedLock does. */
export class Lease {
  readonly key: Bytes
  readonly ttlMs: number
  readonly holder: Bytes
  readonly #store: StateStore
  #token: HybridTime | null = null
  #untilMs = 0

  constructor(store: StateStore, key: Bytes, { ttlMs = TTL_MS, holder }: LeaseOptions = {}) {
    if (!(Number.isSafeInteger(ttlMs) && ttlMs >= 1)) throw new StateStoreError('ttlMs: expected a whole number, 1 or more')
    this.#store = store
    this.key = key
    this.ttlMs = ttlMs
    this.holder = holder ?? `${store.clientId}:${randomBytes(8).toString('hex')}`
  }

  /** To be sent with every change that the lease protects; null when it is not held, as far as this machine's clock can tell. */
  get token(): HybridTime | null {
    return this.leftMs > 0 ? this.#token : null
  }

  /** Until it ends, counted from before the request was sent: never later than the store counts. */
  get leftMs(): number {
    return Math.max(0, this.#untilMs - performance.now())
  }

  /**
   * Takes the lease, or renews it. Answers the fencing token, greater than those of all earlier holders; null when somebody else has it.
   * @throws {StateStoreError} as StateStore.set; what was held before is held on until its time is over
   */
  async acquire(options: RequestOptions = {}): Promise<HybridTime | null> {
    const startMs = performance.now()
    const { isSet, version } = await this.#store.set(this.key, this.holder, { ...options, condition: 'NEX', pxMs: this.ttlMs })
    this.#token = isSet ? version : null
    this.#untilMs = isSet ? startMs + this.ttlMs : 0
    return this.#token
  }

  /** Gives it back; whether it was still this holder's. When the request fails it ends by itself. */
  async release(options: RequestOptions = {}): Promise<boolean> {
    this.#token = null
    this.#untilMs = 0
    return (await this.#store.compareAndDelete(this.key, this.holder, options)).is === 'deleted'
  }
}
