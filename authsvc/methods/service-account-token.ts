import { createHash } from 'node:crypto'
import { thrownField } from '#shared/base/thrown.ts'
import { KubernetesUnavailable } from '#shared/kubernetes/kubernetes-access.ts'
import type { KubernetesAccess, TokenReview } from '#shared/kubernetes/kubernetes-access.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ServiceAccountTokenSettings } from '#shared/resources/broker-authentication.ts'
import { type AuthenticationRequest, SERVICE_ACCOUNT_METHOD } from '#shared/rpc/authentication.ts'
import { MethodFault } from './authentication-method.ts'
import type { AuthenticationMethod, MethodParts, MethodVerdict, RecheckOutcome } from './authentication-method.ts'
import { GuardedKubernetes } from './guarded-kubernetes.ts'
import { ServiceAccountAttributes } from './service-account-attributes.ts'
import { audienceDigest, evidenceOf, isSameAccount, readEvidence, writeEvidence } from './service-account-token-evidence.ts'
import type { AccountEvidence } from './service-account-token-evidence.ts'
import { OfflineVerifier } from './service-account-token-offline.ts'
import { readToken } from './service-account-token-text.ts'
import type { TokenText } from './service-account-token-text.ts'
import { SharedAnswers, TooManyCalls } from './shared-answers.ts'
import { retryWhileUnreachable } from './transient-retry.ts'

/** A token that was accepted is not reviewed again for so long, and never beyond its end: one that is withdrawn meanwhile is not noticed. */
const ACCEPTED_KEPT_MS = 10_000
/** One that was refused may be good a moment later: its time begins, its account is created. */
const REFUSED_KEPT_MS = 1_000
/** Tokens; some 3 MB. */
const REVIEWS_KEPT_MAX = 10_000
/** Reviews under way; a further client is told to come back later. */
const REVIEWS_PENDING_MAX = 256

