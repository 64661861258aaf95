import { randomBytes } from 'node:crypto'
import { deriveKey } from '#shared/base/derive-key.ts'
import { systemTimers, type Timers } from '#shared/base/timers.ts'
import type { RedisUrl } from '#shared/config/redis-url.ts'
import type { RedisTls } from './redis-connection.ts'
import { RedisPrimary } from './redis-primary.ts'

const SECRET_BYTES = 32
const SECRET = /^[0-9a-f]{64}$/
/** How often it is asked for again: a Redis that forgot it is given it back, by the first who asks. */
const REFRESH_MS = 30_000
/** After an attempt that failed. */
const RETRY_MS = 1_000

export interface ClusterSecretOptions {
  readonly url: RedisUrl
  readonly tls?: RedisTls
  readonly clusterName: string
  readonly timers?: Timers
  /** Told the first time, and whenever Redis has another one than before: all processes of the cluster go on with that. */
  readonly onSecret: (secret: Uint8Array) => void
}

/**
 * A secret that all processes of a cluster have and nobody else, for those without a cluster key: the first process makes one, the others find
 * it in Redis under `millrace:NAME:{secret}`. Who can read that Redis can read it, as all the state of the cluster. Derive a key for each
 * purpose from it (`deriveKey`).
 */
export class ClusterSecret {
  readonly #options: ClusterSecretOptions
  readonly #primary: RedisPrimary
  readonly #key: string
  readonly #timers: Timers
  #current: Buffer | null = null
  #cancel: () => void = () => undefined
  #isClosed = false

  constructor(options: ClusterSecretOptions) {
    const { url, tls, clusterName, timers = systemTimers } = options
    this.#options = options
    this.#timers = timers
    this.#key = `millrace:${clusterName}:{secret}`
    this.#primary = new RedisPrimary({
      url,
      ...(tls !== undefined && { tls }),
      connectionName: 'millrace-secret',
      key: this.#key,
      timers,
    })
  }

  /** Why there is none, for the operator; null when there is one. It stays while Redis is away. */
  get waitingFor(): string | null {
    return this.#current === null ? this.#primary.fault || 'asking Redis' : null
  }

  /** Asks until it has one, then now and again. */
  start(): void {
    void this.#ask()
  }

  close(): void {
    this.#isClosed = true
    this.#cancel()
    this.#primary.close()
  }

  async #ask(): Promise<void> {
    const isThere = await this.#obtain().catch(() => false)
    if (!this.#isClosed) this.#cancel = this.#timers.after(isThere ? REFRESH_MS : RETRY_MS, () => void this.#ask())
  }

  async #obtain(): Promise<boolean> {
    const own = this.#current ?? randomBytes(SECRET_BYTES)
    const found = await this.#primary.call('SET', this.#key, own.toString('hex'), 'NX', 'GET')
    if (this.#isClosed) return false
    // Something else under that key is nobody's secret: as good as none.
    if (found !== null && !(typeof found === 'string' && SECRET.test(found))) return false
    const secret = found === null ? own : Buffer.from(found, 'hex')
    if (this.#current !== null && secret.equals(this.#current)) return true
    this.#current = secret
    this.#options.onSecret(secret)
    return true
  }
}

/** The same for a cluster with a key: no Redis is asked. */
export function secretOfKey(clusterKey: string, clusterName: string): Uint8Array {
  return deriveKey(Buffer.from(clusterKey), 'secret of a cluster', clusterName)
}
