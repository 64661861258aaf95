import { X509Certificate } from 'node:crypto'
import { isPassword, parsePasswordHash } from './password-hash.ts'
import type { PasswordHash } from './password-hash.ts'
import type { User } from './users-file.ts'

/** What the broker asks: the body of a request. */
export type Question = ConnectQuestion | AuthQuestion

export interface ConnectQuestion {
  readonly type: 'connect'
  readonly username: string | null
  readonly password: Buffer | null
  /** PEM, the client's own certificate first. */
  readonly certs: string | null
  readonly enhancedAuthentication: EnhancedAuthentication | null
}

export interface AuthQuestion {
  readonly type: 'auth'
  readonly enhancedAuthentication: EnhancedAuthentication
}

export interface EnhancedAuthentication {
  readonly method: string
  readonly data: Buffer | null
}

export type Decision =
  | { readonly is: 'accepted'; readonly user: User }
  /** `reason` is the client's CONNACK code; `message` is for the broker's log. */
  | { readonly is: 'denied'; readonly reason: number; readonly message: string }

/** Reason Codes of MQTT 5.0, section 3.2.2.2. */
const BAD_USER_NAME_OR_PASSWORD = 0x86
const BANNED = 0x8a
const BAD_AUTHENTICATION_METHOD = 0x8c

/** Checked in the place of an unknown user's password, so that time does not tell who exists. Nobody has the password of it. */
const NOBODY: PasswordHash = parsePasswordHash(`$scrypt$ln=15,r=8,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}`)!

/**
 * Whether the client may connect. This is the place to change: ask a database, a directory, a licence server.
 * Authentication Method `PLAIN` (RFC 4616) carries user name and password in one piece, and lets clients re-authenticate.
 */
export async function decide(question: Question, users: ReadonlyMap<string, User>): Promise<Decision> {
  const { enhancedAuthentication: enhanced } = question
  if (enhanced !== null && enhanced.method !== 'PLAIN') return denied(BAD_AUTHENTICATION_METHOD, `Authentication Method ${enhanced.method}`)
  const shown = enhanced === null ? passwordOf(question) : plain(enhanced.data)
  if (shown === null) return denied(BAD_USER_NAME_OR_PASSWORD, 'no user name and password')
  // Rules of the broker believe the user name of CONNECT: it must be the one that the password belongs to.
  if (question.type === 'connect' && enhanced !== null && question.username !== shown.userName) {
    return denied(BAD_USER_NAME_OR_PASSWORD, 'user name of CONNECT and of PLAIN differ')
  }
  const user = users.get(shown.userName)
  const isRight = await isPassword(shown.password, user?.password ?? NOBODY)
  if (user === undefined || !isRight) return denied(BAD_USER_NAME_OR_PASSWORD, 'unknown user or wrong password')
  if (user.isDisabled) return denied(BANNED, 'disabled')
  if (user.certificateSha256 !== null && question.type === 'connect' && !hasCertificate(question.certs, user.certificateSha256)) {
    return denied(BAD_USER_NAME_OR_PASSWORD, 'not the certificate of this user')
  }
  return { is: 'accepted', user }
}

function passwordOf(question: Question): { readonly userName: string; readonly password: Buffer } | null {
  if (question.type !== 'connect' || question.username === null || question.password === null) return null
  return { userName: question.username, password: question.password }
}

/** `[authorization identity] NUL user name NUL password`; an authorization identity of somebody else is not supported. */
function plain(data: Buffer | null): { readonly userName: string; readonly password: Buffer } | null {
  const first = data === null ? -1 : data.indexOf(0)
  const second = data === null || first < 0 ? -1 : data.indexOf(0, first + 1)
  if (data === null || second < 0) return null
  const identity = data.toString('utf8', 0, first)
  const userName = data.toString('utf8', first + 1, second)
  return userName === '' || (identity !== '' && identity !== userName) ? null : { userName, password: data.subarray(second + 1) }
}

/** The client has proven in the TLS handshake that it has the key; nobody has looked who issued the certificate. */
function hasCertificate(certs: string | null, sha256: string): boolean {
  try {
    return certs !== null && new X509Certificate(certs).fingerprint256.replaceAll(':', '').toLowerCase() === sha256
  } catch {
    return false
  }
}

function denied(reason: number, message: string): Decision {
  return { is: 'denied', reason, message }
}
