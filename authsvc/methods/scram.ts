import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { saslprep } from '@mongodb-js/saslprep'
import { ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import { ByteWriter } from '#shared/base/byte-writer.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ScramSettings } from '#shared/resources/broker-authentication.ts'
import type { AuthenticationRequest } from '#shared/rpc/authentication.ts'
import { SCRAM_DEFAULT, SCRAM_HASHES, type ScramKey, type ScramMechanism } from '../credentials/scram-key.ts'
import { readUsers, type UserEntry } from '../credentials/user-entries.ts'
import { userEvidence, userOfEvidence } from '../credentials/user-evidence.ts'
import {
  type AuthenticationMethod,
  MethodFault,
  type MethodParts,
  type MethodVerdict,
  type RecheckOutcome,
} from './authentication-method.ts'
import { type ClientFirst, parseClientFinal, parseClientFirst } from './scram-message.ts'

/** What a user who is not there seems to have. */
const UNKNOWN_ITERATIONS = 15_000
const UNKNOWN_SALT_BYTES = 16

/**
 * Extension: SASL SCRAM (RFC 5802, RFC 7677) against the entries of a Secret (`millrace passwd`): client-first in CONNECT, server-first in AUTH,
 * client-final in AUTH, server-final in CONNACK. Channel binding is not offered. Somebody unknown is answered as somebody known is, and fails
 * at the end.
 * @throws {MethodFault} the Secret is missing or cannot be used, or has no key for any of the mechanisms
 */
export function makeScram({ secretRef, mechanisms }: ScramSettings, parts: MethodParts): AuthenticationMethod {
  return new Scram(readUsers(secretRef, parts.secret(secretRef)), mechanisms ?? SCRAM_DEFAULT, parts)
}

/** A user's key for one mechanism. */
interface KnownUser {
  readonly user: UserEntry
  readonly key: ScramKey
}

class Scram implements AuthenticationMethod {
  readonly name = 'Scram'
  readonly #mechanisms: readonly ScramMechanism[]
  /** By mechanism and, behind a space, the name as SASLprep has it. */
  readonly #known = new Map<string, KnownUser>()
  readonly #parts: MethodParts
  /** Makes the salts of unknown users: the same each time and in every process, and not to be told from others. */
  readonly #unknownKey: Buffer
  /** What somebody unknown seems to have, by mechanism: found once, as looking for it would take longer the more users there are. */
  readonly #iterations = new Map<ScramMechanism, number>()

  constructor(users: ReadonlyMap<string, UserEntry>, mechanisms: readonly ScramMechanism[], parts: MethodParts) {
    this.#mechanisms = mechanisms
    this.#parts = parts
    const secrets = createHash('sha256')
    for (const user of users.values()) {
      for (const key of user.scram) {
        this.#known.set(`${key.mechanism} ${prepared(user.name) ?? user.name}`, { user, key })
        secrets.update(key.storedKey)
        if (!this.#iterations.has(key.mechanism)) this.#iterations.set(key.mechanism, key.iterations)
      }
    }
    this.#unknownKey = secrets.digest()
    if (this.#known.size === 0) throw new MethodFault('no user of the secret has a scram entry')
  }

  handles(authenticationMethod: string): boolean {
    return this.#mechanisms.some(mechanism => mechanism === authenticationMethod)
  }

  authenticate(request: AuthenticationRequest, state: Uint8Array | null, evidence: Uint8Array | null): Promise<MethodVerdict> {
    const mechanism = this.#mechanisms.find(each => each === request.authenticationMethod)
    if (mechanism === undefined) return Promise.resolve({ is: 'irrelevant' })
    const data = request.authenticationData
    if (data === null)
      return Promise.resolve(state === null ? { is: 'challenge', data: null, state: new Uint8Array(0) } : invalid('no data'))
    return Promise.resolve(
      state === null || state.length === 0 ? this.#first(mechanism, data) : this.#final(mechanism, data, state, evidence),
    )
  }

  recheck(evidence: Uint8Array): Promise<RecheckOutcome> {
    const userName = userOfEvidence(evidence)
    const holds = this.#mechanisms.some(mechanism => {
      const known = this.#known.get(`${mechanism} ${userName}`)
      return known !== undefined && evidenceOf(known).equals(evidence)
    })
    return Promise.resolve(holds ? { is: 'holds' } : { is: 'invalid', cause: 'the user is gone, or the password was changed' })
  }

  close(): void {}

  #first(mechanism: ScramMechanism, data: Uint8Array): MethodVerdict {
    const message = parseClientFirst(data)
    if (typeof message === 'string') return invalid(message)
    const { salt, iterations } = this.#keyFor(mechanism, message.userName)
    const nonce = `${message.nonce}${this.#parts.random.uuid()}`
    const serverFirst = `r=${nonce},s=${Buffer.from(salt).toString('base64')},i=${iterations}`
    return { is: 'challenge', data: Buffer.from(serverFirst, 'utf8'), state: writeState(message, serverFirst, nonce) }
  }

  #final(mechanism: ScramMechanism, data: Uint8Array, state: Uint8Array, evidence: Uint8Array | null): MethodVerdict {
    const begun = readState(state)
    if (begun === null) return invalid('the state of the exchange cannot be read')
    const message = parseClientFinal(data)
    if (typeof message === 'string') return invalid(message)
    const known = this.#known.get(`${mechanism} ${begun.first.userName}`)
    const { hash } = SCRAM_HASHES[mechanism]
    const key = this.#keyFor(mechanism, begun.first.userName)
    const authMessage = `${begun.first.bare},${begun.serverFirst},${message.withoutProof}`
    const isProven = isProofOf(key, message.proof, authMessage)
    if (message.nonce !== begun.nonce) return invalid('another nonce')
    if (message.channelBinding !== Buffer.from(begun.first.gs2Header).toString('base64')) return invalid('another channel binding')
    if (!isProven || known === undefined) return invalid(known === undefined ? 'unknown user' : 'wrong proof')
    const shown = evidenceOf(known)
    if (evidence !== null && userOfEvidence(evidence) !== userOfEvidence(shown)) return invalid('another user than before')
    const signature = createHmac(hash, key.serverKey).update(authMessage).digest('base64')
    const { name, attributes } = known.user
    return { is: 'valid', userName: name, attributes, expiresMs: null, data: Buffer.from(`v=${signature}`), evidence: shown }
  }

  /** Takes as long for somebody known as for somebody unknown. */
  #keyFor(mechanism: ScramMechanism, userName: string): ScramKey {
    const seeming = this.#seeming(mechanism, userName)
    return this.#known.get(`${mechanism} ${userName}`)?.key ?? seeming
  }

  /** The key of somebody who is not there: no proof fits it. */
  #seeming(mechanism: ScramMechanism, userName: string): ScramKey {
    const { hash, bytes } = SCRAM_HASHES[mechanism]
    const make = (what: string): Buffer => createHmac('sha512', this.#unknownKey).update(`${what} ${mechanism} ${userName}`).digest()
    const iterations = this.#iterations.get(mechanism) ?? UNKNOWN_ITERATIONS
    const storedKey = createHash(hash).update(make('stored')).digest().subarray(0, bytes)
    return { mechanism, iterations, salt: make('salt').subarray(0, UNKNOWN_SALT_BYTES), storedKey, serverKey: make('server') }
  }
}

