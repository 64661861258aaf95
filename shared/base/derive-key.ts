import { hkdfSync } from 'node:crypto'

const KEY_BYTES = 32

/**
 * A key of 32 bytes for one purpose alone, from a secret that serves several (HKDF-SHA-256, RFC 5869): whoever learns one of them learns
 * neither the secret nor the others. The same for the same arguments in every process and version.
 * @param secret with the entropy of a key: nothing here makes a guessable text harder to guess
 * @param salt what sets this use of the secret apart, such as the name of a cluster; no secret
 */
export function deriveKey(secret: Uint8Array, purpose: string, salt: string | Uint8Array = ''): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, salt, `millrace ${purpose}`, KEY_BYTES))
}
