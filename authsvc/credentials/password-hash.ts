import { argon2Sync, randomBytes, scryptSync, timingSafeEqual } from 'node:crypto'

/** A password as it is kept: enough to recognise it, not to know it. Text form: PHC string format. */
export type PasswordHash =
  | {
      readonly is: 'argon2id'
      readonly memoryKib: number
      readonly passes: number
      readonly parallelism: number
      readonly salt: Uint8Array
      readonly hash: Uint8Array
    }
  | {
      readonly is: 'scrypt'
      /** Binary logarithm of N. */
      readonly costLog2: number
      readonly blockSize: number
      readonly parallelism: number
      readonly salt: Uint8Array
      readonly hash: Uint8Array
    }

/** What one check may cost at most: entries come from operators, and a slip of the pen must not stop a thread for minutes. */
const MEMORY_KIB_MAX = 256 * 1024
const PASSES_MAX = 16
const PARALLELISM_MAX = 16
const SCRYPT_COST_LOG2_MAX = 18
const SCRYPT_BLOCK_SIZE_MAX = 32
const BYTES_MIN = 8
const BYTES_MAX = 128

const SALT_BYTES = 16
const HASH_BYTES = 32
/** Recommended by OWASP for argon2id: 19 MiB, 2 passes; for scrypt N 2^17 would be, which holds a thread for half a second: 2^15. */
const DEFAULT_COST = { memoryKib: 19_456, passes: 2, costLog2: 15, blockSize: 8, parallelism: 1 } as const

const ARGON2ID = /^\$argon2id\$v=19\$m=(\d{1,9}),t=(\d{1,9}),p=(\d{1,9})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/
const SCRYPT = /^\$scrypt\$ln=(\d{1,9}),r=(\d{1,9}),p=(\d{1,9})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/

/** Null: not of a form that is known, or one whose check would cost too much. */
export function parsePasswordHash(text: string): PasswordHash | null {
  const argon2 = ARGON2ID.exec(text)
  const scrypt = argon2 === null ? SCRYPT.exec(text) : null
  const found = argon2 ?? scrypt
  if (found === null) return null
  const [first, second, parallelism] = [Number(found[1]), Number(found[2]), Number(found[3])]
  const [salt, hash] = [Buffer.from(found[4]!, 'base64'), Buffer.from(found[5]!, 'base64')]
  const isSized = [salt, hash].every(({ length }) => length >= BYTES_MIN && length <= BYTES_MAX)
  if (!isSized || parallelism < 1 || parallelism > PARALLELISM_MAX) return null
  if (argon2 !== null) {
    const isBounded = first >= 8 * parallelism && first <= MEMORY_KIB_MAX && second >= 1 && second <= PASSES_MAX
    return isBounded ? { is: 'argon2id', memoryKib: first, passes: second, parallelism, salt, hash } : null
  }
  const isBounded = first >= 1 && first <= SCRYPT_COST_LOG2_MAX && second >= 1 && second <= SCRYPT_BLOCK_SIZE_MAX
  return isBounded ? { is: 'scrypt', costLog2: first, blockSize: second, parallelism, salt, hash } : null
}

/** A fresh hash of `password`, as text for the Secret. */
export function makePasswordHash(is: PasswordHash['is'], password: Uint8Array): string {
  const salt = randomBytes(SALT_BYTES)
  const bare: PasswordHash = { is, ...DEFAULT_COST, salt, hash: new Uint8Array(HASH_BYTES) }
  const hash = unpadded(derive(bare, password))
  const { memoryKib, passes, costLog2, blockSize, parallelism } = DEFAULT_COST
  return is === 'argon2id'
    ? `$argon2id$v=19$m=${memoryKib},t=${passes},p=${parallelism}$${unpadded(salt)}$${hash}`
    : `$scrypt$ln=${costLog2},r=${blockSize},p=${parallelism}$${unpadded(salt)}$${hash}`
}

/** Takes as long for a wrong password as for the right one; tens of milliseconds, so call it in a worker thread. */
export function isPasswordOf(kept: PasswordHash, password: Uint8Array): boolean {
  return timingSafeEqual(derive(kept, password), kept.hash)
}

function derive(kept: PasswordHash, password: Uint8Array): Buffer {
  const { salt, hash, parallelism } = kept
  if (kept.is === 'argon2id') {
    const { memoryKib: memory, passes } = kept
    return argon2Sync('argon2id', { message: password, nonce: salt, parallelism, tagLength: hash.length, memory, passes })
  }
  const { costLog2, blockSize } = kept
  const cost = 2 ** costLog2
  // Of OpenSSL's own limit: what the parameters need, and a little.
  const maxmem = 128 * cost * blockSize + 128 * blockSize * (parallelism + 2) + 1024 * 1024
  return scryptSync(password, salt, hash.length, { cost, blockSize, parallelization: parallelism, maxmem })
}

function unpadded(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64').replace(/=+$/, '')
}
