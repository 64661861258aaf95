import type { Certificate } from '#shared/x509/certificate.ts'
import { CLIENT_AUTH, KeyUsage } from '#shared/x509/certificate.ts'
import { nameText } from '#shared/x509/distinguished-name.ts'
import { constraintBreach } from '#shared/x509/name-constraints.ts'
import type { RevocationList } from '#shared/x509/revocation-list.ts'

/** Certificates of a path, leaf and anchor included: RFC 5280 sets no limit, and nobody has such a hierarchy. */
const PATH_LENGTH_MAX = 8
/** Signatures that are checked for one client: cross-signed certificates make paths multiply, and the client chooses what it sends. */
const SIGNATURES_MAX = 32
const CAUSE_LENGTH_MAX = 200

/** What chains may end in, and what is revoked. */
export interface Trust {
  /** Fingerprints of the anchors. */
  readonly fingerprints: ReadonlySet<string>
  /** Anchors by their subject, in configured order: several may share one. */
  readonly bySubject: ReadonlyMap<string, readonly Certificate[]>
  readonly listsByIssuer: ReadonlyMap<string, readonly RevocationList[]>
}

/** Checks of signatures, which somebody may remember the results of. */
export interface Signatures {
  /** Whether the key of `issuer` has signed `certificate`. */
  has(certificate: Certificate, issuer: Certificate): boolean
  hasList(list: RevocationList, issuer: Certificate): boolean
}

export type ChainVerdict =
  | {
      readonly is: 'trusted'
      /** Leaf first, to the anchor, and on over anchors that have signed each other: who trusts an intermediate authority may give attributes to its root. */
      readonly path: readonly Certificate[]
      /** While all of the path is valid, wall clock: the verdict holds no longer than that. */
      readonly fromMs: number
      readonly toMs: number
    }
  /** There is no path to any anchor. */
  | { readonly is: 'unchained'; readonly cause: string }
  /** There is one, and it must not be followed. */
  | { readonly is: 'refused'; readonly cause: string }

export function makeTrust(anchors: readonly Certificate[], lists: readonly RevocationList[]): Trust {
  return {
    fingerprints: new Set(anchors.map(anchor => anchor.fingerprint)),
    bySubject: grouped(anchors, anchor => anchor.subjectKey),
    listsByIssuer: grouped(lists, list => list.issuerKey),
  }
}

function grouped<T>(all: readonly T[], keyOf: (one: T) => string): ReadonlyMap<string, readonly T[]> {
  const groups = new Map<string, T[]>()
  for (const one of all) groups.set(keyOf(one), [...(groups.get(keyOf(one)) ?? []), one])
  return groups
}

/**
 * Looks for a path from the first certificate to an anchor that passes every check of RFC 5280 6.1 that concerns clients (policies, which
 * nothing here asks for, aside). An anchor may be a root, an intermediate authority, or the client's certificate itself; what was sent
 * besides and is of no use is ignored.
 * @param presented leaf first
 */
export function verifyChain(presented: readonly Certificate[], trust: Trust, signatures: Signatures, nowMs: number): ChainVerdict {
  const [leaf, ...others] = presented
  if (leaf === undefined) return { is: 'unchained', cause: 'no certificate' }
  const search = new PathSearch(others, trust, signatures, nowMs)
  const path = search.from([leaf])
  if (path !== null) return trusted(withFurtherAnchors(path, trust, signatures, nowMs))
  if (search.isExhausted) return { is: 'refused', cause: `more than ${SIGNATURES_MAX} signatures on the way to an authority` }
  const { breach } = search
  if (breach !== null) return { is: 'refused', cause: breach }
  return { is: 'unchained', cause: `${labelOf(leaf)}: no chain to a trusted authority, its issuer is ${shortened(nameText(leaf.issuer))}` }
}

function trusted(path: readonly Certificate[]): ChainVerdict {
  const fromMs = Math.max(...path.map(each => each.notBeforeMs))
  return { is: 'trusted', path, fromMs, toMs: Math.min(...path.map(each => each.notAfterMs)) }
}

class PathSearch {
  readonly #others: readonly Certificate[]
  readonly #trust: Trust
  readonly #signatures: Signatures
  readonly #nowMs: number
  #checked = 0
  /** What was wrong with the first complete path. */
  breach: string | null = null

  constructor(others: readonly Certificate[], trust: Trust, signatures: Signatures, nowMs: number) {
    this.#others = others
    this.#trust = trust
    this.#signatures = signatures
    this.#nowMs = nowMs
  }

  get isExhausted(): boolean {
    return this.#checked > SIGNATURES_MAX
  }

