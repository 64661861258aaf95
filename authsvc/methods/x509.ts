import { createHash, timingSafeEqual } from 'node:crypto'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { DEFAULT_CLIENT_CA, type X509Settings } from '#shared/resources/broker-authentication.ts'
import type { AuthenticationRequest } from '#shared/rpc/authentication.ts'
import { NameError, nameKey, parseName } from '#shared/x509/distinguished-name.ts'
import { RecentMap } from '../worker/recent-map.ts'
import { requestSource } from '../request-source.ts'
import { MethodFault } from './authentication-method.ts'
import type { AuthenticationMethod, MethodParts, MethodVerdict, RecheckOutcome } from './authentication-method.ts'
import { type ChainAnswer, verifyChainTask } from './x509-task.ts'
import { loadTrust } from './x509-trust.ts'
import type { ListTerm } from './x509-trust.ts'

/**
 * A leaf below one intermediate or two, keys of usual lengths: judged in 0.2 ms, where a thread and the way there and back cost 2 ms of CPU
 * on a busy machine. The frontend's TLS has spent as much on the same chain, and found it good.
 */
const SHORT_CHAIN_MAX = 3
const SHORT_CHAIN_BYTES_MAX = 4_096
/** Chains kept, 1 KiB each. */
const TRUSTED_MAX = 8_192
/** Clients that a registry knows are asked about again after this (section 3.4 of the authentication specification). */
const REGISTRY_RECHECK_MS = 600_000

type Attributes = ReadonlyMap<string, string>
type Trusted = ChainAnswer & { readonly is: 'trusted' }

/**
 * X.509: the client has proven in the TLS handshake that it has the key of its certificate; here the chain is judged once more, and what
 * the certificate says of the client is read from it. User name: the leaf's last Common Name. Attributes: those of the first certificate
 * from the leaf up, anchors included, whose subject is configured; never of several.
 * @throws {MethodFault} a ConfigMap is missing, empty, or holds something that cannot be read; a subject that is no name
 */
export function makeX509(settings: X509Settings, parts: MethodParts): AuthenticationMethod {
  return new X509(settings, parts)
}

class X509 implements AuthenticationMethod {
  readonly name = 'X509'
  readonly recheckAfterMs?: number
  readonly #parts: MethodParts
  readonly #trust: ReturnType<typeof loadTrust>['trust']
  readonly #terms: readonly ListTerm[]
  /** By nameKey of the subject. */
  readonly #attributes: ReadonlyMap<string, Attributes>
  /** Names of the devices that are enabled; null: there is no registry. */
  readonly #registry: ReadonlySet<string> | null
  /**
   * Answers by a hash of the chain: devices come back with the certificate that they had. Here and not in the threads: the way to a thread
   * and back costs as much as a third of a handshake. Those who are not trusted are judged each time, else they would push out those who are.
   */
  readonly #trusted = new RecentMap<string, Trusted>(TRUSTED_MAX)

