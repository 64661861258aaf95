import { readFile, stat } from 'node:fs/promises'
import { parsePasswordHash } from './password-hash.ts'
import type { PasswordHash } from './password-hash.ts'

export interface User {
  readonly password: PasswordHash
  readonly attributes: Readonly<Record<string, string>>
  /** How long a connection may last before the client has to show its credentials again; null: for ever. */
  readonly expiresInSeconds: number | null
  /** SHA-256 of the client certificate that has to come along, lower-case hexadecimal; null: none. */
  readonly certificateSha256: string | null
  readonly isDisabled: boolean
}

/**
 * Users from a JSON file. It is read again when it has changed, also when Kubernetes has replaced the directory that a Secret is mounted
 * at. A file with a mistake changes nothing: who was known stays known.
 */
export class UsersFile {
  readonly #path: string
  readonly #onFault: (fault: string) => void
  #users: ReadonlyMap<string, User>
  #seen: string

  /** @throws {Error} the file cannot be read, or has a mistake */
  static async open(path: string, onFault: (fault: string) => void): Promise<UsersFile> {
    const seen = await signature(path)
    return new UsersFile(path, onFault, parseUsers(await readFile(path, 'utf8')), seen)
  }

  private constructor(path: string, onFault: (fault: string) => void, users: ReadonlyMap<string, User>, seen: string) {
    this.#path = path
    this.#onFault = onFault
    this.#users = users
    this.#seen = seen
  }

  /** All users at this moment. */
  async current(): Promise<ReadonlyMap<string, User>> {
    try {
      const seen = await signature(this.#path)
      if (seen === this.#seen) return this.#users
      // Before reading, so that a mistake is reported once and not with every request.
      this.#seen = seen
      this.#users = parseUsers(await readFile(this.#path, 'utf8'))
    } catch (error) {
      this.#onFault((error as Error).message)
    }
    return this.#users
  }
}

async function signature(path: string): Promise<string> {
  const { ino, size, mtimeNs } = await stat(path, { bigint: true })
  return `${ino} ${size} ${mtimeNs}`
}

/** @throws {Error} with the user and field that is wrong */
export function parseUsers(text: string): ReadonlyMap<string, User> {
  const content: unknown = JSON.parse(text)
  const users = fieldsOf(fieldsOf(content, 'the file')['users'], 'users')
  return new Map(Object.entries(users).map(([name, value]) => [name, parseUser(name, value)]))
}

const KNOWN = new Set(['password', 'attributes', 'expiresInSeconds', 'certificateSha256', 'disabled'])

function parseUser(name: string, value: unknown): User {
  const fields = fieldsOf(value, name)
  const unknown = Object.keys(fields).find(field => !KNOWN.has(field))
  if (unknown !== undefined) throw new Error(`${name}: no field ${unknown} is known`)
  const { password, attributes = {}, expiresInSeconds = null, certificateSha256 = null, disabled = false } = fields
  const hash = typeof password === 'string' ? parsePasswordHash(password) : null
  if (hash === null) throw new Error(`${name}: password: expected $scrypt$…, as "node main.ts hash" prints it`)
  const texts = fieldsOf(attributes, `${name}: attributes`)
  if (!Object.values(texts).every(each => typeof each === 'string')) throw new Error(`${name}: attributes: expected texts`)
  if (expiresInSeconds !== null && !(Number.isSafeInteger(expiresInSeconds) && (expiresInSeconds as number) > 0)) {
    throw new Error(`${name}: expiresInSeconds: expected a whole number above 0`)
  }
  const print = typeof certificateSha256 === 'string' ? certificateSha256.replaceAll(':', '').toLowerCase() : null
  if (certificateSha256 !== null && !/^[0-9a-f]{64}$/.test(print ?? '')) {
    throw new Error(`${name}: certificateSha256: expected 64 hexadecimal digits`)
  }
  if (typeof disabled !== 'boolean') throw new Error(`${name}: disabled: expected true or false`)
  return {
    password: hash,
    attributes: texts as Record<string, string>,
    expiresInSeconds: expiresInSeconds as number | null,
    certificateSha256: print,
    isDisabled: disabled,
  }
}

function fieldsOf(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error(`${what}: expected an object`)
  return value as Readonly<Record<string, unknown>>
}
