import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto'

/** 32 MiB and some 80 ms of one thread for each password. */
const COST_LOG2 = 15
const BLOCK_SIZE = 8
const PARALLELISM = 1
const SALT_BYTES = 16
const HASH_BYTES = 32

/** Larger ones could be used to take all memory by whoever may write the file. */
const MEMORY_BYTES_MAX = 256 * 1024 * 1024

/** The form of the Password Hashing Competition: `$scrypt$ln=15,r=8,p=1$salt$hash`, base64 without padding. */
const FORM = /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]{8,128})\$([A-Za-z0-9+/]{22,128})$/

export interface PasswordHash {
  readonly costLog2: number
  readonly blockSize: number
  readonly parallelism: number
  readonly salt: Buffer
  readonly hash: Buffer
}

/** Null: not of that form, or too costly to check. */
export function parsePasswordHash(text: string): PasswordHash | null {
  const found = FORM.exec(text)
  if (found === null) return null
  const [costLog2, blockSize, parallelism] = found.slice(1, 4).map(Number) as [number, number, number]
  const isUsable = costLog2 >= 10 && blockSize >= 1 && parallelism >= 1 && parallelism <= 16
  if (!isUsable || memoryBytes(costLog2, blockSize) > MEMORY_BYTES_MAX) return null
  return { costLog2, blockSize, parallelism, salt: Buffer.from(found[4]!, 'base64'), hash: Buffer.from(found[5]!, 'base64') }
}

/** A new hash with a salt of its own, as text. */
export async function hashPassword(password: Uint8Array): Promise<string> {
  const made = { costLog2: COST_LOG2, blockSize: BLOCK_SIZE, parallelism: PARALLELISM, salt: randomBytes(SALT_BYTES) }
  const hash = await derive(password, { ...made, hash: Buffer.alloc(HASH_BYTES) })
  return `$scrypt$ln=${COST_LOG2},r=${BLOCK_SIZE},p=${PARALLELISM}$${unpadded(made.salt)}$${unpadded(hash)}`
}

/** Takes the same time whether or not the password is right. */
export async function isPassword(password: Uint8Array, expected: PasswordHash): Promise<boolean> {
  return timingSafeEqual(await derive(password, expected), expected.hash)
}

/** Runs on a thread of libuv: four at a time unless UV_THREADPOOL_SIZE says otherwise. */
async function derive(password: Uint8Array, { costLog2, blockSize, parallelism, salt, hash }: PasswordHash): Promise<Buffer> {
  const maxmem = memoryBytes(costLog2, blockSize) * 2
  const options = { N: 2 ** costLog2, r: blockSize, p: parallelism, maxmem }
  return await new Promise((resolve, reject) => {
    scrypt(password, salt, hash.length, options, (error, derived) => (error === null ? resolve(derived) : reject(error)))
  })
}

function memoryBytes(costLog2: number, blockSize: number): number {
  return 128 * 2 ** costLog2 * blockSize
}

function unpadded(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '')
}
