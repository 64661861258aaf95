import { createHash, generateKeyPairSync, type KeyObject, sign, verify } from 'node:crypto'
import { type Clock, systemClock } from '../base/clock.ts'
import { systemRandom } from '../base/random.ts'
import type { KubernetesObjects } from './kubernetes-objects.ts'

export const API_AUDIENCE = 'https://kubernetes.default.svc.cluster.local'

export interface TokenRequest {
  readonly namespace: string
  readonly serviceAccount: string
  /** Default: the API server's own. */
  readonly audiences?: readonly string[]
  /** Default one hour; negative makes a token that has expired. */
  readonly expirationSeconds?: number
  /** Name of a pod of the same namespace: the token ends with it. */
  readonly boundPod?: string
}

interface Claims {
  readonly iss: string
  readonly sub: string
  readonly aud: readonly string[]
  readonly exp: number
  readonly nbf: number
  readonly 'kubernetes.io': {
    readonly namespace: string
    readonly serviceaccount: { readonly name: string; readonly uid: string }
    readonly pod?: { readonly name: string; readonly uid: string }
  }
}

type Key = { readonly kid: string; readonly privateKey: KeyObject; readonly publicKey: KeyObject }

/** One for all of a process until it is rotated: making one takes its time. */
let firstKey: Key | null = null

/** Tokens of service accounts as an API server signs and reviews them: RS256, bound to audiences, ServiceAccount and pod. */
export class KubernetesTokens {
  readonly #objects: KubernetesObjects
  readonly #clock: Clock
  #keys: readonly Key[] = [(firstKey ??= createKey())]

  constructor(objects: KubernetesObjects, clock: Clock = systemClock) {
    this.#objects = objects
    this.#clock = clock
  }

  /** @throws {Error} there is no such ServiceAccount or pod */
  mint(request: TokenRequest): string {
    const { namespace, serviceAccount, audiences = [API_AUDIENCE], expirationSeconds = 3_600, boundPod } = request
    const nowSeconds = Math.floor(this.#clock.wallMs() / 1_000)
    const account = this.#objects.mustGet('v1/serviceaccounts', namespace, serviceAccount)
    const pod = boundPod === undefined ? null : this.#objects.mustGet('v1/pods', namespace, boundPod)
    const startSeconds = Math.min(nowSeconds, nowSeconds + expirationSeconds)
    const claims = {
      aud: audiences,
      exp: nowSeconds + expirationSeconds,
      iat: startSeconds,
      nbf: startSeconds,
      iss: API_AUDIENCE,
      jti: systemRandom.uuid(),
      'kubernetes.io': {
        namespace,
        serviceaccount: { name: serviceAccount, uid: account.metadata.uid! },
        ...(pod !== null && { pod: { name: boundPod, uid: pod.metadata.uid! } }),
      },
      sub: `system:serviceaccount:${namespace}:${serviceAccount}`,
    }
    const key = this.#keys[0]!
    const signed = `${encode({ alg: 'RS256', kid: key.kid })}.${encode(claims)}`
    return `${signed}.${sign('sha256', Buffer.from(signed), key.privateKey).toString('base64url')}`
  }

  /** Signs with a new key from now on. The old one stays published, as in a cluster that rotates its keys, unless told otherwise. */
  rotateKey(old: 'keep' | 'remove' = 'keep'): void {
    this.#keys = [createKey(), ...(old === 'keep' ? this.#keys : [])]
  }

  /** JSON Web Key Set, as /openid/v1/jwks publishes it. */
  get publishedKeys(): object {
    return { keys: this.#keys.map(({ kid, publicKey }) => ({ use: 'sig', kid, alg: 'RS256', ...publicKey.export({ format: 'jwk' }) })) }
  }

  /** `status` of a TokenReview. */
  review(token: string, audiences: readonly string[]): object {
    const refused = (why: string): object => ({ user: {}, error: `[invalid bearer token, ${why}]` })
    const claims = this.#verified(token)
    if (claims === null) return refused('square/go-jose: error in cryptographic primitive')
    const nowSeconds = this.#clock.wallMs() / 1_000
    if (nowSeconds >= claims.exp) return refused('service account token has expired')
    if (nowSeconds < claims.nbf) return refused('service account token is not valid yet')
    const wanted = audiences.length === 0 ? [API_AUDIENCE] : audiences
    const shared = claims.aud.filter(each => wanted.includes(each))
    if (shared.length === 0) {
      return refused(`token audiences ${JSON.stringify(claims.aud)} is invalid for the target audiences ${JSON.stringify(wanted)}`)
    }
    const { namespace, serviceaccount, pod } = claims['kubernetes.io']
    const account = this.#objects.get('v1/serviceaccounts', namespace, serviceaccount.name)
    if (account === null) return refused(`serviceaccounts "${serviceaccount.name}" not found`)
    if (account.metadata.uid !== serviceaccount.uid) {
      return refused(`service account UID (${account.metadata.uid}) does not match claim (${serviceaccount.uid})`)
    }
    const podUid = pod === undefined ? undefined : this.#objects.get('v1/pods', namespace, pod.name)?.metadata.uid
    if (podUid !== pod?.uid) return refused(`pods "${pod?.name}" not found`)
    const user = {
      username: claims.sub,
      uid: serviceaccount.uid,
      groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
      ...(pod !== undefined && {
        extra: { 'authentication.kubernetes.io/pod-name': [pod.name], 'authentication.kubernetes.io/pod-uid': [pod.uid] },
      }),
    }
    return { authenticated: true, user, audiences: shared }
  }

  #verified(token: string): Claims | null {
    const [head, body, signature, ...rest] = token.split('.')
    if (head === undefined || body === undefined || signature === undefined || rest.length > 0) return null
    try {
      const { alg, kid } = JSON.parse(Buffer.from(head, 'base64url').toString()) as { alg?: unknown; kid?: unknown }
      const key = this.#keys.find(each => each.kid === kid)
      if (alg !== 'RS256' || key === undefined) return null
      if (!verify('sha256', Buffer.from(`${head}.${body}`), key.publicKey, Buffer.from(signature, 'base64url'))) return null
      const claims = JSON.parse(Buffer.from(body, 'base64url').toString()) as Claims
      return claims.iss === API_AUDIENCE ? claims : null
    } catch {
      return null
    }
  }
}

function createKey(): Key {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 })
  const der = publicKey.export({ type: 'spki', format: 'der' })
  return { kid: createHash('sha256').update(der).digest('base64url'), privateKey, publicKey }
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}
