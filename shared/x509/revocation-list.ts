import { constants, verify } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { readExtensions } from './certificate.ts'
import { contextTag, DerError, DerReader, readBoolean, readOctetBits, readSerial, readSmallInteger, readTime, Tag } from './der.ts'
import { chainingKey, decodeName } from './distinguished-name.ts'
import type { DistinguishedName } from './distinguished-name.ts'
import { decodeSignatureAlgorithm } from './signature-algorithm.ts'
import type { SignatureAlgorithm } from './signature-algorithm.ts'

/** Certificates that one issuer has revoked (RFC 5280 5.1). */
export interface RevocationList {
  readonly issuer: DistinguishedName
  /** chainingKey of it. */
  readonly issuerKey: string
  readonly thisUpdateMs: number
  /** Null: the issuer does not say when the next one comes. */
  readonly nextUpdateMs: number | null
  /** Serial numbers as `Certificate.serial`. */
  readonly revoked: ReadonlySet<string>
  readonly signatureAlgorithm: SignatureAlgorithm
  readonly signed: Uint8Array
  readonly signature: Uint8Array
}

/** Largest list that is read: a ConfigMap holds no more. */
const LIST_BYTES_MAX = 4 * 1_048_576
const ISSUING_DISTRIBUTION_POINT = '2.5.29.28'

/**
 * Reads a complete list of an issuer about its own certificates. One that covers only some of them (issuingDistributionPoint) will do,
 * for nobody is required to be on a list; changes to a list, and lists about the certificates of others, are refused.
 * @throws {DerError} what is wrong
 */
export function decodeRevocationList(raw: Uint8Array): RevocationList {
  if (raw.length > LIST_BYTES_MAX) throw new DerError('a list that is too long')
  const outer = DerReader.only(raw)
  const signed = outer.next()
  const algorithm = outer.content(Tag.Sequence)
  const signature = readOctetBits(outer.content(Tag.BitString))
  outer.finish()
  const body = DerReader.only(signed.whole)
  const version = body.optional(Tag.Integer)
  if (version !== null && readSmallInteger(version) !== 1) throw new DerError('a list of an unknown version')
  if (Buffer.compare(body.content(Tag.Sequence), algorithm) !== 0) throw new DerError('two different signature algorithms')
  const signatureAlgorithm = decodeSignatureAlgorithm(algorithm)
  if (signatureAlgorithm === null) throw new DerError('a weak or unknown signature algorithm')
  const issuer = decodeName(body.next().whole)
  const thisUpdateMs = readTime(body.next())
  const nextUpdateMs = body.tag === Tag.UtcTime || body.tag === Tag.GeneralizedTime ? readTime(body.next()) : null
  const revoked = readEntries(body.optional(Tag.Sequence))
  const extensions = body.optional(contextTag(0, 'constructed'))
  body.finish()
  if (extensions !== null) checkListExtensions(extensions)
  return {
    issuer,
    issuerKey: chainingKey(issuer),
    thisUpdateMs,
    nextUpdateMs,
    revoked,
    signatureAlgorithm,
    signed: signed.whole,
    signature,
  }
}

function readEntries(content: Uint8Array | null): ReadonlySet<string> {
  const revoked = new Set<string>()
  if (content === null) return revoked
  for (const reader = new DerReader(content); !reader.done; ) {
    const entry = reader.enter()
    revoked.add(readSerial(entry.content(Tag.Integer)))
    // When does not matter: revoked is revoked.
    if (entry.tag !== Tag.UtcTime && entry.tag !== Tag.GeneralizedTime) throw new DerError('an entry without a time')
    entry.next()
    const extensions = entry.done ? [] : readExtensions(entry.next().whole)
    entry.finish()
    // certificateIssuer is one: then the entry is about the certificate of somebody else.
    if (extensions.some(each => each.isCritical)) throw new DerError('an entry with an unknown critical extension')
  }
  return revoked
}

function checkListExtensions(content: Uint8Array): void {
  for (const { oid, isCritical, value } of readExtensions(content)) {
    if (oid === ISSUING_DISTRIBUTION_POINT) {
      if (isIndirect(value)) throw new DerError('a list about the certificates of other issuers')
    } else if (isCritical) throw new DerError(`a critical extension ${oid}`)
  }
}

function isIndirect(value: Uint8Array): boolean {
  for (const reader = DerReader.only(value); !reader.done; ) {
    const { tag, content } = reader.next()
    if (tag === contextTag(4, 'primitive') && readBoolean(content)) return true
  }
  return false
}

/** Whether `key` has signed the list. */
export function isListSignedBy({ signed, signature, signatureAlgorithm }: RevocationList, key: KeyObject): boolean {
  const { hash, saltBytes } = signatureAlgorithm
  const pss = saltBytes === null ? {} : { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: saltBytes }
  try {
    return verify(hash, signed, { key, ...pss }, signature)
  } catch {
    // A key of another kind than the signature.
    return false
  }
}
