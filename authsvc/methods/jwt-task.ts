import { createLocalJWKSet, errors, type JSONWebKeySet, jwtVerify } from 'jose'

export interface JwtCheck {
  readonly token: string
  /** JWK Set as JSON, and what tells it from others. */
  readonly keys: string
  readonly keysId: string
  readonly issuer: string
  readonly audiences: readonly string[]
  /** Never `none` and never an HMAC: a public key is no secret. */
  readonly algorithms: readonly string[]
}

export type JwtResult =
  | { readonly is: 'valid'; readonly claims: ReadonlyMap<string, unknown>; readonly expiresMs: number }
  /** The set has no key for it: a newer one may. */
  | { readonly is: 'unknownKey' }
  /** `cause` is one of a fixed set. */
  | { readonly is: 'invalid'; readonly cause: string }

/** Clocks of issuer and broker may differ by so much. */
const CLOCK_TOLERANCE_SECONDS = 5

type KeySet = ReturnType<typeof createLocalJWKSet>
/** Sets that this thread has read last, by their ids. */
const KEY_SETS_MAX = 8
const keySets = new Map<string, KeySet>()

/** For a worker thread: signature, issuer, audience and times of a token. */
export async function verifyJwtTask(check: JwtCheck): Promise<JwtResult> {
  try {
    const { payload } = await jwtVerify(check.token, keySetOf(check), {
      issuer: check.issuer,
      audience: [...check.audiences],
      algorithms: [...check.algorithms],
      requiredClaims: ['exp'],
      clockTolerance: CLOCK_TOLERANCE_SECONDS,
    })
    return { is: 'valid', claims: new Map(Object.entries(payload)), expiresMs: payload.exp! * 1_000 }
  } catch (error) {
    if (error instanceof errors.JWKSNoMatchingKey) return { is: 'unknownKey' }
    // Its codes are its own words; its messages repeat claims.
    if (error instanceof errors.JOSEError) return { is: 'invalid', cause: error.code }
    return { is: 'invalid', cause: 'ERR_JWT_UNREADABLE' }
  }
}

function keySetOf({ keys, keysId }: JwtCheck): KeySet {
  const known = keySets.get(keysId)
  if (known !== undefined) return known
  const made = createLocalJWKSet(JSON.parse(keys) as JSONWebKeySet)
  if (keySets.size >= KEY_SETS_MAX) keySets.clear()
  keySets.set(keysId, made)
  return made
}
