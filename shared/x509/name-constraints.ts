import { COMMON_NAME, EMAIL_ADDRESS } from './attribute-types.ts'
import { contextTag, DerError, DerReader } from './der.ts'
import { chainingKeys } from './distinguished-name.ts'
import type { DistinguishedName } from './distinguished-name.ts'
import { readGeneralName } from './general-name.ts'
import type { GeneralName } from './general-name.ts'

/** Which names certificates below an authority may have (RFC 5280 4.2.1.10). */
export interface NameConstraints {
  readonly permitted: readonly GeneralName[]
  readonly excluded: readonly GeneralName[]
}

/** Names times constraints that are compared for one certificate: both are the client's choice. */
const COMPARISONS_MAX = 65_536

/** @param content of the extension @throws {DerError} */
export function decodeNameConstraints(content: Uint8Array): NameConstraints {
  const reader = DerReader.only(content)
  const permitted = decodeSubtrees(reader.optional(contextTag(0, 'constructed')))
  const excluded = decodeSubtrees(reader.optional(contextTag(1, 'constructed')))
  reader.finish()
  return { permitted, excluded }
}

function decodeSubtrees(content: Uint8Array | null): readonly GeneralName[] {
  if (content === null) return []
  const bases: GeneralName[] = []
  for (const reader = new DerReader(content); !reader.done; ) {
    const subtree = reader.enter()
    bases.push(readGeneralName(subtree))
    // RFC 5280 wants minimum and maximum left out, and nobody agrees on what they would mean.
    subtree.finish()
  }
  if (bases.length === 0) throw new DerError('no subtrees')
  return bases
}

/** Names of a certificate that constraints apply to. */
export interface ConstrainedNames {
  readonly subject: DistinguishedName
  readonly alternativeNames: readonly GeneralName[]
}

/**
 * Why a certificate breaks the constraints of an authority above it; null when it does not.
 * @param isLeaf the last certificate: its Common Name is held to be a host name when it looks like one and no other is given, as OpenSSL does
 */
export function constraintBreach(constraints: NameConstraints, certificate: ConstrainedNames, isLeaf: boolean): string | null {
  const names = namesOf(certificate, isLeaf)
  const { permitted, excluded } = constraints
  if (names.length * (permitted.length + excluded.length) > COMPARISONS_MAX) return 'more names than can be compared with constraints'
  for (const name of names) {
    const bases = permitted.filter(base => isSameKind(base, name))
    const barred = excluded.filter(base => isSameKind(base, name))
    if (bases.length + barred.length > 0 && !isComparable(name)) return `a constraint on a name of kind ${name.is} that cannot be compared`
    if (bases.length > 0 && !bases.some(base => isWithin(name, base))) return `a name of kind ${name.is} that is not permitted`
    // A base that cannot be read bars everything.
    if (barred.some(base => isWithin(name, base) || !isUsableBase(base))) return `a name of kind ${name.is} that is excluded`
  }
  return null
}

function namesOf({ subject, alternativeNames }: ConstrainedNames, isLeaf: boolean): readonly GeneralName[] {
  const names = [...alternativeNames]
  if (subject.length > 0) names.push({ is: 'directory', name: subject })
  for (const { type, value } of subject.flat()) if (type === EMAIL_ADDRESS) names.push({ is: 'email', text: value })
  if (!isLeaf || alternativeNames.some(name => name.is === 'dns')) return names
  for (const { type, value } of subject.flat()) if (type === COMMON_NAME && isHostName(value)) names.push({ is: 'dns', text: value })
  return names
}

/** Two labels at least. */
function isHostName(text: string): boolean {
  return text.length <= 255 && /^\w(?:[\w-]*\w)?(?:\.\w(?:[\w-]*\w)?)+$/.test(text)
}

function isSameKind(base: GeneralName, name: GeneralName): boolean {
  if (base.is === 'other' || name.is === 'other') return base.is === 'other' && name.is === 'other' && base.tag === name.tag
  return base.is === name.is
}

function isComparable(name: GeneralName): boolean {
  if (name.is === 'other') return false
  if (name.is === 'uri') return hostOfUri(name.text) !== null
  if (name.is === 'email') return /^[^@]+@[^@]+$/.test(name.text)
  return name.is !== 'ip' || name.octets.length === 4 || name.octets.length === 16
}

function isUsableBase(base: GeneralName): boolean {
  return base.is !== 'ip' || base.octets.length === 8 || base.octets.length === 32
}

function isWithin(name: GeneralName, base: GeneralName): boolean {
  if (name.is === 'dns' && base.is === 'dns') return isHostWithin(name.text, base.text)
  if (name.is === 'email' && base.is === 'email') return isEmailWithin(name.text, base.text)
  if (name.is === 'uri' && base.is === 'uri') return isExactHostOrBelow(hostOfUri(name.text) ?? '', base.text)
  if (name.is === 'ip' && base.is === 'ip') return isAddressWithin(name.octets, base.octets)
  if (name.is === 'directory' && base.is === 'directory') return isBelow(chainingKeys(name.name), chainingKeys(base.name))
  return false
}

function isBelow(name: readonly string[], base: readonly string[]): boolean {
  return base.length <= name.length && base.every((part, index) => part === name[index])
}

/** The base itself and what is below it; all with an empty base. */
function isHostWithin(host: string, base: string): boolean {
  const [lower, end] = [host.toLowerCase(), base.toLowerCase()]
  if (end === '' || lower === end) return true
  return lower.endsWith(end.startsWith('.') ? end : `.${end}`)
}

/** One mailbox, all of a host, or all of the hosts below one (`.example.com`). */
function isEmailWithin(email: string, base: string): boolean {
  const [local, host] = [email.slice(0, email.indexOf('@')), email.slice(email.indexOf('@') + 1)]
  const at = base.indexOf('@')
  if (at === -1) return isExactHostOrBelow(host, base)
  return local === base.slice(0, at) && host.toLowerCase() === base.slice(at + 1).toLowerCase()
}

function isExactHostOrBelow(host: string, base: string): boolean {
  const [lower, end] = [host.toLowerCase(), base.toLowerCase()]
  if (end === '') return true
  return end.startsWith('.') ? lower.endsWith(end) && lower.length > end.length : lower === end
}

/** Null without one, and for an address, which no constraint on host names can be compared with. */
function hostOfUri(uri: string): string | null {
  const authority = /^[a-z][a-z\d+.-]*:\/\/([^/?#]*)/i.exec(uri)?.[1]
  if (authority === undefined) return null
  const host = authority.slice(authority.lastIndexOf('@') + 1).replace(/:\d*$/, '')
  return host === '' || host.startsWith('[') || /^[\d.]+$/.test(host) ? null : host
}

function isAddressWithin(address: Uint8Array, base: Uint8Array): boolean {
  const size = address.length
  return base.length === size * 2 && address.every((octet, at) => ((octet ^ base[at]!) & base[size + at]!) === 0)
}