  /** The first good path that goes on from `path`; null without one. Calls itself at most PATH_LENGTH_MAX deep. */
  from(path: readonly Certificate[]): readonly Certificate[] | null {
    const last = path.at(-1)!
    if (this.#trust.fingerprints.has(last.fingerprint)) {
      const breach = breachOf(path, this.#trust, this.#signatures, this.#nowMs)
      if (breach === null) return path
      this.breach ??= breach
      return null
    }
    if (path.length === PATH_LENGTH_MAX) return null
    for (const issuer of this.#issuersOf(last)) {
      if (path.some(each => each.fingerprint === issuer.fingerprint)) continue
      const { weakness } = issuer.publicKeyInfo
      // Nothing that such a key has signed would count, and to check it may cost much.
      if (weakness !== null) {
        this.breach ??= `${labelOf(issuer)}: ${weakness}`
        continue
      }
      if (++this.#checked > SIGNATURES_MAX) return null
      const found = this.#signatures.has(last, issuer) ? this.from([...path, issuer]) : null
      if (found !== null) return found
    }
    return null
  }

  /** By name, as it is the signature that decides; anchors first, for the shortest path. */
  #issuersOf({ issuerKey }: Certificate): readonly Certificate[] {
    const anchors = this.#trust.bySubject.get(issuerKey) ?? []
    return [...anchors, ...this.#others.filter(each => each.subjectKey === issuerKey && !this.#trust.fingerprints.has(each.fingerprint))]
  }
}

function withFurtherAnchors(path: readonly Certificate[], trust: Trust, signatures: Signatures, nowMs: number): readonly Certificate[] {
  const longer = [...path]
  while (longer.length < PATH_LENGTH_MAX) {
    const last = longer.at(-1)!
    const above = (trust.bySubject.get(last.issuerKey) ?? []).find(
      each => !longer.includes(each) && authorityBreach(each) === null && isValidAt(each, nowMs) && signatures.has(last, each),
    )
    if (above === undefined) break
    longer.push(above)
  }
  return longer
}

/** Why a path, complete and rightly signed, must not be followed. */
function breachOf(path: readonly Certificate[], trust: Trust, signatures: Signatures, nowMs: number): string | null {
  for (const [index, certificate] of path.entries()) {
    const breach =
      dateBreach(certificate, nowMs) ??
      keyBreach(certificate, path[0]!) ??
      (index === 0 ? leafBreach(certificate) : (authorityBreach(certificate) ?? placeBreach(path, index))) ??
      (index === path.length - 1 ? null : signatureBreach(certificate, path[index + 1]!, trust, signatures))
    if (breach !== null) return `${labelOf(certificate)}: ${breach}`
  }
  return null
}

function isValidAt({ notBeforeMs, notAfterMs }: Certificate, nowMs: number): boolean {
  return notBeforeMs <= nowMs && nowMs <= notAfterMs
}

function dateBreach(certificate: Certificate, nowMs: number): string | null {
  if (isValidAt(certificate, nowMs)) return null
  return nowMs < certificate.notBeforeMs ? 'it is not valid yet' : 'it has expired'
}

function keyBreach({ publicKeyInfo, extensions }: Certificate, leaf: Certificate): string | null {
  const [unknown] = extensions.unknownCritical
  if (unknown !== undefined) return `a critical extension ${unknown} that is unknown here`
  if (publicKeyInfo.weakness !== null) return publicKeyInfo.weakness
  const { family } = leaf.publicKeyInfo
  return publicKeyInfo.family === family ? null : `a key for ${publicKeyInfo.family} in a chain of ${family}`
}

function leafBreach({ extensions: { keyUsage, extendedKeyUsage } }: Certificate): string | null {
  if (!allowsClients(extendedKeyUsage)) return 'its extended key usage is not for clients'
  // What a TLS client does with its key, and what OpenSSL asks for.
  const isForTls = keyUsage === null || (keyUsage & (KeyUsage.DigitalSignature | KeyUsage.KeyAgreement)) !== 0
  return isForTls ? null : 'its key usage is neither digital signature nor key agreement'
}

function allowsClients(extendedKeyUsage: readonly string[] | null): boolean {
  return extendedKeyUsage === null || extendedKeyUsage.includes(CLIENT_AUTH)
}

function authorityBreach({ extensions: { isAuthority, keyUsage, extendedKeyUsage } }: Certificate): string | null {
  if (!isAuthority) return 'it is no authority and has signed another'
  if (keyUsage !== null && (keyUsage & KeyUsage.KeyCertSign) === 0) return 'its key usage is not to sign certificates'
  return allowsClients(extendedKeyUsage) ? null : 'its extended key usage is not for clients'
}

/** What an authority says of the certificates below it. */
function placeBreach(path: readonly Certificate[], index: number): string | null {
  const { pathLength, nameConstraints } = path[index]!.extensions
  const below = path.slice(1, index).filter(each => !isSelfIssued(each)).length
  if (pathLength !== null && below > pathLength) return `${below} authorities below it, and it allows ${pathLength}`
  if (nameConstraints === null) return null
  for (const [place, each] of path.slice(0, index).entries()) {
    if (place > 0 && isSelfIssued(each)) continue
    const names = { subject: each.subject, alternativeNames: each.extensions.alternativeNames }
    const breach = constraintBreach(nameConstraints, names, place === 0)
    if (breach !== null) return `below it ${labelOf(each)} has ${breach}`
  }
  return null
}

/** RFC 5280 6.1: a new key of the same authority, which counts neither for the length of a path nor for names. */
function isSelfIssued({ subjectKey, issuerKey }: Certificate): boolean {
  return subjectKey === issuerKey
}

function signatureBreach(certificate: Certificate, issuer: Certificate, trust: Trust, signatures: Signatures): string | null {
  if (certificate.signatureAlgorithm === null) return 'its signature algorithm is weak or unknown'
  const lists = trust.listsByIssuer.get(certificate.issuerKey) ?? []
  // By serial first: the signature over a long list takes long to check.
  return lists.some(list => list.revoked.has(certificate.serial) && signatures.hasList(list, issuer)) ? 'it has been revoked' : null
}

function labelOf(certificate: Certificate): string {
  return shortened(nameText(certificate.subject)) || `certificate ${certificate.serial}`
}

function shortened(text: string): string {
  return text.length <= CAUSE_LENGTH_MAX ? text : `${text.slice(0, CAUSE_LENGTH_MAX)}…`
}
