import { parse } from 'yaml'
import { z } from 'zod'
import { MethodFault } from '../methods/authentication-method.ts'
import { parsePasswordHash, type PasswordHash } from './password-hash.ts'
import { parseScramKey, type ScramKey } from './scram-key.ts'

/** One user of a Secret of `millrace passwd`. */
export interface UserEntry {
  readonly name: string
  readonly password: PasswordHash | null
  readonly scram: readonly ScramKey[]
  readonly attributes: ReadonlyMap<string, string>
}

/** A larger list belongs into a database behind a custom authentication server. */
const USERS_MAX = 100_000

const entries = z.array(
  z.strictObject({
    name: z.string().min(1),
    password: z.string().optional(),
    scram: z.array(z.string()).optional(),
    attributes: z.record(z.string(), z.string()).optional(),
  }),
)

/**
 * All users of a Secret: every key of it is a YAML list as `millrace passwd` writes it.
 * @throws {MethodFault} it is missing, or an entry cannot be used; without anything of what it holds
 */
export function readUsers(secretName: string, secret: ReadonlyMap<string, Uint8Array> | null): ReadonlyMap<string, UserEntry> {
  if (secret === null) throw new MethodFault(`there is no secret ${secretName}`)
  const users = new Map<string, UserEntry>()
  for (const [key, bytes] of secret) {
    for (const [index, entry] of readList(secretName, key, bytes).entries()) {
      const fault = (what: string): never => {
        throw new MethodFault(`secret ${secretName}, ${key}: user ${index + 1}: ${what}`)
      }
      if (users.has(entry.name)) fault('there is a user of this name already')
      if (users.size >= USERS_MAX) fault(`more than ${USERS_MAX} users`)
      users.set(entry.name, toUser(entry, fault))
    }
  }
  return users
}

function readList(secretName: string, key: string, bytes: Uint8Array): z.infer<typeof entries> {
  const fault = (what: string) => new MethodFault(`secret ${secretName}, ${key}: ${what}`)
  let value: unknown
  try {
    value = parse(Buffer.from(bytes).toString('utf8'), { maxAliasCount: 0 })
  } catch {
    // What a parser says repeats the line, and the line may hold a password.
    throw fault('is not YAML')
  }
  const found = entries.safeParse(value ?? [])
  if (found.success) return found.data
  const path = found.error.issues[0]?.path.join('.') ?? ''
  throw fault(`is not a list of users as millrace passwd writes them${path === '' ? '' : ` (at ${path})`}`)
}

function toUser(
  { name, password, scram = [], attributes = {} }: z.infer<typeof entries>[number],
  fault: (what: string) => never,
): UserEntry {
  const hash = password === undefined ? null : parsePasswordHash(password)
  if (password !== undefined && hash === null) fault('password: expected $argon2id$… or $scrypt$… with parameters within their limits')
  const keys = scram.map(
    text => parseScramKey(text) ?? fault('scram: expected SCRAM-SHA-256$… or SCRAM-SHA-512$… with 4096 iterations or more'),
  )
  return { name, password: hash, scram: keys, attributes: new Map(Object.entries(attributes)) }
}
