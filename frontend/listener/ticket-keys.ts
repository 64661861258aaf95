import { deriveKey } from '#shared/base/derive-key.ts'
import type { Clock } from '#shared/base/clock.ts'

/** A session that was begun with one key is resumed with it for so long at most: then all frontends have another one, at the same time. */
const KEY_HOURS = 12
const KEY_MS = KEY_HOURS * 3_600_000
/** What Node.js takes: a name of 16 bytes, a key for HMAC and one for AES of 16 bytes each. */
const TICKET_KEYS_BYTES = 48

/**
 * Keys for TLS session tickets, made of what all frontends of a cluster know: a client resumes its session with whichever frontend a load
 * balancer gives it to. Whoever has a key can read what was recorded in its time with tickets of TLS 1.2: hence they change.
 */
export class TicketKeys {
  readonly #clock: Clock
  readonly #onKeys: (keys: Buffer) => void
  #secret: Uint8Array | null = null
  #period = -1

  /** @param onKeys told of every change */
  constructor(clock: Clock, onKeys: (keys: Buffer) => void) {
    this.#clock = clock
    this.#onKeys = onKeys
  }

  /** Null as long as the secret is not known: the process has keys of its own until then. */
  get current(): Buffer | null {
    return this.#secret === null ? null : keysOf(this.#secret, this.#periodNow())
  }

  useSecret(secret: Uint8Array): void {
    this.#secret = secret
    this.#period = this.#periodNow()
    this.#onKeys(keysOf(secret, this.#period))
  }

  /** To be called now and again. */
  tick(): void {
    if (this.#secret !== null && this.#periodNow() !== this.#period) this.useSecret(this.#secret)
  }

  #periodNow(): number {
    return Math.floor(this.#clock.wallMs() / KEY_MS)
  }
}

function keysOf(secret: Uint8Array, period: number): Buffer {
  const parts = ['name and HMAC', 'AES'].map(what => deriveKey(secret, `TLS session tickets: ${what}`, String(period)))
  return Buffer.concat(parts).subarray(0, TICKET_KEYS_BYTES)
}
