import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto'
import { saslprep } from '@mongodb-js/saslprep'

/** Mechanisms by their names in SASL (RFC 5802, RFC 7677; SHA-512 by the same pattern), with the hash of each and its size in bytes. */
export const SCRAM_HASHES = {
  'SCRAM-SHA-256': { hash: 'sha256', bytes: 32 },
  'SCRAM-SHA-512': { hash: 'sha512', bytes: 64 },
  'SCRAM-SHA-1': { hash: 'sha1', bytes: 20 },
} as const

export type ScramMechanism = keyof typeof SCRAM_HASHES

/** SHA-1 is for clients that know nothing else: by name only. */
export const SCRAM_DEFAULT: readonly ScramMechanism[] = ['SCRAM-SHA-256', 'SCRAM-SHA-512']

/** What the server keeps of a password for one mechanism (RFC 5802 section 3, text form of RFC 5803). */
export interface ScramKey {
  readonly mechanism: ScramMechanism
  readonly iterations: number
  readonly salt: Uint8Array
  readonly storedKey: Uint8Array
  readonly serverKey: Uint8Array
}

/** RFC 7677 asks for 4,096 at least; what a client must compute is bounded as well. */
const ITERATIONS_MIN = 4_096
const ITERATIONS_MAX = 1_000_000
const ITERATIONS_DEFAULT = 15_000
const SALT_BYTES = 16
const SALT_BYTES_MAX = 128

const TEXT = /^(SCRAM-SHA-(?:1|256|512))\$(\d{1,9}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$/

/** Null: not of this form, or of a strength that is not allowed. */
export function parseScramKey(text: string): ScramKey | null {
  const found = TEXT.exec(text)
  if (found === null) return null
  const mechanism = found[1] as ScramMechanism
  const iterations = Number(found[2])
  const [salt, storedKey, serverKey] = [found[3]!, found[4]!, found[5]!].map(part => Buffer.from(part, 'base64')) as [
    Buffer,
    Buffer,
    Buffer,
  ]
  const { bytes } = SCRAM_HASHES[mechanism]
  const isSized = salt.length > 0 && salt.length <= SALT_BYTES_MAX && storedKey.length === bytes && serverKey.length === bytes
  if (!isSized || iterations < ITERATIONS_MIN || iterations > ITERATIONS_MAX) return null
  return { mechanism, iterations, salt, storedKey, serverKey }
}

/** A fresh key for `password`, as text for the Secret. @throws {Error} the password holds characters that SASLprep forbids */
export function makeScramKey(mechanism: ScramMechanism, password: string): string {
  const salt = randomBytes(SALT_BYTES)
  const { storedKey, serverKey } = deriveScramKey(mechanism, password, salt, ITERATIONS_DEFAULT)
  const [saltText, stored, server] = [salt, storedKey, serverKey].map(bytes => Buffer.from(bytes).toString('base64'))
  return `${mechanism}$${ITERATIONS_DEFAULT}:${saltText}$${stored}:${server}`
}

/** RFC 5802 section 3: SaltedPassword, then the keys of client and server. */
export function deriveScramKey(mechanism: ScramMechanism, password: string, salt: Uint8Array, iterations: number): ScramKey {
  const { hash, bytes } = SCRAM_HASHES[mechanism]
  const salted = pbkdf2Sync(saslprep(password), salt, iterations, bytes, hash)
  const clientKey = createHmac(hash, salted).update('Client Key').digest()
  return {
    mechanism,
    iterations,
    salt,
    storedKey: createHash(hash).update(clientKey).digest(),
    serverKey: createHmac(hash, salted).update('Server Key').digest(),
  }
}
