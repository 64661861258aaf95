import { createHash } from 'node:crypto'
import { DerError } from '#shared/x509/der.ts'
import { nameText } from '#shared/x509/distinguished-name.ts'
import { PemError, pemBlocks } from '#shared/x509/pem.ts'
import { decodeRevocationList } from '#shared/x509/revocation-list.ts'
import { readTrustAnchors, TrustAnchorsError } from '#shared/x509/trust-anchors.ts'
import { MethodFault } from './authentication-method.ts'
import type { MethodParts } from './authentication-method.ts'
import type { SharedTrust } from './x509-task.ts'

/** ConfigMap with the certificates of client authorities where the settings name none. */
export const DEFAULT_TRUST = 'client-ca'

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
  const anchors = guarded(() => readTrustAnchors(anchorsName, parts.configMap(anchorsName)).map(anchor => anchor.raw))
  const lists = listsName === undefined ? [] : readLists(listsName, parts.configMap(listsName))
  const shared = { anchors: joined(anchors), lists: joined(lists.map(list => list.der)) }
  const hash = createHash('sha256')
  for (const bytes of [shared.anchors, shared.lists]) hash.update(`${bytes.length},`).update(Uint8Array.from(bytes))
  return { trust: { version: hash.digest('base64'), ...shared }, terms: lists.map(list => list.term) }
}

function guarded<T>(read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof TrustAnchorsError) throw new MethodFault(error.message)
    throw error
  }
}

function readLists(name: string, configMap: ReadonlyMap<string, string> | null): readonly { der: Uint8Array; term: ListTerm }[] {
  if (configMap === null) throw new MethodFault(`ConfigMap ${name} with lists of revoked certificates is missing`)
  const lists = [...configMap].flatMap(([key, text]) => {
    try {
      return listsIn(text).map(der => {
        const { issuer, nextUpdateMs } = decodeRevocationList(der)
        return { der, term: { issuer: nameText(issuer), nextUpdateMs } }
      })
    } catch (error) {
      if (error instanceof DerError || error instanceof PemError) throw new MethodFault(`ConfigMap ${name}, key ${key}: ${error.message}`)
      throw error
    }
  })
  if (lists.length === 0) throw new MethodFault(`ConfigMap ${name} holds no list of revoked certificates`)
  return lists
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
