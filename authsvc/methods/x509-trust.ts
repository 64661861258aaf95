import { createHash } from 'node:crypto'
import { publicKeyOf } from '#shared/x509/certificate.ts'
import type { Certificate } from '#shared/x509/certificate.ts'
import { DerError } from '#shared/x509/der.ts'
import { nameText } from '#shared/x509/distinguished-name.ts'
import { PemError, pemBlocks } from '#shared/x509/pem.ts'
import { decodeRevocationList, isListSignedBy } from '#shared/x509/revocation-list.ts'
import type { RevocationList } from '#shared/x509/revocation-list.ts'
import { readTrustAnchors, TrustAnchorsError } from '#shared/x509/trust-anchors.ts'
import { MethodFault } from './authentication-method.ts'
import type { MethodParts } from './authentication-method.ts'
import type { SharedTrust } from './x509-task.ts'

/** What is known of a list besides its entries, to say when it is out of date. */
export interface ListTerm {
  readonly issuer: string
  readonly nextUpdateMs: number | null
}

/** @throws {MethodFault} nothing to trust, or something that cannot be read: in part would mean that clients come and go with a typing error */
export function loadTrust(
  parts: MethodParts,
  anchorsName: string,
  listsName: string | undefined,
): { trust: SharedTrust; terms: readonly ListTerm[] } {
  const anchors = guarded(() => readTrustAnchors(anchorsName, parts.configMap(anchorsName)))
  const lists = listsName === undefined ? [] : readLists(listsName, parts.configMap(listsName))
  warnOfForeignLists(parts, anchors, lists)
  const shared = { anchors: joined(anchors.map(anchor => anchor.raw)), lists: joined(lists.map(list => list.der)) }
  const hash = createHash('sha256')
  for (const bytes of [shared.anchors, shared.lists]) hash.update(`${bytes.length},`).update(Uint8Array.from(bytes))
  return {
    trust: { version: hash.digest('base64'), ...shared },
    terms: lists.map(({ list }) => ({ issuer: nameText(list.issuer), nextUpdateMs: list.nextUpdateMs })),
  }
}

function guarded<T>(read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof TrustAnchorsError) throw new MethodFault(error.message)
    throw error
  }
}

interface ReadList {
  readonly der: Uint8Array
  readonly list: RevocationList
}

function readLists(name: string, configMap: ReadonlyMap<string, string> | null): readonly ReadList[] {
  if (configMap === null) throw new MethodFault(`ConfigMap ${name} with lists of revoked certificates is missing`)
  const lists = [...configMap].flatMap(([key, text]) => {
    try {
      return listsIn(text).map(der => ({ der, list: decodeRevocationList(der) }))
    } catch (error) {
      if (error instanceof DerError || error instanceof PemError) throw new MethodFault(`ConfigMap ${name}, key ${key}: ${error.message}`)
      throw error
    }
  })
  if (lists.length === 0) throw new MethodFault(`ConfigMap ${name} holds no list of revoked certificates`)
  return lists
}

/**
 * A list counts for certificates that the same key has signed. One of an anchor's name and another key revokes nothing of that anchor's: it
 * may be left over from an older key, or forged. Of intermediate authorities it shows only when a chain comes.
 */
function warnOfForeignLists({ log }: MethodParts, anchors: readonly Certificate[], lists: readonly ReadList[]): void {
  for (const { list } of lists) {
    const named = anchors.filter(anchor => anchor.subjectKey === list.issuerKey)
    if (named.length === 0 || named.some(anchor => isListSignedBy(list, publicKeyOf(anchor)))) continue
    log.warn('x509_revocation_list_of_another_key', { issuer: nameText(list.issuer) })
  }
}

/** PEM, or DER in base64. */
function listsIn(text: string): readonly Uint8Array[] {
  if (text.includes('-----BEGIN')) return pemBlocks(text, ['X509 CRL'])
  const base64 = text.replaceAll(/\s+/g, '')
  if (base64 === '') return []
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) throw new PemError('neither PEM nor base64')
  return [Buffer.from(base64, 'base64')]
}

function joined(elements: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(new SharedArrayBuffer(elements.reduce((sum, each) => sum + each.length, 0)))
  let at = 0
  for (const each of elements) {
    bytes.set(each, at)
    at += each.length
  }
  return bytes
}
