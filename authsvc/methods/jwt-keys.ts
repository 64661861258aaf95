import { createHash } from 'node:crypto'
import { request } from 'node:https'
import type { Clock } from '#shared/base/clock.ts'
import { thrownText } from '#shared/base/thrown.ts'
import type { Log } from '#shared/telemetry/log.ts'
import { z } from 'zod'

/** Of one set, as JSON. */
const KEYS_BYTES_MAX = 1024 * 1024
const FETCH_TIMEOUT_MS = 5_000
/** A set is fetched again when it is as old as this. */
const REFRESH_MS = 600_000
/** And for a token whose key it does not have, or after a failure, not more often than this. */
const COOL_DOWN_MS = 30_000

/** Public keys of an issuer. */
export interface JwtKeys {
  /** JWK Set as JSON. */
  readonly json: string
  readonly id: string
}

/** Where an issuer's keys are found. */
export interface JwtKeySource {
  /** @param isMissed a token's key is in none that was answered before. Null: there are none now; a later call may have some */
  keys(isMissed: boolean): Promise<JwtKeys | null>
}

const keySet = z.looseObject({ keys: z.array(z.looseObject({ kty: z.string() })) })

/** One or several JWK Sets as one; null when a text is none. Symmetric keys are left out: a shared secret is not for publishing. */
export function joinKeySets(texts: Iterable<string>): JwtKeys | null {
  const all: unknown[] = []
  for (const text of texts) {
    const found = keySet.safeParse(parsed(text))
    if (!found.success) return null
    all.push(...found.data.keys.filter(({ kty }) => kty !== 'oct'))
  }
  const json = JSON.stringify({ keys: all })
  return { json, id: createHash('sha256').update(json).digest('hex') }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

/** Keys that stand in the resources: others are another method. */
export function fixedKeys(keys: JwtKeys): JwtKeySource {
  return { keys: () => Promise.resolve(keys) }
}

/**
 * Keys behind an https URL. They stay in use while the URL is out of reach: who could stop the issuer's server must not be able to lock
 * everybody out.
 */
export class FetchedKeys implements JwtKeySource {
  readonly #url: URL
  readonly #ca: string | null
  readonly #clock: Clock
  readonly #log: Log
  #keys: JwtKeys | null = null
  #triedMs = -Infinity
  #fetchedMs = -Infinity
  #fetching: Promise<void> | null = null

  constructor(url: URL, ca: string | null, parts: { readonly clock: Clock; readonly log: Log }) {
    this.#url = url
    this.#ca = ca
    this.#clock = parts.clock
    this.#log = parts.log
  }

  async keys(isMissed: boolean): Promise<JwtKeys | null> {
    const nowMs = this.#clock.monotonicMs()
    const isDue = this.#keys === null || isMissed || nowMs - this.#fetchedMs >= REFRESH_MS
    if (isDue && nowMs - this.#triedMs >= COOL_DOWN_MS && this.#fetching === null) {
      this.#triedMs = nowMs
      this.#fetching = this.#fetch().finally(() => (this.#fetching = null))
    }
    // Who has keys need not wait for fresher ones, unless they lack the one that is looked for.
    if (this.#fetching !== null && (this.#keys === null || isMissed)) await this.#fetching
    return this.#keys
  }

  async #fetch(): Promise<void> {
    try {
      const keys = joinKeySets([await get(this.#url, this.#ca)])
      if (keys === null) throw new Error('the answer is no JWK Set')
      this.#keys = keys
      this.#fetchedMs = this.#clock.monotonicMs()
    } catch (error) {
      this.#log.error('jwks_unavailable', { host: this.#url.host, cause: thrownText(error) })
    }
  }
}

/** @throws {Error} no answer of status 200 with at most KEYS_BYTES_MAX in time */
function get(url: URL, ca: string | null): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS), ...(ca !== null && { ca }) }, response => {
      if (response.statusCode !== 200) {
        response.destroy()
        return reject(new Error(`status ${response.statusCode}`))
      }
      const chunks: Buffer[] = []
      let bytes = 0
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes > KEYS_BYTES_MAX) response.destroy(new Error(`more than ${KEYS_BYTES_MAX} bytes`))
        else chunks.push(chunk)
      })
      response.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')))
      response.on('error', reject)
    })
    asked.on('error', reject)
    asked.end()
  })
}
