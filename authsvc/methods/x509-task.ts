import type { KeyObject } from 'node:crypto'
import { createHash } from 'node:crypto'
import type { Certificate } from '#shared/x509/certificate.ts'
import { CERTIFICATE_BYTES_MAX, decodeCertificate, isSignedBy, publicKeyOf } from '#shared/x509/certificate.ts'
import { DerError, DerReader } from '#shared/x509/der.ts'
import { commonNameOf, nameKey } from '#shared/x509/distinguished-name.ts'
import { decodeRevocationList, isListSignedBy } from '#shared/x509/revocation-list.ts'
import type { RevocationList } from '#shared/x509/revocation-list.ts'
import { RecentMap } from '../worker/recent-map.ts'
import { makeTrust, verifyChain } from './x509-chain.ts'
import type { Signatures, Trust } from './x509-chain.ts'

/** What a chain is judged by, in memory that all threads share: nothing of it is copied for a question. */
export interface SharedTrust {
  /** Hash of the rest. */
  readonly version: string
  /** Certificates one after the other, DER. */
  readonly anchors: Uint8Array
  /** Revocation lists one after the other, DER. */
  readonly lists: Uint8Array
}

export interface ChainQuestion {
  /** DER as presented, leaf first. */
  readonly certificates: readonly Uint8Array[]
  readonly trust: SharedTrust
  /** Wall clock. */
  readonly nowMs: number
}

export type ChainAnswer =
  | {
      readonly is: 'trusted'
      /** Of the leaf; empty without one. */
      readonly commonName: string
      /** nameKey of each subject from the leaf to the anchor. */
      readonly subjects: readonly string[]
      /** End of the leaf's validity, wall clock. */
      readonly notAfterMs: number
      /** While all of the path is valid, wall clock: the answer holds no longer than that. */
      readonly fromMs: number
      readonly toMs: number
    }
  | { readonly is: 'unchained' | 'refused'; readonly cause: string }

/** Certificates that a client may send: a leaf, its authorities, and some that are of no use. */
const PRESENTED_MAX = 16
const SIGNATURES_MAX = 4_096
const CERTIFICATES_MAX = 1_024
/** BrokerAuthentications that are in use, in their present and last versions. */
const TRUSTS_MAX = 64

/** What a thread remembers. A certificate is known by its hash and a trust by its version, so nothing here is ever out of date but by date. */
class ChainMemory implements Signatures {
  readonly #signatures = new RecentMap<string, boolean>(SIGNATURES_MAX)
  readonly #keys = new RecentMap<string, KeyObject>(CERTIFICATES_MAX)
  readonly #authorities = new RecentMap<string, Certificate>(CERTIFICATES_MAX)
  readonly #trusts = new RecentMap<string, Trust>(TRUSTS_MAX)
  readonly #lists = new WeakMap<RevocationList, RecentMap<string, boolean>>()

  has(certificate: Certificate, issuer: Certificate): boolean {
    // Leaves are many, and what was said of each is kept by whoever asks: what repeats is that an authority has signed another.
    if (!certificate.extensions.isAuthority) return this.#check(certificate, issuer)
    const key = `${certificate.fingerprint} ${issuer.fingerprint}`
    const known = this.#signatures.get(key)
    if (known !== undefined) return known
    const isSigned = this.#check(certificate, issuer)
    this.#signatures.set(key, isSigned)
    return isSigned
  }

  hasList(list: RevocationList, issuer: Certificate): boolean {
    const results = this.#lists.get(list) ?? new RecentMap<string, boolean>(CERTIFICATES_MAX)
    this.#lists.set(list, results)
    const known = results.get(issuer.fingerprint)
    if (known !== undefined) return known
    const key = this.#keyOf(issuer)
    const isSigned = key !== null && isListSignedBy(list, key)
    results.set(issuer.fingerprint, isSigned)
    return isSigned
  }

  trustOf(shared: SharedTrust): Trust {
    const known = this.#trusts.get(shared.version)
    if (known !== undefined) return known
    const anchors = elementsOf(shared.anchors).map(der => decodeCertificate(der))
    const trust = makeTrust(
      anchors,
      elementsOf(shared.lists).map(der => decodeRevocationList(der)),
    )
    this.#trusts.set(shared.version, trust)
    return trust
  }

  /** What is behind the leaf; certificates of authorities come again with every client. Null: no certificate. */
  authority(der: Uint8Array): Certificate | null {
    if (der.length > CERTIFICATE_BYTES_MAX) return null
    const fingerprint = createHash('sha256').update(der).digest('hex')
    const known = this.#authorities.get(fingerprint)
    if (known !== undefined) return known
    const certificate = decoded(der)
    if (typeof certificate === 'string') return null
    this.#authorities.set(fingerprint, certificate)
    return certificate
  }

  #check(certificate: Certificate, issuer: Certificate): boolean {
    const key = this.#keyOf(issuer)
    return key !== null && isSignedBy(certificate, key)
  }

  #keyOf(issuer: Certificate): KeyObject | null {
    const known = this.#keys.get(issuer.fingerprint)
    if (known !== undefined) return known
    try {
      const key = publicKeyOf(issuer)
      this.#keys.set(issuer.fingerprint, key)
      return key
    } catch {
      // A key that OpenSSL does not take signs nothing.
      return null
    }
  }
}

const memory = new ChainMemory()

/** Task of a worker thread: judges what a client has presented. */
export function verifyChainTask({ certificates, trust, nowMs }: ChainQuestion): ChainAnswer {
  if (certificates.length > PRESENTED_MAX) return { is: 'refused', cause: `more than ${PRESENTED_MAX} certificates` }
  const [first, ...rest] = certificates
  const leaf = first === undefined ? 'no certificate' : decoded(first)
  if (typeof leaf === 'string') return { is: 'refused', cause: leaf }
  const others = rest.map(der => memory.authority(der)).filter(each => each !== null)
  const verdict = verifyChain([leaf, ...others], memory.trustOf(trust), memory, nowMs)
  if (verdict.is !== 'trusted') return verdict
  const { path, fromMs, toMs } = verdict
  const subjects = path.map(each => nameKey(each.subject))
  return { is: 'trusted', commonName: commonNameOf(leaf.subject), subjects, notAfterMs: leaf.notAfterMs, fromMs, toMs }
}

/** What is wrong with it when it is no certificate. */
function decoded(der: Uint8Array): Certificate | string {
  try {
    return decodeCertificate(der)
  } catch (error) {
    if (error instanceof DerError) return `a certificate that cannot be read: ${error.message}`
    throw error
  }
}

/** Copies, since OpenSSL does not read memory that is shared. */
function elementsOf(shared: Uint8Array): readonly Uint8Array[] {
  const elements: Uint8Array[] = []
  for (const reader = new DerReader(Uint8Array.from(shared)); !reader.done; ) elements.push(reader.next().whole)
  return elements
}
