import { createHash, X509Certificate } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import {
  contextTag,
  DerError,
  DerReader,
  readBoolean,
  readNamedBits,
  readOctetBits,
  readOid,
  readSerial,
  readSmallInteger,
  readTime,
  Tag,
} from './der.ts'
import { chainingKey, decodeName } from './distinguished-name.ts'
import type { DistinguishedName } from './distinguished-name.ts'
import { decodeGeneralNames } from './general-name.ts'
import type { GeneralName } from './general-name.ts'
import { decodeNameConstraints } from './name-constraints.ts'
import type { NameConstraints } from './name-constraints.ts'
import { decodePublicKeyInfo, decodeSignatureAlgorithm } from './signature-algorithm.ts'
import type { PublicKeyInfo, SignatureAlgorithm } from './signature-algorithm.ts'

/** Largest certificate that is looked at, octets: three keys of post-quantum size, or a hundred alternative names, fit. */
export const CERTIFICATE_BYTES_MAX = 16_384

/** Bits of keyUsage (RFC 5280 4.2.1.3). */
export const KeyUsage = { DigitalSignature: 1 << 0, KeyAgreement: 1 << 4, KeyCertSign: 1 << 5 } as const

/** extKeyUsage of TLS clients. */
export const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'

/** What building and checking a chain asks of a certificate. */
export interface Certificate {
  readonly raw: Uint8Array
  /** SHA-256 of `raw`, hexadecimal. */
  readonly fingerprint: string
  readonly serial: string
  readonly subject: DistinguishedName
  readonly issuer: DistinguishedName
  /** chainingKey of subject and issuer. */
  readonly subjectKey: string
  readonly issuerKey: string
  /** First and last moment of validity, wall clock. */
  readonly notBeforeMs: number
  readonly notAfterMs: number
  readonly publicKeyInfo: PublicKeyInfo
  /** Null: weak or unknown. */
  readonly signatureAlgorithm: SignatureAlgorithm | null
  readonly extensions: CertificateExtensions
}

export interface CertificateExtensions {
  readonly isAuthority: boolean
  /** pathLenConstraint; null without one. */
  readonly pathLength: number | null
  /** Null without the extension. */
  readonly keyUsage: number | null
  readonly extendedKeyUsage: readonly string[] | null
  readonly alternativeNames: readonly GeneralName[]
  readonly nameConstraints: NameConstraints | null
  /** Object identifiers of critical extensions that nothing here looks into: RFC 5280 4.2 wants such a certificate refused. */
  readonly unknownCritical: readonly string[]
}

/**
 * Reads a certificate (RFC 5280 4.1), strictly.
 * @throws {DerError} it is none
 */
export function decodeCertificate(raw: Uint8Array): Certificate {
  if (raw.length > CERTIFICATE_BYTES_MAX) throw new DerError('a certificate that is too long')
  const outer = DerReader.only(raw)
  const body = outer.enter()
  const algorithm = outer.content(Tag.Sequence)
  readOctetBits(outer.content(Tag.BitString))
  outer.finish()
  const version = body.optional(contextTag(0, 'constructed'))
  const serial = readSerial(body.content(Tag.Integer))
  // RFC 5280 4.1.1.2: the algorithm that is signed must be the one that is used.
  if (Buffer.compare(body.content(Tag.Sequence), algorithm) !== 0) throw new DerError('two different signature algorithms')
  const issuer = decodeName(body.next().whole)
  const validity = body.enter()
  const [notBeforeMs, notAfterMs] = [readTime(validity.next()), readTime(validity.next())]
  validity.finish()
  const subject = decodeName(body.next().whole)
  const publicKeyInfo = decodePublicKeyInfo(body.content(Tag.Sequence))
  return {
    raw,
    fingerprint: createHash('sha256').update(raw).digest('hex'),
    serial,
    subject,
    issuer,
    subjectKey: chainingKey(subject),
    issuerKey: chainingKey(issuer),
    notBeforeMs,
    notAfterMs,
    publicKeyInfo,
    signatureAlgorithm: decodeSignatureAlgorithm(algorithm),
    extensions: decodeExtensions(extensionsOf(body, version)),
  }
}