  constructor(settings: X509Settings, parts: MethodParts) {
    this.#parts = parts
    this.#attributes = attributesBySubject(settings)
    this.#registry = enabledDevices(settings, parts)
    const { trust, terms } = loadTrust(parts, settings.trustedClientCaCert ?? DEFAULT_CLIENT_CA, settings.revocationListConfigMap)
    this.#trust = trust
    this.#terms = terms
    if (this.#registry !== null) this.recheckAfterMs = REGISTRY_RECHECK_MS
    this.#warnOfOldLists()
  }

  /** The proof is in TLS: no Authentication Method is ours. */
  handles(): boolean {
    return false
  }

  async authenticate({ peerCertificates, purpose, remoteAddress }: AuthenticationRequest): Promise<MethodVerdict> {
    const [leaf] = peerCertificates ?? []
    if (peerCertificates === null || leaf === undefined) return { is: 'irrelevant' }
    if (purpose === 'reauthenticate') return invalid('X.509 clients prove themselves in TLS: they authenticate again by connecting again')
    const answer = await this.#judge(peerCertificates, requestSource(remoteAddress))
    if (answer.is === 'unchained' && this.#parts.hasLaterOfSameMethod) return { is: 'irrelevant' }
    if (answer.is !== 'trusted') return invalid(answer.cause)
    return {
      is: 'valid',
      userName: answer.commonName,
      attributes: this.#attributesOf(answer),
      expiresMs: answer.notAfterMs,
      data: null,
      evidence: fingerprintOf(leaf),
    }
  }

  async recheck(evidence: Uint8Array, peerCertificates: readonly Uint8Array[] | null): Promise<RecheckOutcome> {
    const [leaf] = peerCertificates ?? []
    if (peerCertificates === null || leaf === undefined || !isSame(evidence, fingerprintOf(leaf))) {
      return { is: 'invalid', cause: 'not the certificate that was accepted' }
    }
    const answer = await this.#judge(peerCertificates)
    return answer.is === 'trusted' ? { is: 'holds' } : { is: 'invalid', cause: answer.cause }
  }

  close(): void {}

  async #judge(peerCertificates: readonly Uint8Array[], source?: string): Promise<ChainAnswer> {
    this.#warnOfOldLists()
    const answer = await this.#verify(peerCertificates, source)
    if (answer.is !== 'trusted' || this.#registry === null || this.#registry.has(answer.commonName)) return answer
    return { is: 'refused', cause: `${answer.commonName}: no enabled device of that name in the registry` }
  }

  async #verify(peerCertificates: readonly Uint8Array[], source?: string): Promise<ChainAnswer> {
    const nowMs = this.#parts.clock.wallMs()
    const key = chainKey(peerCertificates)
    const kept = this.#trusted.get(key)
    if (kept !== undefined && kept.fromMs <= nowMs && nowMs <= kept.toMs) return kept
    const answer = this.#isShort(peerCertificates)
      ? verifyChainTask({ certificates: peerCertificates, trust: this.#trust, nowMs })
      : await this.#verifyElsewhere(peerCertificates, nowMs, source)
    if (answer.is === 'trusted') this.#trusted.set(key, answer)
    return answer
  }

  /** Not worth the way to a thread. Lists of revoked certificates may be long, and each thread has to read them first. */
  #isShort(peerCertificates: readonly Uint8Array[]): boolean {
    const bytes = peerCertificates.reduce((sum, { length }) => sum + length, 0)
    return this.#trust.lists.length === 0 && peerCertificates.length <= SHORT_CHAIN_MAX && bytes <= SHORT_CHAIN_BYTES_MAX
  }

  #verifyElsewhere(peerCertificates: readonly Uint8Array[], nowMs: number, source: string | undefined): Promise<ChainAnswer> {
    // Copies of their own: a view would take all of the memory that it looks at along to the thread.
    const certificates = peerCertificates.map(each => Uint8Array.from(each))
    return this.#parts.workers.run('x509', { certificates, trust: this.#trust, nowMs }, source)
  }

  #attributesOf({ subjects }: Trusted): Attributes {
    const subject = subjects.find(each => this.#attributes.has(each))
    return subject === undefined ? new Map() : this.#attributes.get(subject)!
  }

  /** What a list says stays true when a newer one should have come; what it does not say yet is unknown. */
  #warnOfOldLists(): void {
    const nowMs = this.#parts.clock.wallMs()
    for (const { issuer, nextUpdateMs } of this.#terms) {
      if (nextUpdateMs === null || nowMs <= nextUpdateMs) continue
      this.#parts.log.warn('x509_revocation_list_out_of_date', { issuer, nextUpdate: new Date(nextUpdateMs).toISOString() })
    }
  }
}

function attributesBySubject({ authorizationAttributes = {} }: X509Settings): ReadonlyMap<string, Attributes> {
  const found = new Map<string, Attributes>()
  for (const [label, { subject, attributes }] of Object.entries(authorizationAttributes)) {
    const key = subjectKey(label, subject)
    if (found.has(key)) throw new MethodFault(`authorizationAttributes.${label}: another label has the same subject`)
    found.set(key, new Map(Object.entries(attributes)))
  }
  return found
}

function subjectKey(label: string, subject: string): string {
  try {
    return nameKey(parseName(subject))
  } catch (error) {
    if (error instanceof NameError) throw new MethodFault(`authorizationAttributes.${label}.subject: ${error.message}`)
    throw error
  }
}

function enabledDevices(
  { additionalValidation, deviceRegistryConfigMap: name }: X509Settings,
  parts: MethodParts,
): ReadonlySet<string> | null {
  const isAsked = additionalValidation === 'AzureDeviceRegistry'
  if (!isAsked && name === undefined) return null
  if (!isAsked) throw new MethodFault('deviceRegistryConfigMap is used only with additionalValidation: AzureDeviceRegistry')
  if (name === undefined)
    throw new MethodFault('additionalValidation: AzureDeviceRegistry needs deviceRegistryConfigMap: there is no other registry here')
  const devices = parts.configMap(name)
  if (devices === null) throw new MethodFault(`ConfigMap ${name}, the registry of devices, is missing`)
  const enabled = new Set<string>()
  for (const [device, state] of devices) {
    const text = state.trim().toLowerCase()
    if (text === 'enabled') enabled.add(device)
    else if (text !== 'disabled') throw new MethodFault(`ConfigMap ${name}, key ${device}: neither 'enabled' nor 'disabled'`)
  }
  return enabled
}

function invalid(cause: string): MethodVerdict {
  return { is: 'invalid', reason: ReasonCode.NotAuthorized, cause }
}

/** The trust is the method's own and never changes: another one makes another method. */
function chainKey(peerCertificates: readonly Uint8Array[]): string {
  const hash = createHash('sha256')
  for (const certificate of peerCertificates) hash.update(`,${certificate.length},`).update(certificate)
  return hash.digest('base64')
}

function fingerprintOf(certificate: Uint8Array): Buffer {
  return createHash('sha256').update(certificate).digest()
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}
