import { contextTag, DerError, DerReader, readOid, readSmallInteger, Tag } from './der.ts'

/** Kinds of keys; a chain has one of them. */
export type KeyFamily = 'RSA' | 'EC' | 'EdDSA'

/** How something is signed. */
export interface SignatureAlgorithm {
  readonly family: KeyFamily
  /** For `verify` of node:crypto; null where the key says it. */
  readonly hash: 'sha256' | 'sha384' | 'sha512' | null
  /** Of RSA-PSS, octets; null otherwise. */
  readonly saltBytes: number | null
}

/** What signs today: nothing with MD5 or SHA-1, on which collisions are found, and nothing that nobody uses. */
const ALGORITHMS = new Map<string, SignatureAlgorithm>([
  ['1.2.840.113549.1.1.11', { family: 'RSA', hash: 'sha256', saltBytes: null }],
  ['1.2.840.113549.1.1.12', { family: 'RSA', hash: 'sha384', saltBytes: null }],
  ['1.2.840.113549.1.1.13', { family: 'RSA', hash: 'sha512', saltBytes: null }],
  ['1.2.840.10045.4.3.2', { family: 'EC', hash: 'sha256', saltBytes: null }],
  ['1.2.840.10045.4.3.3', { family: 'EC', hash: 'sha384', saltBytes: null }],
  ['1.2.840.10045.4.3.4', { family: 'EC', hash: 'sha512', saltBytes: null }],
  ['1.3.101.112', { family: 'EdDSA', hash: null, saltBytes: null }],
  ['1.3.101.113', { family: 'EdDSA', hash: null, saltBytes: null }],
])
const RSA_PSS = '1.2.840.113549.1.1.10'
const HASHES = new Map<string, 'sha256' | 'sha384' | 'sha512'>([
  ['2.16.840.1.101.3.4.2.1', 'sha256'],
  ['2.16.840.1.101.3.4.2.2', 'sha384'],
  ['2.16.840.1.101.3.4.2.3', 'sha512'],
])

/**
 * Reads the content of an AlgorithmIdentifier of a signature; null for one that is weak or unknown.
 * @throws {DerError}
 */
export function decodeSignatureAlgorithm(content: Uint8Array): SignatureAlgorithm | null {
  const reader = new DerReader(content)
  const oid = readOid(reader.content(Tag.Oid))
  if (oid === RSA_PSS) return decodePss(reader)
  if (!reader.done) reader.next()
  reader.finish()
  return ALGORITHMS.get(oid) ?? null
}

/** RSASSA-PSS-params (RFC 4055 3.1). What is left out means SHA-1. */
function decodePss(outer: DerReader): SignatureAlgorithm | null {
  if (outer.done) return null
  const reader = outer.enter()
  outer.finish()
  const hash = reader.optional(contextTag(0, 'constructed'))
  const mask = reader.optional(contextTag(1, 'constructed'))
  const salt = reader.optional(contextTag(2, 'constructed'))
  reader.optional(contextTag(3, 'constructed'))
  reader.finish()
  if (hash === null || mask === null || salt === null) return null
  const name = hashOf(DerReader.only(hash))
  const saltBytes = readSmallInteger(onlyInteger(salt))
  const maskReader = DerReader.only(mask)
  readOid(maskReader.content(Tag.Oid))
  return name !== null && hashOf(maskReader.enter()) === name && saltBytes <= 64 ? { family: 'RSA', hash: name, saltBytes } : null
}

function hashOf(reader: DerReader): 'sha256' | 'sha384' | 'sha512' | null {
  return HASHES.get(readOid(reader.content(Tag.Oid))) ?? null
}

function onlyInteger(content: Uint8Array): Uint8Array {
  const reader = new DerReader(content)
  const integer = reader.content(Tag.Integer)
  reader.finish()
  return integer
}

/** What a SubjectPublicKeyInfo says of its key. */
export interface PublicKeyInfo {
  /** Null: of a kind that we do not take. */
  readonly family: KeyFamily | null
  /** Why the key is too weak or of an unusual curve; null when it is good. */
  readonly weakness: string | null
}

const EC_CURVES = new Set(['1.2.840.10045.3.1.7', '1.3.132.0.34', '1.3.132.0.35'])
const RSA_BITS_MIN = 2_048
/** Larger moduli make each signature cost us more than it can cost a client to present them. */
const RSA_BITS_MAX = 8_192
/** 65537 has 17. A check costs in proportion: with an exponent as long as the modulus milliseconds. */
const EXPONENT_BITS_MAX = 32

/** @param content of a SubjectPublicKeyInfo (RFC 5280 4.1) @throws {DerError} */
export function decodePublicKeyInfo(content: Uint8Array): PublicKeyInfo {
  const reader = new DerReader(content)
  const algorithm = reader.enter()
  const key = reader.content(Tag.BitString)
  reader.finish()
  switch (readOid(algorithm.content(Tag.Oid))) {
    case '1.2.840.113549.1.1.1':
    case RSA_PSS:
      return { family: 'RSA', weakness: rsaWeakness(key) }
    case '1.2.840.10045.2.1':
      // A curve spelled out in parameters may be any: CVE-2020-0601.
      return { family: 'EC', weakness: EC_CURVES.has(namedCurve(algorithm)) ? null : 'a curve other than P-256, P-384, P-521' }
    case '1.3.101.112':
    case '1.3.101.113':
      return { family: 'EdDSA', weakness: null }
    default:
      return { family: null, weakness: 'a key that is neither RSA nor EC nor Ed25519 or Ed448' }
  }
}

function namedCurve(algorithm: DerReader): string {
  const oid = algorithm.optional(Tag.Oid)
  return oid === null ? '' : readOid(oid)
}

function rsaWeakness(key: Uint8Array): string | null {
  if (key[0] !== 0) throw new DerError('a key in broken octets')
  const reader = DerReader.only(key.subarray(1))
  const [modulus, exponent] = [bitsOf(reader.content(Tag.Integer)), bitsOf(reader.content(Tag.Integer))]
  reader.finish()
  if (modulus < RSA_BITS_MIN) return `an RSA key of ${modulus} bits, under ${RSA_BITS_MIN}`
  if (modulus > RSA_BITS_MAX) return `an RSA key of ${modulus} bits, over ${RSA_BITS_MAX}`
  return exponent > EXPONENT_BITS_MAX ? `an RSA key with an exponent of ${exponent} bits` : null
}

function bitsOf(integer: Uint8Array): number {
  const digits = integer[0] === 0 ? integer.subarray(1) : integer
  return digits.length * 8 - Math.clz32(digits[0] ?? 0) + 24
}
