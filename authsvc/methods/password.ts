import { createHmac, randomBytes } from 'node:crypto'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { PasswordSettings } from '#shared/resources/broker-authentication.ts'
import type { AuthenticationRequest } from '#shared/rpc/authentication.ts'
import type { PasswordHash } from '../credentials/password-hash.ts'
import { readUsers, type UserEntry } from '../credentials/user-entries.ts'
import { userEvidence, userOfEvidence } from '../credentials/user-evidence.ts'
import { requestSource } from '../request-source.ts'
import { WorkersBusy } from '../worker/workers.ts'
import type { AuthenticationMethod, MethodParts, MethodVerdict, RecheckOutcome } from './authentication-method.ts'

/** A client that comes back soon need not be checked anew: clients of a whole site come back at once. */
const REMEMBERED_MS = 60_000
/** At the limit all are forgotten. */
const REMEMBERED_MAX = 10_000

/**
 * Extension: user name and password of CONNECT against the entries of a Secret (`millrace passwd`), for clients without an Authentication
 * Method. Somebody unknown costs as much time as somebody known with a wrong password.
 * @throws {MethodFault} the Secret is missing or cannot be used
 */
export function makePassword({ secretRef }: PasswordSettings, parts: MethodParts): AuthenticationMethod {
  return new Password(readUsers(secretRef, parts.secret(secretRef)), parts)
}

class Password implements AuthenticationMethod {
  readonly name = 'Password'
  readonly #users: ReadonlyMap<string, UserEntry>
  readonly #parts: MethodParts
  /** Stands for a user who is not there. */
  readonly #nobody: PasswordHash
  /** Passwords that were right: their keyed hash, and until when (monotonic milliseconds). */
  readonly #remembered = new Map<string, number>()
  readonly #memoryKey = randomBytes(32)

  constructor(users: ReadonlyMap<string, UserEntry>, parts: MethodParts) {
    this.#users = users
    this.#parts = parts
    this.#nobody = nobody([...users.values()].flatMap(({ password }) => password ?? []))
  }

  handles(): boolean {
    return false
  }

  async authenticate(request: AuthenticationRequest): Promise<MethodVerdict> {
    const { userName, password, authenticationMethod, purpose, remoteAddress } = request
    if (purpose === 'reauthenticate' || authenticationMethod !== null || userName === null || password === null) return { is: 'irrelevant' }
    const user = this.#users.get(userName)
    try {
      const isRight = await this.#isRight(user, userName, password, requestSource(remoteAddress))
      if (!isRight || user === undefined) {
        return { is: 'invalid', reason: ReasonCode.NotAuthorized, cause: user === undefined ? 'unknown user' : 'wrong password' }
      }
    } catch (error) {
      if (error instanceof WorkersBusy) return { is: 'unreachable', cause: 'too many passwords wait to be checked' }
      throw error
    }
    return { is: 'valid', userName, attributes: user.attributes, expiresMs: null, data: null, evidence: evidenceOf(user) }
  }

  recheck(evidence: Uint8Array): Promise<RecheckOutcome> {
    const user = this.#users.get(userOfEvidence(evidence))
    if (user === undefined) return Promise.resolve({ is: 'invalid', cause: 'the user is not there any more' })
    return Promise.resolve(evidenceOf(user).equals(evidence) ? { is: 'holds' } : { is: 'invalid', cause: 'the password was changed' })
  }

  close(): void {
    this.#remembered.clear()
  }

  async #isRight(user: UserEntry | undefined, userName: string, password: Uint8Array, source: string): Promise<boolean> {
    const { clock, workers } = this.#parts
    const key = createHmac('sha256', this.#memoryKey).update(userName).update('\0').update(password).digest('base64')
    const until = this.#remembered.get(key)
    if (until !== undefined && clock.monotonicMs() < until) return true
    const isRight = await workers.run('check-password', { kept: user?.password ?? this.#nobody, password }, source)
    if (!isRight || user === undefined || user.password === null) return false
    if (this.#remembered.size >= REMEMBERED_MAX) this.#remembered.clear()
    this.#remembered.set(key, clock.monotonicMs() + REMEMBERED_MS)
    return true
  }
}

function evidenceOf({ name, password }: UserEntry): Buffer {
  return userEvidence(name, password === null ? [] : [password.salt, password.hash])
}

/** As expensive as most of the others are. */
function nobody(known: readonly PasswordHash[]): PasswordHash {
  const like = known[Math.floor(known.length / 2)]
  const [salt, hash] = [randomBytes(16), randomBytes(like?.hash.length ?? 32)]
  if (like !== undefined) return { ...like, salt, hash }
  return { is: 'argon2id', memoryKib: 19_456, passes: 2, parallelism: 1, salt, hash }
}
