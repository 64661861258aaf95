import { thrownText } from '#shared/base/thrown.ts'
import { addressText, type Address } from '#shared/config/address.ts'

/** What Redis, or the way to it, has against us. */
export type RedisFault =
  | 'wrongPassword'
  | 'noPermission'
  | 'unreachable'
  | 'tls'
  | 'loading'
  | 'readOnly'
  | 'outOfMemory'
  | 'cannotPersist'
  | 'tooFewReplicas'
  | 'clusterDown'
  | 'moved'
  | 'busy'
  | 'unknown'

/** Codes with which an error reply of Redis begins. */
const REPLIES: ReadonlyMap<string, RedisFault> = new Map([
  ['WRONGPASS', 'wrongPassword'],
  ['NOAUTH', 'wrongPassword'],
  ['NOPERM', 'noPermission'],
  ['LOADING', 'loading'],
  ['READONLY', 'readOnly'],
  ['MASTERDOWN', 'readOnly'],
  ['UNBLOCKED', 'readOnly'],
  ['OOM', 'outOfMemory'],
  ['MISCONF', 'cannotPersist'],
  ['NOREPLICAS', 'tooFewReplicas'],
  ['CLUSTERDOWN', 'clusterDown'],
  ['MOVED', 'moved'],
  ['ASK', 'moved'],
  ['TRYAGAIN', 'moved'],
  ['BUSY', 'busy'],
])

const TEXTS: Readonly<Record<RedisFault, string>> = {
  wrongPassword: 'wrong password',
  noPermission: 'no permission',
  unreachable: 'unreachable',
  tls: 'TLS failed',
  loading: 'loading its data',
  readOnly: 'read-only',
  outOfMemory: 'out of memory',
  cannotPersist: 'cannot write its disk',
  tooFewReplicas: 'too few replicas',
  clusterDown: 'cluster is down',
  moved: 'slot is moving',
  busy: 'busy with a script',
  unknown: 'failed',
}

/** The client attaches the command to an error: passwords of a login, payloads. Nobody who prints an error whole should print those. */
export function withoutCommand(error: Error): Error {
  if ('command' in error) delete error.command
  return error
}

/** What an error of the Redis client is about. */
export function redisFault(error: unknown): RedisFault {
  const message = thrownText(error)
  const reply = REPLIES.get(/^[A-Z]+/.exec(message)?.[0] ?? '')
  if (reply !== undefined) return reply
  if (/invalid password|without any password configured/i.test(message)) return 'wrongPassword'
  const code = codeOf(error)
  if (/^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|EPROTO)/.test(code)) return 'tls'
  if (code !== '' || /ETIMEDOUT|timed out|Connection is closed|writeable|aborted|All sentinels|Failed to refresh/i.test(message))
    return 'unreachable'
  return 'unknown'
}

/** `HOST:PORT: out of memory`: short, for logs and status; never with a password, as none of its sources holds one. */
export function redisFaultText(error: unknown, address?: Address): string {
  const fault = redisFault(error)
  const where = address === undefined ? '' : `${addressText(address)}: `
  const code = codeOf(error)
  if (fault === 'unreachable') return `${where}${code === 'ECONNREFUSED' ? 'refused' : code === '' ? 'no answer' : code}`
  if (fault === 'tls') return `${where}TLS failed (${code})`
  if (fault === 'unknown') return `${where}${error instanceof Error ? error.message.slice(0, 120) : 'failed'}`
  return where + TEXTS[fault]
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}
