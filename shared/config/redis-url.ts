import { type Address, addressText, isHost } from './address.ts'
import { Refusal } from './setting.ts'

/** Where Redis is and how to log in. Never print it whole: `redisUrlText` leaves out what is secret. */
export interface RedisUrl {
  readonly kind: 'standalone' | 'sentinel' | 'cluster'
  /** The server; the Sentinels; or some nodes of the cluster, from which the others are learnt. */
  readonly addresses: readonly Address[]
  readonly isTls: boolean
  /** Empty: the user `default`. */
  readonly username: string
  /** Empty: none. */
  readonly password: string
  /** Number of the database; always 0 in a cluster. */
  readonly database: number
  /** What the Sentinels call the primary; empty unless `kind` is sentinel. */
  readonly masterName: string
  /** How to log in at the Sentinels, from `?sentinelUsername=…&sentinelPassword=…`; empty: not at all. */
  readonly sentinelUsername: string
  readonly sentinelPassword: string
}

export const REDIS_URL_FORMS =
  'redis://[user:password@]host[:port][/database], rediss://… for TLS, redis+sentinel://host1[:port],host2/master-name, redis+cluster://host1[:port],host2'

const PORTS = { standalone: 6379, sentinel: 26_379, cluster: 6379 } as const
const SCHEME = /^redis(s?)(?:\+(sentinel|cluster))?:\/\/(.*)$/is
const DATABASE_MAX = 65_535

/** Reads one of REDIS_URL_FORMS, or says what is wrong with it. The refusal never holds the user name or password. */
export function parseRedisUrl(given: string): RedisUrl | Refusal {
  const scheme = SCHEME.exec(given.trim())
  if (scheme === null) return refuse('does not start with redis:// or rediss://')
  const kind = (scheme[2]?.toLowerCase() ?? 'standalone') as RedisUrl['kind']
  const [beforeQuery, query = ''] = splitOnce(scheme[3]!, '?')
  // The last @: a password may hold one that was not escaped.
  const at = beforeQuery.lastIndexOf('@')
  const login = parseLogin(at < 0 ? '' : beforeQuery.slice(0, at))
  if (login instanceof Refusal) return login
  const [hosts, path = ''] = splitOnce(beforeQuery.slice(at + 1), '/')
  const addresses = parseHosts(hosts, kind)
  if (addresses instanceof Refusal) return addresses
  const place = parsePath(path, kind)
  if (place instanceof Refusal) return place
  const sentinelLogin = parseQuery(query, kind)
  if (sentinelLogin instanceof Refusal) return sentinelLogin
  return { kind, addresses, isTls: scheme[1] !== '', ...login, ...place, ...sentinelLogin }
}

/** The URL without user names and passwords, for logs and messages. */
export function redisUrlText(url: RedisUrl): string {
  const scheme = `redis${url.isTls ? 's' : ''}${url.kind === 'standalone' ? '' : `+${url.kind}`}`
  const database = url.database === 0 ? '' : `/${url.database}`
  const path = url.kind === 'sentinel' ? `/${url.masterName}${database}` : database
  return `${scheme}://${url.addresses.map(addressText).join(',')}${path}`
}

function refuse(why: string): Refusal {
  return new Refusal(`${why}; expected ${REDIS_URL_FORMS}`)
}

function splitOnce(text: string, mark: string): [string, string?] {
  const at = text.indexOf(mark)
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)]
}

function unescaped(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

function parseLogin(given: string): Pick<RedisUrl, 'username' | 'password'> | Refusal {
  const [user, secret = ''] = splitOnce(given, ':')
  const username = unescaped(user)
  const password = unescaped(secret)
  if (username === undefined || password === undefined) return refuse('the user or password has a % that is not followed by two hex digits')
  if (username !== '' && password === '') return refuse('a user without a password')
  return { username, password }
}

function parseHosts(given: string, kind: RedisUrl['kind']): readonly Address[] | Refusal {
  const addresses: Address[] = []
  for (const part of given.split(',')) {
    const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(part.trim())
    const host = match?.[1] ?? match?.[2]
    const port = match?.[3] === undefined ? PORTS[kind] : Number(match[3])
    if (host === undefined || !isHost(host) || port < 1 || port > 65_535) return refuse(`"${part.slice(0, 80)}" is not host or host:port`)
    addresses.push({ host, port })
  }
  if (kind === 'standalone' && addresses.length > 1) return refuse('more than one host, which redis+sentinel:// and redis+cluster:// take')
  return addresses
}

function parsePath(path: string, kind: RedisUrl['kind']): Pick<RedisUrl, 'database' | 'masterName'> | Refusal {
  const parts = path.split('/')
  const masterName = kind === 'sentinel' ? unescaped(parts.shift()!) : ''
  if (masterName === undefined || (kind === 'sentinel' && !/^[A-Za-z0-9._-]+$/.test(masterName))) {
    return refuse('the name of the primary is missing: redis+sentinel://host1,host2/master-name')
  }
  const [text = '', ...rest] = parts
  const database = text === '' ? 0 : Number(text)
  if (rest.join('') !== '' || !/^\d*$/.test(text) || database > DATABASE_MAX)
    return refuse(`"/${path.slice(0, 80)}" is not a database number`)
  if (kind === 'cluster' && database !== 0) return refuse('Redis Cluster has database 0 only')
  return { database, masterName }
}

function parseQuery(query: string, kind: RedisUrl['kind']): Pick<RedisUrl, 'sentinelUsername' | 'sentinelPassword'> | Refusal {
  const values = new Map(new URLSearchParams(query))
  const login = { sentinelUsername: values.get('sentinelUsername') ?? '', sentinelPassword: values.get('sentinelPassword') ?? '' }
  values.delete('sentinelUsername')
  values.delete('sentinelPassword')
  const [unknown] = values.keys()
  if (unknown !== undefined) return refuse(`unknown parameter "${unknown.slice(0, 40)}"`)
  if (query !== '' && kind !== 'sentinel') return refuse('sentinelUsername and sentinelPassword go with redis+sentinel://')
  return login
}
