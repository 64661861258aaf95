import { decodeCertificate } from './certificate.ts'
import type { Certificate } from './certificate.ts'
import { DerError } from './der.ts'
import { PemError, pemBlocks, pemOf } from './pem.ts'

/** A ConfigMap that should hold the certificates of authorities does not. */
export class TrustAnchorsError extends Error {
  override readonly name = 'TrustAnchorsError'
}

/** Anchors of one ConfigMap at most: with it the memory of a verification is bounded, and a ConfigMap holds no more. */
const ANCHORS_MAX = 1_024
const LABELS = ['CERTIFICATE', 'X509 CERTIFICATE']

/**
 * Every certificate under every key of the ConfigMap that `trustedClientCaCert` names, each once, in order.
 * @param name for the fault
 * @throws {TrustAnchorsError} there is no ConfigMap, no certificate in it, or one that cannot be read
 */
export function readTrustAnchors(name: string, configMap: ReadonlyMap<string, string> | null): readonly Certificate[] {
  if (configMap === null) throw new TrustAnchorsError(`ConfigMap ${name} with the certificates of client authorities is missing`)
  const anchors = new Map<string, Certificate>()
  for (const [key, text] of configMap) {
    for (const anchor of certificatesUnder(`ConfigMap ${name}, key ${key}`, text)) anchors.set(anchor.fingerprint, anchor)
  }
  if (anchors.size === 0) throw new TrustAnchorsError(`ConfigMap ${name} holds no certificate in PEM`)
  if (anchors.size > ANCHORS_MAX) throw new TrustAnchorsError(`ConfigMap ${name} holds more than ${ANCHORS_MAX} certificates`)
  return [...anchors.values()]
}

function certificatesUnder(where: string, text: string): readonly Certificate[] {
  try {
    return pemBlocks(text, LABELS).map(der => decodeCertificate(der))
  } catch (error) {
    if (error instanceof DerError || error instanceof PemError) throw new TrustAnchorsError(`${where}: ${error.message}`)
    throw error
  }
}

/**
 * X509_CERT_AUX of OpenSSL: SEQUENCE { SEQUENCE { clientAuth } }. A certificate with it behind is an anchor for clients whatever it is, also
 * an intermediate authority. (`allowPartialTrustChain` would say the same of all, but servers of Node 24 do not pass it on.)
 */
const TRUSTED_FOR_CLIENTS = Buffer.from('300c300a06082b06010505070302', 'hex')

/**
 * All certificates of a text in PEM as anchors for clients, for `ca` of a TLS server: PEM with the trust that OpenSSL keeps with them.
 * @throws {PemError} a broken block, or no certificate: with nothing in `ca` Node would trust every public authority
 */
export function trustedForClients(text: string): string {
  const trusted = pemBlocks(text, LABELS).map(der => pemOf('TRUSTED CERTIFICATE', Buffer.concat([der, TRUSTED_FOR_CLIENTS])))
  if (trusted.length === 0) throw new PemError('no certificate of a client authority')
  return trusted.join('')
}