/** RFC 5802 section 3: ClientKey is what the proof hides, and its hash is known. */
function isProofOf({ mechanism, storedKey }: ScramKey, proof: Uint8Array, authMessage: string): boolean {
  const { hash, bytes } = SCRAM_HASHES[mechanism]
  const signature = createHmac(hash, storedKey).update(authMessage).digest()
  const clientKey = Buffer.alloc(bytes)
  for (let i = 0; i < bytes; i++) clientKey[i] = signature[i]! ^ (proof[i] ?? 0)
  return timingSafeEqual(createHash(hash).update(clientKey).digest(), storedKey) && proof.length === bytes
}

function evidenceOf({ user, key }: KnownUser): Buffer {
  return userEvidence(prepared(user.name) ?? user.name, [key.salt, key.storedKey])
}

/** Null: it holds what SASLprep forbids. */
function prepared(name: string): string | null {
  try {
    return saslprep(name)
  } catch {
    return null
  }
}

function invalid(cause: string): MethodVerdict {
  return { is: 'invalid', reason: ReasonCode.NotAuthorized, cause: `SCRAM: ${cause}` }
}

function writeState({ gs2Header, bare, userName }: ClientFirst, serverFirst: string, nonce: string): Uint8Array {
  const writer = new ByteWriter()
  for (const text of [gs2Header, bare, userName, serverFirst, nonce]) writer.text(text)
  return writer.take()
}

interface Begun {
  readonly first: Pick<ClientFirst, 'gs2Header' | 'bare' | 'userName'>
  readonly serverFirst: string
  readonly nonce: string
}

function readState(state: Uint8Array): Begun | null {
  try {
    const reader = new ByteReader(state)
    const [gs2Header, bare, userName, serverFirst, nonce] = [0, 1, 2, 3, 4].map(() => reader.text()) as [
      string,
      string,
      string,
      string,
      string,
    ]
    return { first: { gs2Header, bare, userName }, serverFirst, nonce }
  } catch (error) {
    if (error instanceof ByteReaderError) return null
    throw error
  }
}
