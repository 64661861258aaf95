import { createLocalJWKSet, errors, jwtVerify } from 'jose'
import type { JWK, JWTVerifyGetKey } from 'jose'
import { z } from 'zod'
import { thrownField } from '#shared/base/thrown.ts'
import type { KubernetesAccess } from '#shared/kubernetes/kubernetes-access.ts'
import type { MethodParts } from './authentication-method.ts'
import type { TokenText } from './service-account-token-text.ts'

/** What API servers sign with. A key for anything else is passed over. */
const ALGORITHMS = ['RS256', 'ES256', 'ES384', 'ES512']
const KEY_TYPES: ReadonlySet<string> = new Set(['RSA', 'EC'])
/** A cluster has a few, while it rotates them; further ones are passed over. */
const KEYS_MAX = 32
const KEYS_REFRESH_MS = 300_000
const KEYS_RETRY_MS = 10_000
/** A key that was not seen for so long may have been withdrawn for a reason. */
export const KEYS_AGE_MAX_MS = 24 * 3_600_000
/** Issuers that the API server accepts; a further one does not count offline. */
const ISSUERS_MAX = 8
/** Of another machine's clock, for `nbf`; the end of a token is taken to the second. */
const CLOCK_SKEW_SECONDS = 5

const keySet = z.object({ keys: z.array(z.looseObject({ kty: z.string() })) })

/** What a bound token says of its account (`kubernetes.io`), and again in `sub`. */
const boundClaims = z.object({
  sub: z.string(),
  aud: z.union([z.string(), z.array(z.string())]),
  'kubernetes.io': z.object({ namespace: z.string(), serviceaccount: z.object({ name: z.string(), uid: z.string().min(1) }) }),
})

export type OfflineOutcome =
  | { readonly is: 'proven'; readonly userName: string; readonly uid: string; readonly audiences: readonly string[] }
  | { readonly is: 'refused'; readonly cause: string }
  /** Nothing is known that it could be verified with. */
  | { readonly is: 'undecided'; readonly cause: string }

/**
 * Verifies tokens while the API server is away, with the keys that it published and the issuers of tokens that it accepted before.
 * It cannot see that an account, or the pod that a token is bound to, was deleted: such a token is good until it ends.
 */
export class OfflineVerifier {
  readonly #kubernetes: KubernetesAccess
  readonly #audiences: readonly string[]
  readonly #parts: Pick<MethodParts, 'clock' | 'timers' | 'log'>
  readonly #issuers = new Set<string>()
  #keys: { readonly find: JWTVerifyGetKey; readonly fetchedMs: number } | null = null
  #cancel: (() => void) | null = null
  #isClosed = false

  constructor(kubernetes: KubernetesAccess, audiences: readonly string[], parts: Pick<MethodParts, 'clock' | 'timers' | 'log'>) {
    this.#kubernetes = kubernetes
    this.#audiences = audiences
    this.#parts = parts
    void this.#refresh()
  }

  /** The API server has accepted a token of this issuer. */
  trust(issuer: string): void {
    if (this.#issuers.size < ISSUERS_MAX) this.#issuers.add(issuer)
  }

  async verify(token: TokenText): Promise<OfflineOutcome> {
    const keys = this.#keys
    if (keys === null || this.#parts.timers.nowMs() - keys.fetchedMs > KEYS_AGE_MAX_MS)
      return undecided('no keys of the cluster are at hand')
    if (this.#issuers.size === 0) return undecided('no token was reviewed by the cluster so far')
    try {
      const { payload } = await jwtVerify(token.text, keys.find, {
        algorithms: ALGORITHMS,
        audience: [...this.#audiences],
        issuer: [...this.#issuers],
        currentDate: new Date(this.#parts.clock.wallMs()),
        clockTolerance: CLOCK_SKEW_SECONDS,
        requiredClaims: ['exp', 'sub'],
      })
      return this.#accountOf(payload)
    } catch (error) {
      // It may have begun to sign with a key that is newer than those at hand.
      if (error instanceof errors.JWKSNoMatchingKey) return undecided('signed with a key that is not at hand')
      if (error instanceof errors.JOSEError) return { is: 'refused', cause: `verified offline: ${error.code}` }
      throw error
    }
  }

  close(): void {
    this.#isClosed = true
    this.#cancel?.()
  }

  #accountOf(payload: unknown): OfflineOutcome {
    const parsed = boundClaims.safeParse(payload)
    if (!parsed.success) return { is: 'refused', cause: 'verified offline: no bound service account token' }
    const { sub, aud, 'kubernetes.io': bound } = parsed.data
    const userName = `system:serviceaccount:${bound.namespace}:${bound.serviceaccount.name}`
    if (sub !== userName) return { is: 'refused', cause: 'verified offline: sub is another account than kubernetes.io' }
    const audiences = this.#audiences.filter(audience => (typeof aud === 'string' ? aud === audience : aud.includes(audience)))
    return { is: 'proven', userName, uid: bound.serviceaccount.uid, audiences }
  }

  async #refresh(): Promise<void> {
    let pauseMs = KEYS_REFRESH_MS
    try {
      const { keys } = keySet.parse(JSON.parse(await this.#kubernetes.publishedKeys()))
      const usable = keys.filter(({ kty }) => KEY_TYPES.has(kty)).slice(0, KEYS_MAX)
      this.#keys = { find: createLocalJWKSet({ keys: usable as JWK[] }), fetchedMs: this.#parts.timers.nowMs() }
    } catch (error) {
      pauseMs = KEYS_RETRY_MS
      this.#parts.log.warn('service_account_keys_unavailable', { error: thrownField(error) })
    }
    if (!this.#isClosed) this.#cancel = this.#parts.timers.after(pauseMs, () => void this.#refresh())
  }
}

function undecided(cause: string): OfflineOutcome {
  return { is: 'undecided', cause }
}
