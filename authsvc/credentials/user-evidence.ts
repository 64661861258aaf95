import { createHash } from 'node:crypto'

const FINGERPRINT_BYTES = 16

/**
 * Which user was let in and with which password, without saying which: another password is another evidence.
 * @param kept what is kept of the password
 */
export function userEvidence(name: string, kept: readonly (Uint8Array | string)[]): Buffer {
  const hash = createHash('sha256')
  for (const part of kept) hash.update(part)
  return Buffer.concat([hash.digest().subarray(0, FINGERPRINT_BYTES), Buffer.from(name, 'utf8')])
}

/** The user's name. */
export function userOfEvidence(evidence: Uint8Array): string {
  return Buffer.from(evidence).subarray(FINGERPRINT_BYTES).toString('utf8')
}