/** As the API server names service accounts; both names are DNS names. */
const USER_NAME = /^system:serviceaccount:([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?):([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)$/

type Review = TokenReview & { readonly expiresMs: number }

/** An account, or why there is none. */
type Proof =
  | { readonly is: 'proven'; readonly account: AccountEvidence; readonly isOffline: boolean }
  | { readonly is: 'refused'; readonly cause: string }
  | { readonly is: 'unreachable'; readonly cause: string }

/**
 * Tokens of Kubernetes service accounts, reviewed by the cluster's API server. The user name of CONNECT is no identity of such a client.
 * @throws {MethodFault} there is no API server to ask
 */
export function makeServiceAccountToken(settings: ServiceAccountTokenSettings, parts: MethodParts): AuthenticationMethod {
  if (parts.kubernetes === null) {
    throw new MethodFault(
      'ServiceAccountToken needs a Kubernetes API server: run in a pod with a service account, or point KUBECONFIG at a kubeconfig file',
    )
  }
  return new ServiceAccountToken(settings, parts.kubernetes, parts)
}

class ServiceAccountToken implements AuthenticationMethod {
  readonly name = 'ServiceAccountToken'
  readonly #audiences: readonly string[]
  readonly #audienceDigests: ReadonlySet<string>
  readonly #kubernetes: KubernetesAccess
  readonly #parts: MethodParts
  readonly #attributes: ServiceAccountAttributes
  /** By SHA-256 of the token. The audiences are those of the settings: others are another method. */
  readonly #reviews: SharedAnswers<Review>
  readonly #offline: OfflineVerifier | null

  constructor(settings: ServiceAccountTokenSettings, kubernetes: KubernetesAccess, parts: MethodParts) {
    this.#audiences = settings.audiences
    this.#audienceDigests = new Set(settings.audiences.map(each => audienceDigest(each)))
    const isOfflineOn = settings.offlineVerification === 'Enabled'
    this.#kubernetes = new GuardedKubernetes(kubernetes, parts.timers)
    this.#parts = parts
    this.#attributes = new ServiceAccountAttributes(this.#kubernetes, parts, isOfflineOn)
    this.#reviews = new SharedAnswers({
      timers: parts.timers,
      keepMs: review => (review.is === 'refused' ? REFUSED_KEPT_MS : Math.min(ACCEPTED_KEPT_MS, review.expiresMs - parts.clock.wallMs())),
      keptMax: REVIEWS_KEPT_MAX,
      pendingMax: REVIEWS_PENDING_MAX,
    })
    this.#offline = isOfflineOn ? new OfflineVerifier(kubernetes, settings.audiences, parts) : null
  }

  handles(authenticationMethod: string): boolean {
    return authenticationMethod === SERVICE_ACCOUNT_METHOD
  }

  async authenticate(request: AuthenticationRequest, _state: Uint8Array | null, evidence: Uint8Array | null): Promise<MethodVerdict> {
    if (!isRelevant(request)) return { is: 'irrelevant' }
    const bytes = request.authenticationMethod === null ? request.password : request.authenticationData
    if (bytes === null) return invalid('no token')
    const token = readToken(bytes)
    if ('fault' in token) return invalid(token.fault)
    if (request.purpose === 'connect') return await this.#judge(token, null)
    const before = readEvidence(evidence)
    if (before === null) return invalid('it is not known which service account was let in')
    return await retryWhileUnreachable(this.#parts.timers, () => this.#judge(token, before))
  }

  async recheck(evidence: Uint8Array): Promise<RecheckOutcome> {
    const account = readEvidence(evidence)
    if (account === null) return { is: 'invalid', cause: 'it is not known which service account was let in' }
    if (!account.audiences.some(digest => this.#audienceDigests.has(digest))) {
      return { is: 'invalid', cause: 'its audience is not among the configured ones any more' }
    }
    try {
      const attributes = await this.#attributes.of(account.namespace, account.name)
      return attributes === null ? { is: 'invalid', cause: goneCause(account) } : { is: 'holds' }
    } catch (error) {
      return { is: 'unreachable', cause: this.#unreachableCause(error) }
    }
  }

  close(): void {
    this.#offline?.close()
  }

  /** @param before the account that was let in; null at CONNECT */
  async #judge(token: TokenText, before: AccountEvidence | null): Promise<MethodVerdict> {
    const proof = await this.#prove(token)
    if (proof.is === 'unreachable') return proof
    if (proof.is === 'refused') return invalid(proof.cause)
    const { account } = proof
    if (token.expiresMs <= this.#parts.clock.wallMs()) return invalid('the token has expired')
    if (before !== null && !isSameAccount(before, account)) return invalid('a token of another service account')
    const attributes = await this.#attributesOf(account, proof.isOffline)
    if ('is' in attributes) return attributes
    return { is: 'valid', userName: '', attributes, expiresMs: token.expiresMs, data: null, evidence: writeEvidence(account) }
  }

  async #prove(token: TokenText): Promise<Proof> {
    let review: Review
    try {
      const digest = createHash('sha256').update(token.text).digest('base64url')
      review = await this.#reviews.get(digest, async () => {
        const answer = await this.#kubernetes.reviewToken(token.text, this.#audiences)
        return { ...answer, expiresMs: token.expiresMs }
      })
    } catch (error) {
      return await this.#proveOffline(token, this.#unreachableCause(error))
    }
    if (review.is === 'refused') return { is: 'refused', cause: `the API server refuses the token: ${review.error}` }
    const proof = this.#accountOf(review.userName, review.userUid, review.audiences, false)
    if (proof.is === 'proven') this.#offline?.trust(token.issuer)
    return proof
  }

  async #proveOffline(token: TokenText, cause: string): Promise<Proof> {
    if (this.#offline === null) return { is: 'unreachable', cause }
    const outcome = await this.#offline.verify(token)
    if (outcome.is === 'undecided') return { is: 'unreachable', cause: `${cause}; offline: ${outcome.cause}` }
    if (outcome.is === 'refused') return outcome
    return this.#accountOf(outcome.userName, outcome.uid, outcome.audiences, true)
  }

  #accountOf(userName: string, uid: string, given: readonly string[], isOffline: boolean): Proof {
    const audiences = this.#audiences.filter(audience => given.includes(audience))
    if (audiences.length === 0) return { is: 'refused', cause: 'the token is for another audience' }
    const [, namespace, name] = USER_NAME.exec(userName) ?? []
    if (namespace === undefined || name === undefined) return { is: 'refused', cause: 'the token is of no service account' }
    return { is: 'proven', account: evidenceOf({ namespace, name, uid, audiences }), isOffline }
  }

  /** Without them nobody is let in: a rule that denies by an attribute would not see it. */
  async #attributesOf(account: AccountEvidence, isOffline: boolean): Promise<ReadonlyMap<string, string> | MethodVerdict> {
    const { namespace, name } = account
    try {
      const attributes = await this.#attributes.of(namespace, name)
      return attributes ?? invalid(goneCause(account))
    } catch (error) {
      const known = this.#offline === null ? null : this.#attributes.lastKnown(namespace, name)
      const cause = this.#unreachableCause(error)
      return (
        known ?? { is: 'unreachable', cause: isOffline ? `${cause}; offline: attributes of ${namespace}/${name} are not known` : cause }
      )
    }
  }

  #unreachableCause(error: unknown): string {
    const { log } = this.#parts
    if (error instanceof TooManyCalls) return `Kubernetes API: ${error.message}`
    if (error instanceof KubernetesUnavailable) {
      log.warn('service_account_api_unavailable', { cause: error.message })
      return error.message
    }
    log.error('service_account_api_failed', { error: thrownField(error) })
    return 'Kubernetes API: the call failed'
  }
}

/**
 * The Authentication Method decides; without one the user name says it (MQTT 3.1.1 has no other way). With another Authentication Method
 * the client wants another way, whatever its user name.
 */
function isRelevant({ authenticationMethod, userName }: AuthenticationRequest): boolean {
  return authenticationMethod === null
    ? userName !== null && userName.startsWith(SERVICE_ACCOUNT_METHOD)
    : authenticationMethod === SERVICE_ACCOUNT_METHOD
}

function goneCause({ namespace, name }: AccountEvidence): string {
  return `there is no service account ${namespace}/${name}`
}

function invalid(cause: string): MethodVerdict {
  return { is: 'invalid', reason: ReasonCode.NotAuthorized, cause }
}