/** What is left of the body: unique identifiers, which nobody uses any more, and extensions. */
function extensionsOf(body: DerReader, version: Uint8Array | null): Uint8Array | null {
  body.optional(contextTag(1, 'primitive'))
  body.optional(contextTag(2, 'primitive'))
  const extensions = body.optional(contextTag(3, 'constructed'))
  body.finish()
  const number = version === null ? 0 : readSmallInteger(new DerReader(version).content(Tag.Integer))
  if (number > 2 || (extensions !== null && number !== 2)) throw new DerError(`extensions in version ${number + 1}`)
  return extensions
}

/** One of Extensions; of certificates, lists and their entries. */
export interface Extension {
  readonly oid: string
  readonly isCritical: boolean
  readonly value: Uint8Array
}

/** @param content SEQUENCE of extensions with its tag @throws {DerError} also for one that stands twice */
export function readExtensions(content: Uint8Array): readonly Extension[] {
  const found = new Map<string, Extension>()
  for (const reader = DerReader.only(content); !reader.done; ) {
    const each = reader.enter()
    const oid = readOid(each.content(Tag.Oid))
    const critical = each.optional(Tag.Boolean)
    const value = each.content(Tag.OctetString)
    each.finish()
    if (found.has(oid)) throw new DerError('an extension that stands twice')
    found.set(oid, { oid, isCritical: critical !== null && readBoolean(critical), value })
  }
  return [...found.values()]
}

interface Drafted {
  isAuthority: boolean
  pathLength: number | null
  keyUsage: number | null
  extendedKeyUsage: readonly string[] | null
  alternativeNames: readonly GeneralName[]
  nameConstraints: NameConstraints | null
}

/** Readers of the extensions that are looked into. certificatePolicies: any policy will do for us, so there is nothing to check. */
const KNOWN = new Map<string, (value: Uint8Array, into: Drafted) => void>([
  ['2.5.29.15', (value, into) => void (into.keyUsage = readNamedBits(onlyContent(value, Tag.BitString)))],
  ['2.5.29.17', (value, into) => void (into.alternativeNames = decodeGeneralNames(value))],
  ['2.5.29.19', decodeBasicConstraints],
  ['2.5.29.30', (value, into) => void (into.nameConstraints = decodeNameConstraints(value))],
  ['2.5.29.32', () => undefined],
  ['2.5.29.37', (value, into) => void (into.extendedKeyUsage = decodeExtendedKeyUsage(value))],
])

function decodeExtensions(content: Uint8Array | null): CertificateExtensions {
  const drafted: Drafted = {
    isAuthority: false,
    pathLength: null,
    keyUsage: null,
    extendedKeyUsage: null,
    alternativeNames: [],
    nameConstraints: null,
  }
  const unknownCritical: string[] = []
  for (const { oid, isCritical, value } of content === null ? [] : readExtensions(content)) {
    const known = KNOWN.get(oid)
    if (known !== undefined) known(value, drafted)
    else if (isCritical) unknownCritical.push(oid)
  }
  return { ...drafted, unknownCritical }
}

function onlyContent(bytes: Uint8Array, tag: number): Uint8Array {
  const reader = new DerReader(bytes)
  const content = reader.content(tag)
  reader.finish()
  return content
}

function decodeBasicConstraints(value: Uint8Array, into: Drafted): void {
  const reader = DerReader.only(value)
  const authority = reader.optional(Tag.Boolean)
  const pathLength = reader.optional(Tag.Integer)
  reader.finish()
  into.isAuthority = authority !== null && readBoolean(authority)
  into.pathLength = pathLength === null ? null : readSmallInteger(pathLength)
}

function decodeExtendedKeyUsage(value: Uint8Array): readonly string[] {
  const usages: string[] = []
  for (const reader = DerReader.only(value); !reader.done; ) usages.push(readOid(reader.content(Tag.Oid)))
  return usages
}

/** The key for node:crypto. @throws {Error} OpenSSL cannot use it */
export function publicKeyOf(certificate: Certificate): KeyObject {
  return new X509Certificate(certificate.raw).publicKey
}

/** Whether `key` has signed `certificate`. */
export function isSignedBy(certificate: Certificate, key: KeyObject): boolean {
  try {
    return new X509Certificate(certificate.raw).verify(key)
  } catch {
    // A key of another kind than the signature.
    return false
  }
}
